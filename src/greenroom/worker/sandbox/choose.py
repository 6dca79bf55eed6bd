"""Which sandbox a worker's containers run in: what was insisted on, else real containers where we may, else plain processes."""

from pathlib import Path

from greenroom.model import sandbox_choice
from greenroom.model.errors import ImageBuildError
from greenroom.model.image import Step
from greenroom.model.settings import Settings
from greenroom.worker.sandbox.base import Launch, Sandboxes
from greenroom.worker.sandbox.process import ProcessSandbox, ProcessSandboxes


def choose(settings: Settings, home: Path, run: Path) -> Sandboxes:
    """To be called before this process has threads."""
    choice = sandbox_choice.choose(settings)
    if choice.program:
        try:
            return _oci(choice.program, settings, home, run)
        except OSError as error:
            why = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        choice = sandbox_choice.without_real_ones(settings, why)
    return NoSandboxes(choice.told) if choice.sandbox == "none" else ProcessSandboxes(choice.told, home / "layers")


def _oci(program: str, settings: Settings, home: Path, run: Path) -> Sandboxes:
    from greenroom.worker.sandbox.oci import OciSandboxes
    from greenroom.worker.sandbox.runtimes import describe

    return OciSandboxes(describe(program), home, run, settings)


class NoSandboxes(ProcessSandboxes):
    """What was insisted on can't be had: no container starts, and each says why. Those that are there can be looked after."""

    name = "none"
    keeps_limits = ""

    def sandbox(self, launch: Launch) -> ProcessSandbox:
        """Raises OSError with the reason."""
        raise OSError(0, self.lacks)

    def base_key(self, base: Step) -> dict[str, str]:
        """Raises ImageBuildError with the reason."""
        raise ImageBuildError(self.lacks)
