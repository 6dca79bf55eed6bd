"""``import modal`` under the command line and in containers: every public name imports; what isn't built says so when used."""

import subprocess
import sys

import pytest

import greenroom

PUBLIC = """
App Client CloudBucketMount Cls Cluster Cron Dict Environment Error FilePatternMatcher Function
FunctionCall Image NetworkFileSystem Period Probe Proxy Queue Retries Sandbox SandboxSnapshot
SchedulerPlacement Secret Server Tunnel Volume Workspace asgi_app batched billing clustered
concurrent current_function_call_id current_input_id enable_output enter exit experimental
fastapi_endpoint forward interact is_local method parameter sessioned types web_endpoint web_server
wsgi_app build exception Stub
""".split()


def test_every_public_name():
    for name in PUBLIC:
        assert getattr(greenroom, name) is getattr(greenroom, name)
    with pytest.raises(AttributeError):
        _ = greenroom.no_such_name


def test_modal_is_greenroom():
    program = """
import greenroom
from greenroom.usercode import modal_alias
modal_alias.install()
import modal
functions = modal.functions  # before anything has imported it
import modal.exception, modal.functions
assert functions is modal.functions and functions.Function is greenroom.Function
from modal.cls import Obj
from greenroom.sdk import cls
assert Obj is cls.Obj and modal.Stub is modal.App
from modal.functions import gather
from modal import App, Volume
assert modal.Period is greenroom.Period and modal.Cron is greenroom.Cron
assert issubclass(modal.Cron, modal.schedule.Schedule)
assert modal.App is greenroom.App and App is greenroom.App and modal.exception.RemoteError is greenroom.RemoteError
assert gather is greenroom.gather
assert str(modal.gpu.A100(count=2)) == str(greenroom.gpu.A100(count=2)) == "A100:2"
import modal.gpu
assert str(modal.gpu.Any()) == "any"
for name in ("Any", "TYPE_CHECKING", "importlib", "typing"):
    assert not hasattr(greenroom, name), name
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def function():
    app = greenroom.App("x")

    @app.function(serialized=True)
    def f(): ...

    return f


def instance():
    app = greenroom.App("x")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def predict(self): ...

    return Model()


def test_get_raw_f():
    assert function().get_raw_f().__qualname__ == "function.<locals>.f"


SUBMODULES = """
app billing call_graph client cloud_bucket_mount cls cluster config container_process dict environments exception
experimental file_pattern_matcher functions gpu image io_streams mount network_file_system object output parallel_map
partial_function proxy queue retries runner running_app sandbox schedule scheduler_placement secret server serving
stream_type token_flow types volume workspace
""".split()


def test_every_public_submodule():
    """Of 0.67 and of 1.6; what they have is named freely, and refused by its name when it is used."""
    program = f"""
import importlib
from greenroom.usercode import modal_alias
modal_alias.install()
for name in {SUBMODULES}:
    importlib.import_module("modal." + name)
from modal.functions import FunctionStats
from modal.stream_type import StreamType
StreamType.PIPE
try:
    FunctionStats()
except NotImplementedError as error:
    assert str(error) == "modal.functions.FunctionStats(…): modal.functions.FunctionStats is not built yet", error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "use",
    [
        lambda: greenroom.Sandbox.create("ls"),
        lambda: greenroom.Volume.from_name("v").commit(),
        lambda: greenroom.Queue.from_name("q").put(1),
        lambda: greenroom.forward(8000),
        lambda: greenroom.Secret.from_name("s").hydrate(),
        lambda: greenroom.FunctionCall.from_id("fc-1").cancel(terminate_containers=True),
        lambda: greenroom.App.lookup("x", create_if_missing=True),
        lambda: greenroom.App("x").logs,
        lambda: function().keep_warm(1),
        lambda: function().with_options(gpu="any"),
        lambda: instance().keep_warm(1),
        lambda: type(instance()._cls).with_options(instance()._cls, gpu="any")().predict.remote(),
        lambda: greenroom.Secret.create_deployed("s", {}),
        lambda: greenroom.FunctionCall.from_id("fc-1").get_call_graph(),
    ],
)
def test_to_use_what_is_not_built(use):
    with pytest.raises(NotImplementedError, match="not built yet"):
        use()


def test_declarations_record():
    assert repr(greenroom.Image.debian_slim().pip_install("x")) == "Image.debian_slim().pip_install('x')"
    assert (
        repr(greenroom.Volume.from_name("v", create_if_missing=True)) == "Volume.from_name('v', create_if_missing=True)"
    )
    assert repr(greenroom.Period(days=1)) == "Period(days=1)"


def test_exceptions_of_modals_own_service_can_be_named():
    assert issubclass(greenroom.exception.DeprecationError, greenroom.Error)
