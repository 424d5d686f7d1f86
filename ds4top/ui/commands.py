"""The key table as Textual bindings."""

from __future__ import annotations

from textual.binding import Binding

from ds4top.core.keymap import COMMANDS


def bindings(*groups: str) -> list[Binding]:
    """The bindings of these groups, of all by default, for the app or a screen over a view.

    Only keys that are no text come before a field that is typed in.
    """
    return [
        Binding(key, _full(c.action), c.words, show=False, id=c.id, priority=key in _FIRST)
        for c in COMMANDS
        if not groups or c.group in groups
        for key in c.keys.split(",")
    ]


def _full(action: str) -> str:
    return action if action.startswith("screen.") else f"app.{action}"


_FIRST = frozenset({"tab", "shift+tab", "ctrl+c"})
