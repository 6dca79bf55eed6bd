"""The agent's life: connect, import, construct, enter, serve, exit."""

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Any, NoReturn

from greenroom.agent.boundary import Task, flush, keep_to_this_process
from greenroom.agent.control import Control
from greenroom.agent.garbage import collect_as_usual
from greenroom.agent.loader import load_definition, prepare_paths
from greenroom.agent.serve import Agent
from greenroom.model.errors import ConnectionError, InputCancellation
from greenroom.model.spec import FunctionSpec
from greenroom.usercode.context import Inside, Own, enter_container, set_own
from greenroom.usercode.definition import describe_class
from greenroom.usercode.serialization import load
from greenroom.usercode.service import Service, one_line
from greenroom.wire.begin import Begin, read_begin
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.ledger import Ledger
from greenroom.wire.messages import (
    PROTOCOL_VERSION,
    Entered,
    Exited,
    Exiting,
    Hello,
    HookDone,
    StartFailed,
    Welcome,
)
from greenroom.wire.payload import Payload


def main(begin_fd: int, ledger_fd: int, supervisor_fd: int) -> NoReturn:
    """Be the container that the file behind ``begin_fd`` describes, until the process ends."""
    with contextlib.suppress(AttributeError, ValueError):  # a stream that is none of ours
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    begin, payloads = read_begin(begin_fd)
    if begin.job:
        collect_as_usual()
        from greenroom.agent.build import build

        build(begin, payloads)
    spec = FunctionSpec.from_json(begin.spec)
    try:
        data, control = (_hello(begin, channel) for channel in ("data", "control"))
        # Its welcome. A busy server reads one connection before the other: what is said on the first must not come before
        # the second is there.
        if not isinstance(welcome := control.receive()[0], Welcome):
            raise ConnectionError(f"the server said {welcome}")
    except ConnectionError as error:
        print(f"greenroom: {error}", file=sys.stderr)
        sys.exit(1)
    main_module = spec.module if spec.main_alias else ""
    enter_container(
        Inside(
            begin.container_id,
            begin.app_id,
            begin.socket,
            begin.token,
            main_module,
            begin.reconnect > 0,
            begin.deployed,
        )
    )
    ledger = _lasting(ledger_fd) if begin.reconnect else Ledger(ledger_fd)
    agent = _agent_for(spec)(begin, spec, data, ledger, supervisor_fd)
    agent.control = Control(agent, control, supervisor_fd)
    agent.main_thread.install()
    keep_to_this_process(data.sock, control.sock)
    threading.excepthook = _thread_failed
    agent.control.start()
    service = _start_up(agent, begin, spec, payloads)
    if service is not None and agent.service is not None:
        _serve(agent)
    _exit(agent, service)
    _leave()


def _agent_for(spec: FunctionSpec) -> type[Agent]:
    if not spec.batch_size:
        return Agent
    from greenroom.agent.serve_batched import BatchAgent

    return BatchAgent


def _lasting(fd: int) -> Ledger:
    """Which few agents need."""
    from greenroom.wire.lasting import Lasting

    return Lasting(fd)


def _hello(begin: Begin, channel: str) -> BlockingConnection:
    connection = BlockingConnection(connect(begin.socket))
    connection.send(Hello("container", begin.token, PROTOCOL_VERSION, channel))
    return connection


def _thread_failed(failed: "threading.ExceptHookArgs") -> None:
    """A thread of the user's raised; as Python itself says it, without our frames."""
    from greenroom.usercode.exceptions import print_exception

    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        print_exception(failed.exc_value, f"Exception in thread {failed.thread.name if failed.thread else ''}:")


def _start_up(agent: Agent, begin: Begin, spec: FunctionSpec, payloads: list[Payload]) -> Service | None:
    """Import, construct, enter. None when nothing is there whose exit hooks could be owed."""
    task = agent.main_thread.task = agent.startup = Task(-1)
    user_code = agent.main_thread.user_code
    service: Service | None = None
    step = f"importing {spec.module or spec.name}"
    try:
        started = time.perf_counter()
        sys.argv = [""]  # the program's arguments were its caller's; ours are nobody's
        prepare_paths(begin.code, image=bool(spec.image))
        with user_code:
            found = load_definition(spec, _read(payloads[0]))
        collect_as_usual()
        _say(agent, HookDone("import", spec.module or spec.name, time.perf_counter() - started, ""))
        step = f"constructing {spec.name}"
        started = time.perf_counter()
        app = getattr(found, "app", None)
        only = spec.function_id if spec.max_containers == spec.max_inputs == 1 else ""
        set_own(Own(app, None, b"", only))
        service = _make_service(spec, found)
        service.user_code = user_code
        if spec.is_class:
            with user_code:
                args, kwargs = load(binding) if (binding := _read(payloads[1])) else ((), {})
            set_own(Own(app, service.construct(args, kwargs), binding, only))
            _say(agent, HookDone("construct", spec.name, time.perf_counter() - started, ""))
        step = ""
        agent.use(service)
        agent.drive(service.enter(lambda *hook: _say(agent, HookDone(*hook))))
        step = f"web start-up of {spec.name}"
        agent.start_web()
        step = ""
        agent.main_thread.task = agent.startup = None
        if task.cancelled:
            agent.service = None
            return service
        _say(agent, Entered())
    except BaseException as error:  # noqa: BLE001 - told the server, which tells the caller
        agent.main_thread.task = agent.startup = agent.service = None
        if not (isinstance(error, InputCancellation) and (task.delivered or task.given_up)):
            where = step or f"enter hook {spec.name}.{service.failed_step if service is not None else ''}"
            _say(agent, StartFailed(where, one_line(error), []), [agent.pack_exception(error)])
    return service


def _make_service(spec: FunctionSpec, found: Any) -> Service:
    from greenroom.usercode.unwrap import raw_class, raw_function

    if spec.is_class:
        return Service.for_class(describe_class(raw_class(found)))
    return Service.for_function(raw_function(found))


def _serve(agent: Agent) -> None:
    if agent.loop is not None:
        from greenroom.agent.serve_loop import serve
    elif agent.spec.max_inputs > 1:
        from greenroom.agent.serve_threads import serve
    else:
        from greenroom.agent.serve_serial import serve
    with contextlib.suppress(ConnectionError):  # the server has gone: on to the exit hooks
        serve(agent)
    agent.tell_all()


def _exit(agent: Agent, service: Service | None) -> None:
    """Run the exit hooks that are owed, within the supervisor's grace period."""
    agent.tell_supervisor(f"grace {agent.begin.exit_grace}\n")
    _say(agent, Exiting())
    errors: list[str] = []
    if agent.web is not None:
        errors += agent.web.stop()
    if service is not None:
        agent.drive(service.exit(lambda *hook: _say(agent, HookDone(*hook))))
        errors += service.exit_errors
    agent.close_loop()
    flush()
    _say(agent, Exited(errors))


def _leave() -> NoReturn:
    """The process's end, without the interpreter's: that would wait for every thread and process that user code left."""
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing is not None else ():
        child.kill()
    atexit._run_exitfuncs()
    flush()
    os._exit(0)


def _say(agent: Agent, message: Any, payloads: list[Payload] | None = None) -> None:
    """Tell the server; that it has gone is the control thread's to notice."""
    with contextlib.suppress(ConnectionError):
        agent.outbox.send(message, payloads)


def _read(payload: Payload) -> bytes:
    if isinstance(payload, bytes):
        return payload
    with payload.open() as file:
        return file.read()
