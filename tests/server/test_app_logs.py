"""Files of what deployed apps print: bounded, and whole lines."""

import json
import threading
import time

import pytest

from greenroom.model import app_logs
from greenroom.model.errors import NotFoundError
from greenroom.model.settings import Settings
from greenroom.testing import Cluster


def test_files_are_bounded_and_the_oldest_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(app_logs, "LIMIT", 1000)
    for number in range(200):
        app_logs.append(tmp_path, "a/b", json.dumps({"number": number, "text": "x" * 80}).encode() + b"\n")
    file = app_logs.file_of(tmp_path, "a/b")
    assert file.parent == tmp_path / app_logs.DIRECTORY
    files = [path for path in [*app_logs.older_than(file), file] if path.exists()]
    assert len(files) == app_logs.OLDER + file.exists()
    numbers = [json.loads(line)["number"] for path in files for line in path.read_text().splitlines()]
    assert numbers == list(range(200 - len(numbers), 200))
    assert all(path.stat().st_size < 1200 for path in files)
    assert len(list(file.parent.iterdir())) == len(files)


def test_what_was_cut_off_ends_there(tmp_path):
    app_logs.append(tmp_path, "a", b'{"number": 1}\n')
    with open(app_logs.file_of(tmp_path, "a"), "ab") as file:
        file.write(b'{"number": 2, "te')  # all that the disk had room for
    app_logs.append(tmp_path, "a", b'{"number": 3}\n{"number": 4}\n')
    app_logs.append(tmp_path, "a", b'{"number": 5}\n')
    lines = app_logs.file_of(tmp_path, "a").read_text().splitlines()
    assert lines == ['{"number": 1}', '{"number": 2, "te', '{"number": 3}', '{"number": 4}', '{"number": 5}']


def test_a_reader_misses_nothing_and_reads_nothing_twice_while_files_change(tmp_path, monkeypatch):
    """Of what is kept: the writer is never more than three files ahead."""
    monkeypatch.setattr(app_logs, "LIMIT", 300)
    monkeypatch.setattr(app_logs, "BLOCK", 120)
    count, read = 4000, 0

    def write():
        for number in range(count):
            while number - read > 60:
                time.sleep(0)
            app_logs.append(tmp_path, "a", b'{"number": %d}\n' % number)

    writer = threading.Thread(target=write)
    writer.start()
    place, numbers = [], []
    while read < count:
        try:
            data, place = app_logs.read_on(tmp_path, "a", place)
        except NotFoundError:
            continue
        numbers += [json.loads(line)["number"] for line in data.splitlines()]
        read = len(numbers)
    writer.join()
    assert numbers == list(range(count))
    assert app_logs.read_on(tmp_path, "a", place) == (b"", place)


def test_who_has_fallen_behind_goes_on_with_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(app_logs, "LIMIT", 100)
    app_logs.append(tmp_path, "a", b"first\n")
    data, place = app_logs.read_on(tmp_path, "a", [])
    assert data == b"first\n"
    for number in range(10):
        app_logs.append(tmp_path, "a", b"%d %s\n" % (number, b"x" * 100))
    data, _ = app_logs.read_on(tmp_path, "a", [place[0] + 1_000_000, place[1]])
    assert data.startswith(b"6 ")
    with pytest.raises(NotFoundError, match="nothing that other has printed is kept"):
        app_logs.read_on(tmp_path, "other", [])


def test_one_that_can_not_be_written_keeps_no_other_from_it():
    with Cluster(settings=Settings(sandbox="process")) as cluster:
        home = cluster.home
        files = {app: app_logs.file_of(home, app) for app in ("first", "other")}
        files["first"].mkdir(parents=True)

        def printed(server):
            server.app_logs._waiting = {app: [b'{"text": "said"}\n'] for app in files}
            server.app_logs._write()

        cluster.on_server(printed)
        cluster.wait_until(files["other"].exists)
        assert files["other"].read_text() == '{"text": "said"}\n'
        cluster.wait_until(lambda: cluster.on_server(lambda server: server.peer_log._said.get("app logs")))
