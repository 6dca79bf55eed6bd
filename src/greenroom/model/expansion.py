"""Variables within text, as Dockerfiles have them.

Source: Docker's Dockerfile reference, "Environment replacement".
"""

import re
from collections.abc import Mapping

from greenroom.model.errors import InvalidError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+")
_OPERATOR = re.compile(r":?[-+]")
_SPECIAL = re.compile(r"([\\$}])")


def expand(text: str, variables: Mapping[str, str], *, kept: bool = False) -> str:
    r"""``$NAME``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:+instead}`` by their values; ``\`` takes a character for itself.

    What has no value becomes empty. Or it is ``kept``, to be expanded once more where its value is known, and so are the
    characters that mean something there.

    Raises:
        InvalidError: a brace that isn't closed, or anything else in one; or they are nested too deep.
    """
    try:
        return _expand(text, 0, variables, kept=kept, inner=False)[0]
    except RecursionError:
        raise InvalidError(f"{text!r:.80} is nested too deep") from None


def escaped(text: str) -> str:
    """What :func:`expand` gives back as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def names_in(text: str) -> set[str]:
    """The variables that count in it."""
    found: set[str] = set()

    class Names(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            found.add(str(name))
            return False

    expand(text, Names(), kept=True)
    return found


def _expand(text: str, place: int, variables: Mapping[str, str], *, kept: bool, inner: bool) -> tuple[str, int]:
    """From ``place`` on, to the end or (``inner``) to the brace that closes; and where that is."""
    parts: list[str] = []
    while place < len(text):
        char = text[place]
        if inner and char == "}":
            return "".join(parts), place
        if char == "\\" and place + 1 < len(text):
            parts.append(text[place : place + 2] if kept else text[place + 1])
            place += 2
        elif char == "$":
            part, place = _variable(text, place + 1, variables, kept=kept)
            parts.append(part)
        else:
            parts.append(char)
            place += 1
    if inner:
        raise InvalidError(f"{text!r:.80} has a ${{ that isn't closed: write \\$ for the character itself")
    return "".join(parts), place


def _variable(text: str, place: int, variables: Mapping[str, str], *, kept: bool) -> tuple[str, int]:
    """The one whose ``$`` is before ``place``."""
    braced = text.startswith("{", place)
    name = _NAME.match(text, place + braced)
    if not braced:
        if name is None:
            return "$", place
        if kept and name[0] not in variables:
            return f"${{{name[0]}}}", name.end()  # what comes after it may be known, and begin with a letter
        return _value(variables, name[0], kept=kept), name.end()
    operator = _OPERATOR.match(text, name.end()) if name is not None else None
    if name is None or (operator is None and not text.startswith("}", name.end())):
        raise InvalidError(
            f"{text!r:.80}: of ${{…}}, only ${{NAME}}, ${{NAME:-default}} and ${{NAME:+instead}} are known: "
            "write \\$ for the character itself"
        )
    if operator is None:
        if kept and name[0] not in variables:
            return f"${{{name[0]}}}", name.end() + 1
        return _value(variables, name[0], kept=kept), name.end() + 1
    word, end = _expand(text, operator.end(), variables, kept=kept, inner=True)
    if kept and name[0] not in variables:
        return f"${{{name[0]}{operator[0]}{word}}}", end + 1
    there = bool(variables[name[0]]) or ":" not in operator[0] if name[0] in variables else False
    if operator[0].endswith("+"):
        return word if there else "", end + 1
    return _value(variables, name[0], kept=kept) if there else word, end + 1


def _value(variables: Mapping[str, str], name: str, *, kept: bool) -> str:
    value = variables.get(name, "")
    return escaped(value) if kept else value
