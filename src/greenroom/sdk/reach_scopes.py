"""Scopes within one definition, and which of its dotted chains lead out of it."""

from collections.abc import Iterable
from typing import NamedTuple

SELF = "<self>"
"""The root of a chain that starts at the first parameter."""
SUPER = "<super>"


class Imported(NamedTuple):
    """Where a name comes from that an import statement binds: ``from module import attribute``."""

    module: str
    attribute: str = ""
    """``""``: the module itself."""
    level: int = 0
    """Leading dots."""


class Reference(NamedTuple):
    """A dotted chain that starts outside the definition: ``root.attributes``."""

    root: str
    attributes: tuple[str, ...] = ()
    imported: Imported | None = None
    """What ``root`` is, where the definition imports it itself."""
    passes_self: bool = False
    """It is called with the first parameter as its first argument."""
    stored: bool = False
    """It is assigned to, not read."""


class Scope:
    """A function, a class body, a comprehension or a lambda, and the names that it binds."""

    def __init__(self, kind: str, parent: "Scope | None" = None) -> None:
        self.kind = kind
        self.parent = parent
        self.bound: set[str] = set()
        self.elsewhere: set[str] = set()
        """``nonlocal``."""
        self.outside: set[str] = set()
        """``global``."""
        self.imported: dict[str, Imported] = {}

    def home_of(self, name: str) -> "Scope | None":
        """The scope that binds a name; None: what is around the definition."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.outside:
                return None
            visible = scope is self or scope.kind != "class"
            if visible and name in scope.bound and name not in scope.elsewhere:
                return scope
            scope = scope.parent
        return None


class Found(NamedTuple):
    """A dotted chain as the syntax has it."""

    scope: Scope
    chain: tuple[str, ...]
    passed: str
    """The name that is its call's first argument; ``""``: none, or no call."""
    stored: bool


def references_of(found: Found, own: Scope | None, first: str) -> Iterable[Reference]:
    """What a chain in the syntax refers to outside the definition: nothing, itself, or it and what it is called with."""
    root, *rest = found.chain
    passes_self = _is_first(found.scope, found.passed, own, first)
    if found.passed and not passes_self:
        yield from references_of(Found(found.scope, (found.passed,), "", False), own, first)
    if found.scope.kind == "unread":
        return
    start = SELF if _is_first(found.scope, root, own, first) else SUPER if root == SUPER else ""
    if start:
        yield Reference(start, tuple(rest), stored=found.stored)
        if passes_self:
            yield Reference(SELF)  # as another parameter than the first
        return
    home = found.scope.home_of(root)
    if home is None:
        yield Reference(root, tuple(rest), None, passes_self, found.stored)
    elif (imported := home.imported.get(root)) is not None:
        yield Reference(root, tuple(rest), imported, passes_self, found.stored)
    elif passes_self:
        yield Reference(SELF)


def _is_first(scope: Scope, name: str, own: Scope | None, first: str) -> bool:
    return own is not None and name == first and scope.home_of(name) is own
