"""The views by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from ds4top.ui.screens.kv import Kv
from ds4top.ui.screens.live import Live
from ds4top.ui.screens.log import Log
from ds4top.ui.screens.others import Day, Launch, Memory, Requests, Sources

VIEWS: dict[str, str | Callable[[], Screen[Any]]] = {
    "live": Live,
    "requests": Requests,
    "kv": Kv,
    "memory": Memory,
    "launch": Launch,
    "log": Log,
    "day": Day,
    "sources": Sources,
}
