"""What a caller says of a call that it spawns whole."""

from typing import NamedTuple

from greenroom.wire.schema import message


@message
class Spawn(NamedTuple):
    """Start a ``spawn`` call all of whose inputs are here, a payload each; ``rid`` is answered once the server has it."""

    rid: int
    call_id: str
    function_id: str
    method: str
    binding: str
    sizes: list[int]
    again: int = -1
    """0: it was on its way when the server before this one died, which had not kept it."""
