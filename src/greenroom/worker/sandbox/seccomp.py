"""The system calls that containers may make: Docker's default, and less.

``moby-seccomp.json`` is ``profiles/seccomp/default.json`` of Moby 20.10.24 (Apache-2.0), to the byte as Debian's package
golang-github-docker-docker-dev 20.10.24+dfsg1 has it. It says what to allow by capability, architecture and kernel; here
that is settled for a container of ours. What Moby itself took out later is taken out here too, and what kernels have
learnt since and Moby has allowed since is added.
"""

import json
import platform
from collections.abc import Collection
from importlib import resources
from typing import Any

LATER_DENIED = frozenset({"io_uring_enter", "io_uring_register", "io_uring_setup", "socketcall"})
"""Out of Moby's default by now: a way around filters, and a source of many a kernel's bugs."""
REFUSED_FAMILIES = (38, 40)
"""Kinds of socket that no container makes: the kernel's ciphers (AF_ALG), and what leads from a virtual machine to its host
(AF_VSOCK), which no network namespace holds back."""
LATER_ALLOWED = (
    "cachestat", "fchmodat2", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "landlock_add_rule",
    "landlock_create_ruleset", "landlock_restrict_self", "memfd_secret", "mseal", "process_mrelease", "statmount",
    "listmount",
)  # fmt: skip
"""In Moby's default by now."""
_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_ARCHITECTURES = {
    "amd64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "arm64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def filters(capabilities: Collection[str], machine: str = "") -> dict[str, Any]:
    """The ``linux.seccomp`` of a runtime's configuration.

    ``machine``: as ``uname -m`` says it; this one's, unless given.
    """
    profile = json.loads(resources.files(__package__).joinpath("moby-seccomp.json").read_text())
    here = machine or platform.machine()
    return settle(profile, capabilities, _NAMES.get(here, here))


def settle(profile: dict[str, Any], capabilities: Collection[str], architecture: str) -> dict[str, Any]:
    """What is left of a profile of Moby's for these capabilities and this architecture.

    Its conditions on the kernel's version (4.8 and newer) hold wherever Greenroom runs.
    """
    rules: list[dict[str, Any]] = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if not set(includes.get("caps") or ()).issubset(capabilities):
            continue
        if (arches := includes.get("arches")) and architecture not in arches:
            continue
        if set(excludes.get("caps") or ()) & set(capabilities) or architecture in (excludes.get("arches") or ()):
            continue
        kept: dict[str, Any] = {
            "names": [name for name in rule["names"] if name not in LATER_DENIED and name != "socket"],
            "action": rule["action"],
        }
        if rule.get("args"):
            kept["args"] = rule["args"]
        if rule.get("errnoRet"):
            kept["errnoRet"] = rule["errnoRet"]
        rules.append(kept)
    rules.append({"names": list(LATER_ALLOWED), "action": "SCMP_ACT_ALLOW"})
    low, high = REFUSED_FAMILIES
    for operator, value in (("SCMP_CMP_LT", low), ("SCMP_CMP_EQ", low + 1), ("SCMP_CMP_GT", high)):
        family = [{"index": 0, "value": value, "op": operator}]
        rules.append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": family})
    return {
        "defaultAction": profile["defaultAction"],
        "architectures": _ARCHITECTURES.get(architecture, []),
        "syscalls": rules,
    }
