"""The application that both sides serve: `uvicorn benchmarks.web_app:application`, or Greenroom's containers."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

application = FastAPI()
PIECE = bytes(256 * 1024)


@application.get("/json")
async def small():
    return {"id": 7, "name": "tea", "price": 3.5}


@application.get("/stream")
async def stream(pieces: int):
    async def content():
        for _ in range(pieces):
            yield PIECE

    return StreamingResponse(content(), media_type="application/octet-stream")


@application.websocket("/idle")
async def idle(socket: WebSocket):
    await socket.accept()
    try:
        await socket.receive()
    except WebSocketDisconnect:
        pass
