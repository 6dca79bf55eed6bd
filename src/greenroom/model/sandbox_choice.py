"""Which sandbox containers get on this machine: the rule that a worker follows, and that the command line tells."""

import os
import shutil
from typing import Literal, NamedTuple

from greenroom.model.settings import Settings

PREFERRED = ("crun", "runc")
"""What is looked for where nobody insists, in this order."""
PACKAGED = (*PREFERRED, "runsc")
"""Packages of the same names have them."""


class Choice(NamedTuple):
    """What containers are."""

    sandbox: Literal["oci", "process", "none"]
    """``none``: what was insisted on can't be had, and no container starts."""
    program: str = ""
    """Path of what starts real containers; ``""``: there are none."""
    lacks: str = ""
    """What a person should know that they lack, in a line; ``""``: nothing."""
    mend: str = ""
    """The command that mends that, where one does."""

    @property
    def told(self) -> str:
        """Both, in a line."""
        return f"{self.lacks}; {self.mend}" if self.mend else self.lacks


def choose(settings: Settings) -> Choice:
    """What was insisted on, else real containers where we may, else plain processes; as far as it can be told without a try."""
    if settings.sandbox == "process" and not settings.runtime:
        return Choice("process")
    if os.geteuid() != 0:
        return without_real_ones(settings, "real ones need root for now")
    program = find_program(settings.runtime)
    if program is None:
        return without_real_ones(settings, missing(settings.runtime), mend(settings.runtime))
    return Choice("oci", program)


def without_real_ones(settings: Settings, why: str, mend: str = "") -> Choice:
    """What is left where real containers can't be had."""
    if settings.sandbox == "oci" or settings.runtime:
        return Choice("none", lacks=f"real containers were asked for, and can't be had: {why}", mend=mend)
    return Choice(
        "process", lacks=f"containers are plain processes, which can do and see what you can: {why}", mend=mend
    )


def find_program(wanted: str) -> str | None:
    """Path of the runtime of that name or path (``""``: the first that is there); None when there is none."""
    for name in [wanted] if wanted else PREFERRED:
        # Where a user's path need not lead, too.
        program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if program is not None:
            return program
    return None


def missing(wanted: str) -> str:
    """What to say where :func:`find_program` finds none."""
    return f"there is no {wanted or ' or '.join(PREFERRED)} here"


def mend(wanted: str) -> str:
    """The command that mends that."""
    if wanted and wanted not in PACKAGED:
        return "unset GREENROOM_RUNTIME"
    return f"apt-get install {wanted or PREFERRED[0]}"
