"""Actions by name: the one table that bindings, help, palette, config and manual are made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Command(NamedTuple):
    """An action: its id (to rebind it by), keys, Textual action, words, and where help lists it."""

    id: str
    keys: str
    action: str
    words: str
    group: str


COMMANDS: tuple[Command, ...] = (
    Command("view.live", "1", "view('live')", "Live view", "views"),
    Command("view.requests", "2", "view('requests')", "Requests", "views"),
    Command("view.kv", "3", "view('kv')", "KV cache", "views"),
    Command("view.memory", "4", "view('memory')", "Memory", "views"),
    Command("view.launch", "5", "view('launch')", "Launch", "views"),
    Command("view.log", "6", "view('log')", "Log", "views"),
    Command("view.day", "7", "view('day')", "Day", "views"),
    Command("view.sources", "8", "view('sources')", "Sources", "views"),
    Command("view.next", "tab", "cycle(1)", "Next view", "views"),
    Command("view.previous", "shift+tab", "cycle(-1)", "Previous view", "views"),
    Command("move.down", "j,down", "screen.move(1)", "Down", "move"),
    Command("move.up", "k,up", "screen.move(-1)", "Up", "move"),
    Command("move.page_down", "pagedown", "screen.page(1)", "Page down", "move"),
    Command("move.page_up", "pageup", "screen.page(-1)", "Page up", "move"),
    Command("move.first", "g,home", "screen.home", "First row", "move"),
    Command("move.last", "G,end", "screen.end", "Last row", "move"),
    Command("row.details", "enter", "screen.details", "Details of the row", "move"),
    Command("filter.edit", "slash", "screen.filter", "Filter or search", "find"),
    Command("filter.next", "n", "screen.match(1)", "Next match", "find"),
    Command("filter.previous", "N", "screen.match(-1)", "Previous match", "find"),
    Command("sort.next", "s", "screen.sort", "Sort column", "find"),
    Command("follow.toggle", "f", "screen.follow", "Follow the newest", "find"),
    Command("time.freeze", "space", "freeze", "Freeze the view (a replay: pause)", "time"),
    Command("time.back", "left_square_bracket", "history(-1)", "Step back in history", "time"),
    Command(
        "time.forward", "right_square_bracket", "history(1)", "Step forward in history", "time"
    ),
    Command("chart.window", "w", "window", "Window of the plots", "time"),
    Command("paint.faster", "plus", "interval(-1)", "Paint more often", "time"),
    Command("paint.slower", "minus", "interval(1)", "Paint less often", "time"),
    Command("chart.axis", "u", "axis", "Context axis: log or linear", "look"),
    Command("chart.unit", "x", "unit", "tok/s or ms per token", "look"),
    Command("look.theme", "t", "next_theme", "Next theme", "look"),
    Command("text.toggle", "v", "screen.text", "Model text in the log: shown or hidden", "look"),
    Command("row.copy", "y", "screen.copy", "Copy the row", "look"),
    Command("keep.export", "e", "export", "Export this view: CSV or JSON", "look"),
    Command("keep.picture", "p", "picture", "Picture of this view: SVG and text", "look"),
    Command("look.mouse", "o", "mouse", "Mouse on or off: off, the terminal selects", "look"),
    Command("server.restart", "R", "act('restart')", "Restart the server", "act"),
    Command("server.mode", "M", "act('mode')", "Switch between mmap and no-mmap", "act"),
    Command("server.park", "P", "act('park')", "Park: stop it, keep the way back", "act"),
    Command("server.start", "S", "act('start')", "Start what was parked", "act"),
    Command("server.signal", "K", "act('signal')", "Signals: TERM; KILL after its time", "act"),
    Command("server.choose", "c", "choose_server", "Choose a server", "app"),
    Command("log.copy_pane", "l", "copy_pane", "Copy the server's tmux pane to a log", "app"),
    Command("app.help", "question_mark,f1", "help", "Help", "app"),
    Command("app.palette", "colon,ctrl+p", "command_palette", "Every action by name", "app"),
    Command("app.cancel", "escape", "cancel", "Close, clear, cancel", "app"),
    Command("app.quit", "q,ctrl+c", "quit", "Quit; the server is left alone", "app"),
)

GROUPS: dict[str, str] = {
    "views": "Views",
    "move": "Move",
    "find": "Find",
    "time": "Time",
    "look": "Look",
    "act": "Act; each asks first, and No is the default",
    "app": "Program",
}

KEY_NAMES: dict[str, str] = {
    "slash": "/",
    "space": "space",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "plus": "+",
    "minus": "-",
    "question_mark": "?",
    "colon": ":",
    "escape": "Esc",
    "enter": "Enter",
    "tab": "Tab",
    "shift+tab": "Shift+Tab",
    "pagedown": "PgDn",
    "pageup": "PgUp",
    "down": "↓",
    "up": "↑",
    "home": "Home",
    "end": "End",
    "ctrl+p": "Ctrl+P",
    "ctrl+c": "Ctrl+C",
    **{f"f{number}": f"F{number}" for number in range(1, 13)},
}

ACTIONS: tuple[str, ...] = tuple(command.id for command in COMMANDS)
"""Ids of all actions, by which they are bound to other keys."""


_NOTHING: Mapping[str, str] = {}
_LONG = {label: name for name, label in KEY_NAMES.items() if len(label) == 1}


def key_label(keys: str) -> str:
    """Keys as help prints them."""
    return " ".join(KEY_NAMES.get(key, key) for key in keys.split(","))


def keys_of(command: Command, own: Mapping[str, str]) -> list[str]:
    """The keys of an action by their long names; ``own`` has those of the config by action."""
    given = own.get(command.id, command.keys)
    return [_LONG.get(key.strip(), key.strip()) for key in given.split(",") if key.strip()]


def bound(own: Mapping[str, str]) -> dict[str, list[str]]:
    """The keys of every action: one that the config gives to another is no longer its own."""
    given = {key for c in COMMANDS if c.id in own for key in keys_of(c, own)}
    return {
        c.id: [key for key in keys_of(c, own) if c.id in own or key not in given] for c in COMMANDS
    }


class Keys:
    """What the screen calls the key of an action, as bound now: ``keys["server.choose"]``.

    The first of several; the palette's, which has every action, where it has none. Raises
    ``KeyError`` for no action.
    """

    def __init__(self, own: Mapping[str, str] = _NOTHING) -> None:
        self.bound = bound(own)
        first = {action: key_label(keys[0]) for action, keys in self.bound.items() if keys}
        palette = first.get("app.palette", "")
        self._labels = {action: first.get(action, palette) for action in self.bound}

    def __getitem__(self, action: str) -> str:
        return self._labels[action]

    def all_of(self, action: str) -> str:
        """All of them, as help lists them."""
        return key_label(",".join(self.bound[action]))


def clashes(own: Mapping[str, str]) -> list[str]:
    """What the keys of the config have taken from another action, a line each."""
    taken: dict[str, list[str]] = {}
    for command in COMMANDS:
        for key in keys_of(command, own):
            taken.setdefault(key, []).append(command.id)
    said = []
    for key, ids in taken.items():
        mine = [name for name in ids if name in own]
        label = KEY_NAMES.get(key, key)
        if len(mine) > 1:
            said.append(f"keys: {label} is given to {' and '.join(mine)}; only one has it")
        elif mine and len(ids) > 1:
            lost = " and ".join(name for name in ids if name not in own)
            said.append(f"keys: {label} is {mine[0]} now, and no longer {lost}")
    return said


DEFAULT_KEYS = Keys()
"""Of a config that binds nothing anew."""
