"""Where web endpoints are served: addresses, domains, certificates, proxies."""

import asyncio
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

import greenroom
from greenroom.model import web_tokens
from greenroom.model.settings import Settings
from greenroom.server.http.auth import Gate
from greenroom.server.http.ingress import label_for
from greenroom.testing import Cluster
from tests.conftest import wait_for


def echo():
    async def application(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        import json

        said = {name: scope[name] for name in ("path", "root_path", "scheme", "client")}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    return application


def run(settings, ask):
    """What ``ask`` finds at the URL of an app that echoes."""
    app = greenroom.App("t")
    factory = types.FunctionType(echo.__code__, echo.__globals__, "echo")
    function = app.function(serialized=True)(greenroom.asgi_app()(factory))
    with Cluster(settings=Settings(sandbox="process", **settings)), app.run():
        return ask(urlsplit(function.web_url))


def get(connection, path, headers=()):
    connection.request("GET", path, headers=dict(headers))
    try:
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_by_a_domain_and_by_path():
    def ask(url):
        assert url.hostname == "t-echo-dev.apps.localhost"
        by_host = get(http.client.HTTPConnection("127.0.0.1", url.port), "/x", {"Host": url.netloc.upper()})
        by_path = get(http.client.HTTPConnection("127.0.0.1", url.port), "/t-echo-dev/x")
        connection = http.client.HTTPConnection("127.0.0.1", url.port)
        connection.request("GET", "/", headers={"Host": "nope.apps.localhost"})
        assert connection.getresponse().status == 404
        connection.close()
        return by_host, by_path

    by_host, by_path = run({"web_domain": "apps.localhost"}, ask)
    assert (by_host["path"], by_host["root_path"]) == ("/x", "")
    assert (by_path["path"], by_path["root_path"]) == ("/t-echo-dev/x", "/t-echo-dev")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]  # fmt: skip
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory


def test_tls(certificate):
    def ask(url):
        assert url.scheme == "https"
        trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        return get(http.client.HTTPSConnection(url.hostname, url.port, context=trusted), url.path)

    paths = {"web_certificate": str(certificate / "cert.pem"), "web_key": str(certificate / "key.pem")}
    assert run(paths, ask)["scheme"] == "https"


def test_a_certificate_that_is_none_is_said(certificate):
    with pytest.raises(greenroom.InvalidError, match=r"web endpoints can't be served: .*key.pem is no certificate"):
        run({"web_certificate": str(certificate / "key.pem")}, lambda url: None)


def test_an_app_that_ends_before_it_is_served_leaves_its_label_free(certificate, tmp_path):
    fifo = tmp_path / "cert.pem"
    os.mkfifo(fifo)
    settings = Settings(sandbox="process", web_certificate=str(fifo), web_key=str(certificate / "key.pem"))

    def app():
        made = greenroom.App("t")
        factory = types.FunctionType(echo.__code__, echo.__globals__, "echo")
        made.function(serialized=True)(greenroom.asgi_app()(factory))
        return made

    with Cluster(settings=settings) as cluster, ThreadPoolExecutor(1) as pool:
        starting = pool.submit(app().start)
        with fifo.open("w") as server_waits:
            cluster.on_server(lambda server: [server.stop_app(each, "enough") for each in list(server.apps.values())])
            server_waits.write((certificate / "cert.pem").read_text())
        with pytest.raises(greenroom.NotFoundError, match="the app t has ended"):
            starting.result()
        with app().run():
            pass


@pytest.mark.parametrize("variable", ["65536", "999999"])
def test_a_port_that_is_none_is_said(variable):
    with pytest.raises(greenroom.InvalidError, match=f"can't listen on 127.0.0.1:{variable}: "):
        run({"web_port": int(variable)}, lambda url: None)


def test_a_taken_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(greenroom.InvalidError, match=f"can't listen on 127.0.0.1:{port}: Address already in use"):
            run({"web_port": port}, lambda url: None)


@pytest.mark.parametrize(("trusted", "expected"), [("127.0.0.1", ("https", "10.9.8.7")), ("", ("http", "127.0.0.1")),
                                                   ("10.1.1.1", ("http", "127.0.0.1"))])  # fmt: skip
def test_a_proxys_word_counts_where_it_is_trusted(trusted, expected):
    def ask(url):
        headers = {"X-Forwarded-For": "10.9.8.7", "X-Forwarded-Proto": "https"}
        return get(http.client.HTTPConnection(url.hostname, url.port), url.path, headers)

    said = run({"web_trusted": trusted}, ask)
    assert (said["scheme"], said["client"][0]) == expected


def test_an_endpoint_that_wants_a_token():
    import base64

    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    app = greenroom.App("t")
    factory = types.FunctionType(echo.__code__, echo.__globals__, "echo")
    function = app.function(serialized=True)(greenroom.asgi_app(requires_proxy_auth=True)(factory))

    def status(url, headers):
        connection = http.client.HTTPConnection(url.hostname, url.port)
        connection.request("GET", url.path, headers=headers)
        try:
            response = connection.getresponse()
            return response.status, response.headers["www-authenticate"]
        finally:
            connection.close()

    with Cluster(settings=Settings(sandbox="process")) as cluster, app.run():
        url = urlsplit(function.web_url)
        assert status(url, {}) == (401, 'Basic realm="Greenroom"')
        token, secret = web_tokens.create(cluster.home, "ours")
        wait_for(lambda: status(url, {"Modal-Key": token.id, "Modal-Secret": secret})[0] == 200, what="it is known")
        assert status(url, {"Modal-Key": token.id, "Modal-Secret": f"{secret}x"})[0] == 401
        assert status(url, {"Modal-Key": "wk-other", "Modal-Secret": secret})[0] == 401
        basic = base64.b64encode(f"{token.id}:{secret}".encode()).decode()
        assert status(url, {"Authorization": f"Basic {basic}"})[0] == 200
        assert status(url, {"Authorization": "Basic %%%"})[0] == 401
        for path, expected in (("", 401), ("-not", 404)):
            with pytest.raises(InvalidStatus) as refused:
                connect(function.web_url.replace("http", "ws", 1) + path)
            assert refused.value.response.status_code == expected
        assert secret not in (cluster.home / web_tokens.FILE).read_text()
        assert web_tokens.revoke(cluster.home, token.id)
        wait_for(lambda: status(url, {"Authorization": f"Basic {basic}"})[0] == 401, what="it is revoked")
        assert not web_tokens.revoke(cluster.home, token.id)


def test_who_comes_while_tokens_are_read_is_judged_by_them_too(tmp_path):
    token, secret = web_tokens.create(tmp_path, "ours")
    headers = [(b"modal-key", token.id.encode()), (b"modal-secret", secret.encode())]

    async def ask():
        gate = Gate(tmp_path)
        return await asyncio.gather(*(gate.opens(headers) for _ in range(3)))

    assert asyncio.run(ask()) == [True] * 3


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("app", "f", ""), "app-f-dev"),
        (("My App!", "Model", "get_it"), "my-app-model-get-it-dev"),
        (("\xe9\xe9", "", ""), "app-dev"),
        (("a" * 40, "b" * 40, ""), f"{'a' * 40}-{'b' * 9}-"),
    ],
)
def test_labels(names, label):
    made = label_for(*names)
    assert made.startswith(label)
    assert made.endswith("-dev")
    assert len(made) <= 63
    assert made == label or len(made) > 60


def test_long_names_that_differ_at_their_end_have_labels_of_their_own():
    assert label_for("a" * 100, "f", "") != label_for("a" * 100, "g", "")


def test_two_endpoints_of_one_label_are_refused():
    app = greenroom.App("t")
    for name in ("one", "two"):
        factory = types.FunctionType(echo.__code__, echo.__globals__, name)
        app.function(serialized=True)(greenroom.asgi_app(label="same")(factory))
    with (
        Cluster(settings=Settings(sandbox="process")),
        pytest.raises(
            greenroom.InvalidError, match=r"t\.two and t\.one would both answer at http://.*/same: give one a label="
        ),
        app.run(),
    ):
        pass


def test_without_endpoints_no_library_of_http_is_loaded():
    program = """
import sys
import greenroom
from greenroom.testing import Cluster
from greenroom.model.settings import Settings

app = greenroom.App("t")
f = app.function(serialized=True)(lambda: 1)
with Cluster(settings=Settings(sandbox="process")), app.run():
    assert f.remote() == 1
print([name for name in ("uvicorn", "httptools", "websockets", "http.client", "asyncio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['asyncio']\n"


def test_a_request_that_was_answered_leaves_nothing_in_the_server():
    app = greenroom.App("t")
    factory = types.FunctionType(echo.__code__, echo.__globals__, "echo")
    function = app.function(serialized=True)(greenroom.asgi_app()(factory))
    with Cluster(settings=Settings(sandbox="process")) as cluster, app.run():
        url = urlsplit(function.web_url)
        for _ in range(3):
            get(http.client.HTTPConnection(url.hostname, url.port), url.path)
        wait_for(lambda: not cluster.on_server(lambda server: server.lifecycle.calls.by_id), what="every call is over")


def test_what_comes_while_an_app_ends_is_a_503(tmp_path):
    app, go = greenroom.App("t"), str(tmp_path / "go")

    @app.cls(serialized=True)
    class Model:
        @greenroom.asgi_app()
        def api(self):
            return echo()

        @greenroom.exit()
        def leave(self):
            import os
            import time

            while not os.path.exists(go):
                time.sleep(0.01)

    def ask():
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        try:
            connection.request("GET", url.path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    with Cluster(settings=Settings(sandbox="process")) as cluster:
        app.start()
        url = urlsplit(Model().api.web_url)
        assert ask()[0] == 200
        ending = threading.Thread(target=app.stop)
        ending.start()
        try:
            wait_for(lambda: [c["state"] for c in cluster.containers()] == ["EXITING"], what="its exit hook runs")
            status, body = ask()
        finally:
            (tmp_path / "go").touch()
            ending.join()
    assert status == 503
    assert body.startswith(b"the app t is ending and takes no more requests\n")
