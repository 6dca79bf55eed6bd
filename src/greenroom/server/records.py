"""Records of containers that have ended: one JSON file each, the latest few hundred.

They are for people who look later (``greenroom container show``). Writing one never holds anything up: on a full disk
it is left out, and a line in the server's log says so.
"""

import json
import os
from pathlib import Path
from typing import Any

KEPT = 500


class Records:
    """The ``containers`` directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written = 0

    def write(self, record: dict[str, Any]) -> str:
        """Keep ``record``; returns ``""``, or why it could not be kept."""
        path = self._directory / f"{record['id']}.json"
        temporary = path.with_suffix(".new")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(record))
            temporary.rename(path)
            self._written += 1
            if self._written % 50 == 1:
                self._drop_old()
        except OSError as error:
            temporary.unlink(missing_ok=True)
            return f"the record of {record['id']} is not kept: {error.strerror or error}"
        return ""

    def read(self) -> list[dict[str, Any]]:
        """Those that are kept."""
        found: list[dict[str, Any]] = []
        for file in self._directory.glob("*.json"):
            try:
                found.append(json.loads(file.read_text()))
            except (OSError, ValueError):
                continue  # just dropped, or written while the disk was full
        return found

    def _drop_old(self) -> None:
        with os.scandir(self._directory) as entries:
            files = sorted((e for e in entries if e.name.endswith(".json")), key=lambda e: e.stat().st_mtime)
        for entry in files[:-KEPT]:
            Path(entry.path).unlink(missing_ok=True)
