"""Installing Python packages into an image, by uv.

Where the image has a root of its own, they go where its interpreter has its own. On the host image, into a virtual
environment, which finds the interpreter's own packages after what it has itself: so a package that is installed here hides
another version of it there, and nothing there is ever changed. In plain processes each layer has one, that begins as a copy
of the one below.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from typing import Any

from greenroom.model.image import without_passwords


def install(job: dict[str, Any]) -> int:
    """Install; the exit status.

    Args:
        job: ``arguments`` of ``pip install``, where ``{"file": name}`` stands for one of ``files``, by name the text; ``options``,
            this machine's own; ``installer``, the command that is uv; and ``python``, the interpreter to install for. Where that
            is ``""``, ``target``, an environment, which is made unless it is there; ``below``, that which it begins as a copy of,
            ``""``: none.
    """
    arguments, python = job["arguments"], job["python"]
    into = ["--python", python, "--system", "--break-system-packages"]
    if not python:
        python = os.path.join(job["target"], "bin", "python")
        if not os.path.exists(python):
            _make(job["target"], job["below"])
        into = ["--python", python]
    shown = " ".join(word["file"] if isinstance(word, dict) else word for word in arguments)
    print(f"$ uv pip install {without_passwords(shown)}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        for name, text in job["files"].items():
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)
        words = [
            os.path.join(directory, word["file"]) if isinstance(word, dict) else _of_uv(word) for word in arguments
        ]
        # Compiled once, here, rather than by each container; and known by their content, since another version may be of the
        # same size and the same second.
        command = [*job["installer"], "pip", "install", *into, "--link-mode", "copy", "--compile-bytecode"]
        command += [*job["options"], *words]
        environment = {**os.environ, "PYC_INVALIDATION_MODE": "CHECKED_HASH"}
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, env=environment).returncode


def _of_uv(word: str) -> str:
    """By its newer name, which comes before the variable as the older one doesn't."""
    if word in ("-i", "--index-url"):
        return "--default-index"
    return f"--default-index={word.partition('=')[2]}" if word.startswith("--index-url=") else word


def _make(target: str, below: str) -> None:
    if below:
        subprocess.run(["/bin/cp", "--archive", "--reflink=auto", "--", below, target], check=True)
        move(target, below, target)
        return
    import venv

    venv.EnvBuilder(with_pip=False, symlinks=True).create(target)
    shown = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    with open(os.path.join(_packages_of(target), "_below.pth"), "w", encoding="utf-8") as file:
        # Not the bare paths: what lies there may have such files of its own.
        file.writelines(f"import site; site.addsitedir({path!r})\n" for path in shown)


def move(environment: str, was: str, becomes: str) -> None:
    """Let an environment's programs, which begin with the path of their interpreter, know where they are."""
    with os.scandir(os.path.join(environment, "bin")) as programs:
        for program in programs:
            if program.is_file(follow_symlinks=False):
                with open(program, "rb+") as file:
                    if (old := os.fsencode(was)) in (text := file.read()):
                        file.seek(0)
                        file.truncate()
                        file.write(text.replace(old, os.fsencode(becomes)))


def _packages_of(target: str) -> str:
    return sysconfig.get_path("purelib", scheme="venv", vars={"base": target, "platbase": target})
