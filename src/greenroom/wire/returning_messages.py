"""What containers and callers that outlived their server say to the next one. See ``messages.py``; apart, since few ever do."""

from typing import Any, NamedTuple

from greenroom.wire.schema import message


@message
class Returning(NamedTuple):
    """First of all on a new ``data`` connection: what the last server had given it, and this one takes over.

    ``items`` is ``[[seq, call_id, index, method, shape], …]``: what runs, and what has ended without the last server having
    said ``Kept``; the results of those follow. What had not begun is given back, and not among them.
    ``next_seq``: past every number that it has seen. ``stopping``: it was told to end with what it runs.
    """

    items: list[list[Any]]
    next_seq: int
    stopping: bool = False


@message
class Resume(NamedTuple):
    """The answer: it is taken back; now its results, and then as before."""


@message
class Kept(NamedTuple):
    """To a container: these results are safe, whatever becomes of this server."""

    seqs: list[int]


@message
class Settled(NamedTuple):
    """To the worker: what followed from the end of that container is safe, and nobody will ask for it again."""

    container_id: str


@message
class WasKept(NamedTuple):
    """Of a caller whose server died before it said that a spawned call is kept. Answered with ``{"kept": bool}``."""

    rid: int
    call_id: str
