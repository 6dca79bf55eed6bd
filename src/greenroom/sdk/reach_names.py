"""One definition's syntax: what of it counts, and which names it takes from outside.

What counts is the tree, not the text: no comments, no layout, no positions, no docstrings. Names are resolved as Python's
compiler does it, scope by scope, so that a local variable is never taken for the module's function of that name.
"""

import ast
import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from greenroom.sdk.reach_scopes import SUPER, Found, Imported, Reference, Scope, references_of

_LAYOUT = frozenset({"ctx", "type_comment", "type_ignores", "kind"})
_PROPERTY_PARTS = frozenset({"setter", "getter", "deleter"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Reading(NamedTuple):
    """What was read of a definition."""

    content: str
    references: list[Reference]
    imports: list[Imported]
    docstrings: list[str]
    reads_docstrings: bool


def read_function(node: Any, binds_self: bool) -> Reading:
    """Read a ``def`` or a ``lambda``; its defaults' values are the function object's to tell.

    Args:
        binds_self: its first parameter is an object whose class is known.
    """
    walk = _Walk()
    around = Scope("around")
    scope = Scope("function", around)
    walk.function(node, around, scope, nowhere=True)
    walk.run()
    parameters = [*node.args.posonlyargs, *node.args.args, *([node.args.vararg] if node.args.vararg else [])]
    return walk.reading(scope if binds_self and parameters else None, parameters[0].arg if parameters else "")


def read_class(node: ast.ClassDef) -> Reading:
    """Read a class without its functions and inner classes, which are members to be reached by themselves."""
    walk = _Walk()
    walk.class_body(node, Scope("around"), without=(*_FUNCTIONS, ast.ClassDef))
    walk.run()
    return walk.reading()


def read_statements(nodes: Iterable[ast.AST]) -> Reading:
    """Read statements of a module's or a class's top level, or a whole module."""
    walk = _Walk()
    scope = Scope("function")
    for node in nodes:
        walk.push(node, scope)
    walk.run()
    return walk.reading()


@functools.cache
def _fields_of(kind: Any) -> tuple[str, ...]:
    return tuple(field for field in kind._fields if field not in _LAYOUT)


class _Walk:
    """One pass over a tree, without recursion: a chain of a thousand ``+`` is as deep as that."""

    def __init__(self) -> None:
        self._tokens: list[str] = []
        self._waiting: list[tuple[Any, Scope]] = []
        self._found: list[Found] = []
        self._imports: list[Imported] = []
        self._docstrings: list[str] = []
        self._reads_docstrings = False

    def push(self, node: Any, scope: Scope) -> None:
        self._waiting.insert(0, (node, scope))

    def run(self) -> None:
        waiting, tokens = self._waiting, self._tokens
        while waiting:
            node, scope = waiting.pop()
            kind: Any = type(node)
            if kind is str:
                tokens.append(node)
                continue
            special = _SPECIAL.get(kind)
            if special is None or special(self, node, scope):
                self._plainly(node, scope)

    def reading(self, own: Scope | None = None, first: str = "") -> Reading:
        """What was read.

        Args:
            own, first: the scope and the name of the first parameter, where that counts.
        """
        references = dict.fromkeys(reference for found in self._found for reference in references_of(found, own, first))
        return Reading(
            "\n".join(self._tokens), list(references), self._imports, self._docstrings, self._reads_docstrings
        )

    def _plainly(self, node: Any, scope: Scope) -> None:
        # The type tells how many fields follow, and a list begins with its length: so no closing mark is needed.
        kind: Any = type(node)
        self._tokens.append(kind.__name__)
        after: list[tuple[Any, Scope]] = []
        for field in _fields_of(kind):
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                after.append((value, scope))
            else:
                self._field(value, scope, after)
        after.reverse()
        self._waiting += after

    def _field(self, value: Any, scope: Scope, after: list[tuple[Any, Scope]]) -> None:
        if isinstance(value, ast.AST):
            after.append((value, scope))
        elif isinstance(value, list):
            after.append((f"[{len(value)}", scope))
            after += [(item if isinstance(item, ast.AST) else repr(item), scope) for item in value]
        else:
            after.append((repr(value), scope))

    def _follow(self, parts: Iterable[tuple[Any, Scope]]) -> None:
        after: list[tuple[Any, Scope]] = []
        for value, scope in parts:
            if isinstance(value, str):
                after.append((value, scope))
            else:
                self._field(value, scope, after)
        after.reverse()
        self._waiting += after

    # ---- what opens a scope ----

    def function(self, node: Any, around: Scope, scope: Scope, nowhere: bool = False) -> None:
        """Go into a function.

        Args:
            nowhere: don't follow the names in its defaults.
        """
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        starred = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
        scope.bound.update(argument.arg for argument in (*every, *starred))
        unread = Scope("unread")
        body, docstring = _without_docstring(node)
        self._docstrings += docstring
        counts = (len(arguments.posonlyargs), len(arguments.args), len(arguments.kwonlyargs))
        names = (arguments.vararg and arguments.vararg.arg, arguments.kwarg and arguments.kwarg.arg)
        annotations = [argument.annotation for argument in (*every, *starred)]
        defaults = [*arguments.defaults, *arguments.kw_defaults]
        self._follow(
            [
                (f"{type(node).__name__} {getattr(node, 'name', '')} {counts} {names}", around),
                (f"decorators {len(getattr(node, 'decorator_list', []))}", around),
                (repr([argument.arg for argument in every]), around),
                ([*annotations, getattr(node, "returns", None), *getattr(node, "type_params", [])], unread),
                (defaults, unread if nowhere else around),
                *(
                    (part, unread if _is_property_part(part) else around)
                    for part in getattr(node, "decorator_list", [])
                ),
                (body, scope),
            ]
        )

    def class_body(self, node: ast.ClassDef, around: Scope, without: tuple[type, ...] = ()) -> None:
        """Go into a class."""
        body, docstring = _without_docstring(node)
        body = [part for part in body if not isinstance(part, without)]
        self._docstrings += docstring
        self._follow(
            [
                (f"ClassDef {node.name}", around),
                (node.bases, around),
                (node.keywords, around),
                (node.decorator_list, around),
                (body, Scope("class", around)),
            ]
        )

    def _nested_function(self, node: Any, scope: Scope) -> bool:
        if hasattr(node, "name"):
            scope.bound.add(node.name)
        self.function(node, scope, Scope("function", scope))
        return False

    def _nested_class(self, node: ast.ClassDef, scope: Scope) -> bool:
        scope.bound.add(node.name)
        self.class_body(node, scope)
        return False

    def _comprehension(self, node: Any, scope: Scope) -> bool:
        self._plainly(node, Scope("comprehension", scope))
        return False

    def _module(self, node: ast.Module, scope: Scope) -> bool:
        body, docstring = _without_docstring(node)
        self._docstrings += docstring
        self._follow([("Module", scope), (body, scope)])
        return False

    # ---- what binds a name ----

    def _walrus(self, node: ast.NamedExpr, scope: Scope) -> bool:
        home = scope
        while home.kind == "comprehension" and home.parent is not None:
            home = home.parent
        home.bound.add(node.target.id)
        self._follow([(f"NamedExpr {node.target.id}", scope), (node.value, scope)])
        return False

    def _names(self, node: Any, scope: Scope) -> bool:
        """``except … as name``, and the captures of ``match``."""
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        if name:
            scope.bound.add(name)
        return True

    def _elsewhere(self, node: Any, scope: Scope) -> bool:
        (scope.outside if isinstance(node, ast.Global) else scope.elsewhere).update(node.names)
        return True

    def _import(self, node: Any, scope: Scope) -> bool:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                name, made = alias.asname or alias.name, Imported(node.module or "", alias.name, node.level)
            elif alias.asname:
                name, made = alias.asname, Imported(alias.name)
            else:
                name, made = alias.name.partition(".")[0], Imported(alias.name.partition(".")[0])
            scope.bound.add(name)
            scope.imported[name] = made
            self._imports.append(Imported(alias.name) if isinstance(node, ast.Import) else made)
        return True

    # ---- what reads one ----

    def _name(self, node: ast.Name, scope: Scope) -> bool:
        self._tokens.append(f"Name {node.id}")
        if isinstance(node.ctx, ast.Load):
            self._note(scope, (node.id,))
        else:
            scope.bound.add(node.id)
        return False

    def _attribute(self, node: ast.Attribute, scope: Scope) -> bool:
        chain = _chain(node)
        if not chain:
            self._reads_docstrings |= node.attr == "__doc__"
            return True
        self._tokens.append(f"Chain {'.'.join(chain)}")
        self._note(scope, chain, stored=not isinstance(node.ctx, ast.Load))
        return False

    def _augmented(self, node: ast.AugAssign, scope: Scope) -> bool:
        if chain := _chain(node.target):
            self._note(scope, chain)
        return True

    def _call(self, node: ast.Call, scope: Scope) -> bool:
        chain = _chain(node.func)
        match node.args:
            case [ast.Name(id=passed), *_]:
                shown = passed
            case [ast.Starred(value=ast.Name(id=passed)), *_]:
                shown = f"*{passed}"
            case _:
                return True
        if not chain:
            return True
        self._tokens.append(f"Call {'.'.join(chain)} {shown}")
        self._note(scope, chain, passed=passed)
        self._follow([(node.args[1:], scope), (node.keywords, scope)])
        return False

    def _annotated(self, node: ast.AnnAssign, scope: Scope) -> bool:
        """A class's annotations can be read by its decorator; a function's own say nothing that is run."""
        where = scope if scope.kind == "class" else Scope("unread")
        self._follow([("AnnAssign", scope), (node.target, scope), (node.annotation, where), (node.value, scope)])
        return False

    def _constant(self, node: ast.Constant, scope: Scope) -> bool:
        self._reads_docstrings |= node.value == "__doc__"
        # A long number's decimal form is refused; hex() knows no limit.
        value = hex(node.value) if type(node.value) is int else repr(node.value)
        self._tokens.append(f"{type(node.value).__name__} {value}")
        return False

    def _note(self, scope: Scope, chain: tuple[str, ...], passed: str = "", stored: bool = False) -> None:
        self._reads_docstrings |= "__doc__" in chain
        self._found.append(Found(scope, chain, passed, stored))


_SPECIAL: dict[type, Any] = {
    ast.FunctionDef: _Walk._nested_function,
    ast.AsyncFunctionDef: _Walk._nested_function,
    ast.Lambda: _Walk._nested_function,
    ast.ClassDef: _Walk._nested_class,
    ast.Module: _Walk._module,
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), _Walk._comprehension),
    ast.NamedExpr: _Walk._walrus,
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping), _Walk._names),
    ast.Global: _Walk._elsewhere,
    ast.Nonlocal: _Walk._elsewhere,
    ast.Import: _Walk._import,
    ast.ImportFrom: _Walk._import,
    ast.Name: _Walk._name,
    ast.Attribute: _Walk._attribute,
    ast.AugAssign: _Walk._augmented,
    ast.Call: _Walk._call,
    ast.AnnAssign: _Walk._annotated,
    ast.Constant: _Walk._constant,
}
"""What isn't simply gone through. Each says whether it is to be, after all."""


def _is_property_part(decorator: ast.expr) -> bool:
    """``@name.setter``: the name is the class's own, not one from outside."""
    return isinstance(decorator, ast.Attribute) and decorator.attr in _PROPERTY_PARTS


def _without_docstring(node: Any) -> tuple[list[ast.stmt], list[str]]:
    if isinstance(node, ast.Lambda):
        return [ast.Expr(node.body)], []
    match node.body:
        case [ast.Expr(ast.Constant(str(text))), *rest]:
            return rest, [text]
    return node.body, []


def _chain(node: Any) -> tuple[str, ...]:
    """``a.b.c`` as its parts, with ``super().b`` and ``type(a).b`` among them; empty: it is something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    match node:
        case ast.Name(id=name):
            parts.append(name)
        case ast.Call(func=ast.Name(id="super"), args=[] | [_, ast.Name()], keywords=[]) if parts:
            parts.append(SUPER)
        case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)], keywords=[]) if parts:
            parts += ["__class__", name]
        case _:
            return ()
    return tuple(reversed(parts))
