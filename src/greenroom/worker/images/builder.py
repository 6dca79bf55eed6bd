"""Making an image: the layers that are there are used, those that are missing are made, one after another.

Each step runs in a container of its own, started and ended like any other, by a :class:`Runner`; what it wrote is the layer.
"""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, Protocol

from greenroom.model.errors import Error, ImageBuildError
from greenroom.model.ids import BUILD, new_id
from greenroom.model.image import ImageConfig, ImageSpec, MadeImage, Step, configure, keys, next_key
from greenroom.model.settings import Settings
from greenroom.model.spec import Limits
from greenroom.wire.image_messages import ImageLog, ImageMade, ImageStep, MakeImage
from greenroom.wire.messages import ContainerEnded, ContainerLog, StartContainer
from greenroom.wire.payload import Payload
from greenroom.worker.bundle import Bundles
from greenroom.worker.guard import own_error
from greenroom.worker.images.bases import BASES, base_config, brought, read_base
from greenroom.worker.images.store import AGENT, Draft, ImageRecord, Layer, Layers
from greenroom.worker.images.tasks import Task, inside, no_python, task_of
from greenroom.worker.images.tree import Tree
from greenroom.worker.rootfs import DRAFT
from greenroom.worker.runner import Runner
from greenroom.worker.sandbox.base import Making, Sandboxes, Stack
from greenroom.worker.watch import FileWatch

LAST_WORDS = 2000
"""Characters of a failed step's output that its error quotes."""
POLL = 0.05
"""Seconds between two looks whether another's build of the same layer is over."""
ROOM = 1 << 16
"""Bytes below which a disk is as good as full."""
_SAYING = {*BASES, "python"}
"""Kinds of step whose every exit status is ours."""
MAX_PAYLOAD = 4 * 1024**3
SAID = 3
"""Exit status of a step whose last line of output is why it failed: see ``agent/bases.py``."""

P = ParamSpec("P")


class Workshop(Protocol):
    """The worker around a build."""

    run: Path
    settings: Settings
    sandboxes: Sandboxes
    bundles: Bundles
    layers: Layers
    watch_fd: int
    files: FileWatch

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Tell the server."""

    @property
    def backlog(self) -> int:
        """Bytes that the server hasn't taken."""


class Builder:
    """Makes one image, and then keeps its layers from being removed, until it is closed."""

    def __init__(self, shop: Workshop, asked: MakeImage, payloads: list[Payload]) -> None:
        self._shop = shop
        self._image_id = asked.image_id
        self._asked = asked
        self._payloads = payloads
        self._held: list[str] = []
        self._output_waits = False
        self._running: _StepRun | None = None
        self._remarks: set[str] = set()
        """What was said of its steps, each once."""
        self._task = asyncio.get_running_loop().create_task(self._make())

    def hold_output(self, held: bool) -> None:
        """See :meth:`greenroom.worker.runner.Runner.hold_output`."""
        self._output_waits = held
        if self._running is not None:
            self._running.hold_output(held)

    def close(self) -> "asyncio.Task[None]":
        """Nobody wants it any more: what is under way is killed. The task ends once nothing of it is left."""
        self.hold_output(False)
        self._task.cancel()
        self._task.add_done_callback(self._let_go)
        return self._task

    def _let_go(self, task: "asyncio.Task[None]") -> None:
        while self._held:
            self._shop.layers.leave(self._held.pop())

    async def _make(self) -> None:
        made, error = {}, ""
        try:
            made = (await self._layers(ImageSpec.from_json(self._asked.image))).to_json()
        except Error as failed:
            error = str(failed)
        except OSError as failed:
            error = f"an image can't be kept: {failed.strerror or failed}" + (
                f": {failed.filename}" if failed.filename else ""
            )
            if failed.errno == errno.ENOSPC:
                error += f"; make room on the disk of {self._shop.layers.directory}: `greenroom image prune` does"
        except Exception as unforeseen:  # noqa: BLE001 - whatever it is, nobody must wait for ever
            error = own_error(self._asked.name, unforeseen)
        finally:
            self._payloads = []
        self._shop.send(ImageMade(self._image_id, made, error))

    async def _layers(self, spec: ImageSpec) -> MadeImage:
        sandboxes, base = self._shop.sandboxes, spec.base
        chain = keys(base._replace(key={**base.key, **sandboxes.base_key(base)}), spec.steps)
        key = next(chain)
        made = _Made([], ImageConfig(own_root=base.has_files), [], sum(s.has_files for s in (base, *spec.steps)))
        if base.has_files:
            sandboxes.check_step(base)
            await self._add(key, base, made)
        for step, key in zip(spec.steps, chain, strict=True):
            if step.has_files:
                sandboxes.check_step(step)
                await self._bring_agent(made)
                await self._add(key, step, made)
            else:
                made.described.append({"text": step.text, "where": step.where, "kind": step.kind, "layer": ""})
                made.config = configure(made.config, step)
                inside(sandboxes, step, "", made.config)
        await self._bring_agent(made)
        if made.config.own_root and not made.config.python and base.kind != "scratch":
            raise ImageBuildError(f"{base.title}: {no_python(made.config)}")
        for digest, _, _ in spec.mounts:
            await self._shop.bundles.directory(digest, plain=True)
        mounts = [[digest, sandboxes.inside(path, made.config), each] for digest, path, each in spec.mounts]
        record = ImageRecord(
            key, self._asked.name, sandboxes.name, base.text, made.described, list(made.config), time.time()
        )
        self._shop.layers.note_image(record)
        return MadeImage(made.layers, made.config, mounts)

    async def _add(self, key: str, step: Step, made: "_Made") -> None:
        """Have one layer more."""
        number = sum(1 for each in made.described if each["layer"] and each["kind"] != AGENT) + 1
        began = time.monotonic()
        say = lambda state: self._say(number, made.count, step, state, began)  # noqa: E731
        await self._layer(key, step, Stack([*made.layers], made.config), say)
        made.add(key, step)
        if step.kind in BASES:
            made.config = base_config(self._shop.layers.find(key))
        else:
            made.config = configure(made.config, step)

    async def _bring_agent(self, made: "_Made") -> None:
        """Where an image has a root of its own, and a Python that can be used: what Greenroom needs there, as a layer.

        It comes as soon as there is a Python, so that later steps don't make it again; and is looked for anew once there may
        be another.
        """
        if not made.config.own_root or made.config.python:
            return
        digest = await asyncio.to_thread(self._shop.sandboxes.agent_digest)
        path = made.config.environment.get("PATH", "")
        step = Step(AGENT, "greenroom's own files", {"agent": digest, "path": path})
        key = next_key(made.layers[-1], step)
        await self._layer(key, step, Stack([*made.layers], made.config), lambda state: None)
        found = brought(self._shop.layers.files(key))
        made.config = made.config._replace(python=found[0], python_version=found[1])
        if found[0] and found != made.brought:  # else it has all that already
            made.add(key, step)
        made.brought = found

    def _say(self, number: int, count: int, step: Step, state: str, began: float) -> None:
        self._shop.send(ImageStep(self._image_id, number, count, step.text, state, time.monotonic() - began))

    async def _layer(self, key: str, step: Step, below: Stack, say: Callable[[str], None]) -> None:
        """See to it that a layer is there, and hold it."""
        if self._hold(key):
            say("cached")
            return
        lock, said = self._shop.layers.lock(key), False
        while lock is None:
            if not said:
                say("waiting")
                said = True
            await asyncio.sleep(POLL)
            lock = self._shop.layers.lock(key)
        try:
            if self._hold(key):  # made by whom we waited for
                say("cached")
                return
            say("running")
            try:
                await self._make_layer(key, step, below)
            except BaseException:
                say("failed")
                raise
            if not self._hold(key):
                raise ImageBuildError(f"{step.title}: its layer was removed as soon as it was made; try again")
            say("done")
        finally:
            os.close(lock)

    def _hold(self, key: str) -> bool:
        if not self._shop.layers.use(key):
            return False
        self._held.append(key)
        return True

    async def _make_layer(self, key: str, step: Step, below: Stack) -> None:
        if lacks := step.rest.get("lacks"):
            raise ImageBuildError(f"{step.title}: {lacks}")
        began = time.monotonic()
        sandboxes = self._shop.sandboxes
        draft = self._shop.layers.draft()
        try:
            sandboxes.check_tools(step)
            task = task_of(self._shop, step, below, draft.path)
            await _to_its_end(sandboxes.prepare, draft.path, below, task.making)
            await self._run(step, below, draft, task)
            config = read_base(draft.path / DRAFT, step) if step.kind in BASES else ()
            await _to_its_end(sandboxes.finish, draft.path, key, task.making)
            record = Layer(
                key, below.layers, step.text, step.where, time.time(), time.monotonic() - began, Tree("", 0, 0),
                "forced" in step.key, list(config),
            )  # fmt: skip
            await _to_its_end(draft.keep, self._shop.layers, record)
        except BaseException:
            await _to_its_end(draft.drop)
            raise

    async def _run(self, step: Step, below: Stack, draft: Draft, task: Task) -> None:
        """Run a step in a container."""
        if (remark := self._shop.sandboxes.remark(step)) not in self._remarks | {""}:
            self._remarks.add(remark)
            self._log(f"{remark}\n".encode())
        spec = step.rest.get("spec") or {"bundle": "", "timeout": 86400.0}
        run = self._running = _StepRun(self._shop, task.making, self._log)
        run.hold_output(self._output_waits)
        begin = {
            "container_id": run.container_id, "token": "", "socket": "", "app_id": "", "spec": spec, "code": "",
            "exit_grace": 0.0, "cancel_grace": 0.0, "max_payload": MAX_PAYLOAD,
            "inline_limit": self._shop.settings.inline_limit, "job": task.job,
        }  # fmt: skip
        limits = [spec.get(name, 0) for name in Limits._fields]
        made = MadeImage(below.layers, task.config).to_json()
        message = StartContainer(run.container_id, begin, task.environment, spec["bundle"], limits, made, [])
        payloads = [self._payloads[place] for place in step.rest.get("payloads", [])]
        if reason := await run.do(message, payloads, float(spec["timeout"])):
            full = _no_room(draft.path)
            words = run.last_words()
            if reason == f"exit status {SAID}" and step.kind in _SAYING and words and not full:
                raise ImageBuildError(f"{step.title}: {words.splitlines()[-1]}")
            raise ImageBuildError(_told(step, f"{reason}; {full}" if full else reason, words))

    def _log(self, data: bytes) -> None:
        self._shop.send(ImageLog(self._image_id, []), [data])


class _Made:
    """An image, as far as it is made."""

    def __init__(self, layers: list[str], config: ImageConfig, described: list[dict[str, Any]], count: int) -> None:
        self.layers = layers
        self.config = config
        self.described = described
        """Its base and steps, for the record."""
        self.count = count
        """Layers that it has when it is done, but for Greenroom's own."""
        self.brought = ("", "")
        """The interpreter that was found last, and its version."""

    def add(self, key: str, step: Step) -> None:
        """One layer more."""
        self.layers.append(key)
        self.described.append({"text": step.text, "where": step.where, "kind": step.kind, "layer": key})


async def _to_its_end(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call it in a thread. A thread can't be stopped: being cancelled waits for it, so that nothing is removed under it."""
    done = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise


class _StepRun:
    """One step's container: the place that its runner is in."""

    def __init__(self, shop: Workshop, making: Making, log: Callable[[bytes], None]) -> None:
        self.container_id = new_id(BUILD)
        self.run = shop.run
        self.logs = making.draft
        self.settings = shop.settings
        self.sandboxes = shop.sandboxes
        self.bundles = shop.bundles
        self.watch_fd = shop.watch_fd
        self.files = shop.files
        self.layers = shop.layers
        self.making: Making | None = making
        self._shop = shop
        self._log = log
        self._words = b""
        self._reason = ""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = Runner(self, self.container_id)

    async def do(self, message: StartContainer, payloads: list[Payload], timeout: float) -> str:
        """Why it failed; ``""``: it didn't."""
        runner = self._runner
        runner.start(message, payloads)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._ended)
        except TimeoutError:
            runner.kill(f"it ran past its timeout of {timeout:g} s")
            await self._ended
        except asyncio.CancelledError:
            runner.kill("nobody waits for it any more")
            await self._ended
            raise
        with contextlib.suppress(OSError):
            (self.logs / f"{self.container_id}.log").rename(self.logs / "log")
        return self._reason

    def hold_output(self, held: bool) -> None:
        """See :meth:`greenroom.worker.runner.Runner.hold_output`."""
        self._runner.hold_output(held)

    def last_words(self) -> str:
        """The end of its output."""
        return self._words.decode(errors="replace").rstrip()

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """What its runner would tell the server."""
        if isinstance(message, ContainerLog):
            for data in payloads or ():
                assert isinstance(data, bytes)
                self._words = (self._words + data)[-4 * LAST_WORDS :]
                self._log(data)
        elif isinstance(message, ContainerEnded):
            self._reason = message.reason

    @property
    def backlog(self) -> int:
        """See ``Workshop``."""
        return self._shop.backlog

    def ended(self, runner: Runner) -> None:
        """Nothing is left of it."""
        self._ended.set_result(None)


def _no_room(directory: Path) -> str:
    """That a disk is full, where it is: what a step has printed of it may have found no room itself."""
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize > ROOM and (found.f_ffree > 0 or not found.f_files):
        return ""
    return f"No space left on device: the disk of {directory.parent} is full, and `greenroom image prune` makes room"


def _told(step: Step, reason: str, words: str) -> str:
    lines = [line for line in words[-LAST_WORDS:].splitlines() if line.strip()]
    quoted = "".join(f"\n    {line}" for line in lines[-20:])
    return f"{step.title}: {reason}{quoted and ', after'}{quoted}"
