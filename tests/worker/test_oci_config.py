"""What a runtime is told: nothing here needs one."""

import ctypes
import hashlib
import json

from greenroom.worker.sandbox.oci_config import CAPABILITIES, Contained, config
from greenroom.worker.sandbox.seccomp import LATER_DENIED, filters, settle
from greenroom.worker.sandbox.seccomp_bpf import cached_program, compile_program

WHAT = Contained(
    ["python"], {"A": "1"}, "/root/fs", "ta-1", "/root", 100_000, False, "", {"defaultAction": "SCMP_ACT_ERRNO"}, ""
)


def kinds(told):
    return {namespace["type"] for namespace in told["linux"]["namespaces"]}


def test_a_container_has_namespaces_and_ids_of_its_own_and_no_new_privileges():
    told = config(WHAT)
    assert kinds(told) == {"pid", "ipc", "uts", "mount", "cgroup", "user"}
    assert told["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    assert told["linux"]["gidMappings"] == told["linux"]["uidMappings"]
    assert told["process"]["noNewPrivileges"] is True
    assert told["process"]["env"] == ["A=1"]
    assert "CAP_SYS_ADMIN" not in json.dumps(told)


def test_the_network_is_its_own_when_the_hosts_is_blocked():
    assert "network" in kinds(config(WHAT._replace(block_network=True)))


def test_without_an_id_range_there_is_no_user_namespace():
    told = config(WHAT._replace(first_id=-1))
    assert "user" not in kinds(told)
    assert "uidMappings" not in told["linux"]


def allowed(told):
    return {name for rule in told["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


def test_what_only_an_administrator_may_is_refused():
    told = filters(CAPABILITIES, "x86_64")
    refused = {"bpf", "mount", "unshare", "setns", "keyctl", "add_key", "request_key", "userfaultfd", "perf_event_open",
               "init_module", "finit_module", "kexec_load", "reboot", "swapon", "pivot_root", "open_by_handle_at",
               "settimeofday", *LATER_DENIED}  # fmt: skip
    assert told["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not refused & allowed(told)
    assert {"read", "openat", "clone", "execve", "futex", "chroot", "ptrace"} <= allowed(told)
    (clone,) = (rule for rule in told["syscalls"] if rule["names"] == ["clone"])
    assert clone["args"] == [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}], "no new namespaces"
    (clone3,) = (rule for rule in told["syscalls"] if rule["names"] == ["clone3"])
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_rules_are_settled_by_capability_and_architecture():
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_X"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_X"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["arm64"]}},
        ],
    }
    assert {"a", "c"} <= allowed(settle(profile, ["CAP_X"], "arm64"))
    assert not {"b", "d"} & allowed(settle(profile, ["CAP_X"], "arm64"))
    assert {"b", "d"} <= allowed(settle(profile, [], "amd64"))


def test_a_program_is_compiled_once(tmp_path, need):
    need.file("/usr/lib/*/libseccomp.so.2")
    told = filters(CAPABILITIES)
    program = cached_program(told, tmp_path)
    assert program is not None and len(program) % 8 == 0 and len(program) < 4096 * 8
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"kept")
    assert cached_program(told, tmp_path) == b"kept"
    assert cached_program({**told, "syscalls": told["syscalls"][:1]}, tmp_path) not in (None, program, b"kept")
    assert compile_program(told) == program


def test_another_libseccomp_compiles_its_own(tmp_path, need):
    """The name of what is kept says by which it was made."""
    need.file("/usr/lib/*/libseccomp.so.2")
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    version = list(library.seccomp_version().contents)
    told = filters(CAPABILITIES)
    cached_program(told, tmp_path)
    keys = [[version, told], [[*version[:2], version[2] + 1], told]]
    ours, anothers = (hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32] for key in keys)
    assert [path.name for path in tmp_path.iterdir()] == [f"seccomp-{ours}.bpf"]
    (tmp_path / f"seccomp-{ours}.bpf").rename(tmp_path / f"seccomp-{anothers}.bpf")
    (tmp_path / f"seccomp-{anothers}.bpf").write_bytes(b"another's")
    assert cached_program(told, tmp_path) == compile_program(told)
