"""Secrets from a dictionary, this process's environment, a ``.env`` file."""

import os

import pytest

import greenroom
from greenroom import Secret
from greenroom.model.secrets import StoredSecret
from greenroom.sdk.secret import in_order


def test_from_dict():
    assert Secret.from_dict({"A": "1", "B": None}).values == {"A": "1"}
    for wrong in ({"A": 1}, {"": "x"}, {"A=B": "x"}, {1: "x"}, {"A": "nul\0"}):
        with pytest.raises(greenroom.InvalidError, match=r"Secret\.from_dict"):
            Secret.from_dict(wrong)

    assert Secret.from_dict().values == Secret.from_dict({}).values == {}
    for wrong in (["A"], "A=1", [("A", "1")]):
        with pytest.raises(greenroom.InvalidError, match=r"Secret\.from_dict takes a dict"):
            Secret.from_dict(wrong)


def test_a_stored_secret_can_be_named():
    for stored in (
        Secret.from_name("s", required_keys=["A"]),
        Secret.lookup("s"),
        Secret.from_name("s", None, None, "main"),
    ):
        assert repr(stored) == "Secret.from_name('s')"
        with pytest.raises(greenroom.InvalidError, match=r"Secret\.from_name\('s'\): .* given to containers alone"):
            _ = stored.values
    assert Secret.from_name("s", required_keys=["A"]).stored == StoredSecret("s", ["A"])
    with pytest.raises(greenroom.InvalidError, match="there is one namespace for now"):
        Secret.from_name("s", environment_name="staging")
    assert Secret.from_name("s", required_keys=(key for key in "AB")).stored == StoredSecret("s", ["A", "B"])
    for wrong in ("A", [1], [None], None, 5):
        with pytest.raises(greenroom.InvalidError, match="required_keys= takes a list of names"):
            Secret.from_name("s", required_keys=wrong)


def test_the_order_of_several_counts():
    one, two = Secret.from_name("one", required_keys=["R"]), Secret.from_name("two")
    first, last = Secret.from_dict({"A": "1", "B": "1"}), Secret.from_dict({"B": "2"})
    assert in_order([first, last], {"C": "3"}) == ({"A": "1", "B": "2", "C": "3"}, [])
    before, stored = in_order([first, one, last, two], {"C": "3"})
    assert before == {"A": "1", "B": "1"}
    assert stored == [StoredSecret("one", ["R"], {"B": "2"}), StoredSecret("two", [], {"C": "3"})]
    assert one.stored.after == {}, "the same secret may stand elsewhere too"
    assert in_order([one])[1] == [one.stored]


def test_values_are_not_shown():
    assert repr(Secret.from_dict({"TOKEN": "canary"})) == "Secret(TOKEN)"


def test_from_local_environ(monkeypatch):
    monkeypatch.setenv("A", "1")
    monkeypatch.delenv("B", raising=False)
    assert Secret.from_local_environ(["A"]).values == {"A": "1"}
    with pytest.raises(greenroom.NotFoundError, match="not set here: B"):
        Secret.from_local_environ(["A", "B"])
    with pytest.raises(greenroom.InvalidError, match=r"takes a list of names: write \['A'\]"):
        Secret.from_local_environ("A")


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800"])
def test_what_is_no_text_is_refused_rather_than_other_bytes_in_a_real_container(monkeypatch, text):
    for wrong in ({"A": text}, {text: "x"}):
        with pytest.raises(
            greenroom.InvalidError, match=r"Secret\.from_dict: the variable '.*' is no UTF-8 text"
        ) as refused:
            Secret.from_dict(wrong)
        str(refused.value).encode()
    monkeypatch.setitem(os.environb, b"A", b"caf\xe9")
    with pytest.raises(greenroom.InvalidError, match=r"Secret\.from_local_environ: the variable 'A' is no UTF-8 text"):
        Secret.from_local_environ(["A"])


TEXT = """
# a comment
PLAIN=one two # and a comment
export EXPORTED=3
SINGLE='as $it is \\n'
DOUBLE="two\\nlines"
LONG="over
several lines"
FROM=${PLAIN}!
NOTHING=
NAME_ALONE
"""


def test_from_dotenv(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(TEXT)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    expected = {
        "PLAIN": "one two", "EXPORTED": "3", "SINGLE": "as $it is \\n", "DOUBLE": "two\nlines",
        "LONG": "over\nseveral lines", "FROM": "one two!", "NOTHING": "",
    }  # fmt: skip
    assert Secret.from_dotenv(tmp_path).values == expected
    assert Secret.from_dotenv(below / "program.py").values == expected, "found in a directory above a file's"
    monkeypatch.chdir(below)
    assert Secret.from_dotenv().values == expected
    (below / "other").write_text("X=1")
    assert Secret.from_dotenv(filename="other").values == {"X": "1"}


def test_from_dotenv_refused(tmp_path):
    with pytest.raises(greenroom.NotFoundError, match=r"no \.nowhere in .* or above it"):
        Secret.from_dotenv(tmp_path, filename=".nowhere")
    (tmp_path / ".env").write_text('A=1\n\nnot a line = "x\ny\nB=2\n')
    with pytest.raises(greenroom.InvalidError, match=r"\.env, line 3: not NAME=value"):
        Secret.from_dotenv(tmp_path)
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(greenroom.InvalidError, match="can't read"):
        Secret.from_dotenv(tmp_path)
