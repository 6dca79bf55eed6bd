"""What a step finds of this machine's settings for indexes of packages. It is in no layer and in no key: only there meanwhile."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from greenroom.worker.images.pip_settings import (
    files_of,
    for_uv,
    names_of,
    path_of,
    places_in,
    set_by_toml,
    settings_of,
)
from greenroom.worker.sandbox.base import HandedIn

_PREFIXES = ("PIP_", "UV_")
_NOT_OURS = frozenset({"UV_CACHE_DIR", "PIP_CACHE_DIR", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT"})
_NAMES_PLACES = frozenset({
    "--find-links", "-f", "--index-url", "-i", "--extra-index-url", "--index", "--default-index", "--constraint",
    "--constraints", "-c", "--cert",
})  # fmt: skip
_PLACES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONSTRAINT",
           "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")  # fmt: skip
_BUILDS = "UV_PYTHON_DOWNLOADS_JSON_URL"
CERTIFICATES = "/run/greenroom.certificates.pem"
"""Where a step in an image with a root of its own finds this machine's certificate authorities."""
_OF_CERTIFICATES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
)  # fmt: skip
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class Places(NamedTuple):
    """Files of settings, whether they are there or not."""

    pip: list[str]
    """In the order in which pip reads them."""
    uv: list[str]
    shown: dict[str, str]
    """By path here: where the same programs look for them in a container."""


def hand_in(
    environ: Mapping[str, str],
    words: Iterable[str] | None,
    asked: Mapping[str, str] | None = None,
    places: Places | None = None,
) -> HandedIn:
    """Variables and files that say where packages come from, and what of this machine these name.

    Args:
        environ: this machine's.
        words: of ``pip install``, for a step that is one: then pip's settings are handed in as uv's, too.
        asked: variables that image and step have themselves, which come before this machine's.
        places: where settings lie, if not where pip and uv look for them.

    Raises:
        ImageBuildError: pip's settings are damaged, and it is uv that installs.
    """
    asked = asked or {}
    both = {**environ, **asked}
    places = places or places_of(both)
    passed = {name: value for name, value in environ.items() if name.startswith(_PREFIXES) and name not in _NOT_OURS}
    settings = settings_of(both, places.pip, damaged=words is not None)
    named = [*places_in(settings), *words_after(words or ())]
    named += [place for name in _PLACES for place in both.get(name, "").replace(",", " ").split()]
    named += _builds(path_of(passed.get(_BUILDS, "")))
    options: list[str] = []
    if words is not None:
        made = for_uv(settings, both, set_by_toml(places.uv), names_of(words))
        passed |= made.environment
        options = made.options
    shown = {path: path for path in _local(named)}
    # Whatever else a variable says that is a file here: a file of constraints, a list of builds.
    files = (path_of(value) for value in passed.values())
    shown |= {path: path for path in files if os.path.isabs(path) and os.path.isfile(path)}
    shown |= {there: here for here, there in places.shown.items() if os.path.isfile(here)}
    return HandedIn(
        {name: value for name, value in passed.items() if name not in asked},
        [(here, there, False) for there, here in shown.items()],
        options,
    )


def words_of(arguments: Iterable[object], files: Iterable[str]) -> list[str]:
    """Words of ``pip install``, with the options that its files of requirements have."""
    lines = [line for text in files for line in text.splitlines() if line.startswith("-")]
    return [*(word for word in arguments if isinstance(word, str)), *(word for line in lines for word in line.split())]


def places_of(environ: Mapping[str, str]) -> Places:
    """Where pip and uv look for settings."""
    pip = files_of(environ)
    home = environ.get("HOME") or os.path.expanduser("~")
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    uv = {"/etc/uv/uv.toml": "/etc/uv/uv.toml", f"{config}/uv/uv.toml": "/root/.config/uv/uv.toml"}
    shown = {path: path if path == "/etc/pip.conf" else "/etc/xdg/pip/pip.conf" for path in pip.machine}
    shown |= zip(pip.user, ("/root/.pip/pip.conf", "/root/.config/pip/pip.conf"), strict=False)
    shown |= {**uv, environ.get("NETRC") or f"{home}/.netrc": "/root/.netrc"}
    for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE"):
        if os.path.isabs(path := environ.get(name, "")):
            shown[path] = path
    own = environ.get("UV_CONFIG_FILE")
    return Places([*pip.machine, *pip.user, *pip.others], [own] if own else [*uv], shown)


def certificates(environ: Mapping[str, str]) -> HandedIn:
    """This machine's certificate authorities, for a step in an image that may know fewer."""
    named = [path for name in _OF_CERTIFICATES if (path := environ.get(name, ""))]
    found = next((path for path in (*named, *_BUNDLES) if os.path.isfile(path)), "")
    if not found:
        return HandedIn({}, [])
    return HandedIn(dict.fromkeys(_OF_CERTIFICATES, CERTIFICATES), [(os.path.realpath(found), CERTIFICATES, False)])


def hand_in_registries(environ: Mapping[str, str]) -> HandedIn:
    """What says where images come from, and this machine's credentials for that."""
    shown = [(path, path, False) for path in ("/etc/containers", "/etc/docker/certs.d") if os.path.isdir(path)]
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    places = (
        environ.get("REGISTRY_AUTH_FILE", ""), f"{runtime}/containers/auth.json", f"/run/containers/{os.getuid()}/auth.json",
        os.path.join(environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json"),
    )  # fmt: skip
    kept = next((path for path in places if path and os.path.isfile(path)), "")
    return HandedIn({}, [*shown, *([(kept, "/root/.docker/config.json", False)] if kept else [])])


def words_after(words: Iterable[str]) -> Iterator[str]:
    """The values of options that name a place."""
    named = False
    for word in words:
        if named:
            yield word
        option, joined, value = word.partition("=")
        if joined and option in _NAMES_PLACES:
            yield value
        named = word in _NAMES_PLACES


def _builds(path: str) -> Iterator[str]:
    """Where the Pythons are that uv's list of builds names."""
    try:
        for build in json.loads(Path(path).read_bytes()).values():
            yield os.path.dirname(build["url"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return  # there is none, or uv says what is wrong with it


def _local(places: Iterable[str]) -> Iterator[str]:
    """Of those places, what is on this machine; of an index's ``simple`` directory, the one that holds its files too."""
    for place in places:
        path = path_of(place).rstrip("/")
        if path and os.path.exists(path):
            above = os.path.dirname(path)
            yield above if os.path.basename(path) == "simple" and above != "/" else path
