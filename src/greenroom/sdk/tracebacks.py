"""An uncaught exception of a program that runs apps is printed as the user's own: without Greenroom's frames."""

import sys
from types import TracebackType

_installed = False


def show_without_our_frames() -> None:
    """Take our frames out of what ``sys.excepthook`` prints, from now on; whoever set the hook still prints it."""
    global _installed
    if _installed:
        return
    _installed = True
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        import traceback

        from greenroom.usercode.exceptions import hide_own_frames

        error.__traceback__ = tb
        hide_own_frames(error)
        if before is sys.__excepthook__:
            # Not the interpreter's own printer, which marks columns that frames of another process don't have.
            traceback.print_exception(error)
        else:
            before(kind, error, error.__traceback__)

    sys.excepthook = hook
