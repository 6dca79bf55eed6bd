"""An image as an app needs it: its steps described from what is here now, and what has to travel so that they can be made."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from greenroom.model.errors import InvalidError, RequestSizeError, SerializationError
from greenroom.model.ids import new_id
from greenroom.model.image import ImageSpec, Step, digest
from greenroom.model.spec import FunctionSpec, MethodSpec
from greenroom.sdk.codec import encode
from greenroom.sdk.file_patterns import Ignore
from greenroom.sdk.image import Image
from greenroom.sdk.image_options import FunctionCall, Variables
from greenroom.sdk.local_files import Entry, LocalFiles, find_directory
from greenroom.sdk.options import Options
from greenroom.sdk.program import by_value_definition, module_name, needs_value
from greenroom.sdk.reach import source_digest
from greenroom.sdk.reach_values import literal
from greenroom.usercode.code import is_async
from greenroom.usercode.definition import ClassDefinition
from greenroom.usercode.hooks import Build, marks_of
from greenroom.wire.payload import Payload, digest_of

_SMALL = 64 * 1024
"""Bytes of pickled arguments that are worth a look at what they are."""
Find = Callable[[str], LocalFiles]
"""Given where the files are asked for, for its error; raises ``InvalidError``."""


class Plan:
    """Of one image.

    Args:
        bundle: digest of the program's files.
        found: files that other plans have found already.
    """

    def __init__(self, bundle: str, found: "dict[Find, LocalFiles] | None" = None) -> None:
        self.payloads: list[Payload] = []
        """Definitions and arguments of functions; steps name them by their place."""
        self.bundles: dict[str, LocalFiles] = {}
        """Files that go into layers, or are bound, by the digest of their bundle."""
        self._bundle = bundle
        self._found = {} if found is None else found

    def describe(self, image: Image, hooks: Iterable[Step] = ()) -> ImageSpec:
        """The whole image; ``hooks``: steps after its own."""
        steps: list[Step] = []
        mounts: list[list[Any]] = []
        for written in image.steps():
            if written.mount is not None:
                mounts.append(written.mount(self))
            else:
                try:
                    step = written.describe(self)
                except (RequestSizeError, SerializationError) as error:
                    raise type(error)(f"Image{written.text} ({written.where}): {error}") from None
                steps.append(step._replace(text=written.text, where=written.where))
        base = image.base.describe(self)._replace(text=image.base.text, where=image.base.where)
        return ImageSpec(base, [*steps, *hooks], mounts)

    def files(self, find: "Find", where: str) -> str:
        """The digest of files that will be sent along. They are read once, however many images have them."""
        if (found := self._found.get(find)) is None:
            found = self._found[find] = find(where)
        self.bundles[found.digest] = found
        return found.digest

    def keyed(self, own: Variables, *, force: bool) -> dict[str, Any]:
        """What of a step's options its key is made of. A forced step is another one each time."""
        return {"env": own.plain, **own.named(), **self.forced(force)}

    def forced(self, force: bool) -> dict[str, Any]:
        """What makes a step, or a base, another one each time; nothing unless ``force``."""
        return {"forced": new_id("force")} if force else {}

    def function_step(self, called: FunctionCall, own: Variables, fields: dict[str, Any], *, force: bool) -> Step:
        """A step that calls a function."""
        raw = called.function
        by_value = needs_value(raw) or "<" in raw.__qualname__
        arguments = encode(called.arguments, by_value) if called.arguments != ((), {}) else b""
        key = {
            "name": raw.__qualname__,
            "source": source_digest(raw),
            "arguments": arguments_digest(called.arguments, arguments),
            **self.keyed(own, force=force),
        }
        spec = self._spec(raw, "", by_value, fields, needs_loop=is_async(raw))
        return self._step("function", called.name, key, spec, raw, arguments, own, "")

    def hook_steps(self, cls: ClassDefinition, options: Options) -> list[Step]:
        """A class's build hooks, in order."""
        secrets = Variables({}, options.fields["environment"], options.fields["secrets"])
        steps = []
        for name in cls.build:
            hook = getattr(cls.cls, name)
            asked = marks_of(hook).build or Build()
            key = {
                "name": f"{cls.cls.__qualname__}.{name}",
                "source": source_digest(hook, cls.cls),
                **self.keyed(secrets, force=asked.force),
            }
            fields = {
                **options.for_one_input().fields,
                "timeout": float(asked.timeout),
                "startup_timeout": float(asked.timeout),
            }
            spec = self._spec(cls.cls, name, options.serialized, fields, needs_loop=is_async(hook))
            text = f"@build {cls.cls.__name__}.{name}"
            step = self._step("function", text, key, spec, cls.cls, b"", secrets, name)
            steps.append(step._replace(where=line_of(hook)))
        return steps

    def _step(
        self, kind: str, text: str, key: dict[str, Any], spec: FunctionSpec, raw: Any, arguments: Payload,
        own: Variables, hook: str,
    ) -> Step:  # fmt: skip
        definition = by_value_definition(raw) if spec.serialized else b""
        place = len(self.payloads)
        self.payloads += [definition, arguments]
        rest = {"spec": spec.to_json(), "hook": hook, "payloads": [place, place + 1], **own.asked()}
        return Step(kind, text, key, rest)

    def _spec(self, raw: Any, hook: str, by_value: bool, fields: dict[str, Any], *, needs_loop: bool) -> FunctionSpec:
        known = {name: value for name, value in fields.items() if name in FunctionSpec._fields}
        own = {
            "function_id": "",
            "app_id": "",
            "name": raw.__qualname__,
            "is_class": bool(hook),
            "module": "" if by_value else module_name(raw),
            "qualname": raw.__qualname__,
            "methods": [MethodSpec("")],
            "main_alias": raw.__module__ == "__main__" and not by_value,
            "serialized": by_value,
            "needs_loop": needs_loop,
            "bundle": self._bundle,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "environment": {},
            "secrets": [],
        }
        return FunctionSpec(**{**known, **own})


def find_module(where: str, name: str, ignore: Ignore) -> LocalFiles:
    """A module's or package's files, at its import path; raises ``InvalidError``."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or (not spec.submodule_search_locations and not (spec.origin and os.path.isfile(spec.origin))):
        raise InvalidError(f"{where}: there is no module {name} here")
    relative = name.replace(".", "/")
    if spec.submodule_search_locations:
        return find_directory(where, next(iter(spec.submodule_search_locations)), _and_no_caches(ignore), relative)
    assert spec.origin is not None
    return LocalFiles({f"{relative}{os.path.splitext(spec.origin)[1]}": Entry(spec.origin, executable=False)})


def _and_no_caches(ignore: Ignore) -> Ignore:
    return lambda path: "__pycache__" in path.parts or ignore(Path(path))


def arguments_digest(given: Any, pickled: Payload) -> str:
    """What tells one set of arguments from another. A pickle of equal ones may differ from process to process: sets have
    another order, and strings that are one object here are two there."""
    text = literal(given) if 0 < len(pickled) <= _SMALL else None
    return digest(text) if text is not None else digest_of(pickled)


def line_of(function: Any) -> str:
    """``app.py:12``."""
    code = function.__code__
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
