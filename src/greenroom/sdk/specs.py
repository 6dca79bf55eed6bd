"""What the server is told of an app's functions and classes when the app begins to run."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from greenroom.model.spec import FunctionSpec, MethodSpec
from greenroom.sdk.cls import Cls
from greenroom.sdk.function import Function
from greenroom.sdk.options import Options
from greenroom.sdk.program import by_value_definition, module_name
from greenroom.usercode.code import parameters_after, required_parameters
from greenroom.usercode.definition import ClassDefinition, FunctionDefinition
from greenroom.usercode.hooks import Web
from greenroom.wire.payload import Payload


def function_specs(
    functions: Mapping[str, tuple[Function[..., Any, Any], FunctionDefinition, Options]],
) -> Iterator[tuple[FunctionSpec, Payload]]:
    """Of an app's functions that can run, each with its definition where it travels by value."""
    for name, (function, definition, options) in functions.items():
        if function.lacking:
            continue  # refused when it is called
        raw = definition.function
        fields = _fields(definition, options)
        fields.update(_of_one_port(fields, filter(None, [definition.web])))
        spec = FunctionSpec(
            function_id="",
            app_id="",
            name=name,
            is_class=False,
            module=module_name(raw),
            qualname=raw.__qualname__,
            methods=[MethodSpec("", definition.is_async, function.is_generator, web_of(definition.web))],
            main_alias=raw.__module__ == "__main__",
            serialized=options.serialized,
            needs_loop=definition.is_async or definition.web is not None,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            **fields,
        )
        yield spec, by_value_definition(raw) if options.serialized else b""


def class_specs(classes: Mapping[str, tuple[Cls, ClassDefinition, Options]]) -> Iterator[tuple[FunctionSpec, Payload]]:
    """Of an app's classes, likewise."""
    for name, (handle, definition, options) in classes.items():
        parameters = _parameters(definition)
        asked = {} if definition.has_constructor else parameters  # by the query string
        web = definition.web
        if handle.lacking:
            continue  # refused when it is called
        cls = definition.cls
        fields = _fields(definition, options)
        fields.update(_of_one_port(fields, web.values()))
        spec = FunctionSpec(
            function_id="",
            app_id="",
            name=name,
            is_class=True,
            module=module_name(cls),
            qualname=cls.__qualname__,
            methods=[
                *(MethodSpec(n, f.is_async, f.is_generator) for n, f in definition.methods.items()),
                *(MethodSpec(n, True, False, {**web_of(each), "parameters": asked}) for n, each in web.items()),
            ],
            main_alias=cls.__module__ == "__main__",
            needs_binding=definition.needs_arguments,
            parameters=parameters,
            serialized=options.serialized,
            needs_loop=definition.needs_loop or bool(web),
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            **fields,
        )
        yield spec, by_value_definition(cls) if options.serialized else b""


def _parameters(definition: ClassDefinition) -> dict[str, list[Any]]:
    if not definition.has_constructor:
        return {name: [each.type.__name__, each.required] for name, each in definition.parameters.items() if each.init}
    init: Any = definition.cls.__init__  # type: ignore[misc]
    required = required_parameters(init, skip=1)
    return {name: ["", name in required] for name in parameters_after(1, init)}


def _fields(definition: FunctionDefinition | ClassDefinition, options: Options) -> dict[str, Any]:
    fields = dict(options.fields)
    if definition.concurrent is not None:
        fields["max_inputs"], fields["target_inputs"] = definition.concurrent
    if definition.batched is not None:
        fields["batch_size"], fields["batch_wait"] = (
            definition.batched.max_batch_size,
            definition.batched.wait_ms / 1000,
        )
    return fields


def _of_one_port(fields: Mapping[str, Any], web: Iterable[Web]) -> dict[str, int]:
    """Containers share this machine's network, unless they have none: two can't listen on one port."""
    shared = any(each.kind == "server" for each in web) and not fields.get("block_network")
    return {"max_containers": 1} if shared and not fields.get("max_containers") else {}


def web_of(web: Web | None) -> dict[str, Any]:
    """What a web decorator has recorded, as it travels; empty: there is none."""
    if web is None:
        return {}
    kept = {name: value for name, value in web.options.items() if name != "custom_domains"}
    return {**kept, "kind": web.kind, "label": web.options["label"] or ""}
