"""A real browser opens what is served: the front page, and the example's chat, over a cold start."""

import re
import signal
from pathlib import Path

import pytest

from tests.conftest import Need, assert_nothing_left
from tests.e2e.programs import start

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "web.py"


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = Need.file("/usr/bin/chromium*")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=str(program.parent / "chromium"), args=options)
        yield opened
        opened.close()


def test_two_people_chat(home, browser):
    served = start("serve", "--no-reload", str(EXAMPLE), GREENROOM_HOME=str(home))
    assert served.stderr is not None
    said = ""
    while "answers at" not in said:
        line = served.stderr.readline()
        assert line, said
        said += line
    url = re.findall(r"answers at (\S+)", said)[0]
    one, other = browser.new_page(), browser.new_page()
    one.goto(url.rpartition("/chat-")[0] + "/")
    one.click("text=chat.Room.web")
    assert one.url == url
    one.wait_for_selector("text=Welcome!")
    other.goto(url)
    one.wait_for_selector("text=2 people are here")
    one.fill("#text", "<b>hello</b>")
    one.keyboard.press("Enter")
    other.wait_for_selector("text=<b>hello</b>")
    other.close()
    one.wait_for_selector("text=1 person is here")
    served.send_signal(signal.SIGINT)
    one.wait_for_selector("text=gone; reload the page")
    printed, rest = served.communicate(timeout=60)
    assert served.returncode == 130, rest
    assert "1 lines were said" in printed
    assert_nothing_left(home)
