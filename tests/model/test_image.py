"""What an image's layers are called by, how it is used, and how it travels."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.image import SETTING, ImageConfig, ImageSpec, MadeImage, Step, configure, keys, next_key
from greenroom.model.spec import FunctionSpec, MethodSpec

BASE = Step("host", "Image.host()", {})
FUNCTION = FunctionSpec("", "", "f", is_class=False, module="app", qualname="f", methods=[MethodSpec("")]).to_json()
WORD = st.text(st.characters(exclude_categories=("Cs",)), max_size=4)
WORDS = st.lists(WORD, min_size=1, max_size=3)
VARIABLES = st.dictionaries(WORD, WORD, max_size=2)
NOT_IN_KEY = st.builds(dict, text=WORD, where=WORD)


def step(kind, key, rest=st.just({})):  # noqa: B008
    """Strategies of a kind's key and of the rest, which changes nothing."""
    return st.builds(lambda key, rest, said: Step(kind, key=key, rest=rest, **said), key, rest, NOT_IN_KEY)


STEP = st.one_of(
    step("env", st.fixed_dictionaries({"variables": VARIABLES})),
    step("workdir", st.fixed_dictionaries({"path": WORD})),
    *(step(kind, st.fixed_dictionaries({"words": WORDS})) for kind in ("entrypoint", "cmd", "shell")),
    step(
        "run",
        st.fixed_dictionaries({"commands": WORDS, "env": VARIABLES, "secrets": WORDS}, optional={"forced": WORD}),
        st.fixed_dictionaries({"environment": VARIABLES}),
    ),
    step(
        "pip",
        st.fixed_dictionaries(
            {
                "arguments": st.lists(WORD | st.fixed_dictionaries({"file": WORD}), max_size=3),
                "files": VARIABLES,
                "env": VARIABLES,
            }
        ),
        st.fixed_dictionaries({"environment": VARIABLES}),
    ),
    step("copy", st.fixed_dictionaries({"files": WORD, "path": WORD}), st.fixed_dictionaries({"bundle": WORD})),
    step(
        "function",
        st.fixed_dictionaries({"name": WORD, "source": WORD, "arguments": WORD, "env": VARIABLES}),
        st.fixed_dictionaries(
            {"spec": st.just(FUNCTION), "hook": WORD, "payloads": st.just([0, 1]), "environment": VARIABLES}
        ),
    ),
)
CHAIN = st.lists(STEP, max_size=6)


def described(steps):
    return [(step.kind, json.dumps(step.key, sort_keys=True)) for step in steps]


# ---- keys ----


@given(CHAIN, CHAIN)
def test_layers_share_a_key_as_far_as_they_are_described_alike(one, other):
    """Neither what they are called, nor where they were written, nor the values of secrets count."""
    ones, others = list(keys(BASE, one)), list(keys(BASE, other))
    assert len(ones) == len(one) + 1
    for length in range(min(len(one), len(other)) + 1):
        assert (ones[length] == others[length]) == (described(one[:length]) == described(other[:length]))


@given(CHAIN, STEP, st.data())
def test_a_step_that_changes_changes_its_key_and_those_above(steps, new, data):
    if not steps:
        return
    place = data.draw(st.integers(0, len(steps) - 1))
    before = list(keys(BASE, steps))
    after = list(keys(BASE, [*steps[:place], new, *steps[place + 1 :]]))
    same = described([steps[place]]) == described([new])
    assert before[: place + 1] == after[: place + 1]
    assert all((one == other) == same for one, other in zip(before[place + 1 :], after[place + 1 :], strict=True))


@given(CHAIN)
def test_no_two_keys_of_a_chain_are_alike(steps):
    found = list(keys(BASE, steps))
    assert len(set(found)) == len(found)
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in found)


def test_the_order_in_which_a_key_was_written_changes_nothing():
    assert next_key("", Step("run", "", {"a": 1, "b": 2})) == next_key("", Step("run", "", {"b": 2, "a": 1}))


def test_the_same_step_on_something_else_has_another_key():
    assert next_key("a" * 64, BASE) != next_key("b" * 64, BASE)


def test_a_key_stays_what_it_was_in_earlier_versions():
    """Another would make every layer of everybody anew."""
    steps = [Step("env", "", {"variables": {"A": "ä"}}), Step("run", "", {"commands": ["make"], "env": {}})]
    assert [key[:12] for key in keys(BASE, steps)] == ["d69f443f3f61", "5b7ccf081c1d", "90e3884062d9"]


# ---- how it is used ----


def after(*steps):
    config = ImageConfig()
    for kind, key in steps:
        config = configure(config, Step(kind, "", key))
    return config


def test_variables_add_up_and_the_last_one_counts():
    config = after(("env", {"variables": {"A": "1", "B": "1"}}), ("env", {"variables": {"A": "2"}}))
    assert config == ImageConfig(environment={"A": "2", "B": "1"})


@pytest.mark.parametrize(
    ("paths", "found"),
    [(["/srv"], "/srv"), (["sub"], "/root/sub"), (["/srv", "a", "b"], "/srv/a/b"), (["a", "/b"], "/b")],
)
def test_a_relative_working_directory_is_below_the_one_before(paths, found):
    assert after(*(("workdir", {"path": path}) for path in paths)).workdir == found


def test_what_is_to_be_expanded_is_by_what_is_set_before():
    first = ("env", {"variables": {"A": "1", "B": "$A"}})
    config = after(first, ("env", {"variables": {"A": "2", "C": "$A${B}\\$A", "PATH": "/x:$PATH"}, "expand": True}))
    assert config.environment["C"] == "1$A$A"
    assert config.environment["PATH"].startswith("/x:/usr/local/sbin:")
    assert after(first, ("workdir", {"path": "/$A", "expand": True}), ("workdir", {"path": "$A"})).workdir == "/1/$A"


def test_a_step_in_an_error_is_no_longer_than_a_person_reads():
    step = Step("run", f".run_commands({'x' * 5000!r})", {}, {}, "app.py:3")
    assert step.title.startswith("Image.run_commands('xxx") and step.title.endswith("x… (app.py:3)")
    assert len(step.title) < 450


def test_another_path_may_lead_to_another_python():
    config = ImageConfig(own_root=True, python="/usr/bin/python3")
    assert configure(config, Step("env", "", {"variables": {"A": "1"}})).python == "/usr/bin/python3"
    assert configure(config, Step("env", "", {"variables": {"PATH": "/opt/own/bin"}})).python == ""


def test_words_replace_each_other():
    config = after(*((kind, {"words": [kind]}) for kind in ("shell", "cmd", "entrypoint")), ("cmd", {"words": []}))
    assert (config.shell, config.cmd, config.entrypoint) == (["shell"], [], ["entrypoint"])
    assert ImageConfig().shell == ["/bin/sh", "-c"]


@given(CHAIN)
def test_only_settings_change_how_an_image_is_used(steps):
    config = ImageConfig()
    for each in steps:
        before = repr(config)
        changed = configure(config, each)
        assert repr(config) == before, "the one before is as it was"
        if each.has_files:
            assert changed == config._replace(packages=config.packages or each.kind == "pip")
        config = changed
    assert {"env", "workdir", "entrypoint", "cmd", "shell"} == SETTING


# ---- on the wire ----

MOUNTS = st.lists(st.tuples(WORD, WORD, st.booleans()).map(list), max_size=2)


@given(CHAIN, MOUNTS)
def test_a_spec_survives_the_wire(steps, mounts):
    spec = ImageSpec(BASE, steps, mounts)
    assert ImageSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(st.lists(WORD), VARIABLES, WORD, MOUNTS)
def test_what_was_made_survives_the_wire(layers, variables, workdir, mounts):
    made = MadeImage(layers, ImageConfig(variables, workdir, ["a"], [], ["b"]), mounts)
    assert MadeImage.from_json(json.loads(json.dumps(made.to_json()))) == made


RUN = ["run", ".run", {"commands": ["x"], "env": {}}, {"environment": {}}, "app.py:1"]
CALL = ["function", ".f", {"env": {}}, {"spec": FUNCTION, "hook": "", "payloads": [0, 1], "environment": {}}, ""]


def spec_with(base=None, steps=(), mounts=()):
    return {"base": base or list(BASE), "steps": list(steps), "mounts": list(mounts)}


def but(step, place, value):
    return [*step[:place], value, *step[place + 1 :]]


def test_what_the_wrong_ones_are_made_of_is_right():
    assert ImageSpec.from_json(spec_with(steps=[RUN, CALL])).steps[1].payloads == [0, 1]
    words = but(RUN, 2, {"commands": ["a", ["b", "c"]], "env": {}})
    assert ImageSpec.from_json(spec_with(steps=[words])).steps[0].key == words[2]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        {"base": list(BASE)},
        spec_with(base="host"),
        spec_with(base=dict.fromkeys(Step._fields, "")),
        spec_with(base=["debian", "", {}, {}, ""]),
        spec_with(base=RUN),
        spec_with(steps=[list(BASE)]),
        spec_with(steps=["run"]),
        spec_with(steps=[RUN[:4]]),
        spec_with(steps=[[*RUN, ""]]),
        spec_with(steps=[but(RUN, 0, "dance")]),
        spec_with(steps=[but(RUN, 0, ["run"])]),
        spec_with(steps=[but(RUN, 1, 1)]),
        spec_with(steps=[but(RUN, 2, [])]),
        spec_with(steps=[but(RUN, 2, {"env": {}})]),
        spec_with(steps=[but(RUN, 2, {"commands": "x", "env": {}})]),
        spec_with(steps=[but(RUN, 2, {"commands": [1], "env": {}})]),
        spec_with(steps=[but(RUN, 2, {"commands": [[]], "env": {}})]),
        spec_with(steps=[but(RUN, 2, {"commands": [["a", 1]], "env": {}})]),
        spec_with(steps=[but(RUN, 3, {})]),
        spec_with(steps=[but(RUN, 3, {"environment": {"A": 1}})]),
        spec_with(steps=[but(RUN, 3, None)]),
        spec_with(steps=[but(RUN, 4, None)]),
        spec_with(steps=[["env", "", {}, {}, ""]]),
        spec_with(steps=[["env", "", {"variables": ["A"]}, {}, ""]]),
        spec_with(steps=[["workdir", "", {"path": 1}, {}, ""]]),
        spec_with(steps=[["shell", "", {"words": "sh"}, {}, ""]]),
        spec_with(steps=[["copy", "", {"path": "/x"}, {}, ""]]),
        spec_with(steps=[["copy", "", {"path": "/x"}, {"bundle": 1}, ""]]),
        *(
            spec_with(steps=[but(CALL, 3, {**CALL[3], **other})])
            for other in (
                {"payloads": [0]},
                {"payloads": [0, -1]},
                {"payloads": [0, "1"]},
                {"payloads": "01"},
                {"hook": None},
                {"spec": None},
                {"spec": {}},
                {"spec": {**FUNCTION, "timeout": "soon"}},
                {"spec": {**FUNCTION, "no such field": 1}},
                {"spec": {**FUNCTION, "methods": 1}},
            )
        ),
        spec_with(steps=[but(CALL, 2, {})]),
        spec_with(steps=[["pip", "", {"arguments": [1], "files": {}, "env": {}}, {"environment": {}}, ""]]),
        spec_with(steps=[["pip", "", {"arguments": [{"file": 1}], "files": {}, "env": {}}, {"environment": {}}, ""]]),
        spec_with(mounts=[["digest", "/x"]]),
        spec_with(mounts=[["digest", "/x", "yes"]]),
        spec_with(mounts=[[1, "/x", True]]),
        spec_with(mounts=[["digest", None, True]]),
        spec_with(mounts=["abc"]),
        spec_with() | {"mounts": 3},
    ],
    ids=lambda wrong: repr(wrong)[-60:],
)
def test_data_of_another_shape_is_refused(wrong):
    with pytest.raises((TypeError, KeyError, ValueError)):
        ImageSpec.from_json(wrong)
