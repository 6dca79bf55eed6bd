"""What all ways of serving share: the agent's connection, its inputs, their results."""

import contextlib
import os
import pickle
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from greenroom.agent.boundary import MainThread, Task, UserCode
from greenroom.agent.outbox import Outbox
from greenroom.agent.reconnecting import Reconnecting
from greenroom.model.errors import ConnectionError, InputCancellation
from greenroom.model.spec import FunctionSpec
from greenroom.usercode.context import current_input
from greenroom.usercode.serialization import dump, load
from greenroom.usercode.service import Service, drive
from greenroom.wire.begin import Begin
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.ledger import Ledger
from greenroom.wire.messages import Run, Status, Stop, Welcome, Yielded
from greenroom.wire.payload import Payload, PayloadWriter, as_payload

if TYPE_CHECKING:
    import asyncio

    from greenroom.agent.control import Control
    from greenroom.agent.web import Web

CREDIT = 256
"""Values that a generator may be ahead of its caller."""
_SCALARS = frozenset({int, float, bool, type(None)})
_END = object()
"""What a generator that is at its end yields to us."""


class Item(Task):
    """An input in this container."""

    __slots__ = ("begun", "call_id", "credit", "index", "method", "on_credit", "payload", "shape")

    def __init__(self, seq: int, call_id: str, index: int, method: str, shape: str, payload: Payload) -> None:
        super().__init__(seq)
        self.call_id = call_id
        self.index = index
        self.method = method
        self.shape = shape
        self.payload: Payload = payload
        self.begun = False
        """Of a coroutine: it has come to its first step."""
        self.credit = CREDIT
        self.on_credit: Callable[[], object] | None = None
        """Wakes an asynchronous generator that waits for credit; from the control thread."""


class Agent(Reconnecting):
    """One container's agent. The main thread serves; the control thread interrupts."""

    control: "Control"

    def __init__(
        self, begin: Begin, spec: FunctionSpec, data: BlockingConnection, ledger: Ledger, supervisor_fd: int
    ) -> None:
        self.begin = begin
        self.spec = spec
        self.data = data
        self.main_thread = MainThread()
        self.elsewhere = UserCode()
        """Around user code that no interrupt reaches: coroutines, and other threads."""
        self.service: Service | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.startup: Task | None = None
        self.stopping = False
        self.web: Web | None = None
        self.pending: deque[Item] = deque()
        """Inputs that have arrived and not begun."""
        self._ledger = ledger
        super().__init__(begin, data, ledger)
        self.outbox = Outbox(data, ledger, self.pending, self.unkept)
        self.running: dict[int, Item] = {}
        """Inputs that have begun, and whose results have not left."""
        self.cancel_in_loop: Callable[[Item], None] | None = None
        self.given_up_in_loop: Callable[[Task], None] | None = None
        self._hook: asyncio.Task[object] | None = None
        """The coroutine of a hook, while it runs."""
        self._targets: dict[str, Callable[..., Any]] = {}
        self._supervisor_fd = supervisor_fd
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        """An input has ended, or nobody waits for it any more; told only where somebody waits to hear it."""
        self._awaited = False
        self._credit = threading.Condition()
        self._highest_seq = -1
        # The control connection may overtake the data connection: what it said of inputs that are yet to arrive.
        self._returned_ahead: set[int] = set()
        self._cancelled_ahead: set[int] = set()

    def use(self, service: Service) -> None:
        """Serve with this instance; makes the event loop if any of its code is a coroutine."""
        self.service = service
        if self.spec.needs_loop:
            import asyncio

            loop = self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            # A child that a coroutine forked, and that awaits: the loop, and what else is on it, is the parent's.
            os.register_at_fork(after_in_child=lambda: loop.call_soon(os._exit, 0))

    def drive(self, steps: Iterator[Awaitable[object]]) -> None:
        """Run hooks, coroutines among them on the container's loop."""
        drive(steps, self.run_coroutine)

    def start_web(self) -> None:
        """What answers HTTP is made, and starts up; raises what that raises."""
        if self.spec.is_web:
            from greenroom.agent.web import Web

            self.web = Web(self)
            self.web.start(self.spec.methods)

    def run_coroutine(self, awaitable: Awaitable[object]) -> object:
        assert self.loop is not None, "a coroutine hook in a class that needs no loop"
        import asyncio

        async def complete() -> object:
            with self.elsewhere:
                return await awaitable

        hook = self._hook = self.loop.create_task(complete())
        try:
            return self.loop.run_until_complete(hook)
        except (asyncio.CancelledError, RuntimeError):
            task = self.startup
            if task is None or not (task.given_up if not hook.done() else task.delivered):
                raise
            raise InputCancellation from None
        finally:
            self._hook = None

    def close_loop(self) -> None:
        """The end of the container's loop: what is left on it is cancelled, and given a little time."""
        if self.loop is None:
            return
        import asyncio

        async def tidy(loop: asyncio.AbstractEventLoop) -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            tasks.add(loop.create_task(loop.shutdown_asyncgens()))
            await asyncio.wait(tasks, timeout=self.begin.cancel_grace)

        with contextlib.suppress(SystemExit, KeyboardInterrupt):  # raised by a task of the user's, which that has ended
            self.loop.run_until_complete(tidy(self.loop))

    def target(self, method: str) -> Callable[..., Any]:
        """The user's bound callable."""
        found = self._targets.get(method)
        if found is None:
            assert self.service is not None
            found = self._targets[method] = self.service.call_target(method)
        return found

    # ---- what arrives ----

    def take(self, message: Any, payloads: list[Payload]) -> None:
        """A message of the data connection."""
        if isinstance(message, Run):
            arrived: list[Item] = []
            with self._lock:
                if self.unkept is not None:
                    if self._sealed or self._taking is not self.data:
                        return  # the next server doesn't know of it
                    self.unkept.take(message.items)
                for (seq, call_id, index, method, shape), payload in zip(message.items, payloads, strict=True):
                    self._highest_seq = seq
                    if seq in self._returned_ahead:
                        self._returned_ahead.discard(seq)
                        continue
                    item = Item(seq, call_id, index, method, shape, payload)
                    arrived.append(item)
                    if seq in self._cancelled_ahead:
                        self._cancelled_ahead.discard(seq)
                        item.cancelled = True
                self._hold(arrived, message.more)
        elif isinstance(message, Stop):
            self.stopping = True
        elif self.web is not None and self.web.takes(message):
            self.web.arrived(message, payloads[0])
        elif not isinstance(message, Welcome):
            raise ConnectionError(f"the server said {type(message).__name__}: {message}")

    def _hold(self, items: list[Item], more: bool) -> None:
        """These wait for their turn; the lock is held."""
        self.pending.extend(items)

    def _waiting(self) -> Iterable[Item]:
        """All that wait; the lock is held."""
        return self.pending

    def next_item(self) -> Item | None:
        """The next input, which now runs; None when there is none at hand."""
        with self._lock:
            if not self.pending:
                return None
            item = self.pending.popleft()
            self.running[item.seq] = item
            self._ledger.begin(item.seq)
            return item

    def _drop_waiting(self) -> list[Item]:
        """What has not begun is not to; the lock is held."""
        dropped = list(self._waiting())
        self.pending.clear()
        return dropped

    def give_back(self, seqs: list[int]) -> list[int]:
        """Take back what has not begun, of these; on the control thread."""
        wanted = set(seqs)
        with self._lock:
            back = [item.seq for item in self.pending if item.seq in wanted]
            if back:
                kept = [item for item in self.pending if item.seq not in wanted]
                self.pending.clear()
                self.pending.extend(kept)
            if self.unkept is not None:
                self.unkept.forget(back)
            ahead = [seq for seq in seqs if seq > self._highest_seq]
            self._returned_ahead.update(ahead)
            return [*back, *ahead]

    # ---- cancelling, from the control thread ----

    def cancel(self, seq: int) -> Task | None:
        """Mark an input, or the start-up, as cancelled; the task to interrupt, if it has begun."""
        if seq < 0:
            task = self.startup
            if task is not None:
                task.cancelled = True
            return task
        with self._lock:
            item = self.running.get(seq)
            if item is not None:
                item.cancelled = True
                return item
            if seq > self._highest_seq:
                self._cancelled_ahead.add(seq)
            for waiting in self._waiting():
                if waiting.seq == seq:
                    waiting.cancelled = True
        return None

    def is_running(self, task: Task) -> bool:
        """Whether it has begun and not ended."""
        return task is self.startup or (self.running.get(task.seq) is task and not task.over)

    def on_main_thread(self, task: Task) -> bool:
        """Whether its code, no coroutine, holds the main thread."""
        return self.main_thread.task is task and self._hook is None

    def interrupt_task(self, task: Task) -> None:
        """Try once to raise the cancellation in it."""
        if task is self.startup and self.loop is not None and self._hook is not None:
            self.loop.call_soon_threadsafe(self._cancel_hook, task)
        elif self.main_thread.task is task:
            self.main_thread.interrupt(task)
        elif isinstance(task, Item) and self.cancel_in_loop is not None:
            self.cancel_in_loop(task)

    def _cancel_hook(self, task: Task) -> None:
        if task is self.startup and self._hook is not None and not task.delivered:
            task.delivered = True
            self._hook.cancel()

    def give_up(self, task: Task) -> None:
        """A task will not stop: the container's end won't wait for it. Not where it holds up the event loop."""
        if self.loop is None:
            self._give_up(task)
        else:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: all is over
                self.loop.call_soon_threadsafe(self._give_up, task)

    def _give_up(self, task: Task) -> None:
        with self._ended:
            if not self.is_running(task):
                return
            task.given_up = True
            self._ended.notify_all()
        if self._hook is not None and self.loop is not None:
            self.loop.stop()
        elif self.given_up_in_loop is not None:
            self.given_up_in_loop(task)
        self.control.has_given_up(task)

    def wait_for_running(self) -> None:
        """Until every input has ended, but for those given up."""
        with self._ended:
            self._awaited = True
            self._ended.wait_for(lambda: all(item.given_up for item in self.running.values()))

    def running_seqs(self) -> list[int]:
        """What could be interrupted now."""
        with self._lock:
            return [*([-1] if self.startup is not None else []), *self.running]

    def running_of(self, shapes: frozenset[str]) -> list[int]:
        """Inputs that run, of calls of these shapes."""
        with self._lock:
            return [item.seq for item in self.running.values() if item.shape in shapes]

    def abandon(self) -> None:
        """The server or the supervisor has gone: end in order, without either; on the control thread."""
        self.stopping = True
        with self._lock:
            self.pending.clear()
        with self._credit:
            self._credit.notify_all()
        self.tell_supervisor(f"grace {self.begin.cancel_grace + self.begin.exit_grace}\n")
        with contextlib.suppress(OSError):
            # Wakes the main thread where it waits for inputs.
            import socket

            self.data.sock.shutdown(socket.SHUT_RDWR)
        self.connection_changed()

    def tell_supervisor(self, line: str) -> None:
        """A line for the supervisor; that it has gone is noticed elsewhere."""
        with contextlib.suppress(OSError):
            os.write(self._supervisor_fd, line.encode())

    # ---- running ----

    def arguments(self, item: Item) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The input's arguments; raises DeserializationError."""
        payload, item.payload = item.payload, b""
        if isinstance(payload, bytes):
            args, kwargs = load(payload)
        else:
            with payload.open() as file:
                args, kwargs = load(file)
            payload.close()
        return args, kwargs

    def run_sync(self, item: Item, *, main: bool) -> None:
        """Run an input to its end and keep its result."""
        token = current_input.set((item.call_id, item.index))
        user_code = self.elsewhere
        if main:
            self.main_thread.task = item
            user_code = self.main_thread.user_code
        try:
            with user_code:
                args, kwargs = self.arguments(item)
                if item.cancelled:
                    raise InputCancellation
                value = self.target(item.method)(*args, **kwargs)
                if item.shape != "generator":
                    payload = self.pack(item, value)
            if item.shape == "generator":
                self._run_generator(item, value, user_code)
                payload = self.encode(None)
        except BaseException as error:  # noqa: BLE001 - whatever the input raised is its result
            self.failed(item, error)
        else:
            self.succeeded(item, payload)
        finally:
            if main:
                self.main_thread.task = None
            current_input.reset(token)

    def _run_generator(self, item: Item, generator: Any, user_code: UserCode) -> None:
        try:
            while True:
                with user_code:
                    value = next(generator, _END)
                    if value is _END:
                        return
                    payload = self.encode(value)
                self.wait_for_credit(item)
                self.outbox.send(Yielded(item.seq, []), [payload])
        finally:
            with user_code:
                generator.close()

    def wait_for_credit(self, item: Item) -> None:
        """A value is ready; wait while the caller is too far behind."""
        with self._credit:
            while item.credit <= 0 and not item.cancelled and not self.stopping:
                self._credit.wait(1.0)
            item.credit -= 1
        if item.cancelled:
            item.delivered = True
            raise InputCancellation

    def take_credit(self, item: Item) -> bool:
        """Use one, without waiting; whether there was one."""
        with self._credit:
            if item.credit <= 0:
                return False
            item.credit -= 1
            return True

    def add_credit(self, seq: int, count: int) -> None:
        """The caller has taken some values; on the control thread."""
        item = self.running.get(seq)
        if item is not None:
            with self._credit:
                item.credit += count
                self._credit.notify_all()
            if item.on_credit is not None:
                item.on_credit()

    # ---- results ----

    def encode(self, value: Any) -> Payload:
        """A result as it travels. Raises SerializationError or RequestSizeError."""
        if type(value) in _SCALARS:
            return pickle.dumps(value, 5)
        begin = self.begin
        return dump(value, lambda: PayloadWriter(begin.inline_limit, begin.max_payload)).payload()

    def pack(self, item: Item, value: Any) -> Payload:
        """What an input returned, as it travels; raises what :meth:`encode` does."""
        return self.encode(value)

    def succeeded(self, item: Item, payload: Payload) -> None:
        """An input returned."""
        if item.cancelled and item.delivered:
            self._end(item, Status.CANCELLED, b"")
        else:
            self._end(item, Status.END if item.shape == "generator" else Status.OK, payload)

    def failed(self, item: Item, error: BaseException) -> None:
        """An input raised."""
        if item.cancelled and (item.delivered or isinstance(error, InputCancellation)):
            self._end(item, Status.CANCELLED, b"")
        else:
            packed = self.pack_exception(error)
            if self.spec.schedule and item.shape == "spawn":  # nobody may ask how it ended
                from greenroom.usercode.exceptions import print_exception

                print_exception(error, f"{self.spec.name} failed:")
            self._end(item, Status.ERROR, packed)

    def _end(self, item: Item, status: str, payload: Payload) -> None:
        item.over = True
        self.outbox.put(item.seq, status, payload)
        with self._lock:
            self.running.pop(item.seq, None)
            if self._awaited:
                self._ended.notify_all()

    def pack_exception(self, error: BaseException) -> Payload:
        """An exception as it travels, the user's frames with it."""
        from greenroom.usercode.exceptions import pack_exception

        return as_payload(pack_exception(error), self.begin.inline_limit)
