"""The same application served directly and through Greenroom: what a client sees is equal, but for what ``docs/web.md`` names."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import types
from urllib.parse import urlsplit

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import wait_for

ROOT = "/app"
OF_THE_SERVER = {"date", "server", "connection", "transfer-encoding"}
"""Headers that docs/web.md leaves to each server."""
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
UPLOAD = (b'--b\r\nContent-Disposition: form-data; name="file"; filename="a \xc3\xa9.txt"\r\nContent-Type: text/x\r\n\r\n'
          + b"line\r\n" * 20_000 + b"\r\n--b--\r\n")  # fmt: skip
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def starlette_routes():
    """What Starlette's and FastAPI's applications have in common."""
    import asyncio
    import tempfile
    from pathlib import Path

    from starlette.background import BackgroundTask
    from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    # Kept for as long as the process: what is served from it.
    file = Path(tempfile.mkdtemp(), "file.bin")
    file.write_bytes(bytes(range(256)) * 1000)
    steps = asyncio.Queue()
    done = []

    async def show(request):
        body = await request.body()
        named = [[n, v] for n, v in request.headers.items() if n.startswith("x-")]
        return JSONResponse({
            "method": request.method, "path": request.url.path, "query": str(request.url.query), "body": body.decode("latin-1"),
            "headers": named, "cookies": request.cookies, "root": request.scope["root_path"],
            "link": request.url_for("show", rest="a b").path, "base": request.base_url.path,
        })  # fmt: skip

    async def cookies(request):
        response = Response(status_code=202, headers={"X-Many": "1"})
        response.set_cookie("one", "1", path="/x", httponly=True)
        response.set_cookie("two", "b c")
        response.headers.append("X-Many", "2")
        return response

    async def form(request):
        async with request.form() as given:
            found = {
                n: [v.filename, v.content_type, len(await v.read())] if hasattr(v, "read") else v
                for n, v in given.items()
            }
        return JSONResponse(found)

    async def pieces(request):
        async def make():
            for number in range(50):
                yield b"%d\n" % number * 5000

        return StreamingResponse(make(), media_type="text/plain")

    async def events(request):
        async def make():
            for number in range(5):
                yield f"data: {number}\n\n"
                await steps.get()

        return StreamingResponse(make(), media_type="text/event-stream")

    async def step(request):
        steps.put_nowait(None)
        return Response(status_code=204)

    async def later(request):
        async def work():
            await steps.get()
            done.append("done")
            print("background", flush=True)

        return JSONResponse(done, background=BackgroundTask(work))

    async def fails(request):
        raise ValueError("of mine")

    async def breaks(request):
        async def make():
            yield b"begun"
            raise ValueError("of mine")

        return StreamingResponse(make())

    async def talk(socket):
        wanted = socket.scope["subprotocols"]
        if "none" in socket.query_params:
            await socket.close(4000)
            return
        await socket.accept(subprotocol=wanted[-1] if wanted else None, headers=[(b"x-own", b"1")])
        await socket.send_json([socket.url.path, socket.scope["root_path"], socket.cookies])
        async for text in socket.iter_text():
            if text == "bye":
                await socket.close(4321, "as you wish")
                return
            if text == "fail":
                raise ValueError("of mine")
            await socket.send_text(text.upper())
            await socket.send_bytes(text.encode()[::-1])

    return [
        Route("/show/{rest:path}", show, methods=["GET", "POST", "PUT", "PATCH", "DELETE"], name="show"),
        Route("/cookies", cookies),
        Route("/form", form, methods=["POST"]),
        Route("/file", lambda request: FileResponse(file, stat_result=None, headers={"last-modified": "x", "etag": '"e"'})),
        Route("/away", lambda request: RedirectResponse(request.url_for("show", rest="x").path)),
        Route("/slash/", show),
        Route("/empty", lambda request: Response(status_code=304, headers={"etag": '"e"'})),
        Route("/pieces", pieces), Route("/events", events), Route("/step", step), Route("/later", later),
        Route("/fails", fails), Route("/breaks", breaks), WebSocketRoute("/talk", talk),
    ]  # fmt: skip


def starlette_app():
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware

    anywhere = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["X-Mine"])
    return Starlette(routes=starlette_routes(), middleware=[anywhere])


def fastapi_app():
    from fastapi import FastAPI
    from starlette.middleware.cors import CORSMiddleware

    application = FastAPI(routes=starlette_routes())
    application.add_middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_credentials=True)

    @application.get("/items/{number}")
    def item(number: int, q: str = "none"):
        return {"number": number, "q": q}

    return application


def flask_app():
    import io

    from flask import Flask, Response, make_response, redirect, request, send_file, url_for

    application = Flask("shop")

    @application.route("/show/<path:rest>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def show(rest):
        named = sorted([n, v] for n, v in request.headers.items() if n.startswith("X-"))
        return {"method": request.method, "path": request.path, "root": request.script_root,
                "query": request.query_string.decode(), "body": request.get_data().decode("latin-1"), "headers": named,
                "cookies": request.cookies, "link": url_for("show", rest="a b")}  # fmt: skip

    @application.route("/cookies")
    def cookies():
        response = make_response("", 202)
        response.set_cookie("one", "1", path="/x", httponly=True)
        response.set_cookie("two", "b c")
        response.headers.add("X-Many", "1")
        response.headers.add("X-Many", "2")
        return response

    @application.route("/form", methods=["POST"])
    def form():
        files = {n: [f.filename, f.content_type, len(f.read())] for n, f in request.files.items()}
        return {**request.form.to_dict(), **files}

    application.add_url_rule(
        "/file",
        view_func=lambda: send_file(io.BytesIO(bytes(range(256)) * 1000), "x/y", conditional=True),
        endpoint="file",
    )
    application.add_url_rule("/away", view_func=lambda: redirect(url_for("show", rest="x")), endpoint="away")
    application.add_url_rule("/slash/", view_func=lambda: "here", endpoint="slash")
    application.add_url_rule("/empty", view_func=lambda: ("", 304), endpoint="empty")
    application.add_url_rule(
        "/pieces", view_func=lambda: Response(b"%d\n" % n * 5000 for n in range(50)), endpoint="pieces"
    )
    application.add_url_rule("/fails", view_func=lambda: 1 / 0, endpoint="fails")
    application.add_url_rule("/breaks", view_func=lambda: Response(b"%d" % (1 // n) for n in (1, 0)), endpoint="breaks")
    return application


def django_app():
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
    from django.urls import path, reverse

    def show(request, rest):
        named = sorted([n, v] for n, v in request.headers.items() if n.startswith("X-"))
        return JsonResponse({
            "method": request.method, "path": request.path, "info": request.path_info, "query": request.META["QUERY_STRING"],
            "body": request.body.decode("latin-1"), "headers": named, "cookies": request.COOKIES, "link": reverse("show", args=["a b"]),
        })  # fmt: skip

    def cookies(request):
        response = HttpResponse(status=202)
        response.set_cookie("one", "1", path="/x", httponly=True)
        response.set_cookie("two", "b c")
        return response

    def form(request):
        files = {n: [f.name, f.content_type, f.size] for n, f in request.FILES.items()}
        return JsonResponse({**request.POST.dict(), **files})

    def file(request):
        import io

        return FileResponse(io.BytesIO(bytes(range(256)) * 1000), filename="f.bin")

    urls = types.ModuleType("urls_of_the_test")
    urls.urlpatterns = [
        path("show/<path:rest>", show, name="show"), path("cookies", cookies), path("form", form), path("file", file),
        path("away", lambda request: HttpResponseRedirect(reverse("show", args=["x"]))),
        path("slash/", lambda request: HttpResponse("here")),
        path("empty", lambda request: HttpResponse(status=304)),
        path("pieces", lambda request: StreamingHttpResponse(b"%d\n" % n * 5000 for n in range(50))),
        path("fails", lambda request: 1 / 0),
        path("breaks", lambda request: StreamingHttpResponse(b"%d" % (1 // n) for n in (1, 0))),
    ]  # fmt: skip
    middleware = ["django.middleware.common.CommonMiddleware"]
    settings.configure(
        SECRET_KEY="x", ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=middleware, LOGGING_CONFIG=None
    )
    django.setup()
    return WSGIHandler()


ASGI = {"starlette": starlette_app, "fastapi": fastapi_app}
WSGI = {"flask": flask_app, "django": django_app}


@contextlib.contextmanager
def by_uvicorn(factory):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(under_root(factory()), root_path="", log_config=None, ws="websockets-sansio")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: server.started, what="uvicorn serves")
            yield f"http://127.0.0.1:{listening.getsockname()[1]}{ROOT}"
        finally:
            server.should_exit = True
            thread.join()


def under_root(application):
    async def run(scope, receive, send):
        await application({**scope, "root_path": ROOT} if scope["type"] != "lifespan" else scope, receive, send)

    return run


@contextlib.contextmanager
def by_gunicorn(factory):
    with socket.create_server(("127.0.0.1", 0)) as listening, tempfile.TemporaryDirectory() as own:
        number, port = listening.fileno(), listening.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{number}", "--threads", "8", "--log-level", "critical",
                   f"{factory.__module__}:{factory.__name__}()"]  # fmt: skip
        environment = {**os.environ, "SCRIPT_NAME": ROOT, "HOME": own}  # it keeps a socket there
        process = subprocess.Popen(command, pass_fds=[number], env=environment, stderr=subprocess.DEVNULL)
        listening.close()
        try:
            yield f"http://127.0.0.1:{port}{ROOT}"
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def by_greenroom(factory, kind, settings):
    app = greenroom.App("t")
    factory = types.FunctionType(factory.__code__, factory.__globals__, factory.__name__)
    mark = {"asgi": greenroom.asgi_app, "wsgi": greenroom.wsgi_app}[kind](label=ROOT[1:])
    several = greenroom.concurrent(max_inputs=20)(mark(factory))
    function = app.function(serialized=True, max_containers=1)(several)
    with Cluster(settings=settings), app.run():
        yield function.web_url


def ask(url, method, path, body=None, headers=None):
    """What a client sees."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request(method, parts.path + path, body, {"Host": "shop.example", **(headers or {})})
        response = connection.getresponse()
        try:
            said = response.read()
        except http.client.IncompleteRead as error:
            said = ("cut", error.partial)
        found = [(n.lower(), in_order(n, v)) for n, v in response.headers.items() if n.lower() not in OF_THE_SERVER]
        return response.status, sorted(found), said
    finally:
        connection.close()


def in_order(name, value):
    """Frameworks list methods in the order of a set."""
    return sorted(value.split(", ")) if name.lower() == "allow" else value


BOTH = [
    ("GET", "/show/a%20b/%C3%A9?x=1&y=%2F&x=2"),
    ("GET", "/show/x", None, {"X-Mine": "\xe9", "Cookie": "a=1; b=two"}),
    ("GET", "/show/x", None, {"X-Mine": "a", "X_Mine": "b", "X_Yours": "c"}),
    ("POST", "/show/x", b"\x00\xff" * 40_000),
    ("POST", "/show/x", iter([b"one", b"two" * 30_000])),
    ("PUT", "/show/x", b"y"), ("PATCH", "/show/x", b""), ("DELETE", "/show/x"),
    ("HEAD", "/show/x"), ("HEAD", "/pieces"), ("HEAD", "/file"), ("HEAD", "/nope"),
    ("OPTIONS", "/show/x"), ("POST", "/cookies"), ("GET", "/cookies"),
    ("POST", "/form", b"a=1&b=%C3%A9+x", FORM), ("POST", "/form", UPLOAD, MULTIPART),
    ("GET", "/file"), ("GET", "/file", None, {"Range": "bytes=5-9"}), ("GET", "/file", None, {"Range": "bytes=-3"}),
    ("GET", "/file", None, {"Range": "bytes=999999-"}), ("GET", "/away"), ("GET", "/slash"), ("GET", "/empty"), ("GET", "/pieces"),
    ("GET", "/nope"), ("GET", "/fails"), ("GET", "/breaks"), ("GET", "/../x"), ("GET", "//show/x"),
]  # fmt: skip
OF_ASGI = [
    ("POST", "/file"), ("GET", "/items/3?q=x"), ("GET", "/items/x"), ("GET", "/openapi.json"), ("GET", "/docs"),
    ("OPTIONS", "/show/x", None, {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}),
    ("OPTIONS", "/show/x", None, {"Origin": "https://b.example", "Access-Control-Request-Method": "PUT"}),
    ("GET", "/show/x", None, {"Origin": "https://a.example"}), ("GET", "/fails", None, {"Origin": "https://a.example"}),
]  # fmt: skip
CRUN = "flask"


@pytest.fixture(scope="module", params=[*ASGI, *WSGI])
def both(request):
    """The URLs of one application, directly and through Greenroom."""
    name = request.param
    settings = Settings(sandbox="process", exit_grace=5.0)
    if name in ASGI:
        with by_uvicorn(ASGI[name]) as direct, by_greenroom(ASGI[name], "asgi", settings) as through:
            yield name, direct, through
    else:
        with by_gunicorn(WSGI[name]) as direct, by_greenroom(WSGI[name], "wsgi", settings) as through:
            yield name, direct, through


@pytest.mark.parametrize("what", [*BOTH, *OF_ASGI], ids=lambda what: f"{what[0]} {what[1]} {len(what)}")
def test_a_request_is_answered_alike(both, what):
    name, direct, through = both
    if what in OF_ASGI and name not in ASGI:
        pytest.skip("of the others")
    method, path, *rest = what
    if rest and hasattr(rest[0], "__next__"):
        pieces = list(rest[0]) or [b"one", b"two" * 30_000]
        found = [ask(url, method, path, iter(pieces)) for url in (direct, through)]
    else:
        found = [ask(url, method, path, *rest) for url in (direct, through)]
    assert found[1] == found[0], found[1][2][:600]


def events(url):
    """Those of a stream whose next the application makes once the client has the one before."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as client, client.makefile("rb") as file:
        client.sendall(f"GET {parts.path}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        found = []
        while len(found) < 5:
            line = file.readline()
            if line.startswith(b"data"):
                found.append(line)
                assert ask(url, "GET", "/step")[0] == 204
        return found


def test_events_are_flushed_at_once(both):
    name, direct, through = both
    if name not in ASGI:
        pytest.skip("of the others")
    assert events(direct) == events(through) == [b"data: %d\n" % number for number in range(5)]


def transcript(url, said, query="", **options):
    """What a WebSocket's client sees."""
    try:
        with connect(f"{url.replace('http', 'ws', 1)}/talk{query}", **options) as client:
            heard = [client.subprotocol, client.response.headers["x-own"], client.recv()]
            for text in said:
                client.send(text)
                heard += [client.recv(), client.recv()]
            client.close(4999, "enough")
            return heard
    except InvalidStatus as error:
        return error.response.status_code, error.response.body
    except ConnectionClosed as error:
        return heard, error.rcvd and (error.rcvd.code, error.rcvd.reason)


@pytest.mark.parametrize("case", [
    (["a", "\xe9" * 100_000],), ([], "?none"), (["a", "bye"],), (["fail"],),
], ids=["talk", "refused", "closed", "failed"])  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"subprotocols": ["one", "two"]}, {"additional_headers": {"Cookie": "a=1"}, "compression": None}],
                         ids=["plain", "subprotocols", "cookies"])  # fmt: skip
def test_a_websocket_is_alike(both, case, options):
    name, direct, through = both
    if name not in ASGI:
        pytest.skip("of the others")
    found, expected = (transcript(url, *case, **options) for url in (through, direct))
    if case[0] == ["fail"]:
        assert found[1] == (1011, ""), "as docs/web.md has it; uvicorn closes without a word"
        found, expected = found[0], expected[0]
    assert found == expected


def test_background_work_is_done_after_the_response_and_before_the_container_ends(output):
    app = greenroom.App("t")
    fresh = types.FunctionType(starlette_app.__code__, starlette_app.__globals__, "starlette_app")
    function = app.function(serialized=True, max_containers=1)(
        greenroom.concurrent(max_inputs=9)(greenroom.asgi_app()(fresh))
    )
    with Cluster(settings=Settings(sandbox="process", exit_grace=5.0)), app.run():
        assert ask(function.web_url, "GET", "/later")[2] == b"[]"
        assert "background" not in output.lines()
        assert ask(function.web_url, "GET", "/step")[0] == 204
    assert "background" in output.lines()
