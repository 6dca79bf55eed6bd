"""Every exception that Greenroom raises, as one tree.

::

    Error
    ├── InvalidError            the caller's mistake; the message says the fix
    ├── NotFoundError           no such app, function, container or call
    ├── ConnectionError         the server can't be reached, or went away
    ├── AuthError               a wrong or missing token
    ├── ProtocolError           bytes on the wire that are no message of ours
    ├── RequestSizeError        an argument or a result past the limit
    ├── SerializationError      a value that can't be pickled
    ├── DeserializationError    a pickle that can't be loaded here
    ├── ExecutionError          running went wrong, not the user's code
    │   ├── ContainerCrashed    the container died with the input in it
    │   └── StateError          an event that a state does not accept (a bug of ours)
    ├── RemoteError             the user's own exception, where its type can't travel
    ├── ImageBuildError         a build step failed
    ├── OutputExpiredError      the result was kept no longer
    ├── StoreError              the server can't keep or read its state: a full disk, a damaged or newer file
    └── TimeoutError            (also a builtin TimeoutError)
        └── FunctionTimeoutError   an input ran past its ``timeout``

    InputCancellation (a BaseException)   raised inside a cancelled input, so that ``except Exception`` lets it pass
"""

import builtins


class Error(Exception):
    """Root of all of Greenroom's exceptions."""


class InvalidError(Error):
    """The program asks for something that can't be; the message says what to write instead."""


class NotFoundError(Error):
    """Something was named that isn't there."""


class ConnectionError(Error):
    """The server can't be reached, or the connection to it was lost."""


class AuthError(Error):
    """The server refused the token."""


class ProtocolError(Error):
    """What arrived is not a message of Greenroom's protocol."""


class RequestSizeError(Error):
    """An argument or a result is larger than the server accepts."""


class SerializationError(Error):
    """A value can't be pickled."""


class DeserializationError(Error):
    """A value arrived that can't be unpickled here."""


class ExecutionError(Error):
    """Running went wrong, and not by the user's code."""


class ContainerCrashed(ExecutionError):
    """The container died while it ran the input; the message has the reason, such as ``killed by signal 11``."""


class StateError(ExecutionError):
    """An event arrived in a state that doesn't accept it."""


class RemoteError(Error):
    """The user's exception, where its own type can't travel: carries the type's name, its text and its traceback."""


class ImageBuildError(Error):
    """A step of an image failed to build."""


class OutputExpiredError(Error):
    """The result of a call is no longer kept."""


class StoreError(Error):
    """The server can't keep, or can't read, its state; the message says why: what it refused is not kept."""


class TimeoutError(Error, builtins.TimeoutError):
    """Something took longer than the caller was ready to wait."""


class FunctionTimeoutError(TimeoutError):
    """An input ran longer than its function's ``timeout``."""


class InputCancellation(BaseException):
    """Raised inside a running input whose call was cancelled or ran out of time."""


for _public in (
    AuthError, ConnectionError, ContainerCrashed, DeserializationError, Error, ExecutionError, FunctionTimeoutError,
    ImageBuildError, InputCancellation, InvalidError, NotFoundError, OutputExpiredError, RemoteError, RequestSizeError,
    SerializationError, StoreError, TimeoutError,
):  # fmt: skip
    _public.__module__ = "greenroom"  # as tracebacks name them, and programs catch them

_MODALS_OWN = frozenset({
    "AlreadyExistsError", "AsyncUsageWarning", "ClientClosed", "ConflictError", "DataLossError", "DeprecationError",
    "ExecTimeoutError", "InteractiveTimeoutError", "InternalAPIWarning", "InternalError", "InternalFailure",
    "LogsFetchError", "ModuleNotMountable", "MountUploadTimeoutError", "PermissionDeniedError", "ResourceExhaustedError",
    "SandboxFilesystemError", "SandboxTerminatedError", "SandboxTimeoutError", "ServerWarning", "ServiceError",
    "SnapshotCreationError", "UnimplementedError", "UserCodeException", "VersionError", "VolumeUploadTimeoutError",
})  # fmt: skip


def __getattr__(name: str) -> type[Error]:
    """Exceptions that only Modal's own service raises: programs may name them in an ``except``; we never raise one."""
    if name not in _MODALS_OWN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind = globals()[name] = type(name, (Error,), {"__module__": __name__})
    return kind
