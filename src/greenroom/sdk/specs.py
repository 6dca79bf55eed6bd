"""What the server is told of an app's functions and classes when the app begins to run."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from greenroom.model.spec import FunctionSpec, MethodSpec
from greenroom.sdk.cls import Cls
from greenroom.sdk.function import Function
from greenroom.sdk.options import Options
from greenroom.sdk.program import by_value_definition, module_name
from greenroom.usercode.definition import ClassDefinition, FunctionDefinition
from greenroom.wire.payload import Payload


def function_specs(
    functions: Mapping[str, tuple[Function[..., Any, Any], FunctionDefinition, Options]],
) -> Iterator[tuple[FunctionSpec, Payload]]:
    """Of an app's functions that can run, each with its definition where it travels by value."""
    for name, (function, definition, options) in functions.items():
        if function.lacking:
            continue  # refused when it is called
        raw = definition.function
        fields = dict(options.fields)
        if definition.concurrent is not None:
            fields["max_inputs"], fields["target_inputs"] = definition.concurrent
        spec = FunctionSpec(
            function_id="",
            app_id="",
            name=name,
            is_class=False,
            module=module_name(raw),
            qualname=raw.__qualname__,
            methods=[MethodSpec("", definition.is_async, function.is_generator)],
            main_alias=raw.__module__ == "__main__",
            serialized=options.serialized,
            needs_loop=definition.is_async,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            **fields,
        )
        yield spec, by_value_definition(raw) if options.serialized else b""


def class_specs(classes: Mapping[str, tuple[Cls, ClassDefinition, Options]]) -> Iterator[tuple[FunctionSpec, Payload]]:
    """Of an app's classes, likewise."""
    for name, (handle, definition, options) in classes.items():
        if handle.lacking or (definition.web and not definition.methods):
            continue  # refused when it is called
        cls = definition.cls
        fields = dict(options.fields)
        if definition.concurrent is not None:
            fields["max_inputs"], fields["target_inputs"] = definition.concurrent
        spec = FunctionSpec(
            function_id="",
            app_id="",
            name=name,
            is_class=True,
            module=module_name(cls),
            qualname=cls.__qualname__,
            methods=[MethodSpec(n, f.is_async, f.is_generator) for n, f in definition.methods.items()],
            main_alias=cls.__module__ == "__main__",
            needs_binding=definition.needs_arguments,
            serialized=options.serialized,
            needs_loop=definition.needs_loop,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            **fields,
        )
        yield spec, by_value_definition(cls) if options.serialized else b""
