"""Bytes cut anywhere become lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.sdk.lines import LONG, PARTIAL, REDRAWN, LineAssembler, final_state


@given(st.text(st.characters(exclude_characters="\r", codec="utf-8")), st.data())
def test_however_it_is_cut(text, data):
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    assembler, lines = LineAssembler(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        lines += assembler.feed("a", whole[start:end])
    lines += assembler.end("a")
    expected = text.split("\n")
    assert lines == (expected if expected[-1] else expected[:-1])
    assert assembler.open() == []


def test_containers_are_kept_apart():
    assembler = LineAssembler()
    assert assembler.feed("a", b"one ") == []
    assert assembler.feed("b", b"two\n") == ["two"]
    assert assembler.feed("a", b"three\nfour") == ["one three"]
    assert assembler.end("b") == []
    assert assembler.end("a") == ["four"]
    assert assembler.end("never heard of") == []


def test_bytes_that_are_no_utf8():
    assembler = LineAssembler()
    assert assembler.feed("a", b"\xff ok\n") == ["\N{REPLACEMENT CHARACTER} ok"]
    assert assembler.feed("a", "ö".encode()[:1]) == []
    assert assembler.end("a") == ["\N{REPLACEMENT CHARACTER}"]


def test_an_unfinished_line_is_shown_after_a_while():
    assembler = LineAssembler()
    assembler.feed("a", b"done\nwait")
    due = assembler.due()
    assembler.feed("a", b"ing")
    assert assembler.due() == due, "it does not put itself off"
    assert assembler.late(due - 0.01) == []
    assert assembler.late(due) == [("a", "waiting")]
    assert assembler.due() is None
    assert assembler.feed("a", b" over\n") == [" over"]


def test_a_progress_bar_shows_now_and_then():
    assembler = LineAssembler()
    assembler.feed("a", b"\r10%")
    first = assembler.due()
    assert assembler.late(first) == [("a", "10%")]
    assembler.feed("a", b"\r20%")
    assembler.feed("a", b"\r30%")
    assert assembler.due() >= first + REDRAWN > first + PARTIAL
    assert assembler.feed("a", b"\r100%\n") == ["100%"]
    assert assembler.due() is None


@pytest.mark.parametrize(
    ("chunks", "line"),
    [
        ([b"10%\r", b"20%\r", b"\n"], "20%"),
        ([b"text\r\n"], "text"),
        ([b"\r10%", b"\r100%\r", b"   \r\n"], "100%"),
        ([b"10%\r", b"20%\r30", b"%\n"], "30%"),
        ([b"\r\n"], ""),
    ],
)
def test_what_was_drawn_over_itself(chunks, line):
    assembler = LineAssembler()
    assert [made for chunk in chunks for made in assembler.feed("a", chunk)] == [line]


def test_final_state_of_a_plain_line():
    assert final_state("  as it is  ") == "  as it is  "


def test_a_line_lingers_until_it_ends():
    assembler = LineAssembler()
    assembler.feed("a", b"load")
    assert not assembler.linger(assembler.due() - 0.01)
    assert assembler.linger(assembler.due())
    assert (assembler.lingering(), assembler.due()) == ([("a", "load")], None)
    assembler.feed("a", b"ing")
    assert (assembler.lingering(), assembler.due()) == ([("a", "loading")], None)
    assert assembler.feed("a", b" done\nnext") == ["loading done"]
    assert (assembler.lingering(), assembler.lingers("a")) == ([], False)
    assert assembler.linger(assembler.due())
    assert assembler.end("a") == ["next"]
    assert assembler.lingering() == []


def test_a_long_line_does_not_linger():
    assembler = LineAssembler()
    assembler.feed("a", b"x")
    assert assembler.linger(assembler.due())
    assembler.feed("a", b"x" * LONG)
    due = assembler.due()
    assert not assembler.linger(due)
    assert assembler.late(due) == [("a", "x" * (LONG + 1))]
