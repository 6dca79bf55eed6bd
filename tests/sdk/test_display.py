"""The display, live on a pty and as plain lines."""

import io
import os
import re
import sys
import threading

import pytest

from greenroom.sdk.display import Display, make_display
from tests.sdk.terminal import Terminal


@pytest.fixture
def on_terminal(monkeypatch):
    """Puts a pty in the place of stdout and stderr, without COLUMNS of the machine's; called by the test itself, since
    pytest changes both streams between a fixture and its test."""
    made = []

    def make():
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal.stream)
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        made.append(terminal)
        return terminal

    yield make
    for terminal in made:
        terminal.close()


@pytest.fixture
def live(on_terminal):
    made = []

    def make():
        terminal = on_terminal()
        made.append(Display(sys.stdout, sys.stderr, live=True, quiet=False, timestamps=False))
        return made[-1], terminal

    yield make
    for display in made:
        display.close()


class Plain:
    def __init__(self, monkeypatch, **options):
        self.out, self.err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdout", self.out)
        settings = {"live": False, "quiet": False, "timestamps": False, **options}
        self.display = Display(self.out, self.err, **settings)

    def text(self):
        self.display.close()
        return self.out.getvalue(), self.err.getvalue()


@pytest.fixture
def plain(monkeypatch):
    made = []

    def make(**options):
        made.append(Plain(monkeypatch, **options))
        return made[-1]

    yield make
    for each in made:
        if each.display._thread.is_alive():
            each.display.close()


# ---- plain ----


def test_plain_lines(plain):
    one = plain()
    show = one.display
    show.app_creating("app")
    show.app_ready("app")
    show.container_changed("ta-1111112222", "f", "STARTING", "")
    show.log("ta-1111112222", "f", b"half")
    show.log("ta-1111112222", "f", b" and half\nnext\nrest")
    print("the program's own")
    show.container_changed("ta-1111112222", "f", "STOPPED", "idle")
    show.notice("take note")
    show.app_stopping()
    show.app_stopped()
    out, err = one.text()
    assert out == "half and half\nnext\nthe program's own\nrest\n"
    assert err == "✓ app is ready\n! take note\n✓ app ended\n"


def test_every_line_is_written_at_once(plain):
    class Stream(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    one = plain()
    one.display.close()
    stream = Stream()
    show = Display(stream, stream, live=False, quiet=False, timestamps=False)
    show.log("a", "f", b"one\n")
    assert stream.flushed == "one\n"
    show.app_ready("app")
    assert stream.flushed.endswith("✓ app is ready\n")
    show.close()


def test_a_failed_container_is_told_even_when_quiet(plain):
    one = plain(quiet=True)
    one.display.app_ready("app")
    one.display.log("ta-1111112222", "f", b"its output\n")
    one.display.container_changed("ta-1111112222", "f", "FAILED", "killed by signal 9")
    one.display.app_stopped()
    assert one.text() == ("its output\n", "✗ f (ta-111111) failed: killed by signal 9\n")


def test_names_once_a_second_container_has_spoken(plain):
    one = plain()
    for container, data in (("ta-aaaaaaaa", b"1\n"), ("ta-bbbbbbbb", b"2\n"), ("ta-aaaaaaaa", b"3\n")):
        one.display.log(container, "Model", data)
    one.display.container_changed("ta-bbbbbbbb", "Model", "STOPPED", "")
    one.display.log("ta-aaaaaaaa", "Model", b"4\n")
    assert one.text()[0] == "1\nModel ta-bbbbbb | 2\nModel ta-aaaaaa | 3\nModel ta-aaaaaa | 4\n"


def test_timestamps(plain):
    one = plain(timestamps=True)
    one.display.log("a", "f", b"text\n")
    print("own")
    assert re.fullmatch(r"\d\d:\d\d:\d\d text\nown\n", one.text()[0])


def test_an_unfinished_line_appears_by_itself(plain, monkeypatch):
    seen = threading.Event()

    class Stream(io.StringIO):
        def write(self, text):
            if "waiting for ever" in text:
                seen.set()
            return super().write(text)

    stream = Stream()
    show = Display(stream, stream, live=False, quiet=False, timestamps=False)
    show.log("a", "f", b"waiting for ever")
    assert seen.wait(30)
    show.log("a", "f", b"!\n")
    show.close()
    assert stream.getvalue() == "waiting for ever\n!\n"


def test_lines_wait_for_the_programs_own_line_to_end(plain):
    one = plain()
    sys.stdout.write("result: 1")
    one.display.log("a", "f", b"log\n")
    sys.stdout.write("\n")
    assert one.text()[0] == "result: 1\nlog\n"


def test_lines_do_not_wait_for_ever(plain):
    one = plain()
    sys.stdout.write("Working")
    one.display.log("a", "f", b"log\n")
    from tests.conftest import wait_for

    wait_for(lambda: "log" in one.out.getvalue(), what="the line is shown")
    print("go on")
    assert one.text()[0] == "Working\nlog\ngo on\n"


def test_user_text_is_not_interpreted(plain):
    one = plain()
    for text in ("[bold]x[/bold] %s {0} :smile: [link=x]", "\x1b[31mred\x1b[0m", "tab\there", "x" * 5000):
        one.display.log("a", "f", text.encode() + b"\n")
    print("[red]own[/red]")
    assert one.text()[0].splitlines() == [
        "[bold]x[/bold] %s {0} :smile: [link=x]", "\x1b[31mred\x1b[0m", "tab\there", "x" * 5000, "[red]own[/red]",
    ]  # fmt: skip


def test_a_stream_that_cannot_take_the_text(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show = Display(out, out, live=False, quiet=False, timestamps=False)
    show.log("a", "f", "é ok\n".encode())
    show.app_ready("app")
    show.close()
    assert out.buffer.getvalue() == b"? ok\napp is ready\n"


def test_nobody_reads(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), open(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        show = Display(out, out, live=False, quiet=False, timestamps=False)
        show.log("a", "f", b"for nobody\n")
        show.app_ready("app")
        show.container_changed("a", "f", "STOPPED", "")
        show.close()
        print("the program is told", flush=True)


def test_a_forked_child_prints_by_itself(capfd, monkeypatch):
    with os.fdopen(os.dup(1), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        show = Display(out, out, live=False, quiet=False, timestamps=False)
        with show._screen.lock:
            pid = os.fork()
            if pid == 0:
                print("child", flush=True)
                os._exit(0 if sys.stdout is out else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        show.close()
    assert capfd.readouterr().out == "child\n"


def test_streams_are_given_back(plain, monkeypatch):
    one = plain()
    assert sys.stdout is not one.out
    assert (sys.stdout.encoding, sys.stdout.isatty()) == (one.out.encoding, False)
    one.display.close()
    assert sys.stdout is one.out


def test_what_the_program_put_there_stays(plain, monkeypatch):
    one = plain()
    sys.stdout = mine = io.StringIO()
    one.display.close()
    assert sys.stdout is mine


def test_print_of_what_is_no_text(plain):
    plain()
    with pytest.raises(TypeError):
        sys.stdout.write(b"bytes")


# ---- live ----


def test_only_the_programs_lines_are_left(live):
    show, terminal = live()
    show.app_creating("app")
    terminal.wait_for("creating app")
    print("own 1")
    show.app_ready("app")
    show.container_changed("ta-aaaaaaaa", "f", "ENTERING", "")
    terminal.wait_for("containers: 1 entering")
    show.container_changed("ta-aaaaaaaa", "f", "IDLE", "")
    show.log("ta-aaaaaaaa", "f", b"from inside\n")
    terminal.wait_for("● app · containers: 1 ready")
    print("own", 2, file=sys.stderr)
    show.app_stopping()
    terminal.wait_for("stopping: exit hooks run")
    show.container_changed("ta-aaaaaaaa", "f", "STOPPED", "")
    show.app_stopped()
    show.close()
    assert terminal.close() == ["own 1", "from inside", "own 2"]
    assert "\x1b[?7l" not in terminal.raw[terminal.raw.rindex("\x1b[?7h") :], "wrapping is on again"


def test_the_status_stands_below(live):
    show, terminal = live()
    show.app_creating("app")
    show.app_ready("app")
    for number in range(3):
        print("line", number)
        show.log("ta-aaaaaaaa", "f", f"log {number}\n".encode())
    expected = ["line 0", "log 0", "line 1", "log 1", "line 2", "log 2", "● app"]
    terminal.wait_seen(lambda seen: seen == expected)


def test_a_prompt_is_intact(live):
    show, terminal = live()
    show.app_ready("app")
    terminal.wait_for("● app")
    sys.stdout.write("Name? ")
    terminal.wait_seen(lambda seen: seen == ["Name?"] or seen == ["Name? "])
    show.container_changed("ta-aaaaaaaa", "f", "STARTING", "")
    sys.stdout.write("me\n")
    terminal.wait_seen(lambda seen: seen[0] == "Name? me" and "1 starting" in seen[-1])


def test_who_asks_for_the_descriptor_has_the_terminal(live):
    show, terminal = live()
    show.app_ready("app")
    terminal.wait_for("● app")
    os.write(sys.stdout.fileno(), b"past us ")
    os.write(sys.stdout.fileno(), b"and on\n")
    terminal.wait_seen(lambda seen: seen == ["past us and on"])
    print("a line")
    terminal.wait_seen(lambda seen: seen == ["past us and on", "a line", "● app"])


def test_long_lines_are_not_cut(live):
    show, terminal = live()
    show.app_ready("app")
    print("x" * 300)
    show.log("ta-aaaaaaaa", "f", b"y" * 300 + b"\n")
    terminal.wait_seen(lambda seen: seen[:2] == ["x" * 300, "y" * 300])


def test_the_status_is_cut_to_the_terminal(live):
    show, terminal = live()
    show.app_ready("a" * 200)
    terminal.wait_seen(lambda seen: seen == ["● " + "a" * 78])


def test_progress(live):
    show, terminal = live()
    show.app_ready("app")
    show.map_started("k", "Model.f", 200)
    show.map_started("l", "g", None)
    show.map_progress("k", 50, 200)
    show.map_progress("l", 7, None)
    terminal.wait_seen(
        lambda seen: len(seen) == 3 and " 50/200 " in seen[0] and "Model.f ━━━" in seen[0] and " 7/? " in seen[1]
    )
    show.map_progress("k", 200, 200)
    show.map_ended("k")
    show.map_ended("l")
    print("sum")
    terminal.wait_seen(lambda seen: seen == ["sum", "● app"])


def test_many_maps(live):
    show, terminal = live()
    for number in range(12):
        show.map_started(str(number), f"f{number}", 10)
    terminal.wait_seen(lambda seen: len(seen) == 9 and " 0/10 " in seen[7] and "and 4 more" in seen[8])


def test_colours_left_on_end_with_their_line(live):
    show, terminal = live()
    show.log("ta-aaaaaaaa", "f", b"\x1b[31mred\n")
    terminal.wait_for("\x1b[31mred\x1b[0m")


def test_no_colour(on_terminal, monkeypatch):
    terminal = on_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    show = Display(sys.stdout, sys.stderr, live=True, quiet=False, timestamps=False)
    show.notice("plain")
    show.close()
    assert terminal.close() == ["! plain"]
    assert "\x1b[33m" not in terminal.raw


def test_nothing_is_drawn_while_nothing_changes(live):
    show, terminal = live()
    show.app_ready("app")
    terminal.wait_for("● app")
    before = len(terminal.raw)
    assert show._due() is None, "the thread sleeps"
    assert len(terminal.raw) == before


def test_drawn_at_most_ten_times_a_second(live):
    show, terminal = live()
    import time

    show.app_ready("app")
    show.map_started("k", "f", 100_000)
    began = time.monotonic()
    for number in range(100_000):
        show.map_progress("k", number, 100_000)
    took = time.monotonic() - began
    show.close()
    terminal.close()
    assert terminal.raw.count("\x1b[?7l") <= took * 10 + 3


def test_many_threads(live):
    show, terminal = live()
    show.app_ready("app")

    def speak(name):
        for number in range(200):
            show.log(f"ta-{name * 8}", "f", f"{name}{number}\n".encode())
            show.container_changed(f"ta-{name * 8}", "f", "RUNNING" if number % 2 else "ENTERING", "")

    threads = [threading.Thread(target=speak, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for number in range(200):
        print("own", number)
    for thread in threads:
        thread.join()
    show.close()
    seen = terminal.close()
    assert len(seen) == 800
    assert [line for line in seen if line.startswith("own")] == [f"own {number}" for number in range(200)]
    for name in "abc":
        said = [line.rpartition("| ")[2] for line in seen if line.rpartition("| ")[2].startswith(name)]
        assert said == [f"{name}{number}" for number in range(200)]


# ---- which one ----


@pytest.mark.parametrize(
    ("term", "quiet", "is_live"), [("xterm", False, True), ("dumb", False, False), ("xterm", True, False)]
)
def test_which_display(on_terminal, monkeypatch, term, quiet, is_live):
    on_terminal()
    monkeypatch.setenv("TERM", term)
    show = make_display(quiet=quiet, timestamps=False)
    try:
        assert show._live is is_live
    finally:
        show.close()


def test_an_unfinished_line_stays_below(live):
    show, terminal = live()
    sys.stdout.write("Working")
    show.log("ta-aaaaaaaa", "f", b"log\n")
    terminal.wait_seen(lambda seen: seen == ["log", "Working"])
    sys.stdout.write(" on\n")
    show.close()
    assert terminal.close() == ["log", "Working on"]


def test_an_unfinished_line_that_is_too_wide_is_ended(live):
    show, terminal = live()
    sys.stdout.write("é" * 50)
    show.log("ta-aaaaaaaa", "f", b"log\n")
    terminal.wait_seen(lambda seen: seen == ["é" * 50, "log"])


def test_a_bar_of_the_programs_own(live):
    show, terminal = live()
    for text in ("\r 10 %", "\r 20 %", "\r100 %"):
        sys.stdout.write(text)
    show.log("ta-aaaaaaaa", "f", b"log\n")
    terminal.wait_seen(lambda seen: seen == ["log", "100 %"])


# ---- lines that containers have begun ----


def test_a_containers_unfinished_line_is_shown_and_stays_whole(live):
    show, terminal = live()
    show.app_ready("app")
    show.log("ta-aaaaaaaa", "f", b"loading")
    terminal.wait_seen(lambda seen: seen == ["loading", "● app"])
    print("own")
    show.log("ta-aaaaaaaa", "f", b" on")
    terminal.wait_seen(lambda seen: seen == ["own", "loading on", "● app"])
    show.log("ta-aaaaaaaa", "f", b" done\n")
    terminal.wait_seen(lambda seen: seen == ["own", "loading on done", "● app"])


def test_a_containers_progress_bar_moves_in_its_place(live):
    show, terminal = live()
    show.app_ready("app")
    for state in ("10", "20", "90"):
        show.log("ta-aaaaaaaa", "f", f"\r{state} %".encode())
        terminal.wait_seen(lambda seen, state=state: seen == [f"{state} %", "● app"])
    show.log("ta-aaaaaaaa", "f", b"\rdone\n")
    show.container_changed("ta-aaaaaaaa", "f", "STOPPED", "")
    show.app_stopped()


def test_a_line_that_its_container_never_ends(live):
    show, terminal = live()
    show.app_ready("app")
    show.log("ta-aaaaaaaa", "f", b"the last \x1b[1mwords")
    terminal.wait_seen(lambda seen: seen == ["the last words", "● app"])
    show.container_changed("ta-aaaaaaaa", "f", "FAILED", "killed by signal 9")
    show.app_stopped()
    show.close()
    assert terminal.close() == ["the last words", "✗ f (ta-aaaaaa) failed: killed by signal 9"]
