"""Steps that leave what is hard to keep, to read or to stand on: the layer is whole, verified, and leads nobody astray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import greenroom


def real(cluster) -> bool:
    return cluster.settings.sandbox == "oci"


def verified(cluster) -> list[dict]:
    """What ``greenroom image verify`` asks, of every layer."""
    command = [sys.executable, "-P", "-m", "greenroom.worker.images", str(cluster.home), "verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def run(image, look):
    """What ``look`` finds in a container of that image."""
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True)(look)
    with app.run():
        return f.remote()


def layers(cluster) -> list[Path]:
    return [path for path in (cluster.home / "layers").iterdir() if not path.name.startswith(".")]


def test_directories_deeper_than_any_path(cluster):
    deep = 2200  # of two bytes each, and a path has at most 4,096

    def dig():
        for _ in range(deep):
            os.mkdir("d")
            os.chdir("d")

    def look():
        depth = 0
        while os.path.isdir("d"):
            os.chdir("d")
            depth += 1
        return depth

    if not real(cluster):
        dig_to = 300  # each container of a plain process gets a copy, made by names

        def dig():
            for _ in range(dig_to):
                os.mkdir("d")
                os.chdir("d")

    assert run(greenroom.Image.host().run_function(dig), look) == (deep if real(cluster) else 300)
    verified(cluster)


def test_what_nobody_may_read_and_what_is_no_file(cluster):
    def leave():
        import socket

        os.mkdir("closed")
        with open("closed/secret", "w") as file:
            file.write("x")
        os.mkfifo("fifo")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket")
        with open("huge", "wb") as file:
            file.truncate(1 << 42)
        os.setxattr("huge", "user.note", b"1")
        os.chmod("closed/secret", 0)
        os.chmod("closed", 0)

    def look():
        import stat

        kinds = [stat.S_IFMT(os.lstat(name).st_mode) == kind for name, kind in
                 (("fifo", stat.S_IFIFO), ("socket", stat.S_IFSOCK))]  # fmt: skip
        found = os.stat("closed").st_mode & 0o7777, os.stat("huge").st_size, os.getxattr("huge", "user.note")
        os.chmod("closed", 0o700)
        return kinds, found, os.stat("closed/secret").st_mode & 0o7777

    assert run(greenroom.Image.host().run_function(leave), look) == ([True, True], (0, 1 << 42, b"1"), 0)
    assert max(answer["size"] for answer in verified(cluster)) >= 1 << 42


def test_setuid_bits_and_capabilities_survive(cluster):
    def leave():
        import struct

        for name, mode in (("setuid", 0o4755), ("setgid", 0o2755)):
            with open(name, "w"):
                pass
            os.chmod(name, mode)
        with open("capable", "w"):
            pass
        os.setxattr("capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))

    def above():
        with open("above", "w"):
            pass

    def look():
        import struct

        mode, *words = struct.unpack("<5I", os.getxattr("capable", "security.capability")[:20])
        return os.stat("setuid").st_mode & 0o7777, os.stat("setgid").st_mode & 0o7777, mode & 1, words

    image = greenroom.Image.host().run_function(leave).run_function(above)
    assert run(image, look) == (0o4755, 0o2755, 1, [1 << 10, 0, 0, 0])
    verified(cluster)


def test_no_device_and_no_whiteout_is_made_by_hand(cluster):
    if not real(cluster):
        pytest.skip("a plain process may do what its user may")

    def leave():
        import stat

        refused = []
        for name, kind, numbers in (
            ("null", stat.S_IFCHR, (1, 3)), ("disk", stat.S_IFBLK, (8, 0)), ("white", stat.S_IFCHR, (0, 0)),
        ):  # fmt: skip
            try:
                os.mknod(f"/root/{name}", kind | 0o666, os.makedev(*numbers))
            except OSError:
                refused.append(name)
        with open("/root/refused", "w") as file:
            file.write(" ".join(refused))

    def look():
        with open("/root/refused") as file:
            return file.read(), sorted(os.listdir("/root"))

    found, names = run(greenroom.Image.host().run_function(leave), look)
    assert found == "null disk white"
    assert not {"null", "disk", "white"} & set(names)
    verified(cluster)


@pytest.mark.parametrize(
    "commands",
    [
        "rm -rf /root 2>&- || true; ln -s /etc /root || true",
        "rm -rf /root 2>&- || true; ln -s ../../../../etc /root || true",
        "rm -f /etc/hosts; ln -s /root /etc/hosts",
        "mv /etc /gone; ln -s /root /etc",
        "rm -rf /run; ln -s / /run",
        "rm -rf /run; echo file > /run",
        "mkdir -p /run/greenroom/server.sock/x /etc/hosts.d; rm -f /etc/hosts /etc/resolv.conf; mkdir -p /etc/hosts/x /etc/resolv.conf/y",
        "rm -rf /tmp; ln -s /etc /tmp",
        "chmod 0 /root /run /etc; chmod 1777 /",
        "chown 7:7 /root /run /etc",
        "rm -rf /root 2>&- || true",
    ],
)
def test_links_where_a_container_is_mounted_lead_nowhere(cluster, commands):
    """The next container starts, finds its own files, and nothing on this machine has changed."""
    if not real(cluster):
        pytest.skip("commands need real containers")
    before = {path: os.lstat(path).st_mtime_ns for path in ("/", "/etc", "/root", "/run", "/etc/hosts", "/tmp")}

    def look():
        import socket

        with open("/etc/hosts") as hosts:
            named = socket.gethostname() in hosts.read()
        with open("/root/new", "w") as file:
            file.write("x")
        return named, os.getcwd(), os.path.exists("/run/greenroom/server.sock"), os.path.islink("/root")

    assert run(greenroom.Image.host().run_commands(commands), look) == (True, "/root", True, False)
    verified(cluster)
    after = {path: os.lstat(path).st_mtime_ns for path in before}
    assert {path for path in before if before[path] != after[path]} <= {"/tmp", "/run"}, "others work there"
    assert not os.path.exists("/etc/greenroom")
    assert not os.path.exists("/root/greenroom")


def test_a_step_above_links_is_led_nowhere_either(cluster, tmp_path):
    """What is copied goes where the container says, from inside it."""
    if not real(cluster):
        pytest.skip("commands need real containers")
    (tmp_path / "file").write_text("x")
    image = (
        greenroom.Image.host()
        .run_commands("ln -s /etc /up; ln -s ../../../../../../etc /over; mkdir /d; ln -s /etc/canary-9d /d/file")
        .add_local_file(tmp_path / "file", "/up/canary-9d", copy=True)
        .add_local_file(tmp_path / "file", "/over/canary-8d", copy=True)
        .add_local_file(tmp_path / "file", "/d/file", copy=True)
    )
    assert run(image, lambda: [os.path.exists(f"/etc/canary-{n}d") for n in (8, 9)]) == [True, True]
    assert not os.path.exists("/etc/canary-9d")
    assert not os.path.exists("/etc/canary-8d")
    verified(cluster)


def test_processes_that_a_step_leaves_end_with_it(cluster, tmp_path):
    def leave(directory):
        import subprocess

        # In a session of its own, no child of anybody's here, and it would write for ever.
        program = f"echo $$ > {directory}/new; mv {directory}/new {directory}/pid; while :; do echo x >> late; done"
        subprocess.Popen(
            ["/bin/sh", "-c", f"setsid /bin/sh -c '{program}' {directory}-marked &"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        ).wait()  # fmt: skip
        while not os.path.exists(f"{directory}/pid"):
            pass

    def left() -> list[bytes]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{tmp_path}-marked".encode() in line:
                found.append(line)
        return found

    image = greenroom.Image.host().run_function(leave, args=(str(tmp_path),))
    assert run(image, lambda: os.path.exists("late")) in (True, False)
    assert not left()
    verified(cluster)  # nothing writes into it any more


def memory_of(pid: int) -> int:
    """The most that it ever had, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise AssertionError


def workers() -> list[int]:
    """This process's own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
            if ours and b"greenroom.worker" in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_step_that_prints_without_end_costs_no_memory(cluster, output):
    line = "x" * 999

    def shout():
        for _ in range(100_000):
            print(line)

    (worker,) = workers()
    server, before = memory_of(os.getpid()), memory_of(worker)
    assert run(greenroom.Image.host().run_function(shout), lambda: 1) == 1
    logs = [path for path in (cluster.home / "layers").glob("*/log") if path.stat().st_size >= 100_000_000]
    assert len(logs) == 1
    assert memory_of(worker) - before < 64 * 1024
    assert memory_of(os.getpid()) - server < 96 * 1024


def test_the_memory_of_a_step_is_kept_and_said(cluster):
    if not real(cluster):
        pytest.skip("limits need real containers")

    def greedy():
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1 << 20)))

    with pytest.raises(greenroom.ImageBuildError) as failed:
        run(greenroom.Image.host().run_function(greedy, memory=(64, 96)), lambda: 1)
    assert "out of memory: limit 96 MiB" in str(failed.value)
    assert not list((cluster.home / "layers").glob(".new-*"))
