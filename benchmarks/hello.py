"""Hello world, as `greenroom run` is timed with it."""

import greenroom

app = greenroom.App("hello")


@app.function()
def hello():
    return "hello, world"


@app.local_entrypoint()
def main():
    print(hello.remote())
