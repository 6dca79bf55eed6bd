"""Noticing that files grow, by inotify and without."""

import asyncio
from pathlib import Path

import pytest

from greenroom.worker.watch import FileWatch


@pytest.mark.parametrize("inotify", [True, False])
def test_each_growth_is_noticed_until_the_watch_ends(tmp_path: Path, inotify: bool) -> None:
    async def check() -> None:
        files = FileWatch(asyncio.get_running_loop())
        if not inotify:
            files.close()  # as on a machine that has none left
        grown, other = tmp_path / "grown", tmp_path / "other"
        grown.touch()
        other.touch()
        noticed = asyncio.Event()
        others: list[int] = []
        end = files.add(grown, noticed.set)
        end_other = files.add(other, lambda: others.append(1))
        end_other()
        for _ in range(3):
            with other.open("a") as file:
                file.write("x")
            with grown.open("a") as file:
                file.write("x")
            await asyncio.wait_for(noticed.wait(), 10)
            noticed.clear()
        end()
        end()
        files.close()
        assert not others

    asyncio.run(check())
