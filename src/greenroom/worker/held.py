"""What a container has while it lives: acquired in order, released in reverse."""

from typing import Protocol

from greenroom.wire.lasting import Left
from greenroom.worker.ledgers import ContainerLedger
from greenroom.worker.output import Output
from greenroom.worker.sandbox.base import Sandbox
from greenroom.worker.scratch import Scratch


class Resource(Protocol):
    """Something that a container has while it lives."""

    def acquire(self) -> None:
        """Get it; raises OSError. Whatever it raises, nothing is held then."""

    def release(self) -> None:
        """Give it back; called once for each acquire, in a thread, whatever has happened to it."""


class Held:
    """One container's."""

    def __init__(self, scratch: Scratch, output: Output) -> None:
        self.scratch = scratch
        self.output = output
        self.sandbox: Sandbox | None = None
        self.ledger = ContainerLedger(scratch.directory)
        self.left = Left()
        """What that says, once all is given back."""
        self._acquired: list[Resource] = []

    def acquire(self, resource: Resource) -> None:
        """The next one; raises what it raises."""
        resource.acquire()
        self._acquired.append(resource)

    def adopt(self, sandbox: Sandbox) -> None:
        """Directory and sandbox are of the worker before this one; whatever comes of this, they are held."""
        self.sandbox = sandbox
        self._acquired = [self.scratch, sandbox]
        self.ledger.adopt()
        sandbox.adopt()

    @property
    def has_output(self) -> bool:
        """Whether the output can be read."""
        return self.output in self._acquired

    def processes(self) -> list[int]:
        """Every process of the container that can be found."""
        return self.sandbox.processes() if self.sandbox is not None else []

    def release(self) -> list[Exception]:
        """Give everything back, each whatever became of the one before; what went wrong."""
        errors: list[Exception] = []
        while self._acquired:
            try:
                self._acquired.pop().release()
            except Exception as error:  # noqa: BLE001 - the others are to be given back all the same
                errors.append(error)
        self.left = self.ledger.take()
        return errors
