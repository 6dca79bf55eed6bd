"""What programs give their functions, and the steps of their images, by ``env=`` and ``Secret.from_dict``: in the store it is sealed
with the key of the stored secrets (``vault.py``), and what has none of it is kept as it is. All of it is for the disk's thread.

A function's is unsealed for each container that starts, as stored secrets are read; so a server that has a thousand apps again
unseals nothing until somebody calls. An image's is when the image is had again.
"""

from typing import TYPE_CHECKING, Any

from greenroom.model.image import SETTING, Step
from greenroom.model.secrets import StoredSecret
from greenroom.model.spec import FunctionSpec
from greenroom.server.vault import Vault

if TYPE_CHECKING:
    from greenroom.server.store.versions import FunctionRow, ImageRow

SEALED = "sealed"
"""The field of a spec, as it is kept, that has its values."""


def seal_function(vault: Vault, row: "FunctionRow") -> "FunctionRow":
    """As it is to be kept; raises ExecutionError."""
    environment, secrets = row.spec["environment"], row.spec["secrets"]
    if not environment and not _given(secrets):
        return row
    bare = [list(StoredSecret(*secret)._replace(after={})) for secret in secrets]
    sealed = vault.seal({"environment": environment, "secrets": secrets})
    return row._replace(spec={**row.spec, "environment": {}, "secrets": bare, SEALED: sealed})


def unseal_spec(vault: Vault, spec: FunctionSpec, sealed: str) -> FunctionSpec:
    """A function's spec with its values (``sealed`` of ``""``: it has them); raises ExecutionError."""
    return spec._replace(**vault.unseal(sealed)) if sealed else spec


def seal_image(vault: Vault, row: "ImageRow") -> "ImageRow":
    """As it is to be kept: sealed as a whole, since the key of a step has its ``env=`` too; raises ExecutionError."""
    if not any(_has_values(Step(*step)) for step in (row.spec["base"], *row.spec["steps"])):
        return row
    return row._replace(spec={SEALED: vault.seal(row.spec)})


def unseal_image(vault: Vault, spec: dict[str, Any]) -> dict[str, Any]:
    """An image's spec, however it was kept; raises ExecutionError."""
    found: dict[str, Any] = vault.unseal(spec[SEALED]) if SEALED in spec else spec
    return found


def _has_values(step: Step) -> bool:
    """Of its own; what ``Image.env`` sets is a part of the image, as its files are."""
    if step.kind in SETTING:
        return False
    stored = step.rest.get("stored", {})
    given = (step.rest.get("environment"), step.rest.get("values"), step.key.get("env"))
    return any(given) or any(_given(secrets) for secrets in stored.values())


def _given(secrets: list[Any]) -> bool:
    return any(StoredSecret(*secret).after for secret in secrets)
