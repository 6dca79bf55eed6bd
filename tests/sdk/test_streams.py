"""What is said on stderr."""

import io
import sys

import pytest

from greenroom.sdk.streams import warn


class Pieces(io.StringIO):
    """Remembers what each write had."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        """Of one piece."""
        if text:
            self.pieces.append(text)
        return len(text)


def test_a_line_leaves_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else those of two threads are mixed."""
    said = Pieces()
    monkeypatch.setattr(sys, "stderr", said)
    warn("a")
    warn("b")
    assert said.pieces == ["a\n", "b\n"]
