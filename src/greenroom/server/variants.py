"""Classes of deployed apps with other options, as a caller names them (``model/overrides.py``): each has pools of its own, and is
made when it is first named.
"""

from typing import TYPE_CHECKING

from greenroom.model import overrides
from greenroom.model.errors import InvalidError
from greenroom.model.spec import FunctionSpec
from greenroom.server.pools import Function, Pool

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.core import Server

MOST = 100
"""Sets of options that a version of an app may be called with."""


def function_of(server: "Server", app: "App", name: str) -> Function | None:
    """A function or class of an app by its name, with options or without; None: there is none, or it can't have them."""
    there = app.functions.get(f"{app.id}/{name}")
    if there is not None or overrides.MARK not in name:
        return there
    try:
        spec, base = _spec(app, name)
    except InvalidError:
        return None
    made = app.functions[spec.function_id] = server.functions[spec.function_id] = Function(
        app, spec, base.definition, base.sealed
    )
    made.refusal = server.machine.refuse(spec)
    if not spec.needs_binding:
        made.pools[""] = Pool(made, b"", server.lifecycle)
    return made


def why_not(app: "App", name: str) -> str:
    """Why an app has no such class with such options; ``""``: that is not the reason."""
    try:
        if overrides.MARK in name:
            _spec(app, name)
    except InvalidError as error:
        return str(error)
    return ""


def names_of(app: "App") -> list[str]:
    """Its functions and classes, as their program names them."""
    return sorted(f.spec.name for f in app.functions.values() if overrides.MARK not in f.spec.name)


def _spec(app: "App", name: str) -> tuple[FunctionSpec, Function]:
    """Of the variant, and what it is one of; raises InvalidError."""
    of, _, text = name.partition(overrides.MARK)
    base = app.functions.get(f"{app.id}/{of}")
    if base is None:
        raise InvalidError(f"the deployed app {app.name} has no {of[:100]!r}; it has {', '.join(names_of(app))}")
    title = f"{app.name}.{of}"
    if not base.spec.is_class:
        raise InvalidError(f"{title} is a function, and only classes are called with other options")
    try:
        fields = overrides.read(text)
    except ValueError as error:
        raise InvalidError(f"{title}.with_options: {error}; are client and server of the same version?") from None
    if fields.get("batch_size") and not base.spec.batch_size:
        raise InvalidError(f"{title}.with_batching: none of its methods takes batches: deploy it with @batched")
    if fields.get("max_inputs", 1) > 1 and base.spec.batch_size:
        raise InvalidError(f"{title}.with_concurrency: its methods take batches, one at a time")
    if base.spec.ports:
        raise InvalidError(f"{title} listens on a port, which containers with other options could not have too")
    if sum(overrides.MARK in function_id for function_id in app.functions) >= MOST:
        raise InvalidError(
            f"{title} is called with more sets of options than {app.name} may be with, {MOST}: deploy it again"
        )
    spec = base.spec._replace(min_containers=0, **fields)
    for request, limit in ((spec.cpu, spec.cpu_limit), (spec.memory, spec.memory_limit)):
        if limit and request > limit:
            raise InvalidError(
                f"{title}.with_options: what is asked for, {request:g}, is more than its limit, {limit:g}: give both"
            )
    return spec._replace(name=name, function_id=f"{app.id}/{name}"), base
