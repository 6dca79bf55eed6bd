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
