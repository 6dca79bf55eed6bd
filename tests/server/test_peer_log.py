"""How many lines a source may cause."""

from greenroom.server.peer_log import LINES, MOST_SOURCES, PERIOD, PeerLog
from greenroom.testing import HeldClock


def test_a_few_lines_of_each_and_the_others_counted():
    lines, clock = [], HeldClock()
    log = PeerLog(lines.append, clock.call_later)
    for _ in range(1000):
        log.say("ta-1", "no")
    log.say("ta-2", "what?")
    assert lines == ["no"] * LINES + ["what?"]
    clock.pass_time(PERIOD)
    assert lines[LINES + 1 :] == [f"{1000 - LINES} further lines about ta-1 were left out within 10 s"]
    log.say("ta-1", "no again")
    assert lines[-1] == "no again"


def test_sources_without_end_count_as_one():
    lines, clock = [], HeldClock()
    log = PeerLog(lines.append, clock.call_later)
    for number in range(10 * MOST_SOURCES):
        log.say(f"ta-{number}", "no")
    assert len(lines) == MOST_SOURCES + LINES
    clock.pass_time(PERIOD)
    assert lines[-1].endswith("further lines about others were left out within 10 s")
