"""Classes of deployed apps, by name: their code isn't here, and isn't needed to call them."""

from typing import Any

from greenroom.model import overrides
from greenroom.model.errors import InvalidError
from greenroom.sdk.binding import encode_binding
from greenroom.sdk.bridge import Blocking
from greenroom.sdk.cls import NeedsInstanceError
from greenroom.sdk.function import Function
from greenroom.sdk.left_out import say_ignored
from greenroom.sdk.options import read_options, whole
from greenroom.sdk.target import Target
from greenroom.sdk.unbuilt import lacking, unbuilt
from greenroom.wire.deploy_messages import deployed_id

_VERSION = "it is a part of the deployed version: deploy one that has it"
_FIXED = {
    "allow_concurrent_inputs": "write .with_concurrency(max_inputs=…)",
    "block_network": _VERSION,
    "env": "values in it would have to be kept for each caller: deploy a class with it, or pass them to a method",
    "image": _VERSION,
    "is_generator": _VERSION,
    "keep_warm": "containers that are always there belong to the version: deploy it so",
    "max_inputs": "write .with_concurrency(max_inputs=…)",
    "min_containers": "containers that are always there belong to the version: deploy it so",
    "name": _VERSION,
    "schedule": "a schedule goes on a function",
    "secrets": "who may have a secret is said where the class is deployed: deploy one that has it",
    "serialized": _VERSION,
    "single_use_containers": _VERSION,
}
"""Why no caller changes them."""


@unbuilt("hydrate")
class NamedCls:
    """What ``Cls.from_name`` gives; call it to name an instance."""

    def __init__(self, app_name: str, name: str, options: dict[str, Any] | None = None, lacking: str = "") -> None:
        self.app_name = app_name
        self.name = name
        self.lacking = lacking
        """What it needs that isn't built, so that it can't be called; ``""``: nothing."""
        self.options = options or {}
        """Fields of its ``FunctionSpec`` that are others for this caller."""

    def __repr__(self) -> str:
        changed = f" with {overrides.write(self.options)}" if self.options else ""
        return f"Cls.from_name({self.app_name!r}, {self.name!r}){changed}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NeedsInstanceError(f"{self.name}.{name} needs an instance: write {self.name}().{name}")

    @property
    def function_id(self) -> str:
        """What it is called by."""
        changed = overrides.MARK + overrides.write(self.options) if self.options else ""
        return deployed_id(self.app_name, f"{self.name}{changed}")

    def with_options(self, **options: Any) -> "NamedCls":
        """The class with other options than it was deployed with; it has containers of its own, apart from the class's others.

        Takes ``cpu``, ``memory``, ``gpu``, ``timeout``, ``startup_timeout``, ``retries``, ``max_containers``, ``buffer_containers``
        and ``scaledown_window``, as ``@app.cls`` does. What isn't given stays as it is.

        Raises:
            InvalidError: there is no such option, its value is out of range, or it can't be another than the deployed one.
        """
        where = "Cls.with_options"
        for name, value in options.items():
            if (why := _FIXED.get(name)) is not None and value is not None:
                raise InvalidError(f"{where}: {name}= can't be another than it was deployed with: {why}")
        read = read_options(where, options)
        if read.ignored:
            say_ignored(set(read.ignored))
        blank = read_options(where, {}).fields
        changed = {name: value for name, value in read.fields.items() if value != blank.get(name)}
        if "retries" in changed:
            changed["retries"] = list(changed["retries"])
        return NamedCls(self.app_name, self.name, {**self.options, **changed}, self.lacking or lacking(read))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> "NamedCls":
        """The same, with ``max_inputs`` inputs at once in one container; the autoscaler aims at ``target_inputs``."""
        where = "Cls.with_concurrency"
        target = max_inputs if target_inputs is None else target_inputs
        for name, value in (("max_inputs", max_inputs), ("target_inputs", target)):
            whole(where, name, value, 1)
        if target > max_inputs:
            raise InvalidError(f"{where}: target_inputs={target} is above max_inputs={max_inputs}")
        return self._with({"max_inputs": max_inputs, "target_inputs": target})

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> "NamedCls":
        """The same, of a class with a ``@batched`` method: at most so many inputs in a batch, whose first waits so long (ms)."""
        where = "Cls.with_batching"
        for name, value, least in (("max_batch_size", max_batch_size, 1), ("wait_ms", wait_ms, 0)):
            whole(where, name, value, least)
        return self._with({"batch_size": max_batch_size, "batch_wait": wait_ms / 1000})

    def _with(self, changed: dict[str, Any]) -> "NamedCls":
        return NamedCls(self.app_name, self.name, {**self.options, **changed}, self.lacking)

    def __call__(self, *args: Any, **kwargs: Any) -> "NamedObj":
        return NamedObj(self, args, kwargs)


class NamedObj:
    """An instance: its methods run in containers."""

    def __init__(self, cls: NamedCls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._cls = cls
        self._arguments = args, dict(sorted(kwargs.items()))
        self._functions: dict[str, Function[..., Any, Any]] = {}

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        return (
            f"{self._cls!r}({', '.join([*map(repr, args), *(f'{name}={value!r}' for name, value in kwargs.items())])})"
        )

    @property
    def update_autoscaler(self) -> Blocking[..., None]:
        """As of a function: of the class, and so of all its instances."""
        return self._function("").update_autoscaler

    def __getattr__(self, name: str) -> "Function[..., Any, Any]":
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._functions:
            self._functions[name] = self._function(name)
        return self._functions[name]

    def _function(self, method: str) -> "Function[..., Any, Any]":
        function_id = self._cls.function_id
        title = f"{self._cls.app_name}.{self._cls.name}.{method}"
        binding = encode_binding(title, self._arguments, by_value=False)
        target = Target(lambda: function_id, method, title, is_generator=None, by_value=False, binding=binding,
                        lacking=self._cls.lacking)  # fmt: skip

        def local(*args: Any, **kwargs: Any) -> Any:
            raise InvalidError(f"{title} is deployed: its code isn't here, so call it with .remote()")

        return Function(local, target, owner=self)
