"""What names an app beside its name: ``environment_name=``, of Modal's environments, of which there is one here."""

from typing import Any

from greenroom.model.errors import InvalidError

MAIN = "main"


def check_namespace(where: str, name: Any) -> None:
    """Raise InvalidError, unless it is the one that there is, or none is given."""
    if name not in (None, "", MAIN):
        raise InvalidError(
            f"{where}: environment_name={name!r:.80}: there is one namespace for now, and it is called main; leave it out"
        )


def check_of_a_name(where: str, given: dict[str, Any]) -> None:
    """What is given beside the names of an app and a function; ``namespace`` and ``client`` mean nothing here.

    Raises:
        InvalidError: there is no such argument, or another namespace is named.
    """
    _check(where, given, {"namespace", "client"})


def check_deploying(given: dict[str, Any]) -> set[str]:
    """What is given beside the name that an app is deployed under: of that, what means nothing here.

    Raises:
        InvalidError: there is no such argument, or another namespace is named.
    """
    _check("app.deploy()", given, {"client", "tag", "tags"})
    return {name for name, value in given.items() if value} - {"environment_name"}


def _check(where: str, given: dict[str, Any], ignored: set[str]) -> None:
    if unknown := sorted(set(given) - ignored - {"environment_name"}):
        raise InvalidError(f"{where} knows no {', '.join(f'{name}=' for name in unknown)}")
    check_namespace(where, given.get("environment_name"))
