"""What a server can be told, each with the default and the environment variable that overrides it."""

import os
from pathlib import Path
from typing import NamedTuple

from greenroom.model.errors import InvalidError

MAX_INLINE = 16 * 1024**2
"""Bytes beyond which no payload fits into a frame with others."""
SANDBOXES = ("auto", "oci", "process")


class Settings(NamedTuple):
    """Seconds and bytes; each field is read from ``GREENROOM_<FIELD>``."""

    exit_grace: float = 30.0
    """Seconds that lifespan shutdown and all exit hooks of a container have together."""
    cancel_grace: float = 5.0
    """Seconds that a cancelled input, or a stopped start-up, has to stop."""
    reconnect_window: float = 10.0
    """Seconds that containers of deployed apps go on without their server: the next one has them again by then, or they end."""
    max_payload: int = 4 * 1024**3
    """Bytes that one argument or one result may have."""
    inline_limit: int = 1024**2
    """Bytes from which on a payload travels as a file descriptor rather than in the frame."""
    max_containers: int = 200
    """Containers that one function may have when it doesn't say."""
    max_starting: int = 0
    """Containers that may be starting at once; 0: one and a half for each core."""
    pids_limit: int = 4096
    """Processes and threads that one real container may have."""
    sandbox: str = "auto"
    """``oci``: real containers; ``process``: plain processes; ``auto``: the first of them that can be had."""
    runtime: str = ""
    """Name or path of the program that starts real containers; ``""``: crun, else runc."""
    web_host: str = "127.0.0.1"
    """Address that web endpoints are served at."""
    web_port: int = 0
    """0: the first that is free from 8000 on."""
    web_domain: str = ""
    """Endpoints answer at ``<label>.<domain>`` too, and say that they do; ``""``: by path alone."""
    web_certificate: str = ""
    """File of a TLS certificate, with those that it stands on; ``""``: plain HTTP."""
    web_key: str = ""
    """File of its key; ``""``: it is in the certificate's file."""
    web_trusted: str = ""
    """Addresses of proxies whose word on a client's address and scheme counts, split by ``,``."""
    web_log: int = 0
    """Lines about requests that are shown each second; ``greenroom serve`` shows 20."""
    shared_dirs: str = ""
    """Directories of this machine that every real container finds, writable, at their own paths; split by ``:``."""

    def environment(self) -> dict[str, str]:
        """The variables that say the same to another process."""
        return {f"GREENROOM_{name.upper()}": str(value) for name, value in self._asdict().items()}


def settings_from_environment(environ: "os._Environ[str] | dict[str, str]" = os.environ) -> Settings:
    """The defaults, with what the environment overrides.

    Raises:
        InvalidError: a variable isn't a number, or is negative.
    """
    values: dict[str, float | str] = {}
    for name, default in Settings._field_defaults.items():
        text = environ.get(variable := f"GREENROOM_{name.upper()}")
        if not text:  # an empty one is as good as none, as the command line's options have it
            continue
        if isinstance(default, str):
            values[name] = _text(variable, name, text)
            continue
        try:
            value = type(default)(text)
        except ValueError:
            raise InvalidError(f"{variable}={text!r} is not a number; unset it or give one like {default}") from None
        if value < 0:
            raise InvalidError(f"{variable}={text!r} is negative; unset it or give one like {default}")
        if name == "inline_limit" and value > MAX_INLINE:
            raise InvalidError(f"{variable}={text!r} is past the limit of {MAX_INLINE} bytes; unset it or give less")
        values[name] = value
    return Settings(**values)  # type: ignore[arg-type]


def _text(variable: str, name: str, text: str) -> str:
    if name == "sandbox" and text not in SANDBOXES:
        raise InvalidError(f"{variable}={text!r}: unset it or give one of {', '.join(SANDBOXES)}")
    if name == "shared_dirs":
        for path in filter(None, text.split(":")):
            if not os.path.isabs(path) or not os.path.isdir(path):
                raise InvalidError(f"{variable}: {path!r} is no directory's absolute path")
    return text


def own_environment() -> dict[str, str]:
    """The environment for processes of our own: this one's, but that they may keep byte-code, or each start compiles."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def home_directory(environ: "os._Environ[str] | dict[str, str]" = os.environ) -> Path:
    """Where Greenroom keeps its state: ``$GREENROOM_HOME``, else ``greenroom`` in the user's XDG state directory.

    Raises:
        InvalidError: the path is relative to a directory that isn't there any more.
    """
    home = environ.get("GREENROOM_HOME")
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    path = Path(home) if home else Path(state, "greenroom")
    try:
        return path.absolute()
    except FileNotFoundError:
        raise InvalidError(
            f"the state directory {path} can't be found: the directory that this is run in has been deleted; "
            "set GREENROOM_HOME to an absolute path"
        ) from None
