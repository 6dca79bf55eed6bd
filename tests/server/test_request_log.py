"""Lines about requests: what they say, and how many there are."""

import asyncio

from greenroom.server.http.request_log import LONGEST, RequestLog


class Heard(RequestLog):
    """Keeps its lines; a second is over when ``over()`` says so."""

    def __init__(self, lines=20):
        self.lines = []
        self._timers = []
        super().__init__(lines, self.lines.append, lambda seconds, then: self._timers.append(then))

    def over(self):
        timers, self._timers = self._timers, []
        for timer in timers:
            timer()

    def answer(self, *events, path=b"/x", **scope):
        async def send(event):
            sent.append(event)

        async def run():
            with self.watch({"raw_path": path, **scope}, send) as noted:
                for event in events:
                    await noted(event)

        sent = []
        asyncio.run(run())
        assert sent == list(events)
        return self.lines[-1].rpartition(" in ")[0]


def test_what_is_said_of_each():
    log = Heard()
    start, end = {"type": "http.response.start", "status": 404}, {"type": "http.response.body", "body": b""}
    assert log.answer(start, end, method="GET") == "GET /x 404"
    assert log.answer(method="PUT") == "PUT /x gone"
    assert log.answer({"type": "websocket.accept"}) == "WebSocket /x 101"
    assert (
        log.answer({"type": "websocket.accept"}, {"type": "websocket.close", "code": 1012})
        == "WebSocket /x closed with 1012"
    )
    assert log.answer({"type": "websocket.http.response.start", "status": 403}) == "WebSocket /x 403"
    assert log.answer(method="GET", path=b"/\x1b[2J\xe9\x7f") == "GET /?[2J\xe9? gone"
    assert log.answer(method="GET", path=b"/" * 1000) == f"GET {'/' * LONGEST} gone"


def test_no_more_than_so_many_a_second():
    log = Heard(lines=2)
    for _ in range(5):
        log.answer(method="GET")
    assert len(log.lines) == 2
    log.over()
    assert log.lines[2:] == ["… and 3 more requests in this second"]
    log.answer(method="GET")
    log.over()
    assert len(log.lines) == 4
