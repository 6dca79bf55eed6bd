"""Secrets, as functions and images get them: stored ones are read from the vault for each container that starts, and for each
image that is asked for; so are values that the store had sealed. What was read is kept no longer than that needs it.
"""

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import Error, InvalidError, ProtocolError
from greenroom.model.image import Step
from greenroom.model.secrets import StoredSecret, read_stored
from greenroom.server.containers import Container
from greenroom.server.sealing import unseal_spec
from greenroom.server.vault import Vault, mark_of
from greenroom.wire.payload import Payload, in_memory
from greenroom.wire.schema import from_json

if TYPE_CHECKING:
    from greenroom.server.core import Server

_PLACES = ("environment", "values")
"""Where a step's ``rest`` can have variables."""
MOST_NAMED = 10
"""Apps that one line names."""


class Secrets:
    """One server's."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._reading: set[Container] = set()
        self.vault = Vault(server.home / "secrets")

    # ---- for containers ----

    def ready(self, container: Container) -> bool:
        """Whether its variables are there. If not, they are read, and then it is placed."""
        spec, sealed = container.pool.function.spec, container.pool.function.sealed
        if not (spec.secrets or sealed) or container.environment is not None:
            return True
        if container not in self._reading:
            self._reading.add(container)

            def read() -> dict[str, str]:
                whole = unseal_spec(self.vault, spec, sealed)
                return self.vault.environment(whole.environment, read_stored(whole.secrets), used=True)

            self._server.disk.do(read, lambda done: self._read(container, done))
        return False

    def look_for_key(self) -> None:
        """Say, in a line, which apps can't have the values that were kept for them."""
        apps: dict[str, set[str]] = {}
        for function in self._server.functions.values():
            if function.sealed:
                apps.setdefault(mark_of(function.sealed), set()).add(function.app.name)

        def looked(done: Future[set[str]]) -> None:
            lost = sorted({name for mark, names in apps.items() if mark not in done.result() for name in names})
            if lost:
                more = f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
                self._server.log(
                    f"{', '.join(lost[:MOST_NAMED])}{more} can't start what was given values: {self.vault.lacks_key()}"
                )

        if apps:
            self._server.disk.do(lambda: self.vault.opens(apps), looked)

    def _read(self, container: Container, done: Future[dict[str, str]]) -> None:
        self._reading.discard(container)
        if not container.live:
            return  # nobody wants it any more
        lifecycle = self._server.lifecycle
        try:
            container.environment = done.result()
        except Error as error:
            container.fault = f"can't have its secrets: {error}"
            lifecycle.gone(container, container.fault, started=False)
        else:
            lifecycle.place()

    # ---- for images ----

    def fill(self, image: dict[str, Any], *, was_made: bool = False) -> dict[str, Any]:
        """An image's spec with the values that its steps need, in the place of the names. For the disk's thread; raises what
        :meth:`Vault.environment` does; ``was_made``: a step that can't have them says so if it has to be made again."""
        base, *steps = (self._filled(step, was_made) for step in [image["base"], *image["steps"]])
        return {**image, "base": base, "steps": steps}

    def _filled(self, step: list[Any], was_made: bool) -> list[Any]:
        made = Step(*step)
        if "stored" not in made.rest:
            return step
        rest = {name: value for name, value in made.rest.items() if name != "stored"}
        for place, named in stored_in(made).items():
            try:
                rest[place] = self.vault.environment(rest[place], named, used=True)
            except Error as error:
                if not was_made:
                    raise
                rest["lacks"] = str(error)
        return list(made._replace(rest=rest))


def stored_in(step: Step) -> dict[str, list[StoredSecret]]:
    """The stored secrets that a step names, by the field of its ``rest`` that they belong to; raises ProtocolError."""
    named = step.rest.get("stored", {})
    if not isinstance(named, dict) or not all(place in _PLACES and place in step.rest for place in named):
        raise ProtocolError("a step of an image has stored secrets of another shape")
    return {place: read_stored(data) for place, data in named.items()}


def variables_of(payload: Payload) -> dict[str, str]:
    """Those that came with a ``PutSecret``; raises ProtocolError, InvalidError."""
    try:
        found = from_json(in_memory(payload))
    except (ValueError, RecursionError):
        raise ProtocolError("the variables of a secret are no JSON") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ProtocolError("the variables of a secret are no object of texts")
    if not found:
        raise InvalidError("a secret has at least one variable")
    for name, value in found.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise InvalidError(
                f"{name!r:.80} can't be a variable: a name has no '=', and neither name nor value a null character"
            )
    return found
