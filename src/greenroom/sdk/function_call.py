"""Spawned calls: handles to results that come later."""

import math
from collections.abc import AsyncGenerator, Generator
from typing import Any, ClassVar, Generic, TypeVar

from greenroom.model.errors import InvalidError
from greenroom.sdk import codec, spawning
from greenroom.sdk.bridge import Blocking, Both
from greenroom.sdk.channel import loop_channel, thread_channel
from greenroom.sdk.collecting import Collector
from greenroom.sdk.unbuilt import unbuilt

R = TypeVar("R")


@unbuilt("get_call_graph", "get_dashboard_url", "get_gen", "hydrate")
class FunctionCall(Generic[R]):
    """A call that ``.spawn()`` or ``.spawn_map()`` began; it lives as long as its app, and of a deployed one for seven days."""

    def __init__(self, object_id: str) -> None:
        self.object_id = object_id
        self._collector = Collector(object_id)

    def __repr__(self) -> str:
        return f"FunctionCall({self.object_id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (FunctionCall, (self.object_id,))

    from_id: "ClassVar[_FromId]"
    """``from_id(function_call_id)``: the call of that id, from any process of the same running app, or of a deployed one from any at
    all; ``.aio`` in a coroutine.

    Raises:
        InvalidError: that is no call's id.
    """
    gather: ClassVar[Blocking[..., list[Any]]]
    """``gather(*function_calls)``: the results of all of them, in order; ``.aio`` for coroutines."""

    @property
    def get(self) -> Blocking[..., R]:
        """``get(timeout=None, *, index=0)``: the result, once it's there; the remote exception is raised.

        ``timeout``: seconds to wait, None for ever; raises :class:`greenroom.TimeoutError` (also a builtin
        ``TimeoutError``), and the call goes on; 0 asks whether it is there. ``index``: which input of a ``spawn_map``.

        Raises:
            InvalidError: they are no numbers.
            NotFoundError: there is no such call, or it has no such input.
        """
        return Blocking(self._get, self._get_async)

    def _get(self, timeout: float | None = None, *, index: int = 0) -> R:
        __tracebackhide__ = True
        _check_numbers(timeout, index)
        outputs = self._collector.wait(index, timeout).outputs
        result: R = codec.outcome(*outputs[index])
        return result

    async def _get_async(self, timeout: float | None = None, *, index: int = 0) -> R:
        __tracebackhide__ = True
        _check_numbers(timeout, index)
        outputs = (await self._collector.wait_async(index, timeout)).outputs
        result: R = codec.outcome(*outputs[index])
        return result

    @property
    def num_inputs(self) -> Blocking[[], int]:
        """How many inputs it has; waits until all have ended."""
        return Blocking(self._num_inputs, self._num_inputs_async)

    def _num_inputs(self) -> int:
        return self._collector.wait(None, None).count or 0

    async def _num_inputs_async(self) -> int:
        return (await self._collector.wait_async(None, None)).count or 0

    def iter(self) -> Both[R]:
        """Every result in the order of the inputs; for ``for`` and ``async for``."""
        return Both(self._iter, self._iter_async)

    def _iter(self) -> Generator[R, None, None]:
        for index in range(self._num_inputs()):
            yield self._get(index=index)

    async def _iter_async(self) -> AsyncGenerator[R, None]:
        for index in range(await self._num_inputs_async()):
            yield await self._get_async(index=index)

    @property
    def cancel(self) -> Blocking[..., None]:
        """``cancel(terminate_containers=False)``: cancel what hasn't ended; ``get`` then raises
        :class:`greenroom.InputCancellation`. Returns once it stands, whatever becomes of the server.

        Raises:
            NotFoundError: there is no such call.
            ExecutionError: the server's disk is full, say, so that the next server would go on with it.
        """
        return Blocking(self._cancel, self._cancel_async)

    def _cancel(self, terminate_containers: bool = False) -> None:
        _refuse_to_terminate(terminate_containers)
        spawning.cancel(self.object_id)

    async def _cancel_async(self, terminate_containers: bool = False) -> None:
        _refuse_to_terminate(terminate_containers)
        await spawning.cancel_async(self.object_id)


def _check_numbers(timeout: Any, index: Any) -> None:
    if timeout is not None and (
        not isinstance(timeout, int | float) or isinstance(timeout, bool) or math.isnan(timeout)
    ):
        raise InvalidError(f"get(timeout={timeout!r:.40}): a number of seconds is wanted, or None to wait for ever")
    if type(index) is not int or index < 0:
        raise InvalidError(f"get(index={index!r:.40}): the number of an input is wanted, from 0 on")


def _check_calls(calls: tuple[Any, ...]) -> None:
    for call in calls:
        if not isinstance(call, FunctionCall):
            raise InvalidError(
                f"gather() takes function calls, as .spawn() gives them, and not {call!r:.80}: write gather(*calls)"
            )


def _refuse_to_terminate(asked: bool) -> None:
    if asked:
        raise NotImplementedError("FunctionCall.cancel(terminate_containers=True) is not built yet")


class _FromId:
    """To name a call asks nobody, so it never blocks; ``.aio`` is for programs that await it."""

    def __call__(self, function_call_id: str) -> FunctionCall[Any]:
        if not isinstance(function_call_id, str) or not function_call_id.startswith("fc-"):
            raise InvalidError(
                f"{function_call_id!r} is no function call's id: give what FunctionCall.object_id says, fc-…"
            )
        return FunctionCall(function_call_id)

    async def aio(self, function_call_id: str) -> FunctionCall[Any]:
        """The same."""
        return self(function_call_id)


def _gather(*calls: FunctionCall[Any]) -> list[Any]:
    __tracebackhide__ = True
    _check_calls(calls)
    for call in calls:
        call._collector.ask(thread_channel())
    return [call._get() for call in calls]


async def _gather_async(*calls: FunctionCall[Any]) -> list[Any]:
    __tracebackhide__ = True
    _check_calls(calls)
    for call in calls:
        call._collector.ask(loop_channel())
    return [await call._get_async() for call in calls]


FunctionCall.from_id = _FromId()
gather = FunctionCall.gather = Blocking(_gather, _gather_async)
"""``gather(*function_calls)``: the results of all of them, in order; ``.aio`` for coroutines."""
