"""An image written as other tools read it: an OCI image layout, made of layers that overlayfs wrote.

Each layer becomes a tar file, compressed, in one pass and in constant memory; the same layers give the same digests.

Source: the Open Container Initiative's image-spec 1.1: layer.md, config.md, manifest.md, image-index.md, image-layout.md.
"""

import errno
import hashlib
import json
import os
import platform
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from greenroom.model.errors import ImageBuildError, InvalidError
from greenroom.worker.images.oci_layer import Layer, shown
from greenroom.worker.images.oci_layout import Archive, Blob, Directory, Gzip, Layout

_MEDIA = "application/vnd.oci.image"
_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "loongarch64": "loong64",
}  # fmt: skip
"""What Go calls a machine, where that differs from what Linux does."""
_REFERENCE = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+/]|--)[A-Za-z0-9]+)*")
"""Source: annotations.md, ``org.opencontainers.image.ref.name``."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ImageConfig(NamedTuple):
    """How a container of the image starts, unless it is told otherwise."""

    history: Sequence[str]
    """A line for each layer: what made it."""
    environment: Mapping[str, str] = {}
    working_directory: str = ""
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    architecture: str = _ARCHITECTURES.get(platform.machine(), platform.machine())
    """As Go names it."""
    created: str = "1970-01-01T00:00:00Z"
    """RFC 3339. It is a part of the digest: no clock is asked here."""
    reference: str = "latest"
    """The image's name within the layout."""


def export(
    layers: Sequence[Path],
    target: Path,
    config: ImageConfig,
    *,
    first_id: int,
    archive: bool,
    progress: Callable[[int], None] | None = None,
) -> str:
    """Write an image layout at ``target``, a directory or one tar file; the manifest's digest, as ``sha256:…``.

    ``layers`` are upper directories of overlays, the lowest first. On disk a container's id is higher by ``first_id``, and
    only a reader with all of root's rights sees everything. ``progress`` is told how many more bytes of content were read.

    Raises:
        InvalidError: ``target`` exists or can't be written; or no image has such a name, or not a line for each layer.
        ImageBuildError: a layer holds what no image can, or can't be read; or the disk is full. Nothing is left then.
    """
    if not layers or len(config.history) != len(layers):
        raise InvalidError(
            f"an image has layers, and a line of history for each: not {len(config.history)} for {len(layers)}"
        )
    if not _REFERENCE.fullmatch(config.reference):
        raise InvalidError(
            f"an image can't be called {config.reference!r}: use letters and digits, and -._:@+/ between them"
        )
    _refuse_existing(target)
    temporary = target.parent / f".greenroom-export-{secrets.token_hex(8)}"
    layout: Layout = Archive(temporary) if archive else Directory(temporary)
    try:
        layout.open()
    except OSError as error:
        layout.discard()
        kind = ImageBuildError if error.errno in _FULL else InvalidError
        raise kind(f"can't write an image to {target}: {error.strerror}") from None
    try:
        digest = _write(layers, layout, config, first_id, progress or (lambda _: None))
        layout.close()
        _refuse_existing(target)
        os.rename(temporary, target)
    except OSError as error:
        what = error.filename if isinstance(error.filename, (str, bytes)) else None
        where = f": {shown(os.fsencode(what))}" if what is not None else ""
        raise ImageBuildError(f"can't write an image to {target}: {error.strerror}{where}") from None
    finally:
        layout.discard()
    return digest


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise InvalidError(f"{target} exists already: remove it, or name another")


def _write(
    layers: Sequence[Path], layout: Layout, config: ImageConfig, first_id: int, progress: Callable[[int], None]
) -> str:
    layout.put("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    blobs, diff_ids = [], []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for path in layers:
            stream = Gzip(layout.begin(), pool)
            Layer(path, stream, first_id, progress).write()
            blob = stream.close()
            layout.end(blob)
            blobs.append(_descriptor(blob, "layer.v1.tar+gzip"))
            diff_ids.append(f"sha256:{stream.content.hexdigest()}")
    system = {"architecture": config.architecture, "os": "linux"}
    start = {
        "Env": [f"{name}={value}" for name, value in config.environment.items()],
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "WorkingDir": config.working_directory,
    }
    image = _blob(layout, {
        "created": config.created,
        **system,
        "config": {name: value for name, value in start.items() if value},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": config.created, "created_by": line} for line in config.history],
    })  # fmt: skip
    manifest = _blob(layout, {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": _descriptor(image, "config.v1+json"),
        "layers": blobs,
    })  # fmt: skip
    name = {"org.opencontainers.image.ref.name": config.reference}
    listed = {**_descriptor(manifest, "manifest.v1+json"), "platform": system, "annotations": name}
    index = {"schemaVersion": 2, "mediaType": f"{_MEDIA}.index.v1+json", "manifests": [listed]}
    layout.put("index.json", _json(index))
    return f"sha256:{manifest.digest}"


def _blob(layout: Layout, value: object) -> Blob:
    content = _json(value)
    blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
    layout.begin().write(content)
    layout.end(blob)
    return blob


def _descriptor(blob: Blob, kind: str) -> dict[str, object]:
    return {"mediaType": f"{_MEDIA}.{kind}", "digest": f"sha256:{blob.digest}", "size": blob.size}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
