"""The host image: the running interpreter and its packages, read-only, and of the rest of the host only what they need.

:func:`look` decides what is shown, by what this interpreter is made of; :meth:`HostImage.lay` makes the directory that
every container's root begins with.
"""

import os
import pwd
import site
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from greenroom.model.image import SYSTEM_PATH
from greenroom.worker.mounts import mount_points

HOME = "/root"
"""A container's working directory, and its user's home."""
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC_BOUND = (
    "ssl/certs", "alternatives",
    "pki/tls", "pki/ca-trust/extracted", "ca-certificates/extracted", "crypto-policies",  # elsewhere than on Debian
)  # fmt: skip
_ETC_COPIED = ("nsswitch.conf", "ld.so.cache", "localtime", "protocols", "services")
_OWN_ETC = {
    "passwd": f"root:x:0:0:root:{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "shells": "/bin/sh\n",
}
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
OF_HOST = "is this machine's own on the host image, read-only: give the files a path below /root, /opt or /srv"
"""Said of a path that an image can't have."""


class HostImage(NamedTuple):
    """What containers see of the host."""

    shown: list[str]
    """Files and directories that appear at their own paths, parents before what lies below them."""
    links: dict[str, str]
    """Symbolic links to make, by path."""
    hidden: list[str]
    """Directories below those that must stay empty."""
    path: str
    """``PATH``."""

    def sees(self, path: str) -> bool:
        """Whether a container finds that path."""
        return any(_is_below(path, shown) for shown in self.shown)

    def keeps(self, path: str) -> bool:
        """Whether that path, which a container may find, is none that an image's files could have."""
        return self.sees(path) or any(_is_below(path, link) for link in self.links)

    def lay(self, root: Path, owner: int) -> None:
        """Make the directory that containers' roots begin with: mount points, links, the files of ``/etc``.

        Raises:
            OSError: it can't be written.
        """
        for name in ("proc", "sys", "dev", "tmp", "run", "etc", "var/tmp", HOME[1:], "home", "opt", "srv", "mnt"):
            (root / name).mkdir(parents=True)
        for path in (*self.shown, *self.hidden):
            make_mount_point(path, root)
        for path, target in self.links.items():
            link = root / path.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        for name, text in _OWN_ETC.items():
            (root / "etc" / name).write_text(text)
        for name in _ETC_COPIED:
            source, copy = Path("/etc", name), root / "etc" / name
            if source.is_symlink() and os.readlink(source).startswith(("/usr/", "../usr/")):
                copy.symlink_to(os.readlink(source))
            elif source.is_file():
                copy.write_bytes(source.read_bytes())
        for folder, folders, files in os.walk(root):
            for name in (".", *folders, *files):
                path = os.path.join(folder, name)
                os.chown(path, owner, owner, follow_symlinks=False)
                if not os.path.islink(path):
                    os.chmod(path, 0o755 if os.path.isdir(path) else 0o644)
        for name in ("tmp", "var/tmp"):
            (root / name).chmod(0o1777)
        (root / HOME[1:]).chmod(0o700)


def make_mount_point(path: str, root: Path, kind: str = "") -> Path:
    """Something at ``path`` below ``root`` for a mount of the host's ``path`` (or of ``kind``: ``d``, ``f``)."""
    point = root / path.lstrip("/")
    if kind == "d" or (not kind and os.path.isdir(path)):
        point.mkdir(parents=True, exist_ok=True)
    else:
        point.parent.mkdir(parents=True, exist_ok=True)
        point.touch()
    return point


def look(home: Path) -> HostImage:
    """What this interpreter and this machine are made of.

    ``home``: the state directory, which no container sees.
    """
    wanted = ["/usr", *(f"/etc/{name}" for name in _ETC_BOUND)]
    links: dict[str, str] = {}
    for name in _LINKS:
        path = f"/{name}"
        if os.path.islink(path):
            links[path] = os.readlink(path)
        else:
            wanted.append(path)
    wanted += [sys.base_prefix, sys.base_exec_prefix, sys.prefix, *_packages()]
    wanted += [path for name in _CERTIFICATES if os.path.isfile(path := os.environ.get(name, ""))]
    _follow_links(sys.executable, wanted, links)
    shown: list[str] = []
    for path in sorted({os.path.normpath(path) for path in wanted}):
        if os.path.exists(path) and not _too_much(path) and not any(_is_below(path, other) for other in shown):
            shown.append(path)
    shown = sorted([*shown, *_mounted_below(shown)])
    # A link that lies in what is shown is there already.
    links = {path: target for path, target in links.items() if not any(_is_below(path, other) for other in shown)}
    state = str(home.resolve())
    hidden = [state] if any(_is_below(state, path) for path in shown) else []
    directories = [sysconfig.get_path("scripts"), os.path.join(sys.base_prefix, "bin")]
    return HostImage(shown, links, hidden, ":".join(dict.fromkeys([*directories, *SYSTEM_PATH.split(":")])))


def _packages() -> list[str]:
    """Every directory that packages are imported from, editable installs included."""
    found = [path for path in sys.path if path and os.path.exists(path)]
    found += [path for path in site.getsitepackages() if os.path.isdir(path)]
    for name, module in list(sys.modules.items()):
        # An editable install that has a finder of its own keeps a mapping there from packages to directories.
        mapping = getattr(module, "MAPPING", None)
        if name.startswith("__editable__") and isinstance(mapping, dict):
            found += [path for path in mapping.values() if isinstance(path, str)]
    return found


def _follow_links(path: str, wanted: list[str], links: dict[str, str]) -> None:
    """A virtual environment's interpreter is a link, perhaps to another one: each must be there."""
    for _ in range(40):
        if not os.path.islink(path):
            wanted.append(os.path.dirname(os.path.realpath(path)))
            return
        target = os.readlink(path)
        links[path] = target
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))


def _too_much(path: str) -> bool:
    """Homes, and what holds them: somebody's ``PYTHONPATH`` doesn't show the rest of what is his."""
    much = {"/root", "/home", "/tmp", "/etc", "/var", os.path.expanduser("~")}  # noqa: S108 - to keep it out
    # A system account's home may be where software is installed.
    much |= {user.pw_dir for user in pwd.getpwall() if user.pw_uid >= 1000 and user.pw_dir.startswith("/")}
    return os.path.dirname(path) == "/home" or any(_is_below(home, path) for home in much)


def _mounted_below(shown: list[str]) -> list[str]:
    """A bind shows nothing of what is mounted below it: such file systems are bound by themselves."""
    points = mount_points(Path("/proc/self/mountinfo").read_text())
    return [where for where, _, _ in points if any(where != path and _is_below(where, path) for path in shown)]


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
