"""A page to chat on: everybody who has it open sees what the others write.

    greenroom serve examples/web.py

Then open the address that it prints, in two windows. Edit this file while it runs, and reload the page.
"""

import greenroom

image = greenroom.Image.host().pip_install("fastapi")
app = greenroom.App("chat", image=image)

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Chat</title>
<style>
  body { font: 17px/1.5 system-ui, sans-serif; max-width: 38rem; margin: 2rem auto; padding: 0 1rem; color: #1d2b24 }
  ol { list-style: none; padding: 0; min-height: 12rem }
  li { padding: .35rem .7rem; margin: .3rem 0; border-radius: .6rem; background: #eef5f0; width: fit-content }
  form { display: flex; gap: .5rem }
  input { flex: 1; font: inherit; padding: .5rem .7rem; border: 1px solid #b8c8bf; border-radius: .6rem }
  button { font: inherit; padding: .5rem 1rem; border: 0; border-radius: .6rem; background: #0b6b3a; color: #fff }
  small { color: #5b6b63 }
</style>
<h1>Chat</h1>
<ol id="lines"></ol>
<form id="form"><input id="text" autocomplete="off" placeholder="Say something" autofocus><button>Send</button></form>
<p><small id="people">connecting …</small></p>
<script>
  const socket = new WebSocket(new URL("chat", location.href.replace(/^http/, "ws")))
  socket.onmessage = event => {
    const { line, people } = JSON.parse(event.data)
    document.getElementById("people").textContent = people + (people == 1 ? " person is" : " people are") + " here"
    if (line === undefined) return
    const item = document.createElement("li")
    item.textContent = line
    document.getElementById("lines").append(item)
    item.scrollIntoView()
  }
  socket.onclose = () => document.getElementById("people").textContent = "gone; reload the page"
  document.getElementById("form").onsubmit = event => {
    event.preventDefault()
    const text = document.getElementById("text")
    if (text.value.trim()) socket.send(text.value)
    text.value = ""
  }
</script>
</html>
"""


@app.cls(max_containers=1)
@greenroom.concurrent(max_inputs=100)
class Room:
    """One container holds the room: everybody meets in it."""

    @greenroom.enter()
    def open(self):
        self.people = set()
        self.lines = ["Welcome!"]

    @greenroom.asgi_app()
    def web(self):
        from fastapi import FastAPI, WebSocket, WebSocketDisconnect
        from fastapi.responses import HTMLResponse

        api = FastAPI()

        @api.get("/")
        async def page() -> HTMLResponse:
            return HTMLResponse(PAGE)

        @api.get("/lines")
        async def lines() -> list[str]:
            return self.lines

        @api.websocket("/chat")
        async def chat(socket: WebSocket):
            await socket.accept()
            self.people.add(socket)
            try:
                for line in self.lines[-50:]:
                    await socket.send_json({"line": line, "people": len(self.people)})
                await self.tell({"people": len(self.people)})
                while True:
                    line = (await socket.receive_text())[:500]
                    self.lines.append(line)
                    await self.tell({"line": line, "people": len(self.people)})
            except WebSocketDisconnect:
                pass
            finally:
                self.people.discard(socket)
                await self.tell({"people": len(self.people)})

        return api

    async def tell(self, what: dict) -> None:
        for socket in list(self.people):
            await socket.send_json(what)

    @greenroom.exit()
    def close(self):
        print(f"{len(self.lines) - 1} lines were said")
