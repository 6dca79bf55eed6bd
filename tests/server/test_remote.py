"""Programs on other machines: how they come in, and who doesn't."""

import hashlib
import os
import socket
import ssl
import threading

import pytest

import greenroom
from greenroom.model import client_tokens
from greenroom.sdk.address import Address, configure, configured
from greenroom.server import certificate, peers, remote
from greenroom.server.certificate import FILE
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.messages import Bind, Collect, ListContainers, Refused, Welcome
from tests.server.far import open_to_others, speak_from_afar


@pytest.fixture(scope="module")
def far(cluster):
    return open_to_others(cluster)


@pytest.fixture
def from_afar(far):
    """This process is on another machine, for all that it knows."""
    before = configured()
    configure(Address("", far[1], far=far[0]))
    yield
    configure(before)


def plain_connection(far):
    sock = socket.create_connection((far.host, far.port))
    sock.settimeout(30)
    return sock


def is_closed(sock):
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.fixture
def log(cluster):
    """The lines of the server's log, of its connections, from now on."""
    lines = []
    before = cluster.on_server(lambda server: server.peer_log._log)
    cluster.on_server(lambda server: setattr(server.peer_log, "_log", lines.append))
    cluster.on_server(lambda server: server.peer_log._said.clear())
    yield lines
    cluster.on_server(lambda server: setattr(server.peer_log, "_log", before))


def test_an_app_runs_from_afar(cluster, from_afar):
    app = greenroom.App("far")

    @app.function(serialized=True)
    def double(x):
        return x * 2

    @app.function(serialized=True)
    def count(n):
        yield from range(n)

    @app.function(serialized=True)
    def fails():
        raise KeyError("as it should")

    with app.run():
        assert double.remote(2) == 4
        assert list(double.map(range(100))) == [x * 2 for x in range(100)]
        assert list(count.remote_gen(1000)) == list(range(1000))
        assert double.spawn(4).get(timeout=30) == 8
        with pytest.raises(KeyError, match="as it should"):
            fails.remote()


def test_coroutines_call_from_afar(cluster, from_afar):
    import asyncio

    app = greenroom.App("far")

    @app.function(serialized=True)
    def double(x):
        return x * 2

    @app.function(serialized=True)
    def count(n):
        yield from range(n)

    async def main():
        async with app.run():
            assert await double.remote.aio(b"x" * 3_000_000) == b"x" * 6_000_000
            assert await asyncio.gather(*(double.remote.aio(n) for n in range(50))) == [n * 2 for n in range(50)]
            assert [n async for n in double.map.aio(range(50))] == [n * 2 for n in range(50)]
            assert [n async for n in count.remote_gen.aio(300)] == list(range(300))

    asyncio.run(main())


def test_ten_thousand_inputs_and_large_values_from_afar(cluster, from_afar):
    app = greenroom.App("far")

    @app.function(serialized=True)
    def digest(data):
        import hashlib

        return hashlib.sha256(data).hexdigest(), data

    @app.function(serialized=True)
    def next_one(x):
        return x + 1

    with app.run():
        assert list(next_one.map(range(10_000))) == list(range(1, 10_001))
        for size in (20 * 1024**2, 60 * 1024**2):  # the second is more than any frame has
            data = os.urandom(1024) * (size // 1024)
            assert digest.remote(data) == (hashlib.sha256(data).hexdigest(), data)
        many = [os.urandom(3_000_000) for _ in range(12)]
        assert [back for _, back in digest.map(many)] == many


def test_a_program_that_is_told_to_wait_holds_nothing_up(cluster, far, from_afar):
    """One reads nothing of a large result: the server's memory is not where it waits, and the others go on."""
    app = greenroom.App("far")

    @app.function(serialized=True)
    def large():
        return b"x" * (64 * 1024**2)

    @app.function(serialized=True)
    def small(x):
        return x

    with app.run():
        stuck = large.spawn()
        assert stuck.get(timeout=60) == b"x" * (64 * 1024**2)
        silent = speak_from_afar(*far)
        assert isinstance(silent.receive(30)[0], Welcome)
        silent.send(Collect(1, stuck.object_id))  # and never reads
        cluster.wait_until(lambda: cluster.on_server(
            lambda server: any(v.connection.backlog > 32 * 1024**2 for v in server.visitors)))  # fmt: skip
        assert [small.remote(n) for n in range(20)] == list(range(20))
        silent.close()


def test_who_says_more_than_is_read_has_to_wait(cluster, far):
    cluster.wait_until(lambda: cluster.on_server(lambda server: not server.remote._links))
    connection = speak_from_afar(*far)
    assert isinstance(connection.receive(30)[0], Welcome)
    visitor, link = cluster.on_server(
        lambda server: next((v, server.remote._links[v]) for v in server.remote._admitted)
    )
    cluster.on_server(lambda server: visitor.connection.pause_reading())

    def flood():
        for _ in range(64):
            connection.send(Bind("nobody's", "b", []), [bytes(1024**2)])
        connection.send(ListContainers(1))

    sending = threading.Thread(target=flood)
    sending.start()
    cluster.wait_until(lambda: cluster.on_server(lambda server: len(link._come)))
    assert cluster.on_server(lambda server: len(link._come)) < 4 * 1024**2
    assert sending.is_alive()
    cluster.on_server(lambda server: visitor.connection.resume_reading())
    assert connection.receive(30)[0].rid == 1
    sending.join()
    connection.close()


def test_bytes_that_are_no_tls_are_refused_and_that_is_logged(cluster, far, log):
    with plain_connection(far[0]) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert is_closed(sock)
    cluster.wait_until(lambda: any("127.0.0.1: TLS did not come about" in line for line in log))


def test_frames_without_tls_are_refused(cluster, far, log):
    with plain_connection(far[0]) as sock:
        BlockingConnection(sock).send(ListContainers(1))
        assert is_closed(sock)
    cluster.wait_until(lambda: any("TLS did not come about" in line for line in log))


def test_a_handshake_that_does_not_end_is_ended(cluster, far, log, monkeypatch):
    monkeypatch.setattr(remote, "HANDSHAKE", 0.2)
    with plain_connection(far[0]) as sock:
        assert is_closed(sock)
    cluster.wait_until(lambda: any("TLS did not come about" in line for line in log))


def test_who_says_nothing_after_the_handshake_is_refused(cluster, far, log, monkeypatch):
    monkeypatch.setattr(peers, "PATIENCE", 0.2)
    connection = BlockingConnection(Address("", far[1], far=far[0]).connect())
    assert isinstance(connection.receive(30)[0], Refused)
    connection.close()
    assert any("nothing was said" in line for line in log)


def test_those_that_have_not_begun_tls_are_bounded(cluster, far, log, monkeypatch):
    monkeypatch.setattr(remote, "MOST_SHAKING", 3)
    socks = [plain_connection(far[0]) for _ in range(5)]
    assert all(is_closed(sock) for sock in socks[:2])
    connection = speak_from_afar(*far)  # nobody is kept out by them
    assert isinstance(connection.receive(30)[0], Welcome)
    connection.close()
    for sock in socks:
        sock.close()
    cluster.wait_until(lambda: any("newer ones have not begun TLS" in line for line in log))
    cluster.wait_until(lambda: cluster.on_server(lambda server: not server.remote._shaking))


def test_strangers_from_afar_are_bounded_and_crowd_nobody_out_here(cluster, far, log, monkeypatch):
    monkeypatch.setattr(peers, "MOST_REMOTE_STRANGERS", 2)
    local = BlockingConnection(socket.socket(socket.AF_UNIX))
    local.sock.connect(str(cluster.run / "server.sock"))
    strangers = [BlockingConnection(Address("", "", far=far[0]).connect()) for _ in range(4)]
    assert isinstance(strangers[0].receive(30)[0], Refused)
    assert cluster.on_server(lambda server: len(server.strangers)) == 1
    for connection in (*strangers, local):
        connection.close()
    cluster.wait_until(lambda: cluster.on_server(lambda server: not server.remote.strangers))


def test_what_is_said_right_after_a_token_that_is_new_is_heard(cluster, far):
    """The server looks into its file meanwhile."""
    word = client_tokens.create(cluster.home, "new")[1]
    connection = speak_from_afar(far[0], word)
    connection.send(ListContainers(1))
    assert isinstance(connection.receive(30)[0], Welcome)
    assert connection.receive(30)[0].rid == 1
    connection.close()


def test_a_wrong_word_after_a_new_token_ends_the_connection(cluster, far):
    word = client_tokens.create(cluster.home, "new")[1]
    connection = speak_from_afar(far[0], word)
    connection.send(Welcome("x", 1, 1))
    with pytest.raises(greenroom.ConnectionError):
        while True:  # it may be welcomed first
            connection.receive(30)
    connection.close()


def test_a_revoked_token_ends_its_connections_and_no_others(cluster, far, log):
    made, word = client_tokens.create(cluster.home, "to be revoked")
    connection, other = speak_from_afar(far[0], word), speak_from_afar(*far)
    assert isinstance(connection.receive(30)[0], Welcome)
    assert isinstance(other.receive(30)[0], Welcome)
    assert client_tokens.revoke(cluster.home, made.id)
    assert connection.receive(30)[0] == Refused("its token was revoked")
    with pytest.raises(greenroom.ConnectionError):
        connection.receive(30)
    again = speak_from_afar(far[0], word)
    assert isinstance(again.receive(30)[0], Refused)
    other.send(ListContainers(1))
    assert other.receive(30)[0].rid == 1
    for each in (connection, again, other):
        each.close()
    assert any("its token was revoked" in line for line in log)


def test_a_revoked_token_ends_what_reads_nothing_too(cluster, far, from_afar, monkeypatch):
    monkeypatch.setattr(remote, "LEAVE", 0.2)
    made, word = client_tokens.create(cluster.home, "silent")
    app = greenroom.App("far")

    @app.function(serialized=True)
    def large():
        return b"x" * (64 * 1024**2)

    with app.run():
        call = large.spawn()
        call.get(timeout=60)
        silent = speak_from_afar(far[0], word)
        assert isinstance(silent.receive(30)[0], Welcome)
        silent.send(Collect(1, call.object_id))  # and never reads
        cluster.wait_until(lambda: cluster.on_server(
            lambda server: any(v.connection.backlog > 32 * 1024**2 for v in server.visitors)))  # fmt: skip
        client_tokens.revoke(cluster.home, made.id)
        cluster.wait_until(lambda: cluster.on_server(
            lambda server: made.id not in server.remote._admitted.values()
            and not any(v.connection.backlog for v in server.visitors)))  # fmt: skip
        with pytest.raises(greenroom.ConnectionError):
            while True:
                silent.receive(30)
        silent.close()


def test_many_unknown_tokens_at_once_are_told_apart(cluster, far):
    word = client_tokens.create(cluster.home, "among them")[1]
    connections = [speak_from_afar(far[0], token) for token in ["gc-0.x"] * 30 + [word] + ["gc-1.x"] * 30]
    answers = [connection.receive(30)[0] for connection in connections]
    assert [type(answer) for answer in answers] == [Refused] * 30 + [Welcome] + [Refused] * 30
    for connection in connections:
        connection.close()


def test_a_damaged_file_of_tokens_lets_nobody_new_in_and_is_logged(cluster, far, log):
    file = cluster.home / client_tokens.FILE
    whole = file.read_bytes()
    connection = speak_from_afar(*far)
    assert isinstance(connection.receive(30)[0], Welcome)
    file.write_bytes(b"[{]")
    try:
        new = speak_from_afar(far[0], "gc-0.x")
        assert isinstance(new.receive(30)[0], Refused)
        cluster.wait_until(lambda: any("can't be read, and nobody new is let in" in line for line in log))
        connection.send(ListContainers(1))
        assert connection.receive(30)[0].rid == 1
        new.close()
        connection.close()
    finally:
        file.write_bytes(whole)


def test_the_wrong_fingerprint_is_noticed_before_anything_is_sent(cluster, far, log):
    other = far[0]._replace(fingerprint="SHA256:" + "A" * 43)
    with pytest.raises(
        greenroom.AuthError, match="is not the server that is meant: its certificate is SHA256:"
    ) as raised:
        Address("", far[1], far=other).connect()
    assert far[0].fingerprint in str(raised.value)
    assert "nothing was sent" in str(raised.value)


def test_a_certificate_that_nobody_vouches_for_has_to_be_pinned(cluster, far):
    with pytest.raises(greenroom.AuthError, match="GREENROOM_FINGERPRINT=SHA256:") as raised:
        Address("", far[1], far=far[0]._replace(fingerprint="")).connect()
    assert far[0].fingerprint in str(raised.value)


def test_a_server_that_is_not_there_is_said(far):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = far[0]._replace(port=listener.getsockname()[1])
    with pytest.raises(
        greenroom.ConnectionError, match=r"no Greenroom server answers at 127.0.0.1:\d+: Connection refused; see"
    ):
        Address("", "x", far=nobody).connect()


def test_its_own_certificate_is_made_once_and_is_its_users_alone(tmp_path):
    file = certificate.own(tmp_path)
    text = file.read_text()
    assert file == tmp_path / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    _, first = certificate.load(file, None)
    assert certificate.load(certificate.own(tmp_path), None)[1] == first
    assert file.read_text() == text
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") :])
    assert len(first) == 50
    assert first == certificate.fingerprint_of(der)


def test_files_that_are_no_certificate_are_said(tmp_path):
    for name, text in (("tls.pem", "x"), ("given.pem", "-----BEGIN CERTIFICATE-----")):
        (tmp_path / name).write_text(text)
        with pytest.raises(greenroom.InvalidError, match=rf"{name} can't be used for TLS: .*; (remove it|give files)"):
            certificate.load(tmp_path / name, None)
    with pytest.raises(greenroom.InvalidError, match="No such file"):
        certificate.load(tmp_path / "none.pem", None)


def test_nothing_of_a_connection_is_left(cluster, far):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    connections = [speak_from_afar(*far) for _ in range(3)]
    for connection in connections:
        assert isinstance(connection.receive(30)[0], Welcome)
        connection.close()
    idle = lambda: cluster.on_server(lambda server: not server.remote._admitted)  # noqa: E731
    cluster.wait_until(idle)
    before = descriptors()
    for _ in range(20):
        connection = speak_from_afar(*far)
        assert isinstance(connection.receive(30)[0], Welcome)
        connection.close()
    cluster.wait_until(idle)
    cluster.wait_until(lambda: descriptors() <= before)
