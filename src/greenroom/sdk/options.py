"""What ``@app.function(…)`` and ``@app.cls(…)`` take: names of both eras, checked, as a ``FunctionSpec`` has them."""

from typing import TYPE_CHECKING, Any, NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.model.spec import RetrySpec
from greenroom.sdk.secret import Secret, checked_variables, in_order

if TYPE_CHECKING:
    from greenroom.sdk.image import Image
    from greenroom.usercode.definition import ClassDefinition

MOST = 2**31
"""What a number of containers, of inputs, of cores or of MiB must be less than."""
LONGEST = 1e9
"""What a number of seconds must be less than."""
_OLD_NAMES = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
}
_IGNORED = {"region", "routing_region", "cloud", "proxy", "include_source", "restrict_modal_access", "i6pn",
            "experimental_options", "nonpreemptible", "restrict_output", "allow_cross_region_volumes"}  # fmt: skip
_EXPERIMENTAL = "_experimental_"
_LATER = {"volumes", "mounts", "network_file_systems", "ephemeral_disk", "enable_memory_snapshot"}
_KNOWN = {
    "image", "secrets", "block_network", "env", "gpu", "serialized", "cpu", "memory", "min_containers", "max_containers",
    "buffer_containers", "scaledown_window", "retries", "timeout", "startup_timeout", "name", "is_generator",
    "allow_concurrent_inputs", "single_use_containers", "max_inputs", "schedule",
} | _LATER  # fmt: skip


class Retries:
    """When an input that failed is tried again.

    Args:
        max_retries: tries after the first, 0 to 10.
        backoff_coefficient: each delay is the one before times this, 1 to 10.
        initial_delay: seconds before the first retry, 0 to 60.
        max_delay: seconds that no delay exceeds, 1 to 60.

    Raises:
        InvalidError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        max_retries: int,
        backoff_coefficient: float = 2.0,
        initial_delay: float = 1.0,
        max_delay: float = 60.0,
    ) -> None:
        for name, value, low, high in (
            ("max_retries", max_retries, 0, 10),
            ("backoff_coefficient", backoff_coefficient, 1.0, 10.0),
            ("initial_delay", initial_delay, 0.0, 60.0),
            ("max_delay", max_delay, 1.0, 60.0),
        ):
            kind = int if name == "max_retries" else (int, float)
            if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
                number = "a whole number" if name == "max_retries" else "a number"
                raise InvalidError(f"Retries({name}={value!r}) must be {number} between {low:g} and {high:g}")
        self.spec = RetrySpec(max_retries, initial_delay, backoff_coefficient, max_delay)


class Options(NamedTuple):
    """What remains after checking: fields of the spec, and what the client itself needs."""

    fields: dict[str, Any]
    image: "Image | None"
    hooked: "ClassDefinition | None"
    """The class whose build hooks are part of the image."""
    name: str
    serialized: bool
    is_generator: bool | None
    later: dict[str, Any]
    """Options of features that aren't built: to use them is refused."""
    ignored: list[str]
    """Names that mean nothing on one's own machines; said when the app runs."""
    retries: bool
    snapshot: bool

    @property
    def schedule(self) -> bool:
        """Whether it runs by itself at times."""
        return bool(self.fields.get("schedule"))

    @property
    def unbatchable(self) -> str:
        """The option that no batched function may have, if there is one."""
        if self.fields.get("max_inputs", 1) > 1:
            return "allow_concurrent_inputs="
        return "is_generator=" if self.is_generator else ""

    def for_one_input(self, **fields: Any) -> "Options":
        """The same for another function, whose one container runs one input; ``fields``: of its ``FunctionSpec``, instead."""
        kept = {**self.fields, "min_containers": 0, "max_containers": 1, "max_inputs": 1, "target_inputs": 0}
        kept["schedule"] = {}
        return self._replace(fields={**kept, **fields}, name="", serialized=False, is_generator=None)


def read_options(where: str, given: dict[str, Any]) -> Options:
    """Check and translate keywords.

    Args:
        where: ``@app.function`` or ``@app.cls``, for the messages.

    Raises:
        InvalidError: an unknown keyword, or a value out of range.
    """
    options = _translate(where, given)
    fields: dict[str, Any] = {}
    for name in ("min_containers", "max_containers", "buffer_containers"):
        if (value := options.pop(name, None)) is not None:
            fields[name] = whole(where, name, value, 1 if name == "max_containers" else 0)
    if fields.get("max_containers") and fields.get("min_containers", 0) > fields["max_containers"]:
        raise InvalidError(
            f"{where}: min_containers={fields['min_containers']} is above max_containers={fields['max_containers']}"
        )
    for name in ("timeout", "startup_timeout", "scaledown_window"):
        if (value := options.pop(name, None)) is not None:
            fields[name] = _seconds(where, name, value)
    _resources(where, options, fields)
    fields["block_network"] = _flag(where, options, "block_network")
    retries = options.pop("retries", None)
    if retries is not None:
        fields["retries"] = _retries(where, retries)
    if (concurrent := options.pop("allow_concurrent_inputs", None)) is not None:
        fields["max_inputs"] = whole(where, "allow_concurrent_inputs", concurrent, 1)
    fields["single_use"] = _flag(where, options, "single_use_containers") | _one_input(where, options)
    secrets = read_secrets(where, options.pop("secrets", None))
    if (schedule := options.pop("schedule", None)) is not None:
        fields["schedule"] = _schedule(where, schedule)
    env = checked_variables(f"{where}: env=", options.pop("env", {}))
    fields["environment"], fields["secrets"] = in_order(secrets, env)
    later = {name: value for name in sorted(_LATER) if (value := options.pop(name, None))}
    image = _image(where, options.pop("image", None))
    return Options(
        fields=fields,
        image=image,
        hooked=None,
        name=options.pop("name", None) or "",
        serialized=bool(options.pop("serialized", False)),
        is_generator=options.pop("is_generator", None),
        later=later,
        ignored=sorted(
            {name for name in options if name in _IGNORED or name.startswith(_EXPERIMENTAL)}
            | (image.ignored if image is not None else frozenset())
        ),
        retries=retries is not None,
        snapshot=bool(later.get("enable_memory_snapshot")),
    )


def _image(where: str, value: Any) -> "Image | None":
    if value is None:
        return None
    from greenroom.sdk.image import Image

    if not isinstance(value, Image):
        raise InvalidError(
            f"{where}: image={value!r:.80} is no Image; begin one with Image.host() or Image.debian_slim()"
        )
    return value


def _schedule(where: str, value: Any) -> dict[str, Any]:
    from greenroom.sdk.schedule import Schedule

    if where == "@app.cls":
        raise InvalidError(
            f"{where}: schedule= goes on a function, for a schedule calls one thing and a class may have several: give it to "
            "an @app.function() that calls the method"
        )
    if not isinstance(value, Schedule):
        raise InvalidError(f"{where}: schedule={value!r:.80} must be a Period(…) or a Cron(…)")
    return value.spec._asdict()


def _translate(where: str, given: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for name, value in given.items():
        new = _OLD_NAMES.get(name, name)
        if new not in _KNOWN and new not in _IGNORED and not new.startswith(_EXPERIMENTAL):
            import difflib

            close = difflib.get_close_matches(name, [*_KNOWN, *_IGNORED, *_OLD_NAMES], 1)
            hint = f"; did you mean {close[0]}=?" if close else ""
            raise InvalidError(f"{where} knows no {name}={hint}")
        if value is None:
            continue
        if new in options:
            raise InvalidError(f"{where}: {spelled[new]}= and {name}= are the same; give one")
        options[new], spelled[new] = value, name
    return options


def _one_input(where: str, options: dict[str, Any]) -> bool:
    """``max_inputs=1``, which ``single_use_containers=True`` was called for a while."""
    value = options.pop("max_inputs", None)
    if value is None:
        return False
    if value != 1 or isinstance(value, bool):
        raise InvalidError(
            f"{where}: max_inputs={value!r} can only be 1, a container for each input (single_use_containers=True); "
            "for several inputs at once write @concurrent(max_inputs=…) below it"
        )
    return True


def read_scaling(where: str, given: dict[str, Any]) -> dict[str, Any]:
    """Those of the autoscaler's numbers that are given; raises ``InvalidError`` where one can't be."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if value is not None:
            seconds = name == "scaledown_window"
            fields[name] = (
                _seconds(where, name, value) if seconds else whole(where, name, value, name == "max_containers")
            )
    return fields


def whole(where: str, name: str, value: Any, least: int) -> int:
    """``value``; raises ``InvalidError`` where it is no number of containers, of inputs or the like."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidError(f"{where}: {name}={value!r} must be a whole number of at least {int(least)}")
    if value >= MOST:
        raise InvalidError(f"{where}: {name}={value!r:.40} must be less than {MOST}")
    return value


def _flag(where: str, options: dict[str, Any], name: str) -> bool:
    value = options.pop(name, False)
    if not isinstance(value, bool):
        raise InvalidError(f"{where}: {name}={value!r:.80} must be True or False")
    return value


def _seconds(where: str, name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise InvalidError(f"{where}: {name}={value!r} must be a number of seconds above 0")
    if value >= LONGEST:
        raise InvalidError(f"{where}: {name}={value!r:.40} must be less than {LONGEST:g} seconds; that is thirty years")
    return float(value)


def _resources(where: str, options: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, kind in (("cpu", float), ("memory", int)):
        value = options.pop(name, None)
        if value is None:
            continue
        request, limit = value if isinstance(value, tuple) and len(value) == 2 else (value, 0)
        for number in (request, limit):
            if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < MOST:
                raise InvalidError(
                    f"{where}: {name}={value!r} must be a number above 0, or a pair (request, limit) of them"
                )
        if request == 0 or (limit and limit < request):
            raise InvalidError(f"{where}: {name}={value!r}: the request must be above 0 and not above the limit")
        fields[name], fields[f"{name}_limit"] = kind(request), kind(limit)
    gpu = options.pop("gpu", None)
    if gpu:
        # A list says what to take in the place of what there isn't.
        fields["gpu"] = ",".join(map(str, gpu)) if isinstance(gpu, list | tuple) else str(gpu)


def _retries(where: str, value: Any) -> RetrySpec:
    if isinstance(value, Retries):
        return value.spec
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10:
        return RetrySpec(value, 1.0, 1.0, 60.0)
    raise InvalidError(f"{where}: retries={value!r} must be a number from 0 to 10, or Retries(max_retries=…)")


def read_secrets(where: str, given: Any) -> list[Secret]:
    """``secrets=``; raises ``InvalidError`` where that is no list of secrets."""
    if given is None:
        return []
    if isinstance(given, str | dict) or not hasattr(given, "__iter__"):
        raise InvalidError(f"{where}: secrets= takes a list: write secrets=[…]")
    secrets: list[Secret] = list(given)
    for secret in secrets:
        if not isinstance(secret, Secret):
            raise InvalidError(
                f"{where}: secrets= holds a {type(secret).__name__}; make one with Secret.from_dict({{…}})"
            )
    return secrets


def with_defaults(defaults: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A function's options, with what its app says of all."""
    merged = {**defaults, **options}
    for name, value in defaults.items():
        own = options.get(name)
        if own and name == "secrets":
            merged[name] = [*value, *read_secrets("@app", own)]
        elif own and name == "mounts":
            merged[name] = [*value, *own]
        elif own and name == "volumes":
            merged[name] = {**value, **own}
    return merged
