"""Source bundles, by the digest of their content: kept as tar files that workers unpack."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from greenroom.model.errors import ExecutionError, InvalidError
from greenroom.wire.payload import Descriptor, Payload

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Bundles:
    """The ``code`` directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, digest: str) -> bool:
        """Whether that bundle is here, whole. It counts as used from now on: workers remove what isn't for long."""
        try:
            os.utime(self._path(digest))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # not ours to touch, or no room to: it is there
        return True

    def put(self, digest: str, payload: Payload) -> None:
        """Keep a bundle.

        Raises:
            InvalidError: its digest isn't the one it came with.
            ExecutionError: it can't be written (no space, no permission).
        """
        path = self._path(digest)
        if self.has(digest):
            return
        if isinstance(payload, Descriptor):
            with payload.open() as file:
                data = file.read()
        else:
            data = payload
        if hashlib.sha256(data).hexdigest() != digest:
            raise InvalidError(f"a source bundle arrived damaged: its digest is not {digest[:12]}…")
        temporary = ""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=self._directory, prefix=".new-")
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.rename(temporary, path)
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise ExecutionError(
                f"can't keep the program's files in {self._directory}: {error.strerror or error}; "
                "free some space there, or set GREENROOM_HOME to another directory"
            ) from None

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InvalidError(f"{digest[:80]!r} is no digest of a bundle")
        return self._directory / f"{digest}.tar"
