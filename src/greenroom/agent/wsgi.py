"""A WSGI application as an ASGI one: each request in a thread. Source: PEP 3333."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

_SPOOLED = 1 << 20
"""Bytes of a request's body beyond which it lies in a file."""


def adapted(application: Callable[..., Iterable[bytes]]) -> Callable[..., Awaitable[None]]:
    """The application."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"a WSGI application answers no {scope['type']}")
        import tempfile

        with tempfile.SpooledTemporaryFile(_SPOOLED) as body:
            more = True
            while more:
                event = await receive()
                if event["type"] == "http.disconnect":
                    return
                body.write(event["body"])
                more = event["more_body"]
            body.seek(0)
            await _Request(application, scope, send).run(environ(scope, body))

    return run


def environ(scope: Any, body: Any) -> dict[str, Any]:
    """What a WSGI application is called with."""
    path, root = scope["path"], scope["root_path"]
    host, port = scope["server"] or ("localhost", 80)
    made: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.encode().decode("latin-1"),
        "PATH_INFO": path.removeprefix(root).encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.input_terminated": True,  # it ends by itself, so that a body without a length is read too: Werkzeug asks for that
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if scope["client"]:
        made["REMOTE_ADDR"], made["REMOTE_PORT"] = scope["client"][0], str(scope["client"][1])
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name:
            continue  # it would pass for the one with a "-" there, which a proxy may have checked; gunicorn leaves it out too
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        joined = ";" if key == "HTTP_COOKIE" else ","
        made[key] = f"{made[key]}{joined}{value}" if key in made else value
    return made


class _Request:
    """One request, whose thread hands over what it has, and waits until that has been taken."""

    def __init__(self, application: Callable[..., Iterable[bytes]], scope: Any, send: Any) -> None:
        self._application = application
        self._scope = scope
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._head: dict[str, Any] | None = None
        self._started = False

    async def run(self, given: dict[str, Any]) -> None:
        """In a thread; raises what the application raises."""
        done: asyncio.Future[None] = self._loop.create_future()

        def work() -> None:
            try:
                self._answer(given)
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                self._loop.call_soon_threadsafe(_settle, done, error)
            else:
                self._loop.call_soon_threadsafe(_settle, done, None)

        threading.Thread(target=work, name="greenroom-wsgi", daemon=True).start()
        await done

    def _answer(self, given: dict[str, Any]) -> None:
        parts = self._application(given, self._start)
        try:
            for part in parts:
                if part:
                    self._write(part)
            self._emit({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info and self._started:
            raise exc_info[1]
        self._head = {
            "type": "http.response.start",
            "status": int(status.split(" ", 1)[0]),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
        return self._write

    def _write(self, data: bytes) -> None:
        self._emit({"type": "http.response.body", "body": data, "more_body": True})

    def _emit(self, event: dict[str, Any]) -> None:
        if not self._started:
            if self._head is None:
                raise RuntimeError("the WSGI application sent a body before it called start_response")
            self._started = True
            self._hand_over(self._head)
        self._hand_over(event)

    def _hand_over(self, event: dict[str, Any]) -> None:
        asyncio.run_coroutine_threadsafe(self._send(event), self._loop).result()


def _settle(done: "asyncio.Future[None]", error: BaseException | None) -> None:
    if done.done():
        return  # nobody waits any more
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
