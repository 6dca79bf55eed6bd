"""Greenroom: classes and functions in containers on your own machines, with Modal's programming model.

The map, in the order in which a call passes through:

- ``model``: ids, specs, errors, settings, the state tables
- ``wire``: frames, messages, connections
- ``usercode``: the decorators, and the one driver of hooks
- ``sdk``: App, Cls, Function, FunctionCall: what programs use
- ``cli``: the ``greenroom`` command
- ``server``: calls, pools, the autoscaler, containers
- ``worker``: starts and ends containers
- ``agent``: what runs inside one
- ``testing``: a real cluster in a test's own process, with a clock that can be held

Names are loaded when they are first used, so that ``import greenroom`` costs little.
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from greenroom.model import errors as exception
    from greenroom.model.errors import (
        AuthError as AuthError,
    )
    from greenroom.model.errors import (
        ConnectionError as ConnectionError,
    )
    from greenroom.model.errors import (
        ContainerCrashed as ContainerCrashed,
    )
    from greenroom.model.errors import (
        DeserializationError as DeserializationError,
    )
    from greenroom.model.errors import (
        Error as Error,
    )
    from greenroom.model.errors import (
        ExecutionError as ExecutionError,
    )
    from greenroom.model.errors import (
        FunctionTimeoutError as FunctionTimeoutError,
    )
    from greenroom.model.errors import (
        ImageBuildError as ImageBuildError,
    )
    from greenroom.model.errors import (
        InputCancellation as InputCancellation,
    )
    from greenroom.model.errors import (
        InvalidError as InvalidError,
    )
    from greenroom.model.errors import (
        NotFoundError as NotFoundError,
    )
    from greenroom.model.errors import (
        OutputExpiredError as OutputExpiredError,
    )
    from greenroom.model.errors import (
        RemoteError as RemoteError,
    )
    from greenroom.model.errors import (
        RequestSizeError as RequestSizeError,
    )
    from greenroom.model.errors import (
        SerializationError as SerializationError,
    )
    from greenroom.model.errors import (
        StoreError as StoreError,
    )
    from greenroom.model.errors import (
        TimeoutError as TimeoutError,
    )
    from greenroom.sdk import gpu as gpu
    from greenroom.sdk.app import App as App
    from greenroom.sdk.app import Stub as Stub
    from greenroom.sdk.cls import Cls as Cls
    from greenroom.sdk.decorators import method as method
    from greenroom.sdk.file_patterns import FilePatternMatcher as FilePatternMatcher
    from greenroom.sdk.function import Function as Function
    from greenroom.sdk.function_call import FunctionCall as FunctionCall
    from greenroom.sdk.function_call import gather as gather
    from greenroom.sdk.image import Image as Image
    from greenroom.sdk.options import Retries as Retries
    from greenroom.sdk.output import enable_output as enable_output
    from greenroom.sdk.schedule import Cron as Cron
    from greenroom.sdk.schedule import Period as Period
    from greenroom.sdk.secret import Secret as Secret
    from greenroom.usercode.context import (
        current_function_call_id as current_function_call_id,
    )
    from greenroom.usercode.context import (
        current_input_id as current_input_id,
    )
    from greenroom.usercode.context import (
        is_local as is_local,
    )
    from greenroom.usercode.hooks import (
        asgi_app as asgi_app,
    )
    from greenroom.usercode.hooks import (
        batched as batched,
    )
    from greenroom.usercode.hooks import (
        build as build,
    )
    from greenroom.usercode.hooks import (
        concurrent as concurrent,
    )
    from greenroom.usercode.hooks import (
        enter as enter,
    )
    from greenroom.usercode.hooks import (
        exit as exit,
    )
    from greenroom.usercode.hooks import (
        fastapi_endpoint as fastapi_endpoint,
    )
    from greenroom.usercode.hooks import (
        parameter as parameter,
    )
    from greenroom.usercode.hooks import (
        web_endpoint as web_endpoint,
    )
    from greenroom.usercode.hooks import (
        web_server as web_server,
    )
    from greenroom.usercode.hooks import (
        wsgi_app as wsgi_app,
    )

__version__ = "0.1.0"

_HOME = {
    "greenroom.sdk.app": ["App", "Stub"],
    "greenroom.sdk.cls": ["Cls"],
    "greenroom.sdk.decorators": ["method"],
    "greenroom.sdk.function": ["Function"],
    "greenroom.sdk.function_call": ["FunctionCall", "gather"],
    "greenroom.sdk.file_patterns": ["FilePatternMatcher"],
    "greenroom.sdk.image": ["Image"],
    "greenroom.sdk.options": ["Retries"],
    "greenroom.sdk.output": ["enable_output"],
    "greenroom.sdk.schedule": ["Cron", "Period"],
    "greenroom.sdk.secret": ["Secret"],
    "greenroom.usercode.context": ["current_function_call_id", "current_input_id", "is_local"],
    "greenroom.usercode.hooks": [
        "asgi_app", "batched", "build", "concurrent", "enter", "exit", "fastapi_endpoint", "parameter",
        "web_endpoint", "web_server", "wsgi_app",
    ],
    "greenroom.model.errors": [
        "AuthError", "ConnectionError", "ContainerCrashed", "DeserializationError", "Error", "ExecutionError",
        "FunctionTimeoutError", "ImageBuildError", "InputCancellation", "InvalidError", "NotFoundError",
        "OutputExpiredError", "RemoteError", "RequestSizeError", "SerializationError",
        "StoreError", "TimeoutError",
    ],
}  # fmt: skip
_MODULES = {"exception": "greenroom.model.errors", "gpu": "greenroom.sdk.gpu"}
_module_of = {name: module for module, names in _HOME.items() for name in names}
__all__ = ["__version__", *sorted(_module_of)]  # noqa: PLE0604 - names, all of them


def __getattr__(name: str) -> _typing.Any:
    if name in _module_of:
        value = getattr(_importlib.import_module(_module_of[name]), name)
    elif name in _MODULES:
        value = _importlib.import_module(_MODULES[name])
    elif name.startswith("_"):
        raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
    else:
        from greenroom.sdk.unbuilt import NAMES, Recorded

        if name not in NAMES:
            raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
        value = Recorded(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
