"""Servers on other machines, by name: ``greenroom.toml`` in the user's XDG configuration directory.

::

    active = "build"

    [profile.build]
    server = "build.example.org:7100"
    token = "gc-…"
    fingerprint = "SHA256:…"

It holds tokens, so nobody but its user may read it.
"""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from greenroom.model.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from greenroom.sdk.address import Address

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED = ("own", "local")


class Profile(NamedTuple):
    """One of them."""

    server: str
    """``HOST:PORT``."""
    token: str
    fingerprint: str = ""
    """Of its certificate; ``""``: an authority that this machine trusts vouches for it."""


class Profiles(NamedTuple):
    """All of them."""

    active: str
    """The name of the one that is used where nothing else is said; ``""``: none."""
    by_name: dict[str, Profile]


def file() -> Path:
    """Where they are."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(configuration, "greenroom.toml")


def check_name(name: str) -> None:
    """Raise InvalidError, unless a profile can be called that."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        kept = f"; {' and '.join(_RESERVED)} mean servers of this machine" if name in _RESERVED else ""
        raise InvalidError(f"{name!r} can't be a profile's name: letters, digits, - and _, 64 at the most{kept}")


def read() -> Profiles:
    """Those that there are.

    Raises:
        InvalidError: the file makes no sense, with the line; or others may read it.
    """
    path = file()
    try:
        with open(path, "rb") as opened:
            text, mode = opened.read().decode(), os.fstat(opened.fileno()).st_mode
    except FileNotFoundError:
        return Profiles("", {})
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InvalidError(f"{path} can't be read: {why}; mend it, or remove it") from None
    found = _parsed(path, text)
    if mode & 0o077 and any(profile.token for profile in found.by_name.values()):
        raise InvalidError(f"others than you may read {path}, which holds tokens: chmod 600 {path}")
    return found


def _parsed(path: Path, text: str) -> Profiles:
    data = _toml(path, text)
    by_name: dict[str, Profile] = {}
    profiles = data.get("profile", {})
    for key in data:
        if key not in ("active", "profile"):
            raise _wrong(
                path, text, rf"\s*\[*\s*{re.escape(key)}\b", f"there is no {key}: it has active and [profile.NAME]"
            )
    if not isinstance(profiles, dict) or not isinstance(data.get("active", ""), str):
        raise _wrong(
            path, text, r"\s*(active|profile)\b", 'write active = "NAME", and [profile.NAME] before what a profile has'
        )
    for name, fields in profiles.items():
        where = rf"\s*\[\s*profile\s*\.\s*[\"']?{re.escape(name)}\b"
        if not isinstance(fields, dict):
            raise _wrong(path, text, rf"\s*{re.escape(name)}\b", f"write [profile.{name}] before what it has")
        for key, value in fields.items():
            if key not in Profile._fields or not isinstance(value, str):
                fix = f"a profile has {', '.join(Profile._fields)}, each a text in quotes"
                raise _wrong(path, text, rf"\s*{re.escape(key)}\b", fix, where)
        if not fields.get("server") or not fields.get("token"):
            lacks = "server" if not fields.get("server") else "token"
            raise _wrong(
                path, text, where, f"the profile {name} lacks its {lacks}: greenroom profile set {name} --{lacks} …"
            )
        by_name[name] = Profile(**fields)
    active = data.get("active", "")
    if active and active not in by_name and active not in _RESERVED:
        raise _wrong(path, text, r"\s*active\b", f"there is no profile {active}; {_there(by_name)}")
    return Profiles(active, by_name)


def _toml(path: Path, text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            fix = "mend it, or remove it and `greenroom profile set` anew"
            raise InvalidError(f"{path} makes no sense: {error}; {fix}") from None
    raise InvalidError(f"{path} needs Python 3.11 or newer to be read; set GREENROOM_SERVER to HOST:PORT instead")


def _wrong(path: Path, text: str, pattern: str, what: str, after: str = "") -> InvalidError:
    """``pattern``: how the line begins that is wrong; ``after``: of those behind one that begins so."""
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines) if after and re.match(after, line)), 0)
    number = next((n for n, line in enumerate(lines[first:], first + 1) if re.match(pattern, line)), first + 1)
    return InvalidError(f"{path}, line {number}: {what}")


def _there(by_name: dict[str, Profile]) -> str:
    return f"there are: {', '.join(sorted(by_name)) or 'none'}"


def write(profiles: Profiles) -> None:
    """Keep them, whole or not at all; raises OSError."""
    import json

    lines = ["# By `greenroom profile`. It holds tokens: nobody else may read it."]
    if profiles.active:
        lines.append(f"active = {json.dumps(profiles.active)}")
    for name, profile in profiles.by_name.items():
        lines += ["", f"[profile.{name}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in profile._asdict().items() if value]
    path = file()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(opened.fileno(), 0o600)
        opened.write("\n".join(lines) + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    os.rename(new, path)


def find(name: str) -> Profile:
    """The one of that name; raises NotFoundError, or InvalidError."""
    known = read()
    if name not in known.by_name:
        raise NotFoundError(f"there is no profile {name!r} in {file()}; {_there(known.by_name)}")
    return known.by_name[name]


def address_of(name: str) -> "Address | None":
    """The server of the profile of that name, ``""``: of the active one; None: there is none.

    Raises:
        NotFoundError: there is none of that name.
        InvalidError: the file makes no sense.
    """
    if not name:
        known = read()
        if known.active in ("", *_RESERVED):
            return None
        profile, name = known.by_name[known.active], known.active
    else:
        profile = find(name)
    from greenroom.sdk.address import Address
    from greenroom.wire.far import Far, check_fingerprint, read_address

    where = f"the profile {name} in {file()}"
    host, port = read_address(where, profile.server)
    pinned = profile.fingerprint and check_fingerprint(where, profile.fingerprint)
    return Address("", profile.token, far=Far(host, port, pinned))
