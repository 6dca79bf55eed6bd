"""A filter's program, compiled once: crun would compile it anew for every container, which costs as much as all else it does.

libseccomp does it, by which crun itself is built; its program finds a system call by halving, not one by one.
"""

import ctypes
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EPERM = 1
_COMPARISONS = {"SCMP_CMP_LT": 2, "SCMP_CMP_EQ": 4, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}
_ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
}
_OPTIMIZE, _BY_HALVING = 8, 2
_EXISTS = -17


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def cached_program(filters: dict[str, Any], directory: Path) -> bytes | None:
    """The program for an OCI ``linux.seccomp``, as the kernel takes it; None where libseccomp is missing.

    ``directory``: where it is kept for later.
    """
    library = _library()
    if library is None:
        return None
    # Another version may compile the same into another program, and knows other system calls.
    key = json.dumps([_version(library), filters], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    kept = directory / f"seccomp-{digest}.bpf"
    try:
        return kept.read_bytes()
    except OSError:
        pass  # it was never compiled
    program = compile_program(filters)
    if program is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(program)
            temporary.rename(kept)
        except OSError:
            return program  # a full disk costs the next worker some milliseconds
    return program


def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None


def _version(library: ctypes.CDLL) -> list[int]:
    """``[2, 5, 4]``."""
    library.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    return list(library.seccomp_version().contents)


def compile_program(filters: dict[str, Any]) -> bytes | None:
    """See :func:`cached_program`."""
    library = _library()
    if library is None:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    for name in (
        "seccomp_arch_add",
        "seccomp_attr_set",
        "seccomp_rule_add_array",
        "seccomp_export_bpf",
        "seccomp_release",
    ):
        getattr(library, name).argtypes = None
    context = ctypes.c_void_p(library.seccomp_init(_action(filters["defaultAction"], _EPERM)))
    if not context:
        return None
    try:
        return _fill(library, context, filters)
    finally:
        library.seccomp_release(context)


def _fill(library: ctypes.CDLL, context: ctypes.c_void_p, filters: dict[str, Any]) -> bytes | None:
    for architecture in filters["architectures"]:
        if library.seccomp_arch_add(context, ctypes.c_uint32(_ARCHITECTURES[architecture])) not in (0, _EXISTS):
            return None
    library.seccomp_attr_set(context, _OPTIMIZE, ctypes.c_uint32(_BY_HALVING))  # older ones can't: then one by one
    default = _action(filters["defaultAction"], _EPERM)
    for rule in filters["syscalls"]:
        action = _action(rule["action"], rule.get("errnoRet", _EPERM))
        given = rule.get("args", [])
        comparisons = (_Comparison * max(1, len(given)))(
            *[_Comparison(a["index"], _COMPARISONS[a["op"]], a["value"], a.get("valueTwo", 0)) for a in given]
        )
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1 or action == default:
                continue  # newer than this libseccomp: it stays refused
            added = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), number, ctypes.c_uint(len(given)), comparisons
            )
            if added not in (0, _EXISTS):
                return None
    with tempfile.TemporaryFile() as file:
        if library.seccomp_export_bpf(context, file.fileno()) != 0:
            return None
        file.seek(0)
        return file.read()


def _action(name: str, number: int) -> int:
    return _ALLOW if name == "SCMP_ACT_ALLOW" else _ERRNO | number
