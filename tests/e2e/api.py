"""An API with mistakes of its own, served directly and by Greenroom."""

from typing import Annotated

import greenroom

app = greenroom.App("api")


def make():
    """The application."""
    from fastapi import FastAPI, Header, HTTPException, Path, Query, Response
    from pydantic import BaseModel, Field

    api = FastAPI()
    kept: dict[int, dict] = {}

    class Thing(BaseModel):
        name: str = Field(min_length=1, max_length=20)
        size: float = Field(ge=0, le=1e6)
        tags: list[str] = []

    @api.get("/things")
    async def things(limit: Annotated[int, Query(ge=0, le=100)] = 10) -> list[Thing]:
        return [Thing(**each) for each in list(kept.values())[:limit]]

    @api.put("/things/{number}")
    async def put(number: Annotated[int, Path(ge=0, le=1000)], thing: Thing) -> Thing:
        kept[number] = thing.model_dump()
        return thing

    @api.get("/things/{number}", responses={404: {}})
    async def get(number: int) -> Thing:
        if number not in kept:
            raise HTTPException(404)
        return Thing(**kept[number])

    @api.get("/divided/{number}")
    def divided(number: int) -> float:
        return 100 / number  # a mistake: of 0

    @api.get("/header")
    async def header(x_word: Annotated[str, Header(max_length=5)] = "") -> Response:
        return Response(x_word.encode("latin-1", "replace"), media_type="text/html")  # a mistake: it promises JSON

    return api


@app.function()
@greenroom.concurrent(max_inputs=20)
@greenroom.asgi_app()
def web():
    """Served by Greenroom."""
    return make()
