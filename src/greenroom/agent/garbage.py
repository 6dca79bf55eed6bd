"""Python's search for cyclic garbage while a container starts: what imports make stays, so that it mostly looks in vain.

At the usual pace it goes through those objects a hundred times while FastAPI is imported, for 8 % of that time.
"""

import gc

RARELY = 100_000
"""Objects after which it looks for garbage among them, instead of 700: what a wasteful import may leave is bounded still."""
_USUAL = gc.get_threshold()


def collect_rarely() -> None:
    """From now on."""
    gc.set_threshold(RARELY, *_USUAL[1:])


def collect_as_usual() -> None:
    """From now on, unless the user's code has set it otherwise; what is there by now counts as old."""
    if gc.get_threshold()[0] == RARELY:
        gc.set_threshold(*_USUAL)
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
