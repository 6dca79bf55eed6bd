"""How an input ended, in the words of the wire."""


class Status:
    """How an input ended, as ``Outputs`` and ``Results`` say it."""

    OK = "ok"
    """The payload is the pickled result."""
    ERROR = "error"
    """The payload is the pickled exception (``usercode/exceptions.py``)."""
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    """The container died; ``detail`` says how."""
    REFUSED = "refused"
    """Could not be run at all; ``detail`` is ``ErrorName: text``."""
    END = "end"
    """A generator is exhausted."""
