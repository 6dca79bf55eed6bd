"""This machine's settings of pip, as uv has them: uv reads none of pip's, and people have set up pip.

Source: pip's documentation, "Configuration" (its files, their order, sections, variables) and "pip install"; uv's, "Environment
variables" and "Compatibility with pip".
"""

import configparser
import math
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from greenroom.model.errors import ImageBuildError

_SECTIONS = ("global", "install")
_TRUE = ("y", "yes", "t", "true", "on", "1")
_LISTS = (
    ("find-links", "UV_FIND_LINKS", ",", "--find-links"),
    ("constraint", "UV_CONSTRAINT", " ", "--constraints"),
    ("trusted-host", "UV_INSECURE_HOST", " ", "--allow-insecure-host"),
)
"""pip's option, uv's variable, what that is split at, and uv's option."""
_FILES = (("cert", "SSL_CERT_FILE"), ("client-cert", "SSL_CLIENT_CERT"))
_SAME = {
    "-i": "--index-url", "--default-index": "--index-url", "--index": "--extra-index-url", "-f": "--find-links",
    "-c": "--constraints", "--constraint": "--constraints", "--trusted-host": "--allow-insecure-host",
}  # fmt: skip
"""Other names of uv's options."""
_OLDER = {"UV_DEFAULT_INDEX": ("UV_INDEX_URL",), "UV_INDEX": ("UV_EXTRA_INDEX_URL",),
          "UV_HTTP_TIMEOUT": ("UV_REQUEST_TIMEOUT", "HTTP_TIMEOUT")}  # fmt: skip
_OF_TOML = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS", "no-index": "--no-index",
    "allow-insecure-host": "UV_INSECURE_HOST", "index-strategy": "UV_INDEX_STRATEGY", "prerelease": "UV_PRERELEASE",
}  # fmt: skip


class ForUv(NamedTuple):
    """What to give to ``uv pip install``."""

    environment: dict[str, str]
    options: list[str]
    """What no variable can say; or none would beside an option that the step has."""


class Configuration(NamedTuple):
    """pip's files, in the order in which it reads them."""

    machine: list[str]
    user: list[str]
    others: list[str]
    """Its Python's, and the one that ``PIP_CONFIG_FILE`` names."""


def files_of(environ: Mapping[str, str], prefix: str = sys.prefix) -> Configuration:
    """Where pip has its settings, whether they are there or not."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return Configuration([], [], [])
    home = environ.get("HOME") or os.path.expanduser("~")
    directories = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    machine = [*(f"{path}/pip/pip.conf" for path in directories if path), "/etc/pip.conf"]
    user = [f"{home}/.pip/pip.conf", f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/pip/pip.conf"]
    instead = os.path.exists(named)
    return Configuration(machine, [] if instead else user, [f"{prefix}/pip.conf", *([named] if named else [])])


def settings_of(environ: Mapping[str, str], files: Iterable[str], *, damaged: bool = True) -> dict[str, str]:
    """Options by their long names: what is for ``install`` comes before what is for all, and variables come before files.

    Raises:
        ImageBuildError: a file is damaged; without ``damaged``, it is passed over.
    """
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except (configparser.Error, OSError, UnicodeDecodeError) as error:
            if damaged:
                said = str(error).partition("\n")[0]
                raise ImageBuildError(f"{path}, pip's settings, can't be read: {said}") from None
            continue
        for section in _SECTIONS:
            if parser.has_section(section):
                found[section].update({_name(name): value for name, value in parser.items(section) if value})
    variables = {_name(name[4:]): value for name, value in environ.items() if name.startswith("PIP_") and value}
    return {**found["global"], **found["install"], **variables}


def for_uv(
    settings: Mapping[str, str], environ: Mapping[str, str], toml: frozenset[str], options: Iterable[str]
) -> ForUv:
    """pip's settings as uv's, where uv's own aren't set.

    Args:
        settings: see :func:`settings_of`.
        environ: with uv's own variables.
        toml: see :func:`set_by_toml`.
        options: that the step has, see :func:`names_of`.
    """
    named = {_SAME.get(option, option) for option in options}
    own = {name for name in environ if environ[name]} | toml
    made: dict[str, str] = {}
    more: list[str] = []

    def is_free(variable: str) -> bool:
        return not own & {variable, *_OLDER.get(variable, ())}

    extra = [place for place in settings.get("extra-index-url", "").split() if is_there(place)]
    default = settings.get("index-url", "")
    if _is_true(settings.get("no-index", "")):
        extra, default = [], ""
        if is_free("--no-index") and is_free("UV_DEFAULT_INDEX") and is_free("UV_INDEX"):
            more.append("--no-index")
    if default and "--index-url" not in named and is_free("UV_DEFAULT_INDEX"):
        # One that isn't there has nothing; but that doesn't bring back the index that it stands for.
        if is_there(default):
            made["UV_DEFAULT_INDEX"] = default
        elif extra:
            made["UV_DEFAULT_INDEX"] = extra.pop(0)
        elif is_free("UV_INDEX") and "--extra-index-url" not in named:
            more.append("--no-index")
    if extra and is_free("UV_INDEX"):
        made["UV_INDEX"] = " ".join(extra)
    if ("UV_INDEX" in made or "--extra-index-url" in named) and is_free("UV_INDEX_STRATEGY"):
        made["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip asks all, and takes the best of what they have
    for name, variable, separator, option in _LISTS:
        values = [_whole(name, value) for value in settings.get(name, "").split()]
        if name == "find-links":
            values = [value for value in values if is_there(value)]
        if not values or not is_free(variable):
            continue
        if option in named or any(separator in value for value in values):
            more += [word for value in values for word in (option, value)]  # an option would hide the variable
        else:
            made[variable] = separator.join(values)
    for name, variable in _FILES:
        if name in settings and is_free(variable):
            made[variable] = os.path.expanduser(settings[name])
    if _is_true(settings.get("pre", "")) and is_free("UV_PRERELEASE"):
        made["UV_PRERELEASE"] = "allow"
    if (seconds := _seconds(settings)) and is_free("UV_HTTP_TIMEOUT"):
        made["UV_HTTP_TIMEOUT"] = seconds
    return ForUv(made, more)


def set_by_toml(files: Iterable[str]) -> frozenset[str]:
    """What uv's own files say, by the name of the variable, or option, that would say it too."""
    found: set[str] = set()
    for path in files:
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # it isn't there, or uv says what is wrong with it
        for table in (data, data.get("pip")):
            if isinstance(table, dict):
                found |= {variable for name, variable in _OF_TOML.items() if name in table}
                indexes = table.get("index")
                found |= {_of_index(index) for index in (indexes if isinstance(indexes, list) else [])}
    return frozenset(found)


def places_in(settings: Mapping[str, str]) -> Iterator[str]:
    """What they name: indexes, directories, files."""
    for name in ("index-url", "extra-index-url", "find-links", "constraint"):
        for value in settings.get(name, "").split():
            yield _whole(name, value)
    for name, _ in _FILES:
        if name in settings:
            yield os.path.expanduser(settings[name])


def names_of(words: Iterable[str]) -> list[str]:
    """The options among words, without the values that are joined to them."""
    return [word.partition("=")[0] for word in words if word.startswith("-")]


def path_of(place: str) -> str:
    """Of a ``file://`` address, or of a path; ``""``: it is elsewhere."""
    path = unquote(urlsplit(place).path) if place.startswith("file:") else place
    return path if os.path.isabs(path) else ""


def is_there(place: str) -> bool:
    """Whether it is elsewhere, or on this machine indeed: pip passes over directories that aren't."""
    path = path_of(place)
    return not path or os.path.exists(path)


def _name(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _whole(name: str, value: str) -> str:
    """A file or directory by its whole path: a step has another working directory."""
    if name == "trusted-host" or "://" in value or value.startswith("file:"):
        return value
    path = os.path.expanduser(value)
    return os.path.abspath(path) if name in ("constraint", "find-links") else path


def _is_true(text: str) -> bool:
    return text.strip().lower() in _TRUE


def _seconds(settings: Mapping[str, str]) -> str:
    """Whole ones, as uv wants them; ``""``: none."""
    try:
        return str(math.ceil(float(settings.get("timeout") or settings.get("default-timeout") or "0")) or "")
    except (ValueError, OverflowError):
        return ""


def _of_index(index: Any) -> str:
    return "UV_DEFAULT_INDEX" if isinstance(index, dict) and index.get("default") else "UV_INDEX"
