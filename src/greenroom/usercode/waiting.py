"""A function that does nothing until it is cancelled: what runs in a container that somebody looks around in."""

import threading


def shell() -> None:
    """Wait to be cancelled."""
    threading.Event().wait()
