"""Files of what deployed apps print: bounded, and whole lines."""

import json

from greenroom.model import app_logs


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
