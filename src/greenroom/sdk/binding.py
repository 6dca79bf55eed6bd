"""A class's constructor arguments as they travel: every set has a pool of its own, however it was written.

Arguments that are their parameter's default are left out, so that those who give them share a pool with those who don't. Not so
in a deployed app: what it spawns is kept, and the version that runs it may have other defaults. There what was given stays given, as
it does by name, and what wasn't is what that version says.
"""

from typing import Any

from greenroom.model.errors import InvalidError, SerializationError
from greenroom.sdk.codec import encode
from greenroom.usercode.code import required_parameters
from greenroom.usercode.context import inside
from greenroom.usercode.definition import ClassDefinition
from greenroom.usercode.service import bind_parameters

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_PLAIN = (str, int, float, bool, bytes, type(None))


def canonical(definition: ClassDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments in one form: by name where they can be, sorted, and without those that say nothing.

    Raises:
        InvalidError: they don't fit the constructor.
    """
    if definition.has_constructor:
        return _of_constructor(definition.cls, args, kwargs)
    values = bind_parameters(definition, args, kwargs)
    parameters = definition.parameters
    return (), {name: values[name] for name in sorted(kwargs) if _says(values[name], parameters[name].default)}


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
    if any(parameter.kind is parameter.VAR_POSITIONAL and parameter.name in given for parameter in parameters):
        return bound.args[1:], dict(sorted(bound.kwargs.items()))  # what comes before it has to be given by place
    named = {}
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name in given:
            value = given.pop(parameter.name)
            if _says(value, parameter.default):
                named[parameter.name] = value
    return bound.args[1:], dict(sorted({**named, **bound.kwargs}.items()))


def _says(value: Any, default: Any) -> bool:
    """Whether it makes a difference that an argument was given. Only of plain values can equality be asked without running the
    user's code."""
    if (here := inside()) is not None and here.deployed:
        return True
    return not (value is default or (type(value) is type(default) and type(value) in _PLAIN and value == default))


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
