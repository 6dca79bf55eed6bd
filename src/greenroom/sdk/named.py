"""Classes of deployed apps, by name: their code isn't here, and isn't needed to call them."""

from typing import Any

from greenroom.model.errors import InvalidError
from greenroom.sdk.binding import encode_binding
from greenroom.sdk.function import Function
from greenroom.sdk.target import Target
from greenroom.sdk.unbuilt import unbuilt
from greenroom.wire.deploy_messages import deployed_id


@unbuilt("hydrate")
class NamedCls:
    """What ``Cls.from_name`` gives; call it to name an instance."""

    def __init__(self, app_name: str, name: str, lacking: str = "") -> None:
        self.app_name = app_name
        self.name = name
        self.lacking = lacking
        """What it needs that isn't built, so that it can't be called; ``""``: nothing."""

    def __repr__(self) -> str:
        return f"Cls.from_name({self.app_name!r}, {self.name!r})"

    def with_options(self, **options: Any) -> "NamedCls":
        """The class with other options. It can be named; to call its methods is refused, until that is built."""
        return NamedCls(self.app_name, self.name, "Cls.with_options is not built yet")

    def with_concurrency(self, **options: Any) -> "NamedCls":
        """As :meth:`with_options`."""
        return NamedCls(self.app_name, self.name, "Cls.with_concurrency is not built yet")

    def with_batching(self, **options: Any) -> "NamedCls":
        """As :meth:`with_options`."""
        return NamedCls(self.app_name, self.name, "Cls.with_batching is not built yet")

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

    def __getattr__(self, name: str) -> "Function[..., Any, Any]":
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._functions:
            self._functions[name] = self._function(name)
        return self._functions[name]

    def _function(self, method: str) -> "Function[..., Any, Any]":
        app, cls = self._cls.app_name, self._cls.name
        title = f"{app}.{cls}.{method}"
        binding = encode_binding(title, self._arguments, by_value=False)
        target = Target(lambda: deployed_id(app, cls), method, title, is_generator=None, by_value=False, binding=binding,
                        lacking=self._cls.lacking)  # fmt: skip

        def local(*args: Any, **kwargs: Any) -> Any:
            raise InvalidError(f"{title} is deployed: its code isn't here, so call it with .remote()")

        return Function(local, target, owner=self)
