"""A hostile program inside a real container: what it tries, and what it gets. ``docs/security.md`` has the same list."""

import contextlib
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.server.containers import Container
from greenroom.testing import Cluster
from greenroom.wire import messages as m
from greenroom.wire.connection import encode
from greenroom.wire.secret_messages import ListSecrets, PutSecret
from tests.conftest import Need
from tests.contract.attempts import POSSIBLE, PRELUDE, REFUSED, WITHOUT_NETWORK

ROOT = Path(__file__).parents[2]
ATTEMPTS = REFUSED | POSSIBLE


def program(source: str, attempts: dict[str, str], canary: dict[str, object]) -> dict[str, list[str]]:
    """Inside the container: each attempt's value or exception, its bases too."""
    names: dict[str, object] = {"canary": canary}
    exec(source, names)

    def speak(data: bytes) -> str:
        import socket

        heard = b""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect("/run/greenroom/server.sock")
            try:
                sock.sendall(data)
                while piece := sock.recv(65536):
                    heard += piece
                    for word in ("Refused", "NotFoundError"):
                        if word.encode() in heard:
                            return word
            except ConnectionError:
                pass  # closed before all of it was read
        return "closed"

    names["speak"] = speak
    found = {}
    for name, expression in attempts.items():
        child_end, ours = os.pipe()
        if (pid := os.fork()) == 0:  # whatever it does to itself, the next one begins afresh
            try:
                value = eval(expression, names)
                answer = [value if value in ("Refused", "NotFoundError", "closed") else repr(value)]
            except BaseException as error:
                answer = [kind.__name__ for kind in type(error).__mro__]
            os.write(ours, "\n".join(answer).encode())
            os._exit(0)
        os.close(ours)
        with open(child_end, "rb") as file:
            found[name] = file.read().decode().split("\n")
        if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            found[name] = ["killed"]
    return found


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, object]]:
    """What lies about on the host, and must not be found."""
    with contextlib.ExitStack() as stack:
        found: dict[str, object] = {"pid": os.getpid(), "free name": f"\0greenroom-{secrets.token_hex(8)}"}
        for name, place in (("root", "/root"), ("home", "/home"), ("tmp", "/tmp"), ("var", "/var/tmp")):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".greenroom-canary-", dir=place)))
            (directory / "canary").write_text("chirp")
            directory.chmod(0o755)
            found[name] = str(directory / "canary")
        local = stack.enter_context(socket.socket(socket.AF_UNIX))
        local.bind(f"{found['tmp']}.sock")
        os.chmod(f"{found['tmp']}.sock", 0o666)
        local.listen()
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        found["port"] = listener.getsockname()[1]
        yield found


def spoken(token: str, victim: Container, function: str, call: str) -> dict[str, bytes]:
    """What to say to the server, with a container's own token: each by hand, as the SDK never would."""

    def by(token: str, *said: Any, role: str = "container", payloads: list[bytes] | None = None) -> bytes:
        frames = [encode(message, payloads)[0] for message in said]
        return b"".join([encode(m.Hello(role, token, m.PROTOCOL_VERSION))[0], *frames])

    app_id = function.partition("/")[0]
    return {
        "hello": by(token, role="client"),
        "made up": by(secrets.token_hex(16)),
        "list": by(token, m.ListContainers(1)),
        "stop": by(token, m.StopContainer(1, victim.id)),
        "enter": by(token, m.EnterContainer(1, victim.id)),
        "define": by(token, m.DefineFunction(1, {}, []), payloads=[b""]),
        "secrets": by(token, ListSecrets(1)),
        "put secret": by(token, PutSecret(1, "mine", True, []), payloads=[b"{}"]),
        "end": by(token, m.StopApp(1, app_id, True)),
        "shut down": by(token, m.Shutdown(1)),
        "results": by(token, m.Results([[1, 0, ""]], []), payloads=[b""]),
        "call": by(token, m.Call("fc-1", function, "", "", "unary", []), payloads=[b""]),
        "add": by(token, m.Inputs(call, 1, []), payloads=[b""]),
        "collect": by(token, m.Collect(1, call)),
    }


@pytest.fixture(scope="module", params=["crun", "runc"])
def outcome(request: pytest.FixtureRequest, host: dict[str, object]) -> dict[str, list[str]]:
    """What came of everything, in one container beside another that has something to lose; ``sealed ``: of some, in one
    without the host's network.
    """
    Need.runtime(request.param)
    if os.uname().machine != "x86_64":
        pytest.skip("the system calls are tried by x86_64's numbers")
    secret, abstract = secrets.token_hex(16), f"\0greenroom-{secrets.token_hex(8)}"
    app, other = greenroom.App("escapes"), greenroom.App("other")

    @app.cls(serialized=True, secrets=[greenroom.Secret.from_dict({"PRIVATE": secret})])
    class Victim:
        @greenroom.enter()
        def settle(self) -> None:
            import socket

            open("/tmp/mine", "w").close()
            self.sockets = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for listener, where in zip(self.sockets, ("/tmp/socket", abstract), strict=True):
                listener.bind(where)
                listener.listen()

        @greenroom.method()
        def look(self) -> tuple[str, str]:
            return os.environ["GREENROOM_CONTAINER_ID"], os.readlink(f"/proc/self/fd/{self.sockets[0].fileno()}")

    attack = app.function(serialized=True)(program)
    sealed = app.function(serialized=True, name="sealed", block_network=True)(program)

    @other.function(serialized=True)
    def result() -> str:
        return secret

    with Cluster(settings=Settings(sandbox="oci", runtime=request.param)) as cluster, app.run(), other.run():
        container_id, inode = Victim().look.remote()
        call = result.spawn()
        assert call.get(timeout=60) == secret
        attack.remote("", {}, {})  # so that it has a token
        containers = cluster.on_server(lambda server: list(server.lifecycle.containers.by_id.values()))
        token = next(c.token for c in containers if c.pool.function.spec.name == "program")
        victim = next(c for c in containers if c.id == container_id)
        canary = {
            **host,
            **spoken(token, victim, result.object_id, call.object_id),
            "state": str(cluster.home),
            "secret": secret.encode(),
            "socket": inode,
            "abstract": abstract,
        }
        tried = {name: expression for name, (expression, _) in ATTEMPTS.items()}
        found = attack.remote(PRELUDE, tried, canary)
        found_without = sealed.remote(PRELUDE, {name: tried[name] for name in WITHOUT_NETWORK}, canary)
        assert Victim().look.remote() == (container_id, inode), "the other one is unharmed"
        assert call.get(timeout=60) == secret
        return {**found, **{f"sealed {name}": answer for name, answer in found_without.items()}}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_it_gets_no_further(outcome: dict[str, list[str]], attempt: str) -> None:
    assert set(ATTEMPTS[attempt][1].split(" or ")) & set(outcome[attempt]), outcome[attempt]


@pytest.mark.parametrize("attempt", WITHOUT_NETWORK)
def test_without_the_hosts_network(outcome: dict[str, list[str]], attempt: str) -> None:
    assert WITHOUT_NETWORK[attempt] in outcome[f"sealed {attempt}"]


def test_the_list_in_the_docs_is_this_one() -> None:
    table = re.findall(r"^\| (.+?) \| .+ \|$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
    assert [row for row in table if row in ATTEMPTS] == list(ATTEMPTS)
