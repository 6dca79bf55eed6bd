"""``python -m greenroom.worker.images``: what ``greenroom image`` asks of the layers on this machine. Answers in JSON lines."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from greenroom.model.errors import Error, InvalidError
from greenroom.model.image import ImageConfig
from greenroom.worker.images.prune import prune
from greenroom.worker.images.store import AGENT, ImageRecord, Layer, Layers
from greenroom.worker.images.tree import Tree, measure

REFUSED = 3
"""Exit status: the last line on stderr is for the person."""


def main(home: str, command: str, *words: str) -> int:
    """``HOME list|prune|verify|export …``; the exit status: 2 or 3 and a line on stderr where it can't be done."""
    layers = Layers(Path(home) / "layers")
    try:
        if command == "list":
            for image in layers.images():
                _say(_image(layers, image))
        elif command == "prune":
            removed = prune(layers, float(words[0]), trial="--dry-run" in words)
            _say({"layers": [layer.key for layer in removed.layers], "size": removed.size, "kept": removed.kept})
        elif command == "export":
            _export(layers, Path(home), *words)
        else:
            return _verify(layers, set(words))
    except Error as error:
        print(error, file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename or layers.directory}", file=sys.stderr)
        return 2
    return 0


def _image(layers: Layers, image: ImageRecord) -> dict[str, Any]:
    found = {layer.key: layer for key in image.layers if (layer := layers.find(key)) is not None}
    steps = [{**step, **_numbers(found.get(step["layer"]))} for step in image.steps]
    used = max((layers.used_at(key) for key in image.layers), default=image.made)
    return {
        **image._asdict(),
        "steps": steps,
        "layers": image.layers,
        "size": sum(layer.tree.size for layer in found.values()),
        "used": max(used, image.made),
        "in_use": any(layers.in_use(key) for key in image.layers),
    }


def _numbers(layer: Layer | None) -> dict[str, Any]:
    if layer is None:
        return {}
    return {"size": layer.tree.size, "entries": layer.tree.entries, "seconds": layer.seconds, "created": layer.created}


def _export(layers: Layers, home: Path, key: str, target: str, *words: str) -> None:
    """Its own layers, as other tools read them; says how much has been read, then the digest.

    Raises:
        InvalidError, ImageBuildError: see ``oci_export``.
    """
    from greenroom.worker.host_image import HOME  # all the other commands are sooner done without these
    from greenroom.worker.id_range import id_range
    from greenroom.worker.images.oci_export import ImageConfig as OciConfig
    from greenroom.worker.images.oci_export import export

    image = next(image for image in layers.images() if image.key == key)
    if image.sandbox != "oci":
        raise InvalidError(f"the image of {image.name} was made in plain processes, and has no file system of its own")
    if not image.layers:
        raise InvalidError(f"the image of {image.name} has no layers of its own: it is the host image")
    config = ImageConfig(*image.config)
    # Greenroom's own files are of no use to another.
    steps = {step["layer"]: step["text"] for step in image.steps if step["layer"] and step["kind"] != AGENT}
    for used in steps:
        if not layers.use(used):
            raise InvalidError(f"a layer of the image of {image.name} has just been removed")
    digest = export(
        [layers.files(used) for used in steps],
        Path(target).absolute(),
        OciConfig(
            list(steps.values()), config.environment, config.workdir or HOME, config.entrypoint, config.cmd,
            created=datetime.fromtimestamp(int(image.made), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        ),
        first_id=id_range(home),
        archive="--archive" in words,
        progress=lambda more: _say({"read": more}),
    )  # fmt: skip
    _say({"digest": digest, "layers": len(steps), "base": "" if config.own_root else image.base})


def _verify(layers: Layers, wanted: set[str]) -> int:
    """Hash what is there once more, and hold it against what was written down when it was made."""
    bad = 0
    for layer in layers.all():
        if wanted and layer.key not in wanted:
            continue
        if not layers.use(layer.key):
            continue  # it was removed just now
        try:
            found, why = measure(layers.files(layer.key)), "it has changed since it was made"
        except OSError as error:
            found, why = Tree("", 0, 0), f"it can't be read: {error.strerror}"
        ok = found == layer.tree
        bad += not ok
        _say({"layer": layer.key, "text": layer.text, "ok": ok, "why": "" if ok else why,
              "size": found.size, "entries": found.entries})  # fmt: skip
        layers.leave(layer.key)
    for key in layers.damaged():
        if not wanted or key in wanted:
            bad += 1
            _say({"layer": key, "text": "", "ok": False, "why": "its record can't be read", "size": 0, "entries": 0})
    return min(bad, 1)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
