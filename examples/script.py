"""Without the command line: a script that starts containers for as long as a block lasts.

python examples/script.py
"""

import asyncio

import greenroom

app = greenroom.App("script")


@app.function(retries=2, timeout=30)
def divide(a: float, b: float) -> float:
    return a / b


@app.function()
async def slowly(x: int) -> int:
    await asyncio.sleep(0.1)
    return x


async def several() -> list[int]:
    return await asyncio.gather(*[slowly.remote.aio(x) for x in range(3)])


with app.run():
    print("one call:", divide.remote(1, 4))
    call = divide.spawn(1, 8)
    print("collected later:", call.get(timeout=30))
    try:
        divide.remote(1, 0)
    except ZeroDivisionError as error:
        print("the remote exception, here:", error)
    print("from async code:", asyncio.run(several()))
