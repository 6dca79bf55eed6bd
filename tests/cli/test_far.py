"""A server and programs on two machines, as far as they can tell: over TLS, each with a home of its own, by the real commands."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from greenroom.wire.far import Far, read_address
from greenroom.wire.messages import Refused, Welcome
from greenroom.worker.removal import remove_tree
from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import COMMAND, environment, run, start, write
from tests.server.far import speak_from_afar

PROGRAM = """
    import greenroom

    app = greenroom.App("shop")


    @app.function()
    def price(thing):
        print("asked for", thing)
        return len(thing)


    @app.function()
    def count(n):
        yield from range(n)


    @app.cls()
    class Model:
        size: str = greenroom.parameter(default="small")

        @greenroom.method()
        def which(self):
            return self.size


    @app.local_entrypoint()
    def main():
        print(price.remote("tea"), list(price.map(["a", "bb"])), list(count.remote_gen(3)), Model(size="big").which.remote())
"""
OPEN = (
    "--listen 0.0.0.0:7100 is open to other machines, and there is no token for them yet: make one first, by `greenroom token "
    "create --client NAME`"
)


class Machine:
    """Another one: its server, and what is run there."""

    def __init__(self, home: Path, directory: Path) -> None:
        self.home = home
        self._log = directory / "server.log"
        self.token = run("token", "create", "--client", "a test").stdout.strip()
        self.start()

    def start(self, port: int = 0) -> None:
        before = self.said().count("ready")
        with open(self._log, "a") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "server", "--listen", f"127.0.0.1:{port}"], stderr=output, start_new_session=True,
                env=environment(GREENROOM_SANDBOX="process"),
            )  # fmt: skip
        wait_for(lambda: self.said().count("ready") > before or self.process.poll() is not None, what=self.said())
        told = re.findall(r"listens at (127.0.0.1:\d+) for .* certificate is (SHA256:\S+)", self.said())
        self.address, self.fingerprint = told[-1]

    def said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def machine(home, tmp_path):
    made = Machine(home, tmp_path)
    yield made
    assert made.end() == 0
    assert_nothing_left(home)


@pytest.fixture
def here(machine, tmp_path, monkeypatch):
    """This machine: a home and a configuration of its own, and the other one's server by its address."""
    home = Path(tempfile.mkdtemp(prefix="gr-"))  # short enough for a socket
    monkeypatch.setenv("GREENROOM_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GREENROOM_SERVER", machine.address)
    monkeypatch.setenv("GREENROOM_TOKEN", machine.token)
    monkeypatch.setenv("GREENROOM_FINGERPRINT", machine.fingerprint)
    yield monkeypatch
    remove_tree(home)


def python(text: str) -> str:
    """What a program prints; it fails with what it says."""
    done = subprocess.run([sys.executable, "-c", f"import greenroom\n{text}"], env=environment(), capture_output=True,
                          text=True, timeout=90, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_app_is_run_deployed_called_and_stopped_from_afar(machine, here, tmp_path):
    file = str(write(tmp_path, PROGRAM, "shop.py"))
    ran = run("run", file)
    assert ran.stdout.splitlines()[-1] == "3 [1, 2] [0, 1, 2] big", ran.stderr
    assert sorted(ran.stdout.splitlines()[:-1]) == ["asked for a", "asked for bb", "asked for tea"]
    assert run("deploy", file).stdout == "✓ shop is deployed: version 1\n"
    assert run("call", "shop", "price", "--json", '["coffee"]').stdout == "6\n"
    assert run("call", "shop", "Model.which", "--with", '{"size": "big"}').stdout == '"big"\n'
    call = run("call", "shop", "price", "--json", '["milk"]', "--spawn").stdout.strip()
    assert python(f"print(greenroom.FunctionCall.from_id({call!r}).get())") == "4\n"
    (record,) = json.loads(run("app", "list", "--json").stdout)
    assert (record["name"], record["state"]) == ("shop", "deployed")
    containers = json.loads(run("container", "list", "--json").stdout)
    priced = next(c["id"] for c in containers if c["function"] == "price")
    assert run("container", "logs", priced).stdout == "asked for coffee\nasked for milk\n"
    wait_for(lambda: run("app", "logs", "shop", "--grep", "milk").stdout.endswith("| asked for milk\n"))
    entered = run("container", "exec", priced, "--", "true")
    assert entered.returncode == 2
    assert entered.stderr == (
        f"greenroom: a container is entered on the machine that it is on: run `greenroom container exec {priced}` there\n"
    )
    shell = run("shell", file + "::price")
    assert shell.returncode == 2
    assert shell.stderr.startswith(
        "greenroom: a shell is opened on the machine that its container is on, and 127.0.0.1:"
    )
    for words in (["list"], ["prune", "--all"]):
        kept = run("image", *words)
        assert (kept.returncode, kept.stdout) == (2, "")
        assert kept.stderr.startswith("greenroom: images are kept on the machine that builds them, and 127.0.0.1:")
        assert "GREENROOM_SERVER=local" in kept.stderr
    assert run("container", "stop", priced).returncode == 0
    ended = json.loads(run("container", "list", "-a", "--json").stdout)
    assert {c["id"]: c["state"] for c in ended}[priced] == "STOPPED"
    assert run("container", "logs", priced).stdout == "asked for coffee\nasked for milk\n"
    assert run("app", "stop", "shop").stdout == "✓ shop has ended\n"
    assert os.listdir(os.environ["GREENROOM_HOME"]) == [], "nothing of a server was made on this machine"


def test_what_a_deployed_app_prints_is_followed_from_afar(machine, here, tmp_path):
    assert run("deploy", str(write(tmp_path, PROGRAM, "shop.py"))).returncode == 0
    follower = start("app", "logs", "shop", "-f")
    assert follower.stdout is not None
    try:
        for thing in ("tea", "milk"):
            python(f"greenroom.Function.from_name('shop', 'price').remote({thing!r})")
            assert follower.stdout.readline().endswith(f" | asked for {thing}\n")
    finally:
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=30)
    nothing = run("app", "logs", "nope")
    assert (nothing.returncode, nothing.stderr) == (
        1,
        "Error: nothing that nope has printed is kept, and no app of that name is deployed; there are: shop\n",
    )


def test_what_was_said_last_leaves_before_the_program_ends(machine, here, tmp_path):
    """A spawned call is cancelled by one message, which nobody answers."""
    text = """
        import greenroom

        app = greenroom.App("waits")

        @app.function()
        def wait():
            import time
            time.sleep(600)
    """
    assert run("deploy", str(write(tmp_path, text, "waits.py"))).returncode == 0
    call = python(
        "call = greenroom.Function.from_name('waits', 'wait').spawn(); call.cancel(); print(call.object_id)"
    ).strip()
    collect = f"""
try:
    greenroom.FunctionCall.from_id({call!r}).get(timeout=30)
except greenroom.InputCancellation as error:
    print(error)
"""
    assert python(collect) == "the call was cancelled\n"


def test_what_is_done_at_a_programs_end_still_reaches_the_server(machine, here, tmp_path):
    assert run("deploy", str(write(tmp_path, PROGRAM, "shop.py"))).returncode == 0
    assert python("""
import atexit
price = greenroom.Function.from_name("shop", "price")
atexit.register(lambda: print("at the end:", price.remote("milk")))
print(price.remote("tea"))
""") == "3\nat the end: 4\n"  # fmt: skip


def test_a_forked_child_leaves_the_connections_of_its_parent(machine, here, tmp_path):
    assert run("deploy", str(write(tmp_path, PROGRAM, "shop.py"))).returncode == 0
    assert python("""
import os
price = greenroom.Function.from_name("shop", "price")
print(price.remote("tea"), flush=True)
child = os.fork()
if not child:
    print(price.remote("milk"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(price.remote("coffee"))
""") == "3\n4\n6\n"  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"GREENROOM_TOKEN": "gc-0.x"}, "the server refused the connection: its token is none of this server's client tokens, or no more"),
        ({"GREENROOM_TOKEN": ""}, "needs a token in GREENROOM_TOKEN: `greenroom token create --client NAME` on that machine makes one"),
        ({"GREENROOM_FINGERPRINT": "SHA256:" + "A" * 43}, "is not the server that is meant: its certificate is SHA256:"),
        ({"GREENROOM_FINGERPRINT": ""}, "pin it: GREENROOM_FINGERPRINT=SHA256:"),
        ({"GREENROOM_FINGERPRINT": "x"}, "GREENROOM_FINGERPRINT: 'x' is no fingerprint"),
        ({"GREENROOM_SERVER": "127.0.0.1:x"}, "GREENROOM_SERVER: '127.0.0.1:x' is no HOST:PORT, such as"),
        ({"GREENROOM_SERVER": "nope"}, "there is no profile 'nope' in "),
    ],
)  # fmt: skip
def test_who_can_not_come_in_is_told_why_in_one_line(machine, here, tmp_path, variables, says):
    file = str(write(tmp_path, PROGRAM, "shop.py"))
    for command in (["run", file], ["deploy", file], ["app", "list"], ["call", "shop", "price"], ["container", "list"],
                    ["secret", "list"]):  # fmt: skip
        done = run(*command, **variables)
        assert done.returncode in (1, 2), command
        assert says in done.stderr, command
        assert "Traceback" not in done.stderr, command
        assert len(done.stderr.splitlines()) == 1, command


def test_a_server_that_has_gone_is_said_and_one_that_is_back_answers(machine, here, tmp_path):
    assert run("deploy", str(write(tmp_path, PROGRAM, "shop.py"))).returncode == 0
    home = os.environ["GREENROOM_HOME"]
    assert machine.end() == 0
    for command in (["call", "shop", "price"], ["app", "list"]):
        done = run(*command)
        assert done.returncode == 2
        assert done.stderr == (
            f"greenroom: no Greenroom server answers at {machine.address}: Connection refused; see that `greenroom server "
            "--listen` runs there, or choose another by GREENROOM_SERVER or `greenroom profile activate`\n"
        )
    here.setenv("GREENROOM_HOME", str(machine.home))
    machine.start(int(machine.address.rpartition(":")[2]))
    here.setenv("GREENROOM_HOME", home)
    assert machine.said().count(machine.fingerprint) == 2, "its certificate is the same"
    assert run("call", "shop", "price", "--json", '["tea"]').stdout == "3\n"


def test_profiles_name_servers_and_choose_one(machine, here, tmp_path):
    for name in ("GREENROOM_SERVER", "GREENROOM_TOKEN", "GREENROOM_FINGERPRINT"):
        here.delenv(name)
    assert run("profile", "current").stdout == "local\n"
    assert "no profiles" in run("profile", "list").stderr
    unknown = run("profile", "set", "build", "--server", machine.address, "--token", machine.token)
    assert unknown.returncode == 2
    assert f"add --fingerprint {machine.fingerprint}" in unknown.stderr
    made = run(
        "profile",
        "set",
        "build",
        "--server",
        machine.address,
        "--token",
        machine.token,
        "--fingerprint",
        machine.fingerprint,
    )
    assert made.stdout == f"✓ build is {machine.address}, and active\n"
    file = tmp_path / "config" / "greenroom.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("profile", "current").stdout == "build\n"
    listed = run("profile", "list").stdout
    assert machine.address in listed
    assert machine.token not in listed
    program = str(write(tmp_path, PROGRAM, "shop.py"))
    assert run("deploy", program).stdout == "✓ shop is deployed: version 1\n"
    assert run("call", "shop", "price", "--json", '["tea"]').stdout == "3\n"
    assert run(
        "profile", "set", "other", "--server", "127.0.0.1:1", "--token", "x", "--fingerprint", machine.fingerprint
    ).stdout == ("✓ other is 127.0.0.1:1\n")
    assert "no Greenroom server answers at 127.0.0.1:1" in run("call", "shop", "price", GREENROOM_SERVER="other").stderr
    activated = run("profile", "activate", "local", GREENROOM_SERVER="build")
    assert activated.stdout == "✓ local is used from now on, but for GREENROOM_SERVER=build, which goes before it\n"
    assert "no server stays here: start one with `greenroom server`" in run("call", "shop", "price").stderr
    assert run("call", "shop", "price", "--json", '["tea"]', GREENROOM_SERVER="build").stdout == "3\n"
    assert run("profile", "activate", "build").returncode == 0
    assert (
        "no server stays here: start one with `greenroom server`"
        in run("call", "shop", "price", GREENROOM_SERVER="local").stderr
    )
    assert run("run", program, GREENROOM_SERVER="own").stdout.endswith("3 [1, 2] [0, 1, 2] big\n")
    assert run("profile", "remove", "build").returncode == 0
    assert machine.token not in file.read_text()
    assert run("profile", "current").stdout == "local\n"
    for words, says in (
        (["activate", "build"], "there is no profile 'build'"),
        (["remove", "build"], "there is no profile 'build'"),
        (["set", "own", "--server", "x:1", "--token", "x"], "'own' can't be a profile's name"),
        (["set", "new", "--token", "x"], "give --server HOST:PORT and --token TOKEN"),
        (["set", "new", "--server", "x", "--token", "x"], "--server: 'x' is no HOST:PORT"),
        (["set", "new", "--server", "127.0.0.1:1", "--token", "x"], "no Greenroom server answers at 127.0.0.1:1"),
    ):
        done = run("profile", *words)
        assert done.returncode == 2, words
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1


def listening(process: "subprocess.Popen[bytes]") -> "set[tuple[str, int]]":
    """Where a process, and what it has started, listen by TCP."""
    found: set[tuple[str, int]] = set()
    family = {process.pid}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # others' end meanwhile
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) in family:
                family.add(int(entry.parent.name))
    inodes = set()
    for pid in family:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(FileNotFoundError):  # it has been closed meanwhile
                if (match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd))) is not None:
                    inodes.add(match[1])
    for table, family_of in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                host, _, port = words[1].partition(":")
                raw = b"".join(bytes.fromhex(host[n : n + 8])[::-1] for n in range(0, len(host), 8))
                found.add((socket.inet_ntop(family_of, raw), int(port, 16)))
    return found


def test_nothing_listens_that_was_not_asked_for(machine, here):
    host, _, port = machine.address.partition(":")
    assert listening(machine.process) == {(host, int(port))}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((host, int(port))) as tcp, pytest.raises(ssl.SSLError):
        context.wrap_socket(tcp)


def test_without_being_asked_it_listens_nowhere(home, tmp_path):
    with open(tmp_path / "log", "w") as output:
        process = subprocess.Popen([*COMMAND, "server"], stderr=output, env=environment(), start_new_session=True)
    try:
        wait_for(lambda: "ready" in (tmp_path / "log").read_text())
        assert listening(process) == set()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_what_can_not_be_listened_at_is_refused_in_one_line(home, tmp_path):
    (tmp_path / "empty").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, says in (
            (["--listen", "0.0.0.0:7100"], OPEN),
            (["--listen", "7100"], "--listen: '7100' is no HOST:PORT"),
            (["--listen", "127.0.0.1:70000"], "is no HOST:PORT"),
            (["--listen", f"127.0.0.1:{port}"], f"--listen 127.0.0.1:{port}: Address already in use"),
            (["--tls-cert", "x"], "--tls-cert and --tls-key are for --listen HOST:PORT"),
            (["--listen", "127.0.0.1:0", "--tls-key", "x"], "--tls-key is the key of --tls-cert FILE"),
        ):  # fmt: skip
            done = run("server", *options)
            assert done.returncode == 2, options
            assert says in done.stderr
            assert len(done.stderr.splitlines()) == 1
    done = run("server", "--listen", "127.0.0.1:0", "--tls-cert", str(tmp_path / "empty"))
    assert done.returncode == 1
    assert f"{tmp_path}/empty can't be used for TLS" in done.stderr
    assert run("server", "--listen", "127.0.0.1:0", GREENROOM_TLS_CERT=str(tmp_path / "none")).returncode == 1
    wait_for(lambda: not os.listdir(home / "run"))


def test_a_certificate_of_ones_own_is_shown(home, tmp_path, monkeypatch):
    """And one that an authority vouches for needs no fingerprint: here, itself."""
    from greenroom.server import certificate

    assert subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"], capture_output=True, check=False).returncode == 0  # fmt: skip
    token = run("token", "create", "--client", "x").stdout.strip()
    with open(tmp_path / "log", "w") as output:
        process = subprocess.Popen(
            [*COMMAND, "server", "--listen", "127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem"],
            stderr=output, env=environment(GREENROOM_SANDBOX="process"), cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: "ready" in (tmp_path / "log").read_text())
        _, fingerprint = certificate.load(tmp_path / "cert.pem", tmp_path / "key.pem")
        found = re.search(r"listens at (\S+) for .* certificate is (\S+)", (tmp_path / "log").read_text())
        assert found is not None
        assert found[2] == fingerprint
        assert not (home / certificate.FILE).exists()
        far = {"GREENROOM_SERVER": found[1], "GREENROOM_TOKEN": token, "GREENROOM_HOME": str(tmp_path / "here")}
        assert run("app", "list", **far, SSL_CERT_FILE=str(tmp_path / "cert.pem")).returncode == 0
        assert "nobody whom this machine trusts vouches" in run("app", "list", **far).stderr
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_unit_for_systemd_listens_too(home):
    printed = run("server", "--listen", "127.0.0.1:7100", "install", "--print").stdout
    assert ' server "--listen" "127.0.0.1:7100"\n' in printed
    assert run("server", "--listen", "0.0.0.0:7100", "install", "--print").returncode == 2


def test_tokens_of_clients_are_made_listed_and_revoked(home):
    word = run("token", "create", "--client", "the laptop").stdout.strip()
    token_id, _, secret = word.partition(".")
    kept = home / "client-tokens.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert secret not in kept.read_text()
    listed = run("token", "list").stdout
    assert f"{token_id}  the laptop" in listed
    assert "client" in listed
    assert secret not in listed
    both = run("token", "create", "--client", "x", "--name", "y")
    assert both.returncode == 2
    assert "give one of them" in both.stderr
    assert run("token", "revoke", token_id).returncode == 0
    assert token_id not in run("token", "list").stdout
    assert f"there is no token {token_id}" in run("token", "revoke", token_id).stderr


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1)])
def test_a_person_vouches_for_a_certificate(machine, here, typed, status):
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w") as keyboard:
        process = subprocess.Popen(
            [*COMMAND, "profile", "set", "build", "--server", machine.address, "--token", machine.token],
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        os.close(theirs)
        keyboard.write(typed)
        keyboard.flush()
        out, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"{machine.address} shows the certificate {machine.fingerprint}, for which nobody vouches." in said
    assert out == ("" if status else f"✓ build is {machine.address}, and active\n")
    pinned = [p["fingerprint"] for p in json.loads(run("profile", "list", "--json").stdout)]
    assert pinned == ([] if status else [machine.fingerprint])


WEB = """
    import greenroom

    app = greenroom.App("pages")

    @app.function()
    @greenroom.fastapi_endpoint()
    def hello(name: str = "you"):
        return f"hello {name}"
"""


def test_endpoints_are_served_from_afar(machine, here, tmp_path):
    served = start("serve", str(write(tmp_path, WEB, "pages.py")))
    assert served.stderr is not None
    try:
        url = ""
        while not url:
            line = served.stderr.readline()
            assert line, "it has ended"
            url = (re.findall(r"http://\S+", line) or [""])[0]
        with urllib.request.urlopen(f"{url}?name=you") as answer:
            assert answer.read() == b'"hello you"'
    finally:
        served.send_signal(signal.SIGINT)
        served.communicate(timeout=60)
    assert served.returncode == 130


def test_who_does_not_belong_is_closed_and_that_is_logged(machine, here):
    """By the server as it is run, whose loop is uvloop's."""
    host, port = read_address("", machine.address)
    far = Far(host, port, machine.fingerprint)
    with socket.create_connection((host, port)) as silent, socket.create_connection((host, port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.settimeout(30)
        assert plain.recv(1000)[:1] in (b"", b"\x15"), "an alert of TLS, or nothing"
        stranger = speak_from_afar(far, "gc-0.x")
        assert isinstance(stranger.receive(30)[0], Refused)
        stranger.close()
        known = speak_from_afar(far, machine.token)
        assert isinstance(known.receive(30)[0], Welcome)
        token_id = machine.token.partition(".")[0]
        assert run("token", "revoke", token_id, GREENROOM_HOME=str(machine.home)).returncode == 0
        assert known.receive(30)[0] == Refused("its token was revoked")
        known.close()
        silent.settimeout(30)
        assert silent.recv(1) == b"", "it had 10 s to begin TLS"
    wait_for(lambda: machine.said().count("closed a connection from 127.0.0.1: TLS did not come about: ") == 2)
    for text in (
        "refused a connection from 127.0.0.1: its token is none of this server's client tokens",
        "refused a connection from 127.0.0.1: its token was revoked",
    ):
        assert text in machine.said()
    assert "Traceback" not in machine.said()


def test_an_app_goes_on_there_without_its_program_here(machine, here, tmp_path):
    text = PROGRAM + '\n    @app.function(scaledown_window=600)\n    def stays():\n        return "done"\n'
    text += '\n    @app.local_entrypoint()\n    def begin():\n        print(stays.spawn().object_id)\n'  # fmt: skip
    ran = run("run", "-q", "--detach", f"{write(tmp_path, text, 'shop.py')}::begin")
    assert ran.returncode == 0, ran.stderr
    (record,) = json.loads(run("app", "list", "--json").stdout)
    assert (record["name"], record["state"]) == ("shop", "detached")
    assert f"`greenroom app stop {record['id']}` ends it" in ran.stderr
    assert python(f"print(greenroom.FunctionCall.from_id({ran.stdout.strip()!r}).get())") == "done\n"
    assert run("app", "stop", str(record["id"])).returncode == 0
    assert json.loads(run("app", "list", "--json").stdout) == []
