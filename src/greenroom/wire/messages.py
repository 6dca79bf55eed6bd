"""Every message, by who says it to whom.

A message with ``sizes`` carries payloads: one size each, negative where the payload travels as a file descriptor (see
``payload.py``). ``rid`` numbers a request within its connection; ``Done`` or ``Failed`` answers it.
"""

from typing import Any, NamedTuple

from greenroom.wire.schema import message
from greenroom.wire.status import Status as Status  # noqa: PLC0414 - a part of the messages

PROTOCOL_VERSION = 1

# ---- anyone ↔ server: the first frames ----


@message
class Hello(NamedTuple):
    """The first frame of every connection: who speaks."""

    role: str
    """``client``, ``container`` or ``worker``."""
    token: str
    version: int
    channel: str = ""
    """A container's: ``data`` (its main thread reads it) or ``control`` (its second thread does)."""


@message
class Welcome(NamedTuple):
    server_id: str
    max_payload: int
    inline_limit: int


@message
class Refused(NamedTuple):
    """The connection is about to be closed, and why."""

    reason: str


@message
class Done(NamedTuple):
    rid: int
    data: dict[str, Any]


@message
class Failed(NamedTuple):
    rid: int
    error: str
    """Name of an exception of ``model.errors``."""
    text: str


# ---- client → server: apps ----


@message
class HasBundle(NamedTuple):
    """Answered with ``{"present": bool}``."""

    rid: int
    digest: str


@message
class PutBundle(NamedTuple):
    """Payload: the bundle, a tar file; or the next part of it. ``more``: another one follows."""

    rid: int
    digest: str
    sizes: list[int]
    more: bool = False


@message
class CreateApp(NamedTuple):
    rid: int
    app_id: str
    name: str
    replaces: str = ""
    """Id of an app whose place it takes (see ``TakeOver``); until then it serves nothing."""
    detached: bool = False
    """``Detach`` follows; until then it starts no containers."""


@message
class DefineFunction(NamedTuple):
    """Payload: the pickled definition where the spec says ``serialized``, else nothing (one of length 0)."""

    rid: int
    spec: dict[str, Any]
    sizes: list[int]


@message
class FollowApp(NamedTuple):
    """From now on this connection gets the app's events, and the app ends with it."""

    rid: int
    app_id: str


@message
class StopApp(NamedTuple):
    """Answered once every container has ended and its events have been sent."""

    rid: int
    app_id: str
    kill: bool = False
    drain: float = 0.0
    """Seconds that running inputs may take to finish."""


@message
class ListContainers(NamedTuple):
    """Answered with ``{"containers": [record, …]}``."""

    rid: int


@message
class StopContainer(NamedTuple):
    """Stop a container in order, its inputs cancelled. Answered once it has ended, with ``{"reason": str}``."""

    rid: int
    container_id: str


@message
class EnterContainer(NamedTuple):
    """Answered with ``{"command": […], "pid": int}``: what to put before a command that is to run in that container, on the
    machine where it is; ``[]``: nothing, it is a plain process, whose environment and directory are its supervisor's."""

    rid: int
    container_id: str


@message
class Shutdown(NamedTuple):
    """End this server, once its apps have ended."""

    rid: int


# ---- server → client: an app's events ----


@message
class Log(NamedTuple):
    """Payload: what a container printed, as bytes, in order, cut anywhere."""

    container_id: str
    function: str
    sizes: list[int]


@message
class ContainerChanged(NamedTuple):
    container_id: str
    function: str
    state: str
    event: str
    reason: str


@message
class Notice(NamedTuple):
    """One line that a person should read."""

    text: str


# ---- client ↔ server: calls ----


@message
class Bind(NamedTuple):
    """Name a parameter set of a class, once a connection. Payload: the pickled ``(args, kwargs)`` of its constructor."""

    function_id: str
    binding: str
    sizes: list[int]


@message
class Call(NamedTuple):
    """Start a call. ``unary`` and ``generator`` carry their one input as payload.

    ``map``: inputs follow, outputs come back as they are ready, the call ends with this connection.
    ``spawn``: like ``map``, but outputs are kept until collected, and the call ends with its app.
    """

    call_id: str
    function_id: str
    method: str
    binding: str
    shape: str
    sizes: list[int]
    again: int = -1
    """Of a call that was on its way when the server before this one died: how many of its outputs have come."""


@message
class Inputs(NamedTuple):
    """Further inputs of a ``map`` or ``spawn`` call, numbered from ``first``."""

    call_id: str
    first: int
    sizes: list[int]


@message
class EndInputs(NamedTuple):
    """There are ``total`` inputs, and no more will come. With a ``rid``, answered once the server has all of them."""

    call_id: str
    total: int
    rid: int = 0


@message
class Outputs(NamedTuple):
    """Results: ``items`` is ``[[index, status, detail], …]`` (status: see ``Status``), a payload each."""

    call_id: str
    items: list[list[Any]]
    sizes: list[int]


@message
class Values(NamedTuple):
    """What a generator yielded, in order."""

    call_id: str
    sizes: list[int]


@message
class Credit(NamedTuple):
    """A generator may yield so many values more: the client has taken that many."""

    call_id: str
    more: int


@message
class CancelCall(NamedTuple):
    """Cancel what of a call hasn't ended. With a ``rid`` it is answered once that is sure to stand, ``Failed`` where there is no
    such call; 0: nobody waits for that."""

    call_id: str
    rid: int = 0


@message
class Collect(NamedTuple):
    """Send me this ``spawn`` call's outputs as they are, or become, ready. ``Done`` says how many inputs there are; until then,
    ``Outputs`` without any say that no others are ready yet."""

    rid: int
    call_id: str


# ---- server ↔ worker ----


@message
class WorkerReady(NamedTuple):
    """``sandbox``: ``oci`` or ``process``. ``lacks``, ``keeps_limits``: as ``worker/sandbox/base.py`` has them."""

    sandbox: str
    lacks: str
    keeps_limits: str
    inline_only: bool = False
    """No descriptor reaches its containers: payloads travel in frames alone, none larger than ``payload.INLINE_ONLY``."""


@message
class StartContainer(NamedTuple):
    """Payloads: the function's definition, the binding. ``begin`` is passed on to the agent, as a ``Begin``.

    ``limits``: the fields of a ``Limits``, in order. ``image``: a ``MadeImage``; empty: the host image, as it is.
    """

    container_id: str
    begin: dict[str, Any]
    environment: dict[str, str]
    bundle: str
    limits: list[Any]
    image: dict[str, Any]
    sizes: list[int]


@message
class SignalContainer(NamedTuple):
    """``action``: ``kill`` (SIGKILL, now) or ``watch`` (kill it when it isn't gone within ``seconds``)."""

    container_id: str
    action: str
    seconds: float = 0.0


@message
class Adopt(NamedTuple):
    """To a new worker: containers of its predecessor, ``[[container_id, bytes of log already had], …]``; all others go."""

    containers: list[list[Any]]
    patience: float = 0.0
    """Seconds that the others have to end by themselves, before they are killed."""


@message
class ContainerStarted(NamedTuple):
    """``enter``: see ``EnterContainer``."""

    container_id: str
    pid: int
    enter: list[str]


@message
class ContainerLog(NamedTuple):
    container_id: str
    sizes: list[int]


@message
class ContainerEnded(NamedTuple):
    """The container's processes are gone, its output has been sent and its resources have been released.

    ``reason`` is ``""`` for an orderly end, else what killed it, such as ``killed by signal 11`` or ``exit status 3``.
    ``started``: whether its sandbox ever ran. ``begun``: the input that it began last; -1: none, or nobody knows.
    ``finished``: those that had ended and whose results it had not sent, a payload each, and in ``statuses`` how.
    ``items``: of one that may have outlived its server, ``[[seq, call_id, index, method, shape], …]``: what it had begun and
    nobody had said to be safe.
    """

    container_id: str
    reason: str
    started: bool
    begun: int = -1
    finished: list[int] = []
    sizes: list[int] = []
    statuses: list[str] = []
    items: list[list[Any]] = []


# ---- server ↔ agent ----


@message
class HookDone(NamedTuple):
    """One step of the container's life is over: ``import``, ``construct``, ``enter`` or ``exit``. ``error``: one line, or ``""``."""

    phase: str
    name: str
    seconds: float
    error: str


@message
class Entered(NamedTuple):
    """Ready for inputs."""


@message
class StartFailed(NamedTuple):
    """Start-up raised in ``step``. Payload: the pickled exception."""

    step: str
    text: str
    sizes: list[int]


@message
class Run(NamedTuple):
    """Inputs to run: ``items`` is ``[[seq, call_id, index, method, shape], …]``, a payload each."""

    items: list[list[Any]]
    sizes: list[int]
    more: bool = False
    """Of a function that takes batches: this batch goes on in the next message."""


@message
class Results(NamedTuple):
    """``items`` is ``[[seq, status, detail], …]``, a payload each."""

    items: list[list[Any]]
    sizes: list[int]


@message
class Yielded(NamedTuple):
    seq: int
    sizes: list[int]


@message
class AddCredit(NamedTuple):
    seq: int
    more: int


@message
class Interrupt(NamedTuple):
    """Cancel the input ``seq``; -1: the start-up."""

    seq: int


@message
class Revoke(NamedTuple):
    """Give back those of these inputs that have not begun."""

    seqs: list[int]


@message
class Returned(NamedTuple):
    seqs: list[int]


@message
class Stuck(NamedTuple):
    """An interrupted input did not stop in time; this container must go. ``main``: it holds the main thread."""

    seq: int
    main: bool


@message
class Stop(NamedTuple):
    """Take no more inputs; when those running are over, run the exit hooks and end."""

    reason: str


@message
class Exiting(NamedTuple):
    """Exit hooks are about to run."""


@message
class Exited(NamedTuple):
    """Exit hooks have run; ``errors``: one line for each that failed."""

    errors: list[str]
