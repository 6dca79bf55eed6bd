"""The last moments of a run that a signal ends: its status is 130, whatever else comes."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import atexit, os, signal, sys, threading, time
    from greenroom.cli.signals import Signals

    def again():
        os.kill(os.getpid(), signal.SIGINT)

    if "{when}" == "atexit":
        atexit.register(again)  # called after what Signals registers, which is called after the program's own
    with Signals() as signals:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            pass
    if "{when}" == "after":
        again()
    elif "{when}" == "thrice":
        again()
        threading.Timer(0.2, again).start()
        time.sleep(30)
    print("to the end", flush=True)
    sys.exit(signals.status)
"""


@pytest.mark.parametrize(("when", "prints"), [("after", True), ("atexit", True), ("thrice", False)])
def test_a_signal_more_at_the_end(when, prints):
    program = textwrap.dedent(PROGRAM).replace("{when}", when)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (result.returncode, result.stdout) == (130, "to the end\n" if prints else ""), result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_signal_the_handlers_are_as_before():
    program = """
        import signal
        from greenroom.cli.signals import Signals
        before = signal.getsignal(signal.SIGINT)
        with Signals() as signals:
            assert signal.getsignal(signal.SIGINT) is not before
        assert signal.getsignal(signal.SIGINT) is before and signals.status is None
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=20, check=True)
