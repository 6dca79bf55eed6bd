"""Making what images stand on: as a directory, by the host's own programs, in a container on the host image.

Source: mmdebstrap(1), skopeo-copy(1), umoci-raw-unpack(1), buildah-build(1), containers-registries.conf(5); of what is read
here, the image-spec's image-index.md, manifest.md and config.md.
"""

import base64
import errno
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PLACE = Path("/run/greenroom.base")
"""``fs`` is to be the layer; beside it there is room to work, and ``config.json`` says how the image is used."""
SAID = 3
"""Exit status: the last line of output is why."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""What Go calls a machine, where that differs from what Linux does."""
_BARE = ["ca-certificates"]
_PYTHON = [*_BARE, "python3", "python3-pip", "python-is-python3"]
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_OF_THIS_MACHINE = (
    "etc/hostname", "etc/resolv.conf", "etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/auth.conf", "etc/apt/auth.conf.d",
    "var/log/apt", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log", "var/lib/dbus/machine-id",
    "var/cache/ldconfig/aux-cache",
)  # fmt: skip
"""What making a Debian leaves of where and when it was made."""
_SMALL = """\
Acquire::GzipIndexes "true";
Acquire::Languages "none";
APT::Keep-Downloaded-Packages "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
"""What apt would keep in every layer, and can do without."""
_OTHER = "pull one that is made for it"
_HERE = _ARCHITECTURES.get(platform.machine(), platform.machine())
_USED = ("Env", "WorkingDir", "Entrypoint", "Cmd", "Shell")
"""Of a configuration, all that counts here."""
_KEPT = 1000
"""Lines."""
_NO_ROOM = os.strerror(errno.ENOSPC)
_LONGEST = 400
"""Characters of a reason."""
_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+")
_OF_STEP = re.compile(r'building at STEP ".*?": |Build error: ', re.DOTALL)
_EXITED = re.compile(r'building at STEP "RUN .*exit status (\d+)\Z', re.DOTALL)
_PULLED = re.compile(r"docker://(\S+?): ")
"""What stands in a message on what an image stands on."""
_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
_LAST_WORDS = 2.0
"""Seconds in which what a program has printed is read, once it has ended."""
_LOOPBACK = re.compile(r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?")
_REGISTRIES = Path("/etc/containers/registries.conf")


class Failed(Exception):
    """Why it can't be made, in a line."""


class CommandFailed(Exception):
    """One of the user's: what it printed is of interest too."""

    status = 1


def make(job: dict[str, Any]) -> int:
    """Make a base; the exit status."""
    try:
        {"debian": _debian, "registry": _registry, "dockerfile": _dockerfile, "scratch": _scratch}[job["base"]](job)
    except CommandFailed as error:
        print(error, flush=True)
        return error.status
    except Failed as error:
        print(error, flush=True)
        return SAID
    except OSError as error:
        print(f"{error.filename or PLACE}: {error.strerror or error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _scratch(job: dict[str, Any]) -> None:
    (PLACE / "fs").mkdir(exist_ok=True)


def _debian(job: dict[str, Any]) -> None:
    suite = job["suite"]
    if shutil.which("mmdebstrap") is None:
        name = f"python:{job['python']}-slim" if job["python"] else f"debian:{suite}-slim"
        _registry({"reference": f"docker.io/library/{name}"})
        return
    root = PLACE / "fs"
    if not _KEYRING.exists():
        raise Failed(
            "Debian's keys are missing, by which its packages are checked: apt-get install debian-archive-keyring"
        )
    for name in ("apt.conf.d", "trusted.gpg.d"):  # apt wants to see them
        Path("/etc/apt", name).mkdir(parents=True, exist_ok=True)
    packages = ",".join(_PYTHON if job["python"] else _BARE)
    said = _do(
        ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={packages}", f"--keyring={_KEYRING}",
         '--aptopt=APT::Sandbox::User "root"', suite, str(root)],
        "Debian can't be made: ",
    )  # fmt: skip
    if said:
        raise Failed(f"Debian can't be made: {_why_no_debian(said)}")
    for name in _OF_THIS_MACHINE:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    for shadow in root.glob("etc/shadow*"):  # nobody has a password; each line says on which day that was so
        shadow.write_text(re.sub(r"^([^:]*:[^:]*:)\d+", r"\1", shadow.read_text(), flags=re.MULTILINE))
    (root / "etc/apt/apt.conf.d/90small").write_text(_SMALL)
    # It keeps pip from touching Debian's own packages, which is what an image is for.
    for mark in root.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
        mark.unlink()


def _registry(job: dict[str, Any]) -> None:
    reference = job["reference"]
    name, at, digest = reference.partition("@")
    if at and ":" in name.rpartition("/")[2]:  # a tag beside a digest says nothing, and skopeo refuses it
        reference = f"{name.rpartition(':')[0]}@{digest}"
    host = _host(reference)
    plain = ["--src-tls-verify=false"] if _LOOPBACK.fullmatch(host) else []
    command = ["skopeo", *_trust(), "copy", *_credentials([host]), *plain, f"docker://{reference}", "oci:oci:image"]
    if said := _do(command):
        raise Failed(f"{job['reference']} can't be pulled: {_why_not_pulled(said[-1], host)}")
    _unpack(job["reference"])


def _dockerfile(job: dict[str, Any]) -> None:
    context = PLACE / "context"
    context.mkdir()
    with tarfile.open(job["archive"], "r:") as archive:
        for (
            member
        ) in archive:  # packed by the SDK: names are checked there, and nothing but files and directories is in it
            archive.extract(member, context)
    for name, text in job["documents"].items():
        (context / name).parent.mkdir(parents=True)
        (context / name).write_text(text)
    (PLACE / "Dockerfile").write_text(job["file"])
    (PLACE / "ignore").touch()  # what is to stay behind did
    hosts = {_host(reference): reference for reference in job["from"]}
    _write_registries(hosts)
    secrets = [word for name in job["secrets"] for word in ("--secret", f"id={name},env={name}")]
    arguments = [word for name, value in job["arguments"].items() for word in ("--build-arg", f"{name}={value}")]
    store = ["--root", str(PLACE / "store"), "--runroot", str(PLACE / "run"), "--storage-driver", "overlay"]
    policy = _trust(option="--signature-policy")
    said = _do(
        ["buildah", *store, "build", "--isolation", "chroot", *policy, *_credentials(hosts), *secrets, *arguments,
         "--ignorefile", "ignore", "--file", "Dockerfile", "--tag", "image", "context"],
    )  # fmt: skip
    if said:
        _raise_of_step(said, hosts)
    if said := _do(
        ["buildah", *store, "push", "--quiet", *policy, "--disable-compression", "image", "oci:oci:image"],
    ):  # fmt: skip
        raise Failed(f"buildah failed: {_message(said[-1])}")
    shutil.rmtree(PLACE / "store", ignore_errors=True)
    _unpack("the image that the Dockerfile describes")


def _raise_of_step(said: list[str], hosts: dict[str, str]) -> None:
    """Why buildah failed. Where a command of the user's did, all that it printed is of interest."""
    step = next((line for line in reversed(said) if _STEP.match(line)), "")
    last = max((place for place, line in enumerate(said) if line.startswith("Error: ")), default=-1)
    text = _message("\n".join(said[last:]))  # a command that it quotes may have several lines
    pulled = _PULLED.search(text)
    if pulled is not None:
        raise Failed(f"{pulled[1]} can't be pulled: {_why_not_pulled(text, _host(pulled[1]))}")
    if found := _EXITED.search(text):
        raise CommandFailed(f"{step}: exit status {found[1]}")
    raise Failed(f"{step or 'buildah failed'}: {_OF_STEP.sub('', text)}")


def _unpack(what: str) -> None:
    """Make one directory of the layers of the image that lies in ``oci``, and take down how it is used."""
    layout = PLACE / "oci"
    try:
        index = json.loads((layout / "index.json").read_bytes())
        config = _blob(layout, _blob(layout, index["manifests"][0])["config"])
        there, used = config.get("architecture") or _HERE, config.get("config") or {}
        used = {name: used[name] for name in _USED if name in used}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Failed(f"{what}: its configuration is damaged") from None
    if there != _HERE:
        raise Failed(f"{what} is for {there}, and this machine is {_HERE}: {_OTHER}")
    if said := _do(["umoci", "raw", "unpack", "--image", "oci:image", "fs"]):
        why = _message(said[-1]).partition("unpack entry: ")
        if "get config blob: parse" in why[0]:
            raise Failed(f"{what}: its configuration is damaged")
        foreign = why[2].endswith("invalid argument") and "chown" in why[2]
        reason = f"{why[2].partition(': ')[0]} belongs to an id above 65535" if foreign else why[2] or why[0]
        raise Failed(f"{what} can't be unpacked: {_shortened(reason)}")
    if not (PLACE / "fs").is_dir():
        raise Failed(f"{what} can't be unpacked: a layer of it takes its root directory away")
    (PLACE / "config.json").write_text(json.dumps({"config": used}))
    shutil.rmtree(layout)


def _blob(layout: Path, descriptor: dict[str, Any]) -> Any:
    algorithm, _, digest = descriptor["digest"].partition(":")
    return json.loads((layout / "blobs" / algorithm / digest).read_bytes())


def _trust(option: str = "--policy") -> list[str]:
    """The machine's policy of signatures, where it has one; else what tools do that know none: accept."""
    policy = Path("/etc/containers/policy.json")
    if not policy.exists():
        policy = PLACE / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return [option, str(policy)]


def _host(reference: str) -> str:
    """The registry that a reference names."""
    first, slash, _ = reference.partition("/")
    return first if slash and (first == "localhost" or any(c in first for c in ".:")) else "docker.io"


def _credentials(hosts: Iterable[str]) -> list[str]:
    """Those of the secret, else those that this machine has."""
    name, password = (os.environ.pop(f"REGISTRY_{what}", "") for what in ("USERNAME", "PASSWORD"))
    if not name:
        kept = Path("/root/.docker/config.json")
        return ["--authfile", str(kept)] if kept.exists() else []
    written = PLACE / "auth.json"
    written.touch(mode=0o600)
    entry = {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}
    written.write_text(json.dumps({"auths": dict.fromkeys(hosts, entry)}))
    return ["--authfile", str(written)]


def _write_registries(hosts: Iterable[str]) -> None:
    text = _REGISTRIES.read_text() if _REGISTRIES.exists() else 'unqualified-search-registries = ["docker.io"]\n'
    for host in sorted({host for host in hosts if _LOOPBACK.fullmatch(host)}):
        text += f'\n[[registry]]\nlocation = "{host}"\ninsecure = true\n'
    written = PLACE / "registries.conf"
    written.write_text(text)
    os.environ["CONTAINERS_REGISTRIES_CONF"] = str(written)


def _do(command: list[str], what: str = "") -> list[str]:
    """Run a program where there is room, its output as ours; if it failed, the last lines of that: one at least.

    Raises:
        Failed: it was killed; begins with ``what``.
    """
    environment = {**os.environ, "TMPDIR": str(PLACE), "XDG_RUNTIME_DIR": str(PLACE)}
    process = subprocess.Popen(
        command, cwd=PLACE, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    output = _Output(process.stdout)
    output.start()
    status = process.wait()
    # Where it was killed, what it has started may go on, and hold its output open. That ends with this process.
    output.join(_LAST_WORDS if status < 0 else None)
    output.over = True
    if status < 0:
        raise Failed(f"{what}{Path(command[0]).name} was killed by signal {-status}")
    return [*output.said] or [f"exit status {status}"] if status else []


class _Output(threading.Thread):
    """A program's output, as it comes."""

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__(daemon=True)
        self._lines = lines
        self.said: deque[str] = deque(maxlen=_KEPT)
        """Its last lines, without the empty ones."""
        self.over = False

    def run(self) -> None:
        """Until all who could write to it have ended."""
        for line in self._lines:
            if self.over:
                return
            print(line, end="", flush=True)
            if line.strip():
                self.said.append(line.strip())


def _message(line: str) -> str:
    """What a tool of that family says at its end, without its wrapping."""
    found = _MESSAGE.search(line)
    text = found[1].replace('\\"', '"').replace("\\\\", "\\") if found is not None else line
    return text.removeprefix("Error: ").lstrip("⨯ ")


def _why_not_pulled(line: str, host: str) -> str:
    """In words for who wrote the reference."""
    text = _message(line)
    for mark, said in _SAID.items():
        if mark in text.lower():
            return said.format(host=host, here=_HERE)
    return _shortened(text)


def _why_no_debian(said: list[str]) -> str:
    """apt's first error says why; those after it that it failed. Of a full disk it says that a program of its own failed."""
    if any(_NO_ROOM in line for line in said):
        return f"{_NO_ROOM}, while it was made"  # there is again: mmdebstrap clears up
    errors = [line[3:].strip() for line in said if line.startswith("E: ")]
    return _shortened(errors[0] if errors else said[-1])


def _shortened(text: str) -> str:
    """Names can be as long as a path."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 100]} … {text[-90:]}"


_SAID = {
    ": unauthorized": "{host} asks for credentials, or refused those it got: secret= with REGISTRY_USERNAME and REGISTRY_PASSWORD",
    "authentication required": "{host} asks for credentials: secret= with REGISTRY_USERNAME and REGISTRY_PASSWORD",
    "requested access to the resource is denied": "{host} has no such image, or shows it to others: secret= with "
    "REGISTRY_USERNAME and REGISTRY_PASSWORD",
    "manifest unknown": "{host} has no such image, tag or digest",
    "name unknown": "{host} has no image of that name",
    "no image found in": f"there is none for {{here}}, which this machine is: {_OTHER}",
    "invalid reference format": "that is no name of an image, which is like registry.example/owner/name:tag, in small letters",
    "connection refused": "no registry answers at {host}",
    "no such host": "no machine is called {host}, or the network is down",
    "i/o timeout": "{host} doesn't answer",
    "gave http response to https client": "{host} speaks no TLS: only a registry on this machine may",
}
