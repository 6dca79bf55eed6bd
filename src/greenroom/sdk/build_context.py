"""The files that a Dockerfile copies: its build context, of which nothing else travels."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.model.expansion import expand, names_in
from greenroom.sdk.dockerfile import Instruction, declared, lines_of, pairs, parse, unquoted
from greenroom.sdk.file_patterns import FilePatternMatcher, Ignore, may_hold, read_ignore
from greenroom.sdk.local_files import Entry, LocalFiles, enters_of, find_directory, find_file
from greenroom.sdk.requirements import read_text

DOCUMENTS = ".greenroom-documents"
"""Directory of the build's context with the files that a Dockerfile has within itself."""


class Dockerfile(NamedTuple):
    """What is read of one."""

    path: str
    text: str
    """Without here-documents, which not every buildah knows."""
    documents: dict[str, str]
    """Files that it has within itself, by path in the context."""
    patterns: list[str]
    """What it takes of the context besides."""
    images: list[str]
    """What it stands on, and takes files from."""


def read_dockerfile(where: str, path: str, given: Mapping[str, str]) -> Dockerfile:
    """``given``: values of ``ARG``; raises ``InvalidError``."""
    reader = _Reader(where, given)
    text = read_text(where, path)
    for each in parse(text, where):
        reader.take(each)
    if not reader.images and not reader.stages:
        raise InvalidError(f"{where}: a Dockerfile begins with FROM, and names what it stands on")
    lines = lines_of(text)
    for each, instead in reversed(reader.instead):
        lines[each.begin : each.end] = [instead]
    images = [name for name in dict.fromkeys(reader.images) if name != "scratch"]
    return Dockerfile(path, "\n".join(lines), reader.documents, reader.patterns, images)


class _Reader:
    """Goes through a Dockerfile as who builds it would."""

    def __init__(self, where: str, given: Mapping[str, str]) -> None:
        self._where = where
        self._given = given
        self._before: dict[str, str | None] = {}
        """Values of ``ARG`` before the first ``FROM``."""
        self._arguments: dict[str, str | None] = {}
        self._set: dict[str, str | None] = {}
        """By ``ENV``, which counts before those; None: to what isn't known here."""
        self._shell = ["/bin/sh", "-c"]
        self.stages: set[str] = set()
        self.images: list[str] = []
        self.patterns: list[str] = []
        self.documents: dict[str, str] = {}
        self.instead: list[tuple[Instruction, str]] = []
        """Instructions with here-documents, and what says the same without."""

    def take(self, each: Instruction) -> None:
        """The next one; raises ``InvalidError``."""
        match each.name:
            case "FROM":
                self._from(each)
            case "ARG":
                self._arg(each)
            case "ENV":
                self._set.update({name: self._value(value) for name, value in pairs(each, self._where).items()})
            case "SHELL":
                self._shell = each.words() or self._shell
            case "COPY" | "ADD":
                self._copy(each)
            case "RUN":
                self._run(each)

    @property
    def _known(self) -> dict[str, str]:
        both = {**self._arguments, **self._set}
        return {name: value for name, value in both.items() if value is not None}

    def _value(self, plain: str) -> str | None:
        """Of a word without quotes; None: who builds it knows more."""
        try:
            return None if names_in(plain) - {*self._known} else expand(plain, self._known)
        except InvalidError:
            return None

    def _from(self, each: Instruction) -> None:
        if not self.stages and not self.images:
            self._before, self._arguments = self._arguments, {}
        image, *named = each.rest.split()
        self._arguments, self._set, self._shell = {**self._before}, {}, ["/bin/sh", "-c"]
        image = self._value(unquoted(image, self._where)) or image
        if image.lower() not in self.stages:
            self.images.append(image)
        if len(named) == 2 and named[0].upper() == "AS":
            self.stages.add(named[1].lower())
        self._arguments = {}

    def _arg(self, each: Instruction) -> None:
        for name, default in declared(each, self._where):
            if name in self._given:
                self._arguments[name] = self._given[name]
            elif default is not None:
                self._arguments[name] = self._value(default)
            elif name in self._before:
                self._arguments[name] = self._before[name]

    def _image(self, name: str) -> None:
        if name.lower() not in self.stages and not name.isdecimal():
            self.images.append(self._value(unquoted(name, self._where)) or name)

    def _take(self, path: str) -> None:
        """A path of the context; all of it, where it isn't known which."""
        self.patterns.append(self._value(unquoted(path, self._where)) or ".")

    def _copy(self, each: Instruction) -> None:
        documents = {document.word: document for document in each.documents}
        words = each.paths()
        for place, path in enumerate(words[:-1]):
            if path in documents:
                words[place] = f"{DOCUMENTS}/{len(self.documents)}/{documents[path].mark}"
                self.documents[words[place]] = self._text(each, path)
            elif "from" not in {flag[2:].partition("=")[0] for flag in each.flags} and "://" not in path:
                self._take(path)
        for name in each.flag("from"):
            self._image(name)
        if documents:
            self.instead.append((each, " ".join([each.name, *each.flags, *words])))

    def _text(self, each: Instruction, word: str) -> str:
        """A file's content."""
        document = next(document for document in each.documents if document.word == word)
        if not document.expands:
            return document.text
        text = self._value(document.text)
        if text is None:
            raise InvalidError(
                f"{self._where}: {each.text!r:.80} has variables in it whose values aren't known here: write "
                f"<<'{document.mark}' for text as it is, or RUN cat > …"
            )
        return text

    def _run(self, each: Instruction) -> None:
        for value in each.flag("mount"):
            options = dict(option.partition("=")[::2] for option in value.split(","))
            if options.get("type", "bind") in ("bind", "cache") and "from" in options:
                self._image(options["from"])
            elif options.get("type", "bind") == "bind":
                self._take(options.get("source") or options.get("src") or ".")
        # Read-only, buildah mounts with flags of its own, and must not take away those that its directory is mounted with.
        flags = [f"{flag},nodev,nosuid" if _is_read_only_bind(flag) else flag for flag in each.flags]
        words = json.dumps([*self._shell, each.shell_text()]) if each.documents else each.rest
        if each.documents or flags != each.flags:
            self.instead.append((each, " ".join([each.name, *flags, words])))


def _is_read_only_bind(flag: str) -> bool:
    name, _, value = flag.partition("=")
    options = dict(option.partition("=")[::2] for option in value.split(","))
    return name == "--mount" and options.get("type", "bind") == "bind" and not options.keys() & {"rw", "readwrite"}


def finder(
    read: Dockerfile, directory: str | None, ignore: Iterable[str] | Ignore | None
) -> Callable[[str], LocalFiles]:
    """Finds the files that a Dockerfile copies."""

    def find(where: str) -> LocalFiles:
        patterns = dict.fromkeys(_within(where, pattern) for pattern in read.patterns)
        if not patterns:
            return LocalFiles({})
        root = directory or "."
        # A leading ! would take something back in.
        written = {each: "**" if each == "." else f"\\{each}" if each[0] == "!" else each for each in patterns}
        wanted = {each: FilePatternMatcher(text) for each, text in written.items()}
        holds = [may_hold(text) for text in written.values()]
        ignored = _ignored(where, ignore, root, read.path)
        enters = enters_of(ignored)
        found = find_directory(
            where,
            root,
            lambda path: not any(fits(path) for fits in wanted.values()) or ignored(path),
            enters=lambda path: any(may(path) for may in holds) and enters(path),
        )
        for each, fits in wanted.items():
            if each != "." and not any(fits(Path(name)) for name in found.entries):
                raise InvalidError(f"{where}: {_nothing(each, root)}")
        return found

    return find


def _nothing(pattern: str, root: str | Path) -> str:
    there = os.path.exists(os.path.join(root, pattern))
    what = ", as what is ignored has it; a ! in .dockerignore takes it back in" if there else ""
    return f"there is no {pattern} to copy in {os.path.abspath(root)}{what}"


def sources(
    where: str, patterns: list[str], name: str, directory: str | None, ignored: Ignore, named: Mapping[str, str]
) -> LocalFiles:
    """What one ``COPY`` copies, by path relative to the directory that it goes to.

    Args:
        name: see :func:`target`.
        named: files that go by other names here.

    Raises:
        InvalidError: there is nothing of that name.
    """
    root = Path(directory or ".")
    entries: dict[str, Entry] = {}
    for pattern in patterns:
        if pattern in named:
            entries.update(find_file(where, named[pattern], name or os.path.basename(pattern)).entries)
            continue
        inside = _within(where, pattern)
        matched = [root] if inside == "." else sorted(root.glob(inside))
        more = [
            _copied(where, source, source.relative_to(root), name, ignored, alone=len(matched) == 1)
            for source in matched
        ]
        if not any(found is not None for found in more):
            raise InvalidError(f"{where}: {_nothing(pattern, root)}")
        for found in more:
            entries.update(found or {})
    return LocalFiles(entries)


def _copied(
    where: str, source: Path, inside: Path, name: str, ignored: Ignore, *, alone: bool
) -> dict[str, Entry] | None:
    """A directory's content goes below ``name``; a file becomes that, or goes below it where there are several. None: it is
    ignored."""
    if source.is_dir():
        found = find_directory(where, str(source), lambda path: ignored(inside / path))
        entries = {os.path.join(name, path): entry for path, entry in found.entries.items()}
        return entries or ({name: Entry("", executable=True)} if name else {})
    if ignored(inside):
        return None
    path = name if name and alone else os.path.join(name, source.name)
    return {path: Entry(str(source), executable=os.access(source, os.X_OK))}


def target(destination: str, count: int) -> tuple[str, str]:
    """Where a ``COPY`` of so many sources goes: a directory, and a name in it; ``""``: each keeps its own."""
    directory, name = os.path.split(destination)
    if count > 1 or name in ("", ".", ".."):
        return destination, ""
    return directory or ".", name


def ignored_files(where: str, ignore: Iterable[str] | Ignore | None, directory: str | None) -> Ignore:
    """What stays behind of a directory whose commands are given as text."""
    return _ignored(where, ignore, directory or ".", "")


def _ignored(where: str, ignore: Iterable[str] | Ignore | None, directory: str, dockerfile: str) -> Ignore:
    """What is given, or what the file's own ``.dockerignore``, or the directory's, says."""
    if ignore is not None:
        return read_ignore(where, ignore)
    for path in ([f"{dockerfile}.dockerignore"] if dockerfile else []) + [os.path.join(directory, ".dockerignore")]:
        if os.path.isfile(path):
            return FilePatternMatcher.from_file(path)
    return lambda path: False


def _within(where: str, pattern: str) -> str:
    inside = os.path.normpath(pattern.lstrip("/") or ".")
    if inside == ".." or inside.startswith("../"):
        raise InvalidError(f"{where}: {pattern!r} lies outside of the directory that files are copied from")
    return inside
