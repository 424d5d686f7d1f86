"""The views by name; each is imported when it is first shown."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from textual.screen import Screen

_PLACES = {
    "live": ("live", "Live"),
    "requests": ("others", "Requests"),
    "kv": ("kv", "Kv"),
    "memory": ("others", "Memory"),
    "launch": ("others", "Launch"),
    "log": ("log", "Log"),
    "day": ("others", "Day"),
    "sources": ("others", "Sources"),
}


def _maker(module: str, name: str) -> Callable[[], Screen[Any]]:
    def make() -> Screen[Any]:
        made: Screen[Any] = getattr(import_module(f"ds4top.ui.screens.{module}"), name)()
        return made

    return make


VIEWS: dict[str, str | Callable[[], Screen[Any]]] = {
    name: _maker(*place) for name, place in _PLACES.items()
}
