"""A step of an image, made in a container of its own: a hook or a function called, or shell commands run.

Nobody is connected: what it prints is its output, and its exit status says whether it went well. A job is
``{"kind": "hook", "name": …}``, ``{"kind": "function"}``, ``{"kind": "run", "commands": […], "shell": […]}``, each command
text for the shell or words, or ``{"kind": "copy", "archive": …, "path": …, "own": …}``, whose tar file was made by the SDK, and
where a file goes below a directory that has its name as ``own``; ``pip``: see ``packages.py``; ``apt``,
``conda``, ``python``, ``agent``: see ``system.py``; ``base``: see ``bases.py``.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from greenroom.agent.loader import load_definition, prepare_paths
from greenroom.model.spec import FunctionSpec
from greenroom.usercode.context import Inside, enter_container
from greenroom.usercode.definition import describe_class
from greenroom.usercode.exceptions import print_exception
from greenroom.usercode.serialization import load
from greenroom.usercode.service import Service, drive
from greenroom.usercode.unwrap import raw_class, raw_function
from greenroom.wire.begin import Begin
from greenroom.wire.payload import Payload, in_memory


def build(begin: Begin, payloads: list[Payload]) -> NoReturn:
    """Do the job, and end the process."""
    job = begin.job
    if job["kind"] in _BY_TOOLS:
        status = _BY_TOOLS[job["kind"]](job)
        if status < 0:
            print(f"it was killed by signal {-status}", file=sys.stderr)
            status = 128 - status
        _leave(status)
    spec = FunctionSpec.from_json(begin.spec)
    enter_container(Inside(begin.container_id, "", "", "", spec.module if spec.main_alias else ""))
    sys.argv = [""]
    try:
        prepare_paths(begin.code, image=True)
        found = load_definition(spec, in_memory(payloads[0]))
        if job["kind"] == "hook":
            service = Service.for_class(describe_class(raw_class(found)))
            drive(service.build(job["name"]), _complete)
        else:
            args, kwargs = load(in_memory(payloads[1])) if len(payloads[1]) else ((), {})
            result = raw_function(found)(*args, **kwargs)
            if hasattr(result, "__await__"):
                _complete(result)
    except BaseException as error:  # noqa: BLE001 - whatever it was, it is the build's end
        what = f"@build hook {spec.name}.{job['name']}" if job["kind"] == "hook" else spec.name
        print_exception(error, f"{what} failed:")
        _leave(1)
    _leave(0)


def _run(job: dict[str, Any]) -> int:
    for command in job["commands"]:
        words = command if isinstance(command, list) else [*job["shell"], command]
        command = command if isinstance(command, str) else shlex.join(command)
        print(f"$ {command}", flush=True)
        try:
            status = subprocess.run(words, check=False, stdin=subprocess.DEVNULL).returncode
        except OSError as error:
            print(f"{words[0]}, which is to run it, can't be started: {error.strerror}", file=sys.stderr)
            return 127
        if status:
            what = f"exit status {status}" if status > 0 else f"signal {-status}"
            print(f"{what}: {command}", file=sys.stderr)
            return status if status > 0 else 128 - status
    return 0


def _copy(job: dict[str, Any]) -> int:
    """From inside the container, no link that its image has leads out of it."""
    import tarfile

    path = job["path"]
    try:
        os.makedirs(path, exist_ok=True)
        with tarfile.open(job["archive"], "r:") as found:
            for member in found:
                target = os.path.join(path, member.name)
                if member.isdir():
                    os.makedirs(target, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if job["own"] and os.path.isdir(target):
                    target = os.path.join(target, job["own"])
                source = found.extractfile(member)
                assert source is not None  # nothing but files and directories is packed
                with open(target, "wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                os.chmod(target, member.mode)
    except OSError as error:
        print(f"{error.filename or path}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _pip(job: dict[str, Any]) -> int:
    from greenroom.agent.packages import install

    return install(job)


def _system(job: dict[str, Any]) -> int:
    from greenroom.agent import system

    return system.JOBS[job["kind"]](job)


def _base(job: dict[str, Any]) -> int:
    from greenroom.agent.bases import make

    return make(job)


_BY_TOOLS: dict[str, Callable[[dict[str, Any]], int]] = {
    "run": _run, "copy": _copy, "pip": _pip, "apt": _system, "conda": _system, "python": _system, "agent": _system,
    "base": _base,
}  # fmt: skip


def _complete(awaitable: Awaitable[object]) -> object:
    import asyncio

    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


def _leave(status: int) -> NoReturn:
    """Past threads and processes that user code has left."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
