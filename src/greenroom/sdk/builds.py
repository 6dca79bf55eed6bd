"""What there is to say of images that are being made: nothing where all of it was there already."""

from typing import NamedTuple

WIDTH = 72
"""Characters of a step's text that are shown."""


class Said(NamedTuple):
    """One line."""

    mark: str
    text: str
    colour: str = ""
    always: bool = False


class Builds:
    """The builds of one app. Steps that were there are told once another has to be made, which is when they matter."""

    def __init__(self) -> None:
        self._cached: dict[str, list[Said]] = {}
        self.running: dict[str, str] = {}
        """The step that is being made, by image."""

    def step(self, image_id: str, number: int, count: int, text: str, state: str, seconds: float) -> list[Said]:
        """What to say of a step that has come so far."""
        shown = f"image {number}/{count} {text if len(text) <= WIDTH else text[: WIDTH - 1] + '…'}"
        before = self._cached.setdefault(image_id, [])
        waited = self.running.pop(image_id, None)
        if state == "cached" and waited is not None:
            return [Said("✓", f"{shown}  made by another build", "32")]
        if state == "cached":
            before.append(Said("✓", f"{shown}  cached"))
            return []
        if state in ("running", "waiting"):
            self.running[image_id] = shown if state == "running" else f"{shown} (another build makes it)"
            self._cached[image_id] = []
            return before
        if state == "failed":
            return [Said("✗", f"{shown}  failed after {seconds:.1f} s", "31", always=True)]
        return [Said("✓", f"{shown}  {seconds:.1f} s", "32")]
