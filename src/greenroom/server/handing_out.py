"""The outputs of kept calls, to those who collect them: from the store what is committed, from memory what isn't yet."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from greenroom.model.errors import Error, NotFoundError
from greenroom.server.call import Call, Receiver
from greenroom.server.delivery import deliver
from greenroom.wire.messages import Collect, Done, Failed

if TYPE_CHECKING:
    from greenroom.server.core import Server
    from greenroom.server.store.calls import OutputRow
    from greenroom.server.store.database import Database

PAGE = 1000
"""Outputs that are read of the store at once."""
UNREAD = 8 * 1024**2
"""Bytes that a collector may leave unread before it gets more."""


def nowhere(call_id: str) -> str:
    """That there is no such call."""
    return f"no spawned call {call_id[:100]} in a running app of this server, nor is one kept"


class Collecting(Receiver, Protocol):
    """Who collects a call."""

    @property
    def backlog(self) -> int:
        """Bytes that it has not taken."""


class HandingOut:
    """Of one server."""

    def __init__(self, server: "Server", store: "Database", forget: Callable[[Call], None]) -> None:
        """``forget`` is called with a call that nobody is being sent any more."""
        from greenroom.server.store import many

        self._many: Any = many
        self._server = server
        self._store = store
        self._calls = server.lifecycle.calls
        self._forget = forget
        self._asked: list[tuple[Collect, Collecting, Call | None]] = []
        """Who collects a call, and will be told with the others of this turn of the loop."""
        self._asking = False
        """The store is being asked for those before."""

    def collect(self, request: Collect, receiver: Collecting) -> None:
        """Send a call's outputs as they are, or become, ready; then ``Done``."""
        call = self._calls.by_id.get(request.call_id)
        if call is not None:
            if len(call.outputs) == call.finished:  # nothing of it is in the store alone
                self._calls.collect(call, request, receiver)
                return
            call.streams += 1
        self._asked.append((request, receiver, call))
        if not self._asking:
            self._asking = True
            self._server.loop.call_soon(self._ask)

    def _ask(self) -> None:
        """Most calls have one small output, and many of those are found at once; the others are streamed, each by itself."""
        asked, self._asked = self._asked, []

        def found(done: "Future[dict[str, tuple[OutputRow | None]]]") -> None:
            self._asking = bool(self._asked)
            if self._asking:
                self._ask()
            there = done.result() if done.exception() is None else {}
            for request, receiver, call in asked:
                if (of_it := there.get(request.call_id)) is None:
                    self.stream(request, receiver, call)
                else:
                    self._hand_over(request, receiver, call, [output for output in of_it if output is not None], 1)

        self._store.read(lambda c: self._many.small_outputs(c, [request.call_id for request, _, _ in asked]), found)

    def _hand_over(
        self,
        request: Collect,
        receiver: Collecting,
        call: Call | None,
        last: "list[OutputRow]",
        count: int | None,
    ) -> None:
        """The last of what was committed; then what was only in memory, and what is to come."""
        deliver(receiver, request.call_id, (output[1:] for output in last))
        if call is not None:
            self._calls.collect(call, request, receiver)
            self._end_stream(call)
        else:
            receiver.send(Done(request.rid, {"count": count}))

    def stream(self, request: Collect, receiver: Collecting, call: Call | None, after: int = -1) -> None:
        """Send what is committed, a page at a time; then what isn't."""

        def found(done: "Future[tuple[int | None, list[OutputRow], bool] | None]") -> None:
            try:
                kept = done.result()
                if kept is None and call is None:
                    raise NotFoundError(nowhere(request.call_id))
            except Error as error:
                self._end_stream(call)
                receiver.send(Failed(request.rid, type(error).__name__, str(error)))
                return
            count, page, more = kept or (None, [], False)
            if not more:
                self._hand_over(request, receiver, call, page, count)
                return
            deliver(receiver, request.call_id, (output[1:] for output in page))
            self._when_read(receiver, lambda: self.stream(request, receiver, call, page[-1].idx))

        self._store.read(lambda c: self._many.collected(c, request.call_id, after, PAGE), found)

    def _when_read(self, receiver: Collecting, then: Any) -> None:
        if receiver.backlog < UNREAD:
            then()
        else:
            self._server.loop.call_later(0.02, self._when_read, receiver, then)

    def _end_stream(self, call: Call | None) -> None:
        if call is None:
            return
        call.streams -= 1
        if not call.streams:
            for index in call.retained:
                call.outputs.pop(index, None)
            call.retained.clear()
            self._forget(call)
