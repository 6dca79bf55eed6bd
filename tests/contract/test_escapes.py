"""A hostile program inside a real container: what it tries, and what it gets. ``docs/security.md`` has the same list."""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from greenroom.wire.connection import encode
from greenroom.wire.messages import PROTOCOL_VERSION, Hello
from tests.conftest import Need

ROOT = Path(__file__).parents[2]

PRELUDE = """
import ctypes, errno, os, signal, socket, subprocess
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    "A system call by number, as x86_64 has them."
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "done"

def read(path):
    with open(path, "rb") as file:
        return file.read(64)

def write(path, data=b"x"):
    with open(path, "wb", buffering=0) as file:
        file.write(data)
    return "written"
"""

ATTEMPTS: dict[str, tuple[str, str]] = {
    # Files of the host.
    "read `/etc/shadow`": ("read('/etc/shadow')", "FileNotFoundError"),
    "read a file in the host's `/root`": ("read(canary['root'])", "FileNotFoundError"),
    "read a file in the host's `/home`": ("read(canary['home'])", "FileNotFoundError"),
    "read a file in the host's `/tmp`": ("read(canary['tmp'])", "FileNotFoundError"),
    "read a file in the host's `/var`": ("read(canary['var'])", "FileNotFoundError"),
    "list the state directory": ("os.listdir(canary['state'])", "FileNotFoundError"),
    "climb out by `/proc/1/root`": ("read('/proc/1/root' + canary['tmp'])", "FileNotFoundError"),
    "climb out by a second `chroot`": (
        "os.mkdir('/c'), os.chroot('/c'), [os.chdir('..') for _ in range(64)], os.chroot('.'), read(canary['tmp'])",
        "FileNotFoundError",
    ),
    "write to the interpreter": ("write(os.path.realpath('/proc/self/exe'))", "OSError"),
    "write into every read-only mount": (
        """[write(where + '/x') for line in open('/proc/self/mounts')
            if (where := line.split()[1]) and 'ro' in line.split()[3].split(',') and os.path.isdir(where)]""",
        "OSError",
    ),
    "make a read-only mount writable": ("call(165, b'', b'/usr', None, 32 | 4096, None)", "PermissionError"),
    "unmount one": ("call(166, b'/usr', 2)", "PermissionError"),
    # Processes.
    "see the host's processes": ("[pid for pid in os.listdir('/proc') if pid.isdigit() and int(pid) > 1000]", "[]"),
    "signal a process of the host": ("os.kill(canary['pid'], 0)", "ProcessLookupError"),
    "trace a process of the host": ("call(101, 16, canary['pid'], 0, 0)", "ProcessLookupError"),
    "read a host process's memory": ("read(f\"/proc/{canary['pid']}/mem\")", "FileNotFoundError"),
    # Other containers.
    "read another container's file": ("read('/tmp/mine')", "FileNotFoundError"),
    "find another container's secret in any environment": (
        "[pid for pid in os.listdir('/proc') if pid.isdigit() and canary['secret'] in read(f'/proc/{pid}/environ')]",
        "[]",
    ),
    "use its token as a client's": ("speak(canary['hello'])", "Refused"),
    "say nothing of the protocol to the server": ("speak(b'GET / HTTP/1.1' + bytes(64))", "closed"),
    # The kernel.
    "write to `/proc/sys`": ("write('/proc/sys/kernel/hostname')", "OSError"),
    "write to `/proc/sysrq-trigger`": ("write('/proc/sysrq-trigger')", "OSError"),
    "read `/proc/kcore`": ("read('/proc/kcore')", "b'' or FileNotFoundError"),
    "read `/proc/keys`": ("read('/proc/keys')", "b''"),
    "read the kernel's log": ("call(103, 3, None, 0)", "PermissionError"),
    "write to `/sys`": ("write('/sys/kernel/mm/ksm/run')", "OSError"),
    "write to a control group": ("write('/sys/fs/cgroup/cgroup.procs')", "OSError"),
    "mount a control group hierarchy": ("call(165, b'x', b'/mnt', b'cgroup', 0, b'memory')", "PermissionError"),
    "mount a file system": ("call(165, b'x', b'/mnt', b'tmpfs', 0, None)", "PermissionError"),
    "open a disk": ("[read('/dev/' + name) for name in ('vda', 'sda', 'nvme0n1', 'mem', 'kmsg')]", "FileNotFoundError"),
    "make a disk's device node": ("os.mknod('/disk', 0o60660, os.makedev(8, 0))", "PermissionError"),
    "make a new user namespace": ("call(272, 0x10000000)", "PermissionError"),
    "make a new mount namespace": ("call(272, 0x20000)", "PermissionError"),
    "clone into a new user namespace": ("call(56, 0x10000000 | 17, None, None, None, 0)", "PermissionError"),
    "enter a namespace": ("call(308, os.open('/proc/1/ns/mnt', 0), 0)", "PermissionError"),
    "load a program into the kernel (`bpf`)": ("call(321, 0, None, 0)", "PermissionError"),
    "handle page faults (`userfaultfd`)": ("call(323, 0)", "PermissionError"),
    "reach the host of a virtual machine (`AF_VSOCK`)": ("socket.socket(40, socket.SOCK_STREAM)", "PermissionError"),
    "use the kernel's ciphers (`AF_ALG`)": ("socket.socket(38, socket.SOCK_SEQPACKET)", "PermissionError"),
    "set up `io_uring`": ("call(425, 1, None)", "PermissionError"),
    "count events (`perf_event_open`)": ("call(298, None, 0, -1, -1, 0)", "PermissionError"),
    "load a module": ("call(175, b'', 0, b'')", "PermissionError"),
    "load another kernel": ("call(246, 0, 0, None, 0)", "PermissionError"),
    "reboot": ("call(169, 0xfee1dead, 672274793, 0, None)", "PermissionError"),
    "set the clock": ("call(227, 0, ctypes.byref(ctypes.create_string_buffer(16)))", "PermissionError"),
    "add a key to a keyring": ("call(248, b'user', b'x', b'y', 1, -3)", "PermissionError"),
    "search a keyring": ("call(250, 10, -3, b'user', b'x', 0)", "PermissionError"),
    "open by handle": ("call(304, -100, None, 0)", "PermissionError"),
    "get at ports (`iopl`)": ("call(172, 3)", "PermissionError"),
    "swap": ("call(167, b'/x', 0)", "PermissionError"),
    # Privileges.
    "gain privileges by a set-user-id program": (
        "[l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1]",
        "'1'",
    ),
    "be filtered by nothing": (
        "[l for l in open('/proc/self/status') if l.startswith('Seccomp:')][0].split()[1]",
        "'2'",
    ),
    "be root of the host": ("open('/proc/self/uid_map').read().split()[1] == '0'", "False"),
}
"""What is tried, as an expression, and what comes of it: an exception's name (or a base of it), or the value."""


def program(source: str, attempts: dict[str, str], canary: dict[str, object]) -> dict[str, list[str]]:
    """Inside the container: each attempt's value or exception, its bases too."""
    names: dict[str, object] = {"canary": canary}
    exec(source, names)

    def speak(data: bytes) -> str:
        import socket

        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect("/run/greenroom.sock")
            sock.sendall(data)
            answer = sock.recv(4096)
            return "Refused" if b"Refused" in answer else "closed" if not answer else repr(answer)

    names["speak"] = speak
    found = {}
    for name, expression in attempts.items():
        child_end, ours = os.pipe()
        if (pid := os.fork()) == 0:  # whatever it does to itself, the next one begins afresh
            try:
                value = eval(expression, names)
                answer = [value if value in ("Refused", "closed") else repr(value)]
            except BaseException as error:
                answer = [kind.__name__ for kind in type(error).__mro__]
            os.write(ours, "\n".join(answer).encode())
            os._exit(0)
        os.close(ours)
        with open(child_end, "rb") as file:
            found[name] = file.read().decode().split("\n")
        os.waitpid(pid, 0)
    return found


@pytest.fixture(scope="module", params=["crun", "runc"])
def outcome(request: pytest.FixtureRequest) -> Iterator[dict[str, list[str]]]:
    """What came of everything, in one container beside another that has something to lose."""
    Need.runtime(request.param)
    if os.uname().machine != "x86_64":
        pytest.skip("the system calls are tried by x86_64's numbers")
    directories = [
        Path(tempfile.mkdtemp(prefix=".greenroom-canary-", dir=place))
        for place in ("/root", "/home", "/tmp", "/var/tmp")
    ]
    for directory in directories:
        (directory / "canary").write_text("chirp")
        directory.chmod(0o755)
    secret = secrets.token_hex(16)
    app = greenroom.App("escapes")

    @app.cls(serialized=True, secrets=[greenroom.Secret.from_dict({"PRIVATE": secret})])
    class Victim:
        @greenroom.method()
        def settle(self) -> None:
            open("/tmp/mine", "w").close()

    attack = app.function(serialized=True)(program)
    try:
        with Cluster(settings=Settings(sandbox="oci", runtime=request.param)) as cluster, app.run():
            Victim().settle.remote()
            attack.remote("", {}, {})  # so that it has a token
            tokens = cluster.on_server(
                lambda server: {c.pool.function.spec.name: c.token for c in server.lifecycle.containers.by_id.values()}
            )
            canary = {
                **{
                    name: str(d / "canary") for name, d in zip(("root", "home", "tmp", "var"), directories, strict=True)
                },
                "state": str(cluster.home),
                "pid": os.getpid(),
                "secret": secret.encode(),
                "hello": encode(Hello("client", tokens["program"], PROTOCOL_VERSION))[0],
            }
            yield attack.remote(PRELUDE, {name: tried for name, (tried, _) in ATTEMPTS.items()}, canary)
            assert Victim().settle.remote() is None, "the other one is unharmed"
    finally:
        for directory in directories:
            shutil.rmtree(directory)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_it_gets_no_further(outcome: dict[str, list[str]], attempt: str) -> None:
    assert set(ATTEMPTS[attempt][1].split(" or ")) & set(outcome[attempt])


def test_the_list_in_the_docs_is_this_one() -> None:
    table = re.findall(r"^\| (.+?) \| .+ \|$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
    assert [row for row in table if row in ATTEMPTS] == list(ATTEMPTS)
