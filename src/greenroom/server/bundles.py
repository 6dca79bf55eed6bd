"""Source bundles, by the digest of their content: kept as tar files that workers unpack."""

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import IO

from greenroom.model.errors import ExecutionError, InvalidError
from greenroom.wire.payload import Payload, blocks

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Bundles:
    """The ``code`` directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, digest: str) -> bool:
        """Whether that bundle is here, whole. It counts as used from now on: workers remove what isn't for long."""
        path = self._path(digest)
        try:
            os.utime(path)
        except OSError:
            return path.is_file()  # not ours to touch, or no room to; or not there
        return True

    def put(self, digest: str, payload: Payload) -> None:
        """Keep a bundle that comes at once; see :meth:`Arriving.take`."""
        self.arriving(digest).take(payload, more=False)

    def arriving(self, digest: str) -> "Arriving":
        """For one that comes in parts; raises InvalidError."""
        return Arriving(self, digest, self._path(digest))

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise InvalidError(f"{digest[:80]!r} is no digest of a bundle")
        return self._directory / f"{digest}.tar"


class Arriving:
    """A bundle, part by part."""

    def __init__(self, bundles: Bundles, digest: str, path: Path) -> None:
        self._bundles = bundles
        self._digest = digest
        self._path = path
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None

    def take(self, payload: Payload, *, more: bool) -> None:
        """The next part; with the last one it is kept.

        Raises:
            InvalidError: its digest isn't the one it came with.
            ExecutionError: it can't be written (no space, no permission).
        """
        try:
            if self._bundles.has(self._digest):
                self.discard()
                return
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=".new-", delete=False)
            for block in blocks(payload):
                self._hash.update(block)
                self._file.write(block)
            if more:
                return
            if self._hash.hexdigest() != self._digest:
                raise InvalidError(f"a source bundle arrived damaged: its digest is not {self._digest[:12]}…")
            self._file.close()
            os.rename(self._file.name, self._path)
            self._file = None
        except (OSError, InvalidError) as error:
            self.discard()
            if isinstance(error, InvalidError):
                raise
            raise ExecutionError(
                f"can't keep the program's files in {self._path.parent}: {error.strerror or error}; "
                "free some space there, or set GREENROOM_HOME to another directory"
            ) from None

    def discard(self) -> None:
        """No more of it comes."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
            Path(file.name).unlink(missing_ok=True)
