"""Keywords of ``@app.function``, ``@app.cls`` and of calls: both eras' names, what is refused, and how."""

import asyncio
import copy
import functools
import subprocess
import sys

import pytest

import greenroom
from greenroom.sdk.options import read_options
from greenroom.sdk.output import use_sink
from greenroom.testing import Cluster
from tests.contract.conftest import Recorder


def fields(**given):
    return read_options("@app.function", given).fields


def test_max_inputs_is_single_use():
    assert fields(max_inputs=1)["single_use"] is True
    assert "max_inputs" not in fields(max_inputs=1)
    assert fields()["single_use"] is False
    assert fields(allow_concurrent_inputs=4)["max_inputs"] == 4
    assert fields(single_use_containers=True)["single_use"] is True
    for wrong in (2, 0, True, "1"):
        with pytest.raises(greenroom.InvalidError, match=r"max_inputs=.* can only be 1.*@concurrent\(max_inputs="):
            fields(max_inputs=wrong)


def test_both_spellings_are_named():
    for one, other in (("container_idle_timeout", "scaledown_window"), ("min_containers", "keep_warm")):
        with pytest.raises(greenroom.InvalidError, match=f"{one}= and {other}= are the same; give one"):
            fields(**{one: 1, other: 3})
    assert fields(keep_warm=None, min_containers=2)["min_containers"] == 2
    assert fields(min_containers=2, keep_warm=None)["min_containers"] == 2


SECRET = greenroom.Secret.from_dict({"A": "1"})
MODEL = greenroom.Cls.from_name("shop", "Model")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: fields(secrets=SECRET), r"@app.function: secrets= takes a list: write secrets=\[…\]"),
        (lambda: fields(secrets="s"), "secrets= takes a list"),
        (lambda: fields(env=["A"]), "@app.function: env= takes a dict of names and values, not a list"),
        (lambda: greenroom.App("t", secrets=SECRET), "App: secrets= takes a list"),
        (lambda: greenroom.App("t", secrets=[SECRET]).function(secrets=SECRET), "secrets= takes a list"),
        (
            lambda: greenroom.Retries(max_retries="3"),
            r"Retries\(max_retries='3'\) must be a whole number between 0 and 10",
        ),
        (lambda: greenroom.Retries(max_retries=2.5), "must be a whole number"),
        (lambda: greenroom.Retries(max_retries=1, initial_delay="1"), "must be a number between 0 and 60"),
        (lambda: greenroom.App("t").function()(functools.partial(print)), "a function, not on functools.partial"),
        (lambda: greenroom.App("t").function()(Callable()), "goes on a function, not on .*Callable object"),
        (lambda: greenroom.App("t").run(name=3), "the name must be a str"),
        (lambda: fields(timeout=float("nan")), "timeout=nan must be a number of seconds above 0"),
        (lambda: fields(scaledown_window=float("inf")), "scaledown_window=inf must be less than 1e"),
        (lambda: fields(memory=float("nan")), "memory=nan must be a number above 0"),
        (lambda: fields(cpu=float("inf")), "cpu=inf must be a number above 0"),
        (lambda: fields(max_containers=2**31), "max_containers=2147483648 must be less than"),
        (lambda: fields(single_use_containers="no"), "single_use_containers='no' must be True or False"),
        (lambda: fields(block_network=1), "block_network=1 must be True or False"),
        (lambda: greenroom.concurrent(5), r"@concurrent\(5\) takes its arguments by name"),
        (
            lambda: MODEL.with_concurrency(max_inputs=2**31),
            r"with_concurrency: max_inputs=2147483648 must be less than",
        ),
        (
            lambda: MODEL.with_batching(max_batch_size=1, wait_ms=2**31),
            "with_batching: wait_ms=2147483648 must be less",
        ),
        (lambda: fields(routing_regio="x"), "did you mean routing_region=?"),
    ],
)
def test_refused(wrong, said):
    with pytest.raises(greenroom.InvalidError, match=said):
        wrong()


class Callable:
    def __call__(self): ...


def test_names_of_both_eras_are_known_and_said_once():
    """What Modal 0.67 and 1.6 take beside what Greenroom does; facts of their signatures."""
    ignored = dict.fromkeys(
        "routing_region allow_cross_region_volumes nonpreemptible i6pn experimental_options restrict_modal_access "
        "include_source proxy cloud region _experimental_restrict_output _experimental_scheduler_placement "
        "_experimental_buffer_containers _experimental_proxy_ip _experimental_custom_scaling_factor".split(),
        "x",
    )
    recorder = Recorder()
    with Cluster(), use_sink(recorder):
        app, other = greenroom.App("t", tags={"a": "b"}), greenroom.App("o")

        @app.function(serialized=True, **ignored)
        def f(x):
            raise ValueError(x)

        assert app.include(other_app=other, inherit_tags=True) is app
        assert app.description == "t"
        with app.run(client="c", environment_name="main", show_progress=False, name="other"):
            assert app.name == "other"
            for map_ in (f.map([1], return_exceptions=True, wrap_returned_exceptions=True),
                         f.starmap([(1,)], return_exceptions=True, wrap_returned_exceptions=False)):  # fmt: skip
                (error,) = map_
                assert isinstance(error, ValueError)
    said, wrap = recorder.notices
    assert {name.strip().removesuffix("=") for name in said.partition(": ")[2].split(",")} == {
        *ignored, "tags", "inherit_tags", "client", "environment_name",
    }  # fmt: skip
    assert "wrap_returned_exceptions= has no effect" in wrap


def test_show_progress_shows_what_the_app_does(home, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
import greenroom
app = greenroom.App("t")
@app.function()
def f():
    print("from the container")
if __name__ == "__main__":
    with app.run(show_progress=True):
        f.remote()
""")
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "from the container\n"
    assert "t is ready" in result.stderr


def test_a_call_without_an_app_shows_the_programs_frames_alone(tmp_path):
    program = tmp_path / "program.py"
    for call, said in (
        ("f.remote()", "ConnectionError: f can't be called remotely: its app isn't running"),
        ("greenroom.FunctionCall.from_id('fc-1').get()", "ConnectionError: no app is running"),
        ("greenroom.Function.from_name('a', 'f').remote()", "ConnectionError: no app is running"),
        (
            "greenroom.Cls.from_name('a', 'M').with_options(volumes={'/v': greenroom.Volume.from_name('v')})().m.remote()",
            "NotImplementedError: volumes= is not built yet",
        ),
    ):
        program.write_text(f"import greenroom\napp = greenroom.App()\n@app.function()\ndef f(): ...\n{call}\n")
        result = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1
        assert result.stderr.count("  File ") == 1, result.stderr
        assert f'{program}", line 5' in result.stderr and said in result.stderr


def test_a_method_by_name_is_asked_of_an_instance():
    model = greenroom.Cls.from_name("shop", "Model")
    with pytest.raises(greenroom.InvalidError, match=r"Model.predict needs an instance: write Model\(\).predict"):
        _ = model.predict
    assert not hasattr(model, "predict") and repr(copy.copy(model)) == repr(model)


def test_what_is_asked_of_a_spawned_call_has_to_make_sense():
    call = greenroom.FunctionCall.from_id("fc-1")
    for wrong in ("1", True, float("nan"), [1]):
        with pytest.raises(greenroom.InvalidError, match=r"get\(timeout=.*\): a number of seconds is wanted, or None"):
            call.get(timeout=wrong)
    for wrong in (-1, "0", 1.0, None):
        with pytest.raises(greenroom.InvalidError, match=r"get\(index=.*\): the number of an input is wanted"):
            call.get(index=wrong)
    for wrong in (1, [call]):
        with pytest.raises(
            greenroom.InvalidError, match=r"gather\(\) takes function calls, .*: write gather\(\*calls\)"
        ):
            greenroom.gather(call, wrong)
    with pytest.raises(greenroom.InvalidError, match=r"gather\(\) takes function calls"):
        asyncio.run(greenroom.gather.aio([call]))
