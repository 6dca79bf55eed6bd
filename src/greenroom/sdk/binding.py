"""A class's constructor arguments as they travel: every set has a pool of its own, however it was written."""

from typing import Any

from greenroom.model.errors import InvalidError, SerializationError
from greenroom.sdk.codec import encode
from greenroom.usercode.code import required_parameters
from greenroom.usercode.definition import ClassDefinition
from greenroom.usercode.service import bind_parameters

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_PLAIN = (str, int, float, bool, bytes, type(None))


def canonical(definition: ClassDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments in one form: in order, and without those that are their parameter's default.

    Raises:
        InvalidError: they don't fit the constructor.
    """
    if definition.has_constructor:
        return _of_constructor(definition.cls, args, kwargs)
    values = bind_parameters(definition, args, kwargs)
    defaults = {name: info.default for name, info in definition.parameters.items() if info.init}
    return (), {name: values[name] for name, default in defaults.items() if values[name] != default}


def _of_constructor(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    if not args and not kwargs:
        if missing := required_parameters(cls.__init__, skip=1):  # type: ignore[misc]
            raise InvalidError(f"{cls.__name__}(…) lacks {', '.join(f'{name}=' for name in missing)}")
        return (), {}
    import inspect  # 8 ms

    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError as error:
        raise InvalidError(f"{cls.__name__}(…): {error}") from None
    parameters = list(signature.parameters.values())[1:]
    given = bound.arguments
    if not any(parameter.kind is parameter.VAR_POSITIONAL and parameter.name in given for parameter in parameters):
        for parameter in parameters:
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if named and parameter.name in given and _same(given[parameter.name], parameter.default):
                del given[parameter.name]
    return bound.args[1:], dict(sorted(bound.kwargs.items()))


def _same(value: Any, default: Any) -> bool:
    """Only of plain values can equality be asked without running the user's code."""
    return value is default or (type(value) is type(default) and type(value) in _PLAIN and value == default)


def encode_binding(name: str, arguments: Arguments, by_value: bool) -> bytes:
    """The arguments as bytes; ``b""`` for none.

    Raises:
        SerializationError: they can't be pickled, or are too large to name a pool by.
    """
    if arguments == ((), {}):
        return b""
    payload = encode(arguments, by_value)
    if not isinstance(payload, bytes):
        raise SerializationError(
            f"the constructor arguments of {name} are larger than a class's parameters may be; "
            "pass large values to a method instead"
        )
    return payload
