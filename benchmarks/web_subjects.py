"""What answers requests. Apart from what measures it, so that a container imports no more than these few lines ask for."""

import greenroom

app = greenroom.App("bench")


@app.function(min_containers=2, max_containers=2, timeout=3600)
@greenroom.concurrent(max_inputs=1000)
@greenroom.asgi_app(label="api")
def api():
    from benchmarks.web_app import application

    return application


@app.cls()
class Cold:
    key: int = greenroom.parameter()

    @greenroom.method()
    def echo(self, x):
        return x


@app.cls()
class ColdBare:
    key: int = greenroom.parameter()

    @greenroom.asgi_app(label="bare")
    def web(self):
        async def application(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"1"})

        return application


@app.cls()
class ColdFastAPI:
    key: int = greenroom.parameter()

    @greenroom.asgi_app(label="fastapi")
    def web(self):
        from benchmarks.web_app import application

        return application
