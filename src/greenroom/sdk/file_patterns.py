"""Which files of a directory don't go along: patterns as in a ``.dockerignore`` file.

Source: Docker's reference of ``.dockerignore``: patterns are relative to the directory, ``*``, ``?`` and ``[a-z]`` don't cross
``/``, ``**`` does, a match on a directory is one on all that is in it, ``!`` takes files back in, the last line that fits
decides. In a file, a line that begins with ``#`` is a comment.
"""

import posixpath
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from greenroom.model.errors import InvalidError

if TYPE_CHECKING:
    from pathlib import Path

Ignore = Callable[["Path"], bool]
"""Whether a path, relative to the directory, stays behind."""


class FilePatternMatcher:
    """Says of a path, relative to some directory, whether one of the patterns fits it.

    Args:
        pattern: as in a ``.dockerignore`` file.

    Raises:
        InvalidError: a pattern is no text, or can't be one.
    """

    def __init__(self, *pattern: str) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        self.takes_back = False
        """Whether something within a directory that fits may not."""
        for text in pattern:
            if not isinstance(text, str):
                raise InvalidError(f"FilePatternMatcher takes patterns as text, not {text!r}")
            text = text.strip()
            negated = text.startswith("!")
            bare = text[negated:].strip()
            if negated and not bare:
                raise InvalidError('the pattern "!" takes nothing back in: write what, such as "!keep.txt"')
            if bare:
                self._rules.append((not negated, _compile(bare)))
                self.takes_back |= negated

    @classmethod
    def from_file(cls, file_path: "str | Path") -> "FilePatternMatcher":
        """From the lines of a file, such as ``.dockerignore``.

        Raises:
            InvalidError: it can't be read.
        """
        try:
            with open(file_path, encoding="utf-8-sig") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidError(f"FilePatternMatcher.from_file({str(file_path)!r}): {error}") from None
        return cls(*(line for line in lines if not line.startswith("#")))

    def __call__(self, path: "Path") -> bool:
        """Whether it fits."""
        fits = False
        for verdict, rule in self._rules:
            if fits != verdict and rule.match(path.as_posix()):
                fits = verdict
        return fits

    def __invert__(self) -> Ignore:
        return lambda path: not self(path)


def may_hold(pattern: str) -> Ignore:
    """Says of a directory whether it, or something in it, may fit a pattern: as far as that has no ``**`` and no brackets."""
    parts = posixpath.normpath(pattern).strip("/").split("/")
    sure = next((place for place, part in enumerate(parts) if "**" in part or "[" in part), len(parts))
    rules = [_compile(part) for part in parts[:sure]]
    return lambda path: all(rule.match(part) for rule, part in zip(rules, path.parts, strict=False))


def read_ignore(where: str, ignore: Iterable[str] | Ignore | None) -> Ignore:
    """What ``ignore=`` says: patterns, or something to call; raises ``InvalidError``."""
    if ignore is None:
        return lambda path: False
    if callable(ignore):
        return ignore
    if isinstance(ignore, str):
        raise InvalidError(f"{where}: ignore= takes a list of patterns: write [{ignore!r}]")
    if not hasattr(ignore, "__iter__"):
        raise InvalidError(
            f"{where}: ignore= takes a list of patterns, not {ignore!r:.80}; FilePatternMatcher.from_file reads them from a file"
        )
    return FilePatternMatcher(*ignore)


def _compile(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    rest = posixpath.normpath(pattern).strip("/")
    while rest:
        if rest.startswith("**/"):
            part, rest = "(?:.*/)?", rest[3:]
        elif rest.startswith("**"):
            part, rest = ".*", rest[2:]
        elif rest[0] == "*":
            part, rest = "[^/]*", rest[1:]
        elif rest[0] == "?":
            part, rest = "[^/]", rest[1:]
        elif rest[0] == "[":
            part, rest = _brackets(pattern, rest)
        elif rest[0] == "\\" and len(rest) > 1:
            part, rest = re.escape(rest[1]), rest[2:]
        else:
            part, rest = re.escape(rest[0]), rest[1:]
        parts.append(part)
    return re.compile("".join(parts) + r"(?:/.*)?\Z", re.DOTALL)


_BRACKETS = re.compile(r"\[([!^]?)((?:\\.|[^\\\]])+)\]", re.DOTALL)
_RANGE = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.DOTALL)


def _brackets(pattern: str, rest: str) -> tuple[str, str]:
    """The characters between brackets, as a regular expression, and what comes after them."""
    found = _BRACKETS.match(rest)
    if found is None:
        raise InvalidError(
            f"the pattern {pattern!r} opens a bracket and doesn't close it: write \\[ for the character itself"
        )
    parts = []
    for each in _RANGE.finditer(found[2]):
        low, high = each[1][-1], (each[2] or each[1])[-1]
        if low > high:
            raise InvalidError(f"the pattern {pattern!r} has a range that ends before it begins: {each[0]}")
        parts.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"(?!/)[{'^' * bool(found[1])}{''.join(parts)}]", rest[found.end() :]
