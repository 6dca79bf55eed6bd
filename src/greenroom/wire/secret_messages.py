"""The messages about stored secrets. See ``messages.py``; these are apart since no container may say them."""

from typing import NamedTuple

from greenroom.wire.schema import message


@message
class PutSecret(NamedTuple):
    """Keep a secret. Payload: its variables, as a JSON object. Answered with ``{"existed": bool}``."""

    rid: int
    name: str
    overwrite: bool
    sizes: list[int]


@message
class ListSecrets(NamedTuple):
    """Answered with ``{"secrets": [record, …]}``, by name; no record has a value."""

    rid: int


@message
class DeleteSecret(NamedTuple):
    rid: int
    name: str
