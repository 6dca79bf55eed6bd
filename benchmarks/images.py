"""What images cost: a program that measures itself and prints one JSON object. As root, in real containers."""

import itertools
import json
import os
import statistics
import sys
import time
from pathlib import Path

import greenroom
from greenroom.model.settings import home_directory

numbers = itertools.count()
STEPS = 10
LAYERS = 5


def write(number):
    with open("/small", "w") as file:
        file.write(str(number))


class Cold:
    key: int = greenroom.parameter()

    @greenroom.method()
    def echo(self, x):
        return x


def app_on(image):
    """An app with one class, whose every instance has a container of its own."""
    app = greenroom.App("bench-images", image=image)
    return app, app.cls(serialized=True, scaledown_window=1.0)(Cold)


def first_calls(classes, count):
    """Median seconds of a call that needs a new container, of each class in turn."""
    samples = [[] for _ in classes]
    for _ in range(count):
        for cls, own in zip(classes, samples, strict=True):
            started = time.perf_counter()
            cls(key=next(numbers)).echo.remote(1)
            own.append(time.perf_counter() - started)
    return [statistics.median(own) for own in samples]


def on_disk():
    """Bytes that all layers take."""
    return sum(path.lstat().st_blocks * 512 for path in (home_directory() / "layers").rglob("*"))


def chain(count):
    image = greenroom.Image.host()
    for number in range(count):
        image = image.run_commands(f"head -c 100000 /dev/urandom > /file-{number}")
    return image


def main(quick):
    count = 5 if quick else 15
    found = {}
    keep = greenroom.App("keeps-the-server")
    with keep.run():
        plain, in_host = app_on(None)
        layers, in_layers = app_on(chain(LAYERS))
        for app in (plain, layers, app_on(chain(STEPS))[0]):
            app.build()
        with plain.run(), layers.run():
            first_calls([in_host, in_layers], 3)
            found["cold"], found["cold_layers"] = first_calls([in_host, in_layers], 15 if quick else 40)
        before = on_disk()
        app_on(chain(STEPS - 1).run_commands("head -c 1000000 /dev/urandom > /last"))[0].build()
        found["shared"] = on_disk() - before
        gib = greenroom.Image.host().run_commands(
            f"head -c {1024**3 // (8 if quick else 1)} /dev/zero | tr '\\0' x > /big"
        )
        app_on(gib)[0].build()
        samples = []
        for number in range(count):
            rebuilt = app_on(gib.run_function(write, args=(number,)))[0]
            started = time.perf_counter()
            rebuilt.build()
            samples.append(time.perf_counter() - started)
        found["rebuild"] = statistics.median(samples)
        there = []
        for _ in range(count):
            started = time.perf_counter()
            rebuilt.build()
            there.append(time.perf_counter() - started)
        found["rebuild_none"] = statistics.median(there)
    print(json.dumps(found))


if __name__ == "__main__":
    assert Path("/").owner() == "root" and os.geteuid() == 0
    main("--quick" in sys.argv)
