"""Dockerfiles, as far as they must be understood here: instruction by instruction.

Source: Docker's Dockerfile reference: comments, the ``escape`` directive, lines that go on, here-documents, flags, the JSON
form of words. Whole Dockerfiles are built by buildah.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.model.expansion import escaped

NAMES = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip
_WORD = re.compile(r"(?:\\.|\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\s\"'\\]|[\"'].*)+|\S", re.DOTALL)
"""A quote that isn't closed takes all the rest."""
_HEREDOC = re.compile(r"\d*<<(-?)([\"']?)([^\s<\"']+)\2")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S.*)")
_FLAG = re.compile(r"--[a-z-]+(?:=\S*)?(?:\s+|\Z)")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
_PIECE = re.compile(r"\\(.)|'([^']*)'|\"((?:\\.|[^\"\\])*)\"|([^\"'\\]+)|(.)", re.DOTALL)
_IN_QUOTES = re.compile(r"\\([\"$\\])|(.)", re.DOTALL)


class Document(NamedTuple):
    """A here-document."""

    word: str
    """What it is named by: ``<<EOF``."""
    mark: str
    """``EOF``."""
    text: str

    @property
    def expands(self) -> bool:
        """Whether variables within it count: its mark isn't quoted."""
        return self.word.endswith(self.mark)


class Instruction(NamedTuple):
    """One instruction."""

    name: str
    """In capitals: ``RUN``."""
    flags: list[str]
    """As they are written: ``--from=build``."""
    rest: str
    """What comes after them, as one line."""
    documents: list[Document]
    begin: int
    """Its first line, counted from 0."""
    end: int
    """The line after its last one."""

    @property
    def text(self) -> str:
        """As it was written, but for how its lines were broken."""
        return " ".join([self.name, *self.flags, self.rest])

    def flag(self, name: str) -> list[str]:
        """The values that it is given: ``flag("from")``."""
        return [value for flag in self.flags for key, _, value in [flag[2:].partition("=")] if key == name]

    def words(self) -> list[str] | None:
        """Its words where they are a JSON list; else None."""
        if not self.rest.startswith("["):
            return None
        try:
            words = json.loads(self.rest)
        except (ValueError, RecursionError):
            return None  # Docker takes it for shell then
        return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None

    def paths(self) -> list[str]:
        """Of ``COPY`` and ``ADD``: what is copied, then where to; their variables are still in them."""
        return self.words() or self.rest.split()

    def shell_text(self) -> str:
        """Of a ``RUN`` that isn't words: what its shell is to run, its here-documents included."""
        if not self.documents:
            return self.rest
        first = self.documents[0]
        if self.rest != first.word:
            return self.rest + "".join(f"\n{each.text}{each.mark}" for each in self.documents) + "\n"
        if not first.text.startswith("#!"):
            return first.text
        # A script of its own, whatever its interpreter.
        mark = "greenroom-end"
        while f"{mark}\n" in first.text:
            mark += "-"
        return (
            f"f=$(mktemp) || exit 1\ncat > \"$f\" <<'{mark}' || exit 1\n{first.text}{mark}\n"
            'chmod 700 "$f" && "$f"\ns=$?\nrm -f "$f"\nexit $s\n'
        )


def parse(text: str, where: str) -> Iterator[Instruction]:
    """The instructions of a Dockerfile, or of a part of one; raises ``InvalidError``."""
    lines = lines_of(text)
    escape = "\\"
    place, beginning = 0, True
    while place < len(lines):
        line = lines[place].strip()
        directive = _DIRECTIVE.fullmatch(line) if beginning else None
        beginning = directive is not None
        if directive is not None and directive[1].lower() == "escape" and directive[2] in ("\\", "`"):
            escape = directive[2]
        if not line or line.startswith("#"):
            place += 1
            continue
        begin = place
        whole, place = _joined(lines, place, escape)
        name, rest = [*whole.split(None, 1), "", ""][:2]
        name = name.upper()
        flags = []
        while (flag := _FLAG.match(rest)) is not None:
            flags.append(flag[0].rstrip())
            rest = rest[flag.end() :]
        if name not in NAMES or not rest:
            raise InvalidError(
                f"{where}: line {begin + 1}: {whole!r:.80} is no instruction of a Dockerfile, such as 'RUN make'"
            )
        documents = []
        if name in _WITH_HEREDOCS and not rest.startswith("["):
            for word in words_of(rest):
                if (found := _HEREDOC.fullmatch(word)) is not None:
                    document, place = _document(found, lines, place, where)
                    documents.append(document)
        yield Instruction(name, flags, rest, documents, begin, place)


def lines_of(text: str) -> list[str]:
    """As Docker counts them."""
    return [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]


def words_of(text: str) -> list[str]:
    """Parted at blanks that no quotes enclose; the quotes stay."""
    return _WORD.findall(text)


def _joined(lines: list[str], place: int, escape: str) -> tuple[str, int]:
    """A line with those that it goes on in, and where the next one begins; comments and empty lines between them don't count."""
    parts = []
    line, place = lines[place], place + 1
    while (ended := line.rstrip()).endswith(escape):
        parts.append(ended[:-1])
        while place < len(lines) and (not lines[place].strip() or lines[place].lstrip().startswith("#")):
            place += 1
        line, place = (lines[place], place + 1) if place < len(lines) else ("", place)
    return "".join([*parts, line]).strip(), place


def _document(found: re.Match[str], lines: list[str], place: int, where: str) -> tuple[Document, int]:
    """The text up to the line that is its mark alone, and where the next line begins."""
    text: list[str] = []
    for number in range(place, len(lines)):
        line = lines[number].lstrip("\t") if found[1] else lines[number]
        if line == found[3]:
            return Document(found[0], found[3], "".join(f"{each}\n" for each in text)), number + 1
        text.append(line)
    raise InvalidError(f"{where}: the here-document {found[0]} has no end: a line that is {found[3]} alone")


def unquoted(word: str, where: str) -> str:
    """A word without its quotes, as ``expand`` takes it: what they kept from meaning something still does not.

    Raises:
        InvalidError: a quote that isn't closed.
    """
    parts = []
    for found in _PIECE.finditer(word):
        plain, single, double, other, wrong = found.groups()
        if wrong == "\\":
            parts.append(r"\\")  # the last character
        elif wrong is not None:
            raise InvalidError(f"{where}: {word!r:.80} has a {wrong} that isn't closed")
        elif plain is not None or single is not None:
            parts.append(escaped(plain if single is None else single))
        elif double is not None:
            parts += [
                escaped(kept) if kept else escaped(char) if char == "\\" else char
                for kept, char in _IN_QUOTES.findall(double)
            ]
        else:
            parts.append(other)
    return "".join(parts)


def pairs(each: Instruction, where: str) -> dict[str, str]:
    """Of ``ENV``: ``a=1 b="2 3"``, or the older ``a 1``, without quotes, as ``expand`` takes them; raises ``InvalidError``."""
    first, *more = each.rest.split(None, 1)
    if "=" not in first:
        if not more:
            raise InvalidError(f"{where}: write ENV NAME=VALUE, not {each.text!r:.80}")
        return {first: unquoted(more[0], where)}
    found = {}
    for word in words_of(each.rest):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidError(f"{where}: write NAME=VALUE, not {word!r:.40}")
        found[name] = unquoted(value, where)
    return found


def declared(each: Instruction, where: str) -> list[tuple[str, str | None]]:
    """Of ``ARG``: names, and their defaults as ``expand`` takes them; raises ``InvalidError``."""
    found = []
    for word in words_of(each.rest):
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidError(f"{where}: write ARG NAME=DEFAULT, not {word!r:.40}")
        found.append((name, unquoted(value, where) if equals else None))
    return found
