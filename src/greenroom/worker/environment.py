"""The environment of a container: what programs need to run at all, and what the function asked for. Never the client's."""

from collections.abc import Mapping

from greenroom.model.image import SYSTEM_PATH
from greenroom.worker.host_image import HOME, HostImage
from greenroom.worker.processes import CONTAINER, RUN

_ANYWHERE = frozenset({
    "LANG", "LANGUAGE", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
})  # fmt: skip
_PATHS = frozenset({
    "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "PIP_CERT",
})  # fmt: skip
"""Of use where what they name is there."""
_PLAIN = _ANYWHERE | _PATHS | {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_CACHE_HOME"}


def container_environment(
    host: Mapping[str, str], asked: Mapping[str, str], container_id: str, run: str
) -> dict[str, str]:
    """Variables of a plain process; the last two mark its descendants, so that none can be lost."""
    passed = {name: value for name, value in host.items() if name in _PLAIN or name.startswith("LC_")}
    return {**passed, "PYTHONUNBUFFERED": "1", **asked, CONTAINER: container_id, RUN: run}


def contained_environment(
    host: Mapping[str, str], asked: Mapping[str, str], image: HostImage, container_id: str
) -> dict[str, str]:
    """Variables of a container on the host image: nothing that it can't see is named in them."""
    passed = {name: value for name, value in host.items() if name in _ANYWHERE or name.startswith("LC_")}
    for name in _PATHS & set(host):
        seen = [path for path in host[name].split(":") if image.sees(path)]
        if seen:
            passed[name] = ":".join(seen)
    return {
        **passed,
        "PATH": image.path,
        "HOME": HOME,
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "PYTHONUNBUFFERED": "1",
        **asked,
        CONTAINER: container_id,
    }


def own_root_environment(host: Mapping[str, str], asked: Mapping[str, str], container_id: str) -> dict[str, str]:
    """Variables of a container on an image that has nothing of the host's: not even its languages."""
    passed = {name: value for name, value in host.items() if name in _ANYWHERE and not name.startswith("LANG")}
    return {
        **passed,
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
        "HOME": HOME,
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "PYTHONUNBUFFERED": "1",
        **asked,
        CONTAINER: container_id,
    }
