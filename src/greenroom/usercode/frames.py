"""Whose a frame is: the user's, or ours; and where its file is on the user's machine."""

import os

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_INTERRUPTIBLE = (os.path.join(_OWN, "sdk", ""), os.path.join(_OWN, "wire", "connection.py"))
_ASYNCIO = os.path.join(os.path.dirname(os.__file__), "asyncio", "")

_code = ""
_origins: dict[str, str] | None = None


def is_ours(filename: str) -> bool:
    """Greenroom's own code, or what works on its behalf: no traceback of the user's shows it."""
    return filename.startswith((_OWN, "<frozen importlib", "<frozen runpy")) or "/cloudpickle/" in filename


def is_event_loop(filename: str) -> bool:
    """The standard library's event loop."""
    return filename.startswith(_ASYNCIO)


def is_uninterruptible(filename: str) -> bool:
    """Code of ours in which no interrupt may land: all, but for what the user's own calls wait in."""
    return filename.startswith(_OWN) and not filename.startswith(_INTERRUPTIBLE)


def came_from(code: str) -> None:
    """The program's files lie in that directory, a bundle's copy."""
    global _code, _origins
    _code, _origins = code, None


def at_home(filename: str) -> str:
    """A file's path on the user's machine."""
    global _origins
    if not _code or not filename.startswith(_code + os.sep):
        return filename
    if _origins is None:
        _origins = _read_origins()
    return _origins.get(filename[len(_code) + 1 :], filename)


def _read_origins() -> dict[str, str]:
    import json

    path = os.path.join(_code, ".greenroom-origins")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        origins: dict[str, str] = json.load(file)
    return origins
