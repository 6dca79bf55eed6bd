"""The environment of a container: what programs need to run at all, and what the function asked for. Never the client's."""

from collections.abc import Mapping

from greenroom.worker.processes import CONTAINER, RUN

PASSED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH",
    "VIRTUAL_ENV", "XDG_CACHE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "PIP_CERT",
})  # fmt: skip


def container_environment(
    host: Mapping[str, str], asked: Mapping[str, str], container_id: str, run: str
) -> dict[str, str]:
    """Environment variables of a container's processes; the last two mark them, so that none can be lost."""
    passed = {name: value for name, value in host.items() if name in PASSED or name.startswith("LC_")}
    return {**passed, "PYTHONUNBUFFERED": "1", **asked, CONTAINER: container_id, RUN: run}
