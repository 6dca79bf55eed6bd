"""One class, a pool of containers for each set of parameters; async methods, many calls at once in one container.

greenroom run examples/parameters.py
"""

import asyncio

import greenroom

app = greenroom.App("parameters")


@app.cls()
@greenroom.concurrent(max_inputs=20)
class Kitchen:
    city: str = greenroom.parameter()

    @greenroom.enter()
    async def open(self) -> None:
        self.served = 0

    @greenroom.method()
    async def cook(self, dish: str) -> str:
        await asyncio.sleep(0.2)  # other calls go on meanwhile
        self.served += 1
        return f"{dish} from {self.city}"

    @greenroom.exit()
    async def close(self) -> None:
        print(f"{self.city} closes after {self.served} dishes")


@app.local_entrypoint()
async def main() -> None:
    lisbon, oslo = Kitchen(city="Lisbon"), Kitchen(city="Oslo")
    print(await lisbon.cook.remote.aio("soup"))
    orders = [kitchen.cook.remote.aio(dish) for kitchen in (lisbon, oslo) for dish in ("bread", "fish", "cake")]
    for dish in await asyncio.gather(*orders):
        print(dish)
