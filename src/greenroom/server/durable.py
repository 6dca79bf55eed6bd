"""Spawned calls of deployed and detached apps: kept in the store from before they are acknowledged until a week after they have ended.

What is kept need not be in memory too: an output leaves it once it is committed, a call once all of its are. Who collects
one gets what is committed from the store, and what isn't, or ends meanwhile, from memory; some of it perhaps twice.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import Error, ExecutionError, NotFoundError, StoreError
from greenroom.server.allowance import COST
from greenroom.server.call import Call, Input, Receiver
from greenroom.server.handing_out import Collecting, HandingOut, nowhere
from greenroom.server.keeping import Keeping
from greenroom.server.pools import Pool
from greenroom.server.unfinished import CUT, Unfinished
from greenroom.wire.deploy_messages import deployed_id
from greenroom.wire.messages import CancelCall, Collect, Done, Failed, Status
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from sqlite3 import Connection

    from greenroom.server.core import Server
    from greenroom.server.store.calls import CallRow, OutputRow
    from greenroom.server.store.database import Database

RETENTION = 7 * 86400.0
"""Seconds that a call is kept after its end."""
CLEANING = 3600.0
"""Seconds between two looks for calls that have been kept long enough."""
STEP = 5000
"""Rows that are changed or removed at once."""
WINDOW = 10_000
"""Inputs of one call that are in memory; the others are in the store alone, until there is room."""
MOST_PENDING = 2000
"""Changes that may wait for the disk, until whoever brings more has to wait."""
MOST_COMING = 32 * 1024**2
"""Bytes of inputs that may, each with what it costs beside its arguments."""
SOON = 0.05
"""Seconds until something is looked for again that should be committed by then."""
RETRY = 1.0
"""Seconds until it is tried again to keep what has ended."""


class Durable:
    """Those of one server, which stays."""

    def __init__(self, server: "Server", store: "Database") -> None:
        from greenroom.server.store import calls, many

        self._rows: Any = calls
        self._many: Any = many
        self._server = server
        self._store = store
        self._calls = server.lifecycle.calls
        self._keeping = Keeping(server.loop, store)
        self._restoring = False
        """Not all that the last server had not ended is here yet."""
        self._fresh: set[str] = set()
        """Ids of calls that have come until it is."""
        self._cut: set[str] = set()
        """Ids of calls that nobody goes on with, and of which that is not kept yet."""
        self._coming: dict[Call, int] = {}
        """Bytes of inputs of this turn of the loop."""
        self._unwritten = 0
        """Bytes of inputs that have come and are not on the disk yet."""
        self._noting = 0
        """Attempts that have failed, and that the store is keeping."""
        self._unnoted = 0
        """Those, and outputs, that it could not keep, until it is tried again."""
        self._loading: dict[Call, list[Callable[[], None]]] = {}
        """Calls of which inputs are being read from the store, and who waits for them."""
        self._handing_out = HandingOut(server, store, self._forget)

    # ---- what happens to a call ----

    def begun(self, call: Call) -> None:
        """It has come, and none of its inputs."""
        call.keeper = self
        self._note_fresh(call.id)
        self._cut.discard(call.id)
        row, binding = self._row(call, None), call.pool.binding

        def change(connection: "Connection") -> None:
            if call.again:  # the server before this one was cut short when it came
                self._rows.forget(connection, [call.id])
            self._rows.add_call(connection, row, binding)

        self._write(call, change)

    def _row(self, call: Call, inputs: int | None) -> "CallRow":
        function = call.pool.function
        app = function.app.name if function.app.version else function.app.id  # what is not deployed has no name
        name = deployed_id(app, function.spec.name)
        binding = next(key for key, pool in function.pools.items() if pool is call.pool)
        now = self._server.lifecycle.clock.wall()
        row: CallRow = self._rows.CallRow(call.id, function.app.id, name, call.method, binding, call.shape, inputs, now)
        return row

    def _note_fresh(self, call_id: str) -> None:
        if self._restoring:
            self._fresh.add(call_id)

    def is_fresh(self, call_id: str) -> bool:
        """Whether it is no call that the last server has left: it has come to this one, or come again."""
        return call_id in self._fresh

    def spawned(self, call: Call, payloads: list[Payload], peer: Receiver, rid: int) -> None:
        """It has come, with all of its inputs: it is kept and run, and its caller is told as by :meth:`complete`."""
        if call.again or len(payloads) > WINDOW:
            self.begun(call)
            self.added(call, 0, payloads)
            self.complete(call, len(payloads), peer, rid)
        else:
            call.keeper = self
            self._note_fresh(call.id)
            size = _bytes_of(payloads)
            self._unwritten += size
            whole = self._many.Whole(self._row(call, len(payloads)), call.pool.binding, payloads)
            self._keeping.put(whole, self._then_tell(call, size, peer, rid))
            call.loaded_to = len(payloads) - 1
            self._calls.add(call, 0, payloads)
        self._calls.end_inputs(call, len(payloads))

    def added(self, call: Call, first: int, payloads: list[Payload]) -> None:
        """Inputs of it have come: they are kept, and as many as there is room for are run."""
        size = _bytes_of(payloads)
        self._coming[call] = self._coming.get(call, 0) + size
        self._unwritten += size
        self._write(call, lambda c: self._rows.add_inputs(c, call.id, first, payloads))
        here = payloads
        if not call.cancelled:
            here = [] if call.stored else payloads[: max(0, WINDOW - len(call.inputs))]
        if here:
            call.loaded_to = first + len(here) - 1
            self._calls.add(call, first, here)
        call.stored += len(payloads) - len(here)
        call.added += len(payloads) - len(here)
        call.next_index = first + len(payloads)

    @property
    def behind(self) -> bool:
        """Whether more is to be kept than should wait in memory."""
        return self._store.pending + self._keeping.pending > MOST_PENDING or self._unwritten > MOST_COMING

    def flush(self) -> None:
        """Give the store all that it is to keep: it is about to be closed."""
        self._keeping.flush()

    def _refill(self, call: Call) -> None:
        """Have more of its inputs here, if there is room."""
        if call.stored and call not in self._loading and not call.cancelled and len(call.inputs) <= WINDOW // 2:
            self._load(call, lambda: None)

    def load_until(self, call: Call, index: int, then: Callable[[], None]) -> None:
        """Have its inputs here up to that one, whether or not there is room."""
        before = call.loaded_to
        if not call.stored or call.cancelled or index <= before:
            then()
        else:
            self._load(call, lambda: self.load_until(call, index, then) if call.loaded_to > before else then())

    def _load(self, call: Call, then: Callable[[], None]) -> None:
        """Have the next of its inputs here, which only one may do at a time; ``then`` is called once they are, or can't be."""
        if call in self._loading:
            self._loading[call].append(then)
            return
        self._loading[call] = [then]

        def found(done: Future[list[Any]]) -> None:
            waiting = self._loading.pop(call)
            rows = done.result() if done.exception() is None else []
            if rows and not call.cancelled:
                call.stored -= len(rows)
                call.loaded_to = rows[-1].idx
                self._calls.take_up(call, rows)
            elif call.stored:  # they aren't committed yet, or can't be read now
                self._server.loop.call_later(SOON, self._refill, call)
            for each in waiting:
                each()

        self._store.read(lambda c: self._rows.inputs_of(c, call.id, call.loaded_to, WINDOW // 2), found)

    def was_kept(self, call_id: str, then: Callable[[bool], None]) -> None:
        """Whether a call was kept whole, which its caller may not have heard."""

        def found(done: "Future[CallRow | None]") -> None:
            row = done.result() if done.exception() is None else None
            then(row is not None and row.inputs is not None and not row.cancelled.startswith(CUT))

        self._store.read(lambda c: self._rows.find(c, call_id), found)

    def complete(self, call: Call, count: int, peer: Receiver, rid: int) -> None:
        """No more will come; its caller is told once all of it is kept, or that it isn't, and then it is taken back."""
        call.changes.append(lambda c: self._rows.end_inputs(c, call.id, count))
        self._flush(call, self._then_tell(call, 0, peer, rid))

    def _then_tell(self, call: Call, size: int, peer: Receiver, rid: int) -> Callable[[Future[None]], None]:
        """Called once all of a call is kept, of which so many bytes had not been written; or once it is clear that it can't be."""

        def kept(done: Future[None]) -> None:
            self._unwritten -= size
            why = call.unkept or str(done.exception() or "")
            if why:
                self._server.lifecycle.calls.cancel(call, f"the call was cancelled: {why}")
                peer.send(Failed(rid, ExecutionError.__name__, f"the call can't be kept, and doesn't run: {why}"))
            else:
                peer.send(Done(rid, {}))

        return kept

    def ended(self, call: Call, items: list[list[Any]], payloads: list[Payload]) -> None:
        """See :class:`greenroom.server.call.Keeper`."""
        self._flush(call)  # what of it isn't kept yet comes first
        row, call_id = self._rows.OutputRow, call.id
        self._keep(call, [row(call_id, *item, payload) for item, payload in zip(items, payloads, strict=True)])
        self._refill(call)

    def failed(self, item: Input) -> None:
        """An attempt of an input has: it is one whatever becomes of this server."""
        attempt = self._rows.Attempt(item.call.id, item.index, item.attempt, item.losses, item.tried)

        def noted(done: Future[None]) -> None:
            self._noting -= 1
            if done.exception() is not None:
                self._unnoted += 1
                self._server.loop.call_later(RETRY, again)

        def again() -> None:  # with what it is by then; of one that has ended nothing is noted
            self._unnoted -= 1
            self.failed(item)

        self._flush(item.call)
        self._keeping.flush()
        self._noting += 1
        self._store.write(lambda c: self._rows.note_attempt(c, [attempt]), noted)

    def _keep(self, call: Call, outputs: "list[OutputRow]") -> None:
        def again(output: "OutputRow", waited_for: bool) -> None:
            self._unnoted -= waited_for
            self._keep(call, [output])

        def kept(done: Future[None]) -> None:
            error = done.exception()
            if error is not None:  # nothing is told twice: they stay in memory until they can be kept
                for output in outputs:  # one by one, should something be wrong with one of them: nobody waits for that
                    self._unnoted += (waited_for := isinstance(error, StoreError))
                    self._server.loop.call_later(RETRY, again, output, waited_for)
            elif call.streams:
                call.retained += [output.idx for output in outputs]
            else:
                for output in outputs:
                    call.outputs.pop(output.idx, None)

        self._keeping.put(outputs, kept)

    def when_kept(self, callback: Callable[[], object]) -> None:
        """Called once all that has ended or failed by now is kept."""

        def kept(done: Future[None]) -> None:
            if done.exception() is None and not self._unnoted:
                callback()
            else:
                self._server.loop.call_later(RETRY, self.when_kept, callback)

        if self._noting or self._unnoted:
            self._keeping.flush()
            self._store.write(lambda c: None, kept)
        elif not self._keeping.after(kept):
            callback()

    def over(self, call: Call) -> None:
        """All of its inputs have ended."""

        def kept(done: Future[None]) -> None:
            if done.exception() is not None:
                self._server.loop.call_later(RETRY, self.over, call)
            else:
                call.kept = True
                self._forget(call)

        self._keeping.put(self._many.Finished(call.id, self._server.lifecycle.clock.wall()), kept)

    def cancelled(self, call: Call, *, first: bool, running: bool) -> None:
        """See :class:`greenroom.server.call.Keeper`. What may run to its end may do so under the next server too."""
        if running:
            self._write(call, lambda c: self._rows.cancel(c, call.id, call.cancelled))
        if first:
            self._end_stored(call)

    def say_cancelled(self, call: Call, peer: Receiver, rid: int) -> None:
        """Answer whoever cancelled it, once the next server would know."""

        def kept(done: Future[None]) -> None:
            if (error := done.exception()) is None:
                peer.send(Done(rid, {}))
                return
            why = f"the call is cancelled, but that can't be kept, and the next server would go on with it: {error}"
            peer.send(Failed(rid, ExecutionError.__name__, why))

        self._flush(call)
        self._keeping.flush()
        self._store.write(lambda c: self._rows.cancel(c, call.id, call.cancelled), kept)

    def cancel(self, request: CancelCall, peer: Receiver, again: Callable[[], None]) -> None:
        """One that is not in memory: it has ended, or there is none; or it is not here yet, and ``again`` is called later."""

        def found(done: "Future[CallRow | None]") -> None:
            try:
                if done.result() is None:
                    raise NotFoundError(nowhere(request.call_id))
            except Error as error:
                peer.send(Failed(request.rid, type(error).__name__, str(error)))
            else:
                peer.send(Done(request.rid, {}))

        if self._restoring:
            self._server.loop.call_later(SOON, again)
        else:
            self._store.read(lambda c: self._rows.find(c, request.call_id), found)

    def _end_stored(self, call: Call) -> None:
        """Those of its inputs that never came here end there; who collects it is sent them from there."""
        if not call.stored:
            return

        def ended(done: Future[int]) -> None:
            count = done.result() if done.exception() is None else 0
            call.stored -= count
            if call.stored:
                self._server.loop.call_later(0 if count else SOON, self._end_stored, call)
            else:
                collectors, call.collectors = call.collectors, []
                for receiver, rid in collectors:
                    call.streams += 1
                    self._handing_out.stream(Collect(rid, call.id), receiver, call)  # type: ignore[arg-type]
            self._calls.ended_elsewhere(call, count)

        reason = call.cancelled
        self._keeping.flush()
        self._store.write(
            lambda c: self._rows.end_waiting(c, call.id, call.loaded_to, STEP, Status.CANCELLED, reason), ended
        )

    def _write(self, call: Call, change: "Callable[[Connection], Any]") -> None:
        """What is said of a call in one turn of the loop is one change."""
        if not call.changes:
            self._server.loop.call_soon(self._flush, call)
        call.changes.append(change)

    def _flush(self, call: Call, then: Callable[[Future[None]], None] | None = None) -> None:
        changes, call.changes = call.changes, []
        if not changes:
            return

        size = self._coming.pop(call, 0)

        def change(connection: "Connection") -> None:
            for each in changes:
                each(connection)

        def kept(done: Future[None]) -> None:
            self._unwritten -= size
            call.unkept = call.unkept or str(done.exception() or "")
            if then is not None:
                then(done)

        self._keeping.flush()
        self._store.write(change, kept)

    def _forget(self, call: Call) -> None:
        if call.kept and not call.streams:
            self._calls.by_id.pop(call.id, None)

    # ---- calls of our own ----

    def whole(self, call_id: str, function_id: str, app_id: str, payload: bytes) -> "Callable[[Connection], None]":
        """A change that keeps a call with its one input; :meth:`run` then runs it, or else the next server does."""
        now = self._server.lifecycle.clock.wall()
        self._note_fresh(call_id)
        row = self._rows.CallRow(call_id, app_id, function_id, "", "", "spawn", 1, now)

        def change(connection: "Connection") -> None:
            self._rows.add_call(connection, row)
            self._rows.add_inputs(connection, call_id, 0, [payload])

        return change

    def run(self, call_id: str, pool: Pool, payload: bytes) -> None:
        """Run a call that is kept."""
        calls = self._calls
        call = calls.begin(call_id, pool, "", "spawn", None)
        call.keeper, call.refusal = self, pool.function.refusal
        calls.add(call, 0, [payload])
        calls.end_inputs(call, 1)

    def collect(self, request: Collect, receiver: Collecting) -> None:
        """Send a call's outputs as they are, or become, ready; then ``Done``."""
        if self._restoring or request.call_id in self._cut:  # soon it will be here, or have ended
            self._server.loop.call_later(SOON, self.collect, request, receiver)
        else:
            self._handing_out.collect(request, receiver)

    # ---- after a restart, and in the end ----

    def restore(self, then: Callable[[], None]) -> None:
        """Go on with what the last server had not ended; apps are there already. ``then`` is called once all of it is here."""

        def all_here() -> None:
            self._restoring = False
            self._fresh.clear()
            then()

        self._restoring = True
        Unfinished(self._server, self._store, self).take_up(all_here)
        self._clean()

    def end(self, call_id: str, reason: str) -> None:
        """Nobody will run what is left of a call that is kept, and not in memory."""
        now = self._server.lifecycle.clock.wall()
        self._cut.add(call_id)

        def again() -> None:
            if call_id in self._cut:  # else its caller has said it again
                self.end(call_id, reason)

        def kept(done: Future[None]) -> None:
            if isinstance(done.exception(), StoreError):
                self._server.loop.call_later(RETRY, again)
            else:
                self._cut.discard(call_id)

        def change(connection: "Connection") -> None:
            self._rows.cancel(connection, call_id, reason)
            while self._rows.end_waiting(connection, call_id, -1, STEP, Status.CANCELLED, reason):
                pass
            self._rows.end_inputs(connection, call_id, self._rows.progress_of(connection, call_id).ended)
            self._rows.finish(connection, call_id, now)

        self._store.write(change, kept)

    def _clean(self) -> None:
        clock = self._server.lifecycle.clock
        before = clock.wall() - RETENTION

        def removed(done: Future[int]) -> None:
            more = done.exception() is None and done.result() >= STEP
            clock.call_later(0.1 if more else CLEANING, self._clean)

        self._store.write(lambda c: self._rows.forget_older_than(c, before, STEP), removed)


def _bytes_of(payloads: list[Payload]) -> int:
    """That inputs take while they wait."""
    return sum(map(len, payloads)) + COST * len(payloads)
