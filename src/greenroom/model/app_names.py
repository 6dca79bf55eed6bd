"""Names of apps that stay: they are typed, listed, and parts of the names of files and functions."""

import re

from greenroom.model.errors import InvalidError

LONGEST = 64
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST}}}")
_ID = re.compile(r"ap-[0-9a-f]{16}")


def check_app_name(name: str) -> None:
    """Raise InvalidError, unless an app can be deployed, or detached, under that name. Source: Modal's rule."""
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r:.80} can't be the name of an app that stays: that is up to {LONGEST} letters, digits, '.', '_' and '-'; write "
            'App("NAME"), or `greenroom deploy --name NAME`'
        )
    if _ID.fullmatch(name):
        raise InvalidError(f"{name!r} can't be the name of an app that stays: it reads like an app's id")
