import asyncio

import pytest

import greenroom
from greenroom.model.errors import RequestSizeError
from greenroom.model.settings import Settings
from greenroom.testing import Cluster


def test_input_past_the_limit():
    with Cluster(settings=Settings(max_payload=1024**2)):
        app = greenroom.App("t")

        @app.function(serialized=True)
        def size(data):
            return len(data)

        with app.run():
            assert size.remote(b"1") == 1
            results = list(size.map(iter([b"1", bytes(2 * 1024**2), b"123"]), return_exceptions=True))
    assert (results[0], results[2]) == (1, 3)
    assert isinstance(results[1], RequestSizeError)
    assert "input 1" in str(results[1])


class Cancelling:
    """An async iterator that raises what asyncio itself raises to cancel a task."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise asyncio.CancelledError


def test_an_async_iterator_that_raises_cancelled_error():
    with Cluster():
        app = greenroom.App("t")

        @app.function(serialized=True)
        def double(x):
            return 2 * x

        async def main():
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(20):
                    async for _ in double.map(Cancelling()):
                        pass

        with app.run():
            asyncio.run(main())
