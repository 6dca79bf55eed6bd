"""Secrets: environment variables for containers."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import InvalidError, NotFoundError
from greenroom.sdk.one_namespace import check_namespace
from greenroom.sdk.unbuilt import unbuilt

if TYPE_CHECKING:
    from pathlib import Path

    from greenroom.model.secrets import StoredSecret


@unbuilt("create_deployed", "get_dashboard_url", "hydrate", "info", "update")
class Secret:
    """Environment variables that a function's containers get. Values are never printed.

    Args:
        values: the variables.
        stored: which stored secret it is, whose values the server has.
    """

    def __init__(self, values: dict[str, str], stored: "StoredSecret | None" = None) -> None:
        self._values = values
        self.stored = stored

    def __repr__(self) -> str:
        if self.stored is not None:
            return f"Secret.from_name({self.stored.name!r})"
        return f"Secret({', '.join(sorted(self._values))})"

    @property
    def values(self) -> dict[str, str]:
        """The variables.

        Raises:
            InvalidError: it is a stored secret.
        """
        if self.stored is not None:
            raise InvalidError(
                f"{self!r}: a stored secret's values are given to containers alone, as their environment"
            )
        return dict(self._values)

    @classmethod
    def from_dict(cls, env_dict: dict[str, str | None] | None = None) -> "Secret":
        """From names and values; a value of None leaves that variable out.

        Raises:
            InvalidError: a name or value is no string, or a name can't be one of a variable.
        """
        return cls(checked_variables("Secret.from_dict", {} if env_dict is None else env_dict))

    @classmethod
    def from_local_environ(cls, env_keys: Iterable[str]) -> "Secret":
        """From variables of this process.

        Raises:
            InvalidError: that is no list of names; or a value is no UTF-8 text.
            NotFoundError: one isn't set here.
        """
        from greenroom.usercode.context import is_local

        if isinstance(env_keys, str):
            raise InvalidError(f"Secret.from_local_environ({env_keys!r}) takes a list of names: write [{env_keys!r}]")
        keys = list(env_keys)
        if not is_local():
            return cls({key: os.environ[key] for key in keys if key in os.environ})
        missing = [key for key in keys if key not in os.environ]
        if missing:
            raise NotFoundError(f"Secret.from_local_environ: not set here: {', '.join(missing)}")
        return cls(checked_variables("Secret.from_local_environ", {key: os.environ[key] for key in keys}))

    @classmethod
    def from_dotenv(cls, path: Any = None, *, filename: str = ".env") -> "Secret":
        """From a ``.env`` file: in ``path`` (a directory, or a file in it such as ``__file__``) or a directory above it.

        Raises:
            NotFoundError: there is none.
            InvalidError: it can't be read, or a line is not ``NAME=value``.
        """
        from pathlib import Path

        from greenroom.usercode.context import is_local

        if not is_local():
            return cls({})
        start = Path(path) if path is not None else Path.cwd()
        start = start.absolute()
        directory = start if start.is_dir() else start.parent
        for candidate in (directory, *directory.parents):
            file = candidate / filename
            if file.is_file():
                return cls(read_dotenv("Secret.from_dotenv", file))
        raise NotFoundError(f"Secret.from_dotenv: no {filename} in {directory} or above it")

    @classmethod
    def from_name(
        cls,
        name: str,
        namespace: Any = None,
        client: Any = None,
        environment_name: str | None = None,
        required_keys: Sequence[str] = (),
    ) -> "Secret":
        """One that ``greenroom secret create`` has stored. A container gets what it holds when that container starts.

        Args:
            required_keys: variables that it must have: else the app doesn't start.

        Raises:
            InvalidError: that can't be its name; or ``environment_name`` is not ``main``, the one that there is.
        """
        from greenroom.model.secrets import StoredSecret, check_name

        where = "Secret.from_name"
        check_name(where, name)
        check_namespace(f"{where}({name!r})", environment_name)
        keys = list(required_keys) if isinstance(required_keys, Iterable) else [required_keys]
        if isinstance(required_keys, str) or not all(isinstance(key, str) for key in keys):
            raise InvalidError(f"{where}({name!r}): required_keys= takes a list of names, not {required_keys!r:.80}")
        return cls({}, StoredSecret(name, keys))

    lookup = from_name


def in_order(
    secrets: Iterable[Secret], env: Mapping[str, str] | None = None
) -> "tuple[dict[str, str], list[StoredSecret]]":
    """What they come to, ``env`` last: the variables before the first stored one, and the stored ones, each with those after it."""
    before: dict[str, str] = {}
    stored: list[StoredSecret] = []
    for secret in secrets:
        if secret.stored is not None:
            stored.append(secret.stored._replace(after={}))
        else:
            (stored[-1].after if stored else before).update(secret.values)
    (stored[-1].after if stored else before).update(env or {})
    return before, stored


def checked_variables(where: str, given: Any) -> dict[str, str]:
    """Environment variables, without those whose value is None; raises ``InvalidError``, which begins with ``where``."""
    if not isinstance(given, Mapping):
        raise InvalidError(f"{where} takes a dict of names and values, not a {type(given).__name__}")
    values: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise InvalidError(f"{where}: {name!r} can't be the name of an environment variable")
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidError(f"{where}: the value of {name} is a {type(value).__name__}, not a str")
        if "\0" in value:
            raise InvalidError(f"{where}: the value of {name} holds a null character")
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError:  # real containers are described in JSON, which has no other bytes
            raise InvalidError(f"{where}: the variable {name!r} is no UTF-8 text") from None
        values[name] = value
    return values


def read_dotenv(where: str, file: "Path") -> dict[str, str]:
    """The variables of a ``.env`` file; raises ``InvalidError``, which begins with ``where``."""
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        with file.open(encoding="utf-8") as stream:
            wrong = next((line for line in parse_stream(stream) if line.error), None)
        if wrong is not None:
            text = wrong.original.string
            line = wrong.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            raise InvalidError(f"{where}: {file}, line {line}: not NAME=value")
        return {name: value for name, value in dotenv_values(file, encoding="utf-8").items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{where}: can't read {file}: {getattr(error, 'strerror', None) or error}") from None
