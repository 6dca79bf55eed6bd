"""``python -m greenroom.server.store backup|restore HOME FILE``: what ``greenroom server backup`` and ``restore`` run."""

import sys
from pathlib import Path

from greenroom.model.errors import StoreError
from greenroom.server.store.backup import back_up, restore


def main(what: str, home: str, file: str) -> int:
    """Do it; the exit status."""
    try:
        if what == "backup":
            back_up(Path(home), Path(file))
        else:
            restore(Path(file), Path(home))
    except StoreError as error:
        print(f"greenroom: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
