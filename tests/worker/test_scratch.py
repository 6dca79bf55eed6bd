"""Notes that a program may have written over."""

import pytest

from greenroom.worker.scratch import ROOM, Exit, Scratch


@pytest.fixture
def scratch(tmp_path):
    made = Scratch(tmp_path / "containers", "ta-1", tmp_path / "logs")
    made.acquire()
    return made


def test_an_end_is_read(scratch):
    (scratch.directory / "notes").write_text(
        "7".ljust(ROOM) + '{"exit_code": null, "signal": 9, "deadline_expired": true}'.ljust(ROOM)
    )
    assert (scratch.agent(), scratch.exit()) == (7, Exit(-9, deadline_expired=True))


@pytest.mark.parametrize(
    "note", ["", "[" * ROOM, "{}", "[]", '{"exit_code": "x", "signal": null, "deadline_expired": 1}', "\xff"]
)
def test_what_is_no_note_is_none(scratch, note):
    (scratch.directory / "notes").write_text(note.ljust(ROOM)[:ROOM] + note.ljust(ROOM)[:ROOM], encoding="latin-1")
    assert scratch.exit() is None


def test_no_more_than_a_note_is_read(scratch):
    with open(scratch.directory / "notes", "r+b") as file:
        file.truncate(1 << 40)
    assert scratch.exit() is None


def test_what_was_printed_is_kept(scratch, tmp_path):
    scratch.output.write_text("printed")
    scratch.release()
    assert not scratch.directory.exists()
    assert (tmp_path / "logs" / "ta-1.log").read_text() == "printed"
