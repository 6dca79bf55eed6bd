"""Who calls functions: a program, or a container that calls functions of its own app.

A container may say anything, at any time (see ``container_peer.py``): each message is checked whole before anything is
changed. One that can't be true ends the connection; one that asks for more than ``allowance.py`` grants is answered with
the limit.
"""

import hashlib
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import Error, InvalidError, NotFoundError, ProtocolError
from greenroom.server.allowance import MOST_CALL_ID, MOST_COLLECTORS
from greenroom.server.call import Call
from greenroom.server.containers import Container
from greenroom.server.draining import pool_left, why_over
from greenroom.server.messages import Handler, only_payload
from greenroom.server.pools import Function, Pool
from greenroom.wire import messages as m
from greenroom.wire.deploy_messages import DEPLOYED, deployed_id, names_of
from greenroom.wire.loop_connection import LoopConnection
from greenroom.wire.payload import INLINE_ONLY, Payload
from greenroom.wire.returning_messages import WasKept
from greenroom.wire.spawn_messages import Spawn
from greenroom.wire.web_messages import WhereServed

if TYPE_CHECKING:
    from greenroom.server.core import Server
    from greenroom.server.durable import Durable

_SHAPES = frozenset({"unary", "generator", "map", "spawn"})


def _no_method(function: Function, method: str) -> str:
    if not function.spec.is_class:
        return f"{function.spec.name} is a function, and has no {method[:200]!r}"
    what = f"has no method {method[:200]!r}" if method else "is a class: name one of its methods"
    return f"{function.spec.name} {what}; it has {', '.join(each.name for each in function.spec.methods)}"


class CallerPeer:
    """One connection of a caller; ``inside``: of a container."""

    def __init__(self, server: "Server", connection: LoopConnection, inside: Container | None) -> None:
        self._server = server
        self._connection = connection
        self._inside = inside
        self._allowance = inside.allowance if inside is not None else None
        self._only_app = inside.pool.function.app if inside is not None else None
        self.calls: set[Call] = set()
        self._spawning: dict[str, Call] = {}
        """Spawned calls that more inputs may come of."""
        self._bound: dict[tuple[str, str], Payload] = {}
        """Parameter sets that were named here, by function and digest."""
        self._unanswered: set[str] = set()
        """Calls that came while the server was ending; see :meth:`_is_for_the_next`."""
        self._arriving = 0
        self._handlers: dict[type, Handler] = {
            m.Bind: self._bind,
            m.Call: self._call,
            Spawn: self._spawn,
            m.Inputs: self._inputs,
            m.EndInputs: self._end_inputs,
            m.Credit: self._credit,
            m.CancelCall: self._cancel_call,
            m.Collect: self._collect,
            WhereServed: self._where_served,
            WasKept: self._was_kept,
        }

    def welcomed(self) -> None:
        """The connection is ours."""
        if self._allowance is not None:
            self._allowance.connections.add(self._connection)
            self._connection.on_partial = self._note_partial

    @property
    def backlog(self) -> int:
        """Bytes that the other side has not taken."""
        return self._connection.backlog

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Send one message; a caller that has gone misses it."""
        self._connection.send(message, payloads)
        if self._allowance is not None and (why := self._allowance.too_much_unread(self._connection)):
            # Not in the middle of whatever is being said to it.
            self._server.loop.call_soon(self._connection.fail, why)

    def on_message(self, message: Any, payloads: list[Payload]) -> None:
        """One message arrived."""
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(f"{type(message).__name__} is not for this connection to say")
        if self._allowance is not None and (why := self._allowance.too_much_unread(self._connection)):
            raise ProtocolError(why)
        try:
            handler(message, payloads)
        except ProtocolError:
            raise
        except Error as error:
            if (rid := getattr(message, "rid", None)) is None:
                raise ProtocolError(str(error)) from None
            self._failed(rid, error)

    def closed(self) -> None:
        """The connection is gone: so are the calls that nobody waits for, and those that it had begun to spawn."""
        calls = self._server.lifecycle.calls
        if self._allowance is not None:
            self._allowance.connections.discard(self._connection)
            self._allowance.arriving -= self._arriving
        calls.owner_gone(self)
        for call in self._spawning.values():
            calls.cut_short(call, "the call was cancelled: its caller had gone before it had said all of it")
        self._spawning.clear()

    def _note_partial(self, size: int) -> None:
        """Of a frame that isn't whole, so many bytes have come."""
        assert self._allowance is not None
        self._allowance.arriving += size - self._arriving
        self._arriving = size
        if size and (why := self._allowance.too_much_arriving()):
            self.send(m.Refused(why))
            self._connection.flush()
            raise ProtocolError(why)

    def _done(self, rid: int, **data: Any) -> None:
        self.send(m.Done(rid, data))

    def _failed(self, rid: int, error: Error) -> None:
        self.send(m.Failed(rid, type(error).__name__, str(error)))

    def _refuse(self, call_id: str, text: str) -> None:
        """The call ends with that line; ``text`` is ``ErrorName: text``."""
        self.send(m.Outputs(call_id, [[-1, m.Status.REFUSED, text]], []), [b""])

    # ---- beginning ----

    def _function(self, function_id: str) -> Function | None:
        if function_id.startswith(DEPLOYED):
            return self._server.deployments.function(function_id)
        function = self._server.functions.get(function_id)
        if function is None and (own := self._only_app) is not None:  # its program knew it by its first id
            first, _, name = function_id.partition("/")
            function = own.functions.get(f"{own.id}/{name}") if first == own.first_id else None
        if function is None or self._only_app not in (None, function.app):
            return None
        # What a version calls while it finishes is run by the one that answers, unless that waits for its end.
        answers = self._server.deployments.function(self._by_name(function_id)) if function.app.replaced else None
        return function if answers is None or answers.app.held else answers

    def _by_name(self, function_id: str) -> str:
        """A function of its own app as whoever is outside calls it: whichever version answers."""
        if self._only_app is None or function_id.startswith(DEPLOYED):
            return function_id
        return deployed_id(self._only_app.name, function_id.partition("/")[2])

    def _no_function(self, function_id: str) -> str:
        if self._server.ending is not None:
            return "this server is shutting down"
        if function_id.startswith(DEPLOYED):
            return self._server.deployments.lacks(function_id)
        return f"no function {function_id[:200]} in a running app"

    def _bind(self, message: m.Bind, payloads: list[Payload]) -> None:
        function = self._function(message.function_id)
        binding = only_payload(message, payloads)
        if len(binding) > min(INLINE_ONLY, self._server.settings.max_payload) or type(binding) is not bytes:
            raise ProtocolError(f"constructor arguments of {len(binding)} bytes")
        if function is None:
            return
        if (there := function.pool(message.binding)) is not None:
            self._bound[message.function_id, message.binding] = there.binding
            return
        if message.binding != hashlib.sha256(binding).hexdigest()[:32]:
            # By whoever comes first: nobody may put other arguments in the place of somebody else's.
            raise ProtocolError("constructor arguments whose name is not their digest")
        allowance = self._allowance
        if allowance is not None:
            if allowance.no_binding() or allowance.no_payloads(payloads):
                return  # the calls that want it are told
            allowance.bindings += 1
            allowance.hold(binding)
        function.pools[message.binding] = Pool(function, binding, self._server.lifecycle)
        self._bound[message.function_id, message.binding] = binding

    def _bound_before(self, function: Function, message: m.Call | Spawn) -> Pool | None:
        """The pool of a parameter set that was named on this connection, of an earlier version."""
        binding = self._bound.get((message.function_id, message.binding))
        if binding is None or not function.spec.is_class:
            return None
        pool = function.pools[message.binding] = Pool(function, binding, self._server.lifecycle)
        return pool

    def _call(self, message: m.Call, payloads: list[Payload]) -> None:
        shape = message.shape
        if shape not in _SHAPES or (shape in ("unary", "generator") and len(payloads) != 1):
            raise ProtocolError(f"a call of the shape {shape[:40]!r} with {len(payloads)} inputs")
        call = self._begin(message, shape, payloads)
        if call is None:
            return
        if shape == "spawn":
            self._spawning[call.id] = call
            if (durable := self._durable_for(call)) is not None:
                durable.begun(call)
        if payloads:
            self._add(call, 0, payloads)

    def _spawn(self, message: Spawn, payloads: list[Payload]) -> None:
        if not payloads:
            raise ProtocolError("a spawned call without inputs")
        call = self._begin(message, "spawn", payloads)
        if call is None:
            return
        if (durable := self._durable_for(call)) is not None:
            durable.spawned(call, payloads, self, message.rid)
            self._mind_the_disk(durable)
        else:
            self._server.lifecycle.calls.add(call, 0, payloads)
            self._server.lifecycle.calls.end_inputs(call, len(payloads))
            self._done(message.rid)

    def _durable_for(self, call: Call) -> "Durable | None":
        """Who keeps a spawned call; None: nobody does."""
        return self._server.durable if call.pool.function.app.outlives_program else None

    def _begin(self, message: m.Call | Spawn, shape: str, payloads: list[Payload]) -> Call | None:
        """A call; None: it is refused, and its caller was told; or he is not answered."""
        calls = self._server.lifecycle.calls
        if len(message.call_id) > MOST_CALL_ID:
            raise ProtocolError(f"a call whose id has {len(message.call_id)} characters")
        if message.call_id in calls.by_id:
            raise ProtocolError(f"the call {message.call_id} exists already")
        if self._is_for_the_next(message, shape):
            self._unanswered.add(message.call_id)
            return None
        refusal, pool = self._pool_for(message, shape)
        left = self._left(message) if pool is None and message.again >= 0 else None
        if left is not None:
            refusal, pool = "", left
        allowance = self._allowance
        if allowance is not None and (over := allowance.no_call(shape) or allowance.no_payloads(payloads)):
            refusal, pool = f"InvalidError: {over}", None
        if pool is None:
            self._refuse(message.call_id, refusal)
            return None
        owner = None if shape == "spawn" else self
        call = calls.begin(message.call_id, pool, message.method, shape, owner, allowance)
        call.refusal, call.caller = refusal, self._only_app
        if message.again >= 0:
            self._say_again(call, message.again)
        if left is not None and calls.held is None:  # what runs of it goes on, and nothing else of it will
            calls.cancel(call, why_over(self._server, left), running=False)
        if self._inside is not None and owner is not None and (limit := pool.full_with(self._inside)):
            name = pool.function.spec.name
            text = f"{name} calls itself while every container that max_containers={limit} allows is busy: it waits for one"
            pool.function.app.say_once(text)
        return call

    def _is_for_the_next(self, message: m.Call | Spawn, shape: str) -> bool:
        """Whether the server is ending, and the call is one that its caller says again to the next server once this one has gone:
        until then he waits. What waits in a container of ours ends with that, and runs again there if it is kept."""
        if self._server.ending is None or self._server.store is None or shape == "generator":
            return False
        if self._only_app is not None:
            return self._only_app.outlives_program
        if shape == "spawn" and not isinstance(message, Spawn):
            return False  # a program's inputs come as it makes them, and only once
        function = self._server.functions.get(message.function_id)
        return message.function_id.startswith(DEPLOYED) or (function is not None and function.app.kept)

    def _left(self, message: m.Call | Spawn) -> Pool | None:
        """Where a call runs, or ran, that the server before this one had, of a function that nobody can call any more."""
        orphan = self._server.returns.orphans.get(message.call_id) if self._server.returns is not None else None
        if orphan is not None and orphan.call.pool.function.app.replaced:
            function = orphan.call.pool.function
            if names_of(self._by_name(message.function_id)) == (function.app.name, function.spec.name):
                return orphan.call.pool
        return pool_left(self._server, self._by_name(message.function_id), message.binding, message.method)

    def _say_again(self, call: Call, ended: int) -> None:
        """Its caller had it on its way to the server before this one, and has had so many of its outputs."""
        call.again, call.added, call.finished = True, ended, ended
        returns = self._server.returns
        orphan = returns.orphans.get(call.id) if returns is not None else None
        if orphan is not None and (self._inside is None or not orphan.runs_in(self._inside)):
            call.before = orphan  # what a container runs is no call of its own, though it knows the id

    def _was_kept(self, message: WasKept, payloads: list[Payload]) -> None:
        if self._server.durable is None:
            self._done(message.rid, kept=False)
        else:
            self._server.durable.was_kept(message.call_id, lambda kept: self._done(message.rid, kept=kept))

    def _pool_for(self, message: m.Call | Spawn, shape: str) -> tuple[str, Pool | None]:
        """The reason for a refusal (``""``: none), and the pool."""
        function = self._function(message.function_id)
        if function is None:
            return f"NotFoundError: {self._no_function(message.function_id)}", None
        if function.app.stopping is not None:
            return f"NotFoundError: the app {function.app.name} is ending and takes no more calls", None
        pool = function.pool(message.binding) or self._bound_before(function, message)
        method = function.spec.method(message.method)
        if pool is None and message.binding and self._allowance is not None and (why := self._allowance.no_binding()):
            return f"InvalidError: {why}", None
        if pool is None or method is None:
            return f"NotFoundError: {_no_method(function, message.method)}", None
        if method.web:
            return f"InvalidError: {function.spec.name} is a web endpoint: request its URL", None
        if shape == "generator" and not method.is_generator:
            return f"InvalidError: {function.spec.name} is no generator; call it with .remote()", None
        if shape != "generator" and method.is_generator:
            return f"InvalidError: {function.spec.name} is a generator; iterate over .remote_gen()", None
        return function.refusal, pool

    # ---- its further life ----

    def _own_call(self, call_id: str) -> Call | None:
        """A call that began on this connection and still goes on. Nobody adds to another's."""
        call = self._server.lifecycle.calls.by_id.get(call_id)
        mine = call is not None and (call.owner is self or self._spawning.get(call_id) is call)
        return call if mine else None

    def _inputs(self, message: m.Inputs, payloads: list[Payload]) -> None:
        calls, call = self._server.lifecycle.calls, self._own_call(message.call_id)
        if call is None:
            if message.call_id not in self._unanswered:
                self._refuse(message.call_id, "NotFoundError: the call has ended, with its app")
            return
        if call.count is not None or message.first < call.next_index:
            raise ProtocolError(f"inputs from {message.first} on, of a call that can't have them")
        if self._allowance is not None and (over := self._allowance.no_payloads(payloads)):
            self._refuse(message.call_id, f"InvalidError: {over}")
            self._spawning.pop(message.call_id, None)
            calls.cut_short(call, f"the call was cancelled: {over}")
            return
        self._add(call, message.first, payloads)

    def _add(self, call: Call, first: int, payloads: list[Payload]) -> None:
        durable = self._server.durable
        if call.keeper is None or durable is None:
            self._server.lifecycle.calls.add(call, first, payloads)
            return
        durable.added(call, first, payloads)
        self._mind_the_disk(durable)

    def _mind_the_disk(self, durable: "Durable") -> None:
        """Read no more here while too much waits to be kept."""
        if durable.behind:
            self._connection.pause_reading()
            self._resume_when_kept()

    def _resume_when_kept(self) -> None:
        if self._server.durable is None or not self._server.durable.behind:
            self._connection.resume_reading()
        else:
            self._server.loop.call_later(0.02, self._resume_when_kept)

    def _end_inputs(self, message: m.EndInputs, payloads: list[Payload]) -> None:
        call = self._own_call(message.call_id)
        if call is not None:
            # One that was cancelled, because its caller was interrupted, may not know what it had sent.
            if call.count is not None or not (call.cancelled or message.total == call.added):
                raise ProtocolError(f"{message.total} inputs, of a call that has {call.added}")
            self._spawning.pop(message.call_id, None)
            if call.keeper is not None and self._server.durable is not None:
                self._server.durable.complete(call, call.added, self, message.rid)
                message = message._replace(rid=0)
            self._server.lifecycle.calls.end_inputs(call, call.added)
        elif message.call_id in self._unanswered:
            return
        elif message.rid:
            raise NotFoundError(f"the call {message.call_id} has ended, with its app")
        if message.rid:
            self._done(message.rid)

    def _where_served(self, message: WhereServed, payloads: list[Payload]) -> None:
        function = self._function(message.function_id)
        if function is None:
            raise NotFoundError(self._no_function(message.function_id))
        self._done(message.rid, url=function.urls.get(message.method, ""))

    def _credit(self, message: m.Credit, payloads: list[Payload]) -> None:
        call = self._own_call(message.call_id)
        for item in call.inputs.values() if call is not None else ():
            if item.call.shape != "generator" or not 0 < message.more <= item.yielded - item.credited:
                raise ProtocolError(f"{message.more} values were taken of a call that has not had so many")
            item.credited += message.more
            if item.container is not None and item.container.control is not None:
                item.container.control.send(m.AddCredit(item.seq, message.more))

    def _may_know(self, call: Call) -> bool:
        """A container knows the calls of its app, those that its app has made, and of those that are kept the ones whose ids it was told:
        who made these is nothing that the next server knows, or the next version."""
        return call.keeper is not None or self._only_app in (None, call.pool.function.app, call.caller)

    def _cancel_call(self, message: m.CancelCall, payloads: list[Payload]) -> None:
        call, durable = self._server.lifecycle.calls.by_id.get(message.call_id), self._server.durable
        if call is None or not self._may_know(call):
            if message.rid and call is None and durable is not None:
                durable.cancel(message, self, lambda: self._cancel_call(message, payloads))
            elif message.rid:
                raise NotFoundError(f"no spawned call {message.call_id[:MOST_CALL_ID]} in a running app of this server")
            return
        if self._inside is None or call.owner in (None, self):  # a container knows the ids of calls that it only runs
            self._server.lifecycle.calls.cancel(call)
        if message.rid and call.keeper is not None and durable is not None:
            durable.say_cancelled(call, self, message.rid)
        elif message.rid:
            self._done(message.rid)

    def _collect(self, message: m.Collect, payloads: list[Payload]) -> None:
        call = self._server.lifecycle.calls.by_id.get(message.call_id)
        durable = self._server.durable
        if durable is not None and (call is None or call.keeper is not None) and (call is None or self._may_know(call)):
            durable.collect(message, self)
            return
        if call is None or call.owner is not None or not self._may_know(call):
            raise NotFoundError(f"no spawned call {message.call_id[:MOST_CALL_ID]} in a running app of this server")
        if sum(receiver is self for receiver, _ in call.collectors) >= MOST_COLLECTORS:
            raise InvalidError(
                f"the outputs of one call are asked for {MOST_COLLECTORS} times at once, the most that may be"
            )
        self._server.lifecycle.calls.collect(call, message, self)
