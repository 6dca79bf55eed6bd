"""Removing layers that nobody has used for long."""

import time
from collections.abc import Collection
from pathlib import Path

from greenroom.worker.images.store import Layer, Layers
from greenroom.worker.images.tree import room
from greenroom.worker.removal import remove_tree


class Removed:
    """What a pruning has done."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.kept = 0
        """Layers that were old enough, and are in use."""
        self.size = 0
        """Bytes of disk that are free now."""


def prune(layers: Layers, older_than: float, *, trial: bool = False, forced_only: bool = False) -> Removed:
    """Remove layers that were last used ``older_than`` seconds ago or more, and that no other layer needs.

    Args:
        trial: say what would be removed, and remove nothing.
        forced_only: of them only those that nobody can come back for, since their step is made anew each time.
    """
    removed = Removed()
    gone = list[Path]()
    if not trial:
        layers.sweep()
    with layers.settled("alone"):
        latest = time.time() - older_than
        found = layers.all()
        old = {layer.key for layer in found if layers.used_at(layer.key) <= latest}
        if forced_only:
            old &= _forced(found)
        stays = set[str]()
        """Below layers that turn out to be in use."""
        for layer in removable(found, old):
            path = layers.directory / layer.key
            if layer.key in stays or layers.in_use(layer.key):
                removed.kept += 1
                stays.update(layer.below)
            elif trial:
                removed.layers.append(layer)
                removed.size += room(path)
            elif (aside := layers.set_aside(layer.key, latest)) is not None:
                removed.layers.append(layer)
                gone.append(aside)
            else:
                removed.kept += 1
                stays.update(layer.below)
    if not trial and not forced_only:
        layers.forget_images(latest)
    for aside in gone:
        removed.size += room(aside)
        remove_tree(aside)
    return removed


def removable(layers: Collection[Layer], old: Collection[str]) -> list[Layer]:
    """Of the ``old`` ones, those on which none stands that stays; in an order in which none is removed before what stands on it."""
    needed = {below for layer in layers if layer.key not in old for below in layer.below}
    return sorted((x for x in layers if x.key in old and x.key not in needed), key=lambda x: (-len(x.below), x.key))


def _forced(layers: Collection[Layer]) -> set[str]:
    forced = {layer.key for layer in layers if layer.forced}
    return forced | {layer.key for layer in layers if forced.intersection(layer.below)}
