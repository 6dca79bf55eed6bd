"""Programs that the end-to-end tests run, and how they run them: through the real command, in processes of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

COMMAND = [str(Path(sys.executable).parent / "greenroom")]


def write(directory: Path, text: str, name: str = "app.py") -> Path:
    path = directory / name
    path.write_text(textwrap.dedent(text))
    return path


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "GREENROOM_EXIT_GRACE": "5", "GREENROOM_CANCEL_GRACE": "1", "PYTHONUNBUFFERED": "1", **extra}


def start(
    *arguments: str, cwd: Path | None = None, stdin: int = subprocess.DEVNULL, **extra: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(**extra),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(
    *arguments: str, cwd: Path | None = None, timeout: float = 60, **extra: str
) -> "subprocess.CompletedProcess[str]":
    process = start(*arguments, cwd=cwd, **extra)
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def python(path: Path, timeout: float = 60, **extra: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(path)],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
