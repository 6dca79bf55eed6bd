"""One running ``.map()``: which inputs have left, which outputs may be handed on."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from greenroom.model.errors import ConnectionError, DeserializationError, Error
from greenroom.model.ids import new_call_id
from greenroom.sdk import codec
from greenroom.sdk.channel import LoopChannel, ThreadChannel, next_rid
from greenroom.sdk.inputs import Arguments, Inputs
from greenroom.sdk.output import OutputSink, current_sink
from greenroom.sdk.resuming import outlives
from greenroom.sdk.target import Target
from greenroom.sdk.window import Unlimited, Window
from greenroom.wire.messages import Call, EndInputs, Outputs, Status
from greenroom.wire.messages import Inputs as InputsMessage
from greenroom.wire.payload import Descriptor, Payload

BATCH = 512
"""Inputs in one frame at the most."""
BATCH_BYTES = 4 * 1024**2
"""Bytes from which on a frame is full."""

Item = tuple[int, Payload]
"""An input's number and its arguments."""
_Output = tuple[str, str, Payload] | Error


class _Sender(Protocol):
    def send(self, message: Any, payloads: Sequence[Payload] | None = None) -> None: ...


class Line(Protocol):
    """What a map is sent on."""

    @property
    def connection(self) -> _Sender:
        """See ``channel.py``."""


class Current:
    """The connection that a map has now: another one once its server has been followed by the next."""

    def __init__(self, channel: ThreadChannel | LoopChannel) -> None:
        self.channel = channel

    @property
    def connection(self) -> _Sender:
        """See :class:`Line`."""
        return self.channel.connection


class MapState:
    """What the sending and the receiving side of a map share. The methods of one side need no lock against the other's."""

    def __init__(self, target: Target, inputs: Inputs, ordered: bool, return_exceptions: bool) -> None:
        self.target = target
        self._function_id = target.function_id
        self.call_id = new_call_id()
        self.outlives = False
        """It goes on with the next server, should this one die."""
        self._outstanding: dict[int, Payload] = {}
        """Then: inputs that have been sent, and whose outputs have not come."""
        self._sending = threading.Lock()
        self.window = Window()
        self.exhausted = False
        """No more inputs will come."""
        self.ended = False
        """All of them have been sent."""
        self.error: BaseException | None = None
        """What the user's iterator raised."""
        self.starved: Callable[[], None] | None = None
        """Whom to tell that there is room, while somebody waits for it."""
        self.changed: Callable[[], None] = lambda: None
        """Called, maybe from another thread, where the consumer must look again without an output having come."""
        self._name = inputs.name
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._failures: deque[tuple[int, Error]] = deque()
        self.delivered = 0
        """Inputs that have been sent."""
        self._waiting: dict[int, _Output] = {}
        self._next = 0
        self._done = 0
        self._total = inputs.total()
        self._sink: OutputSink | None = None

    # ---- sending ----

    def begin(self, channel: ThreadChannel | LoopChannel) -> None:
        """Start the call."""
        self.outlives = outlives(self._function_id)
        self._start(channel, "map")
        self._sink = current_sink()
        if self._sink is not None:
            self._sink.map_started(self.call_id, self.target.name, self._total)

    def _start(self, channel: ThreadChannel | LoopChannel, shape: str) -> None:
        target = self.target
        channel.bind(target)
        channel.connection.send(Call(self.call_id, self._function_id, target.method, target.binding, shape, []))

    def admit(self, inputs: Iterator[Arguments], limit: int) -> Iterator[Item]:
        """The next inputs, numbered, pickled and counted: up to ``limit``, or fewer that fill a frame."""
        size = 0
        for _ in range(min(limit, BATCH)):
            arguments = next(inputs, None)
            if arguments is None:
                self.exhausted = True
                return
            payload = self.encode(arguments)
            if payload is not None:
                yield self.window.sent - 1, payload
                size += len(payload)
                if size >= BATCH_BYTES:
                    return

    def encode(self, arguments: Arguments) -> Payload | None:
        """The arguments of the next input, which is now ahead; None where they can't travel: that input has failed."""
        args, kwargs = arguments
        index = self.window.sent
        try:
            payload = codec.encode_arguments(args, kwargs, self.target.by_value)
        except Error as error:
            told = type(error)(f"input {index} (counted from 0) of {self._name}(): {error}")
            told.__cause__ = error.__cause__
            self.window.send(b"")
            self.cannot_send(index, told)
            return None
        self.window.send(payload)
        return payload

    def cannot_send(self, index: int, error: Error) -> None:
        """An input can't be sent: the consumer gets the error in its turn."""
        self._failures.append((index, error))
        self.changed()

    def send(self, line: Line, items: Sequence[Item]) -> None:
        """Send admitted inputs. Where it outlives its server they are said again to the next; else raises ``ConnectionError``."""
        if not self.outlives:
            self._send(line, items)
            return
        with self._sending:
            self._outstanding.update(items)
            sent = self.delivered + len(items)
            with contextlib.suppress(ConnectionError):  # noticed where it is read
                self._send(line, items)
            self.delivered = sent

    def _send(self, line: Line, items: Sequence[Item]) -> None:
        """In as few frames as their numbers allow: one that could not be sent leaves a gap."""
        while items:
            first, length = items[0][0], len(items)
            if items[-1][0] - first >= length:
                length = next(place for place, (index, _) in enumerate(items) if index != first + place)
            payloads = [payload for _, payload in items[:length]]
            line.connection.send(InputsMessage(self.call_id, first, []), payloads)
            self.delivered += length
            items = items[length:]

    def send_end(self, line: Line) -> None:
        """All inputs have been sent."""
        with self._sending:
            self.ended = True
            try:
                line.connection.send(EndInputs(self.call_id, self.delivered))
            except ConnectionError:
                if not self.outlives:
                    raise

    def say_again(self, line: Current, channel: ThreadChannel | LoopChannel) -> None:
        """The next server is there: tell it of what is on its way, and send to it from now on; raises ``ConnectionError``."""
        target = self.target
        with self._sending:
            sent, left = self.delivered, sorted(self._outstanding.items())
            channel.bind(target)
            call = Call(self.call_id, self._function_id, target.method, target.binding, "map", [], sent - len(left))
            channel.connection.send(call)
            for batch in in_frames(left):
                self._send(channel, batch)
            self.delivered = sent
            if self.ended:
                channel.connection.send(EndInputs(self.call_id, sent))
            line.channel = channel

    # ---- receiving ----

    def arrived(self, message: Outputs, payloads: list[Payload]) -> Iterator[Any]:
        """The values that may be handed on now."""
        window = self.window
        window.arrive(message.sizes)
        self._progress(len(message.items))
        payloads.reverse()
        for index, status, detail in message.items:
            # Taken off the list: a large one is freed as soon as it has been handed on.
            payload = payloads.pop()
            window.end(index)
            if self.outlives:
                self._outstanding.pop(index, None)
            if index == self._next or index < 0 or not self._ordered:
                yield self._outcome((status, detail, payload))
                if self._waiting:
                    yield from self._no_longer_waiting()
            else:
                window.keep(payload)
                self._waiting[index] = (status, detail, payload)
        self._feed()

    def failures(self) -> Iterator[Any]:
        """The same, of inputs that could not be sent."""
        while self._failures:
            index, error = self._failures.popleft()
            self._progress(1)
            if index == self._next or not self._ordered:
                yield self._outcome(error)
                yield from self._no_longer_waiting()
            else:
                self._waiting[index] = error

    def _no_longer_waiting(self) -> Iterator[Any]:
        while (output := self._waiting.pop(self._next, None)) is not None:
            if not isinstance(output, Error):
                self.window.release(output[2])
            yield self._outcome(output)

    def _outcome(self, output: _Output) -> Any:
        __tracebackhide__ = True
        self.window.take()
        self._next += 1
        if self.starved is not None:
            self._feed()
        if isinstance(output, Error):
            error: BaseException = output
        else:
            status, detail, payload = output
            if status == Status.OK:
                try:
                    return codec.decode(payload)
                except DeserializationError as failed:
                    error = failed
                finally:
                    if isinstance(payload, Descriptor):
                        payload.close()
            else:
                error = codec.failure(status, detail, payload)
                if status == Status.REFUSED:
                    raise error
        if self._return_exceptions:
            return error
        raise error

    def _feed(self) -> None:
        if (tell := self.starved) is not None and self.window.room():
            tell()

    def _progress(self, count: int) -> None:
        self._done += count
        if self._sink is not None:
            self._sink.map_progress(self.call_id, self._done, self._total)

    def over(self) -> bool:
        """Whether every input's output was handed on; raises what the user's iterator raised."""
        if self.error is not None:
            raise self.error
        return self.ended and not self._failures and self.window.taken >= self.window.sent

    def close(self) -> None:
        """Nothing more will come."""
        if self._sink is not None:
            self._sink.map_ended(self.call_id)


def in_frames(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """As many of them at a time as a frame may have."""
    first = size = 0
    for place, (_, payload) in enumerate(items):
        if place > first and (place - first >= BATCH or size + len(payload) > BATCH_BYTES):
            yield items[first:place]
            first, size = place, 0
        size += len(payload)
    if items:
        yield items[first:]


class SpawnState(MapState):
    """The sending side alone: of a call whose outputs somebody collects later."""

    def __init__(self, target: Target, inputs: Inputs) -> None:
        super().__init__(target, inputs, False, False)
        self.window = Unlimited()
        self.rid = next_rid()
        """The server answers to it once it has every input."""

    def begin(self, channel: ThreadChannel | LoopChannel) -> None:
        """Start the call."""
        self._start(channel, "spawn")

    def send_end(self, line: Line) -> None:
        """All inputs have been sent; the server is to say that it has them."""
        line.connection.send(EndInputs(self.call_id, self.delivered, self.rid))
        self.ended = True

    def cannot_send(self, index: int, error: Error) -> None:
        """Nobody would see it later, so now."""
        raise error
