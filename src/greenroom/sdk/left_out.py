"""What a person is told of a program as it begins to run: what of it means nothing here, or isn't built yet."""

from collections.abc import Iterable, Mapping
from typing import Any

from greenroom.sdk.output import say


def ignored_of_web(entries: Iterable[tuple[Any, Any, Any]]) -> set[str]:
    """Options of web endpoints that have no meaning here."""
    found = set()
    for _, definition, _ in entries:
        web = definition.web
        for each in web.values() if isinstance(web, dict) else filter(None, [web]):
            if each.options["custom_domains"]:
                found.add("custom_domains")
    return found


def say_ignored(names: Iterable[str]) -> None:
    """Options that have no meaning here."""
    if names := sorted(names):
        say(f"ignored, for it means nothing on one's own machines: {', '.join(f'{name}=' for name in names)}")


def say_left_out(functions: Mapping[str, Any], classes: Mapping[str, Any], *, schedules: bool) -> None:
    """Nobody may ever call what a schedule or a URL is to run, so nobody may ever hear the refusal.

    ``schedules``: say that they don't fire, too.
    """
    missing: dict[str, list[str]] = {}
    for name, (function, _, _) in functions.items():
        if function.lacking:
            missing.setdefault(function.lacking, []).append(name)
    for name, (cls, _, _) in classes.items():
        if cls.lacking:
            missing.setdefault(cls.lacking, []).append(name)
    for what, names in missing.items():
        say(f"{what}; this app runs without {', '.join(names)}")
    scheduled = [
        name for name, (function, _, options) in functions.items() if options.schedule and not function.lacking
    ]
    if schedules and scheduled:
        say(f"schedules fire only once the app is deployed: here, {', '.join(scheduled)} must be called to run")
