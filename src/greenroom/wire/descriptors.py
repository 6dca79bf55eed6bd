"""The limit on open descriptors: payloads and containers cost some each, and the usual 1,024 are soon gone."""

import resource


def allow_many() -> None:
    """Raise this process's soft limit to its hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
