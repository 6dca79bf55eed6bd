"""What is said of images that are being made: in data, as lines, and on a terminal."""

import io
import sys

import pytest

from greenroom.sdk.builds import WIDTH, Builds
from greenroom.sdk.display import Display
from tests.sdk.test_display import live, on_terminal, plain  # noqa: F401 - fixtures


def said(builds, *steps, image="im-1", count=3):
    return [
        (line.mark, line.text)
        for number, text, state in steps
        for line in builds.step(image, number, count, text, state, 1.25)
    ]


def test_nothing_is_said_where_all_of_it_was_there():
    builds = Builds()
    assert said(builds, (1, "a", "cached"), (2, "b", "cached"), (3, "c", "cached")) == []
    assert builds.running == {}


def test_steps_that_were_there_are_told_once_another_has_to_be_made():
    builds = Builds()
    assert said(builds, (1, "a", "cached"), (2, "b", "cached")) == []
    assert said(builds, (3, "c", "running")) == [("✓", "image 1/3 a  cached"), ("✓", "image 2/3 b  cached")]
    assert builds.running == {"im-1": "image 3/3 c"}
    assert said(builds, (3, "c", "done")) == [("✓", "image 3/3 c  1.2 s")]
    assert builds.running == {}


def test_a_step_that_fails_is_said_even_where_it_is_quiet():
    builds = Builds()
    said(builds, (1, "a", "running"))
    (line,) = builds.step("im-1", 1, 3, "a", "failed", 2.0)
    assert (line.mark, line.text, line.always) == ("✗", "image 1/3 a  failed after 2.0 s", True)
    assert builds.running == {}


def test_a_step_that_another_build_makes():
    builds = Builds()
    said(builds, (1, "a", "cached"))
    assert said(builds, (2, "b", "waiting")) == [("✓", "image 1/3 a  cached")]
    assert builds.running == {"im-1": "image 2/3 b (another build makes it)"}
    assert said(builds, (2, "b", "cached")) == [("✓", "image 2/3 b  made by another build")]
    assert builds.running == {}, "nobody waits any more"
    assert said(builds, (3, "c", "waiting"), (3, "c", "running"), (3, "c", "done")) == [("✓", "image 3/3 c  1.2 s")]


def test_two_images_at_once_are_told_apart():
    builds = Builds()
    said(builds, (1, "a", "cached"), image="im-1")
    assert said(builds, (1, "b", "running"), image="im-2") == []
    assert said(builds, (2, "c", "running"), image="im-1") == [("✓", "image 1/3 a  cached")]
    assert list(builds.running.values()) == ["image 1/3 b", "image 2/3 c"]
    said(builds, (1, "b", "done"), image="im-2")
    assert list(builds.running) == ["im-1"]


@pytest.mark.parametrize("length", [WIDTH, WIDTH + 1, 5000])
def test_a_long_step_is_cut(length):
    text = "x" * length
    ((_, shown),) = said(Builds(), (1, text, "running"), (1, text, "done"))
    cut = text if length <= WIDTH else "x" * (WIDTH - 1) + "…"
    assert shown == f"image 1/3 {cut}  1.2 s"


# ---- lines ----


def build(show, end="done"):
    show.app_creating("app")
    show.image_step("im-1", 1, 3, ".run_commands('a')", "cached", 0.0)
    show.image_step("im-1", 2, 3, ".run_commands('b')", "running", 0.0)
    show.image_log("im-1", b"$ b\nhalf a ")
    show.image_log("im-1", b"line\nno end")
    show.image_step("im-1", 2, 3, ".run_commands('b')", "done", 3.14)
    show.image_step("im-1", 3, 3, "@build Model.download", "running", 0.0)
    show.image_step("im-1", 3, 3, "@build Model.download", end, 0.5)


LINES = [
    "✓ image 1/3 .run_commands('a')  cached",
    "• image 2/3 .run_commands('b')",
    "  $ b",
    "  half a line",
    "  no end",
    "✓ image 2/3 .run_commands('b')  3.1 s",
    "• image 3/3 @build Model.download",
]


def test_plain_lines_are_not_the_programs_output(plain):
    one = plain()
    build(one.display)
    print("the program's own")
    out, err = one.text()
    assert out == "the program's own\n"
    assert err.splitlines() == [*LINES, "✓ image 3/3 @build Model.download  0.5 s"]


def test_a_wait_is_told_and_its_end(plain):
    one = plain()
    for state in ("waiting", "cached"):
        one.display.image_step("im-1", 1, 1, "a", state, 0.0)
    assert one.text()[1].splitlines() == [
        "• image 1/1 a (another build makes it)",
        "✓ image 1/1 a  made by another build",
    ]


def test_what_was_there_is_not_told(plain):
    one = plain()
    one.display.app_creating("app")
    one.display.image_step("im-1", 1, 1, "a", "cached", 0.0)
    one.display.app_ready("app")
    assert one.text() == ("", "✓ app is ready\n")


def test_quiet(plain):
    one = plain(quiet=True)
    build(one.display)
    assert one.text() == ("", "")
    one = plain(quiet=True)
    build(one.display, end="failed")
    assert one.text() == ("", "✗ image 3/3 @build Model.download  failed after 0.5 s\n")


def test_marks_where_the_terminal_has_only_ascii(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", out)
    show = Display(out, out, live=False, quiet=False, timestamps=False)
    show.image_step("im-1", 1, 1, "a", "running", 0.0)
    show.image_step("im-1", 1, 1, "a", "done", 1.0)
    show.close()
    assert out.buffer.getvalue() == b"image 1/1 a\nimage 1/1 a  1.0 s\n"


def test_the_step_that_is_made_stands_below(live):
    show, terminal = live()
    show.app_creating("app")
    show.image_step("im-1", 1, 2, "one", "running", 0.0)
    show.image_step("im-2", 1, 2, "two", "running", 0.0)
    terminal.wait_for("image 1/2 one and 1 more")
    show.image_log("im-1", b"its output\n")
    terminal.wait_for("its output")
    show.image_step("im-1", 1, 2, "one", "done", 1.0)
    terminal.wait_for("image 1/2 two \u00b7")
    show.image_step("im-2", 1, 2, "two", "done", 1.0)
    show.app_ready("app")
    show.app_stopped()
    show.close()
    assert terminal.close() == ["  its output", "✓ image 1/2 one  1.0 s", "✓ image 1/2 two  1.0 s"]


def test_a_build_that_was_broken_off_is_over_with_its_app(live):
    show, terminal = live()
    show.app_creating("one")
    show.image_step("im-1", 1, 2, "left behind", "running", 0.0)
    terminal.wait_for("left behind")
    show.app_stopped()
    show.app_creating("two")
    terminal.wait_for("creating two")
    show.app_stopped()
    show.close()
    assert terminal.close() == []
