"""Settings: one table from which the template, the checks and ``config show`` are made.

Where a value comes from, first that says anything: flag, environment (``DS4TOP_*``), file, default.
Pure: text and environment come in, settings and problems go out. A problem never stops the start;
it names the file, the line and the key, and the default stands.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Scalar = str | int | float | bool | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. ``key`` is ``section.name``; ``kind`` the type its value has in TOML.

    ``low`` and ``high`` bound numbers, ``choices`` texts; ``flag`` is its flag on the command line.
    ``None`` as the default means: not set, found out by ds4top itself.
    """

    key: str
    kind: type
    default: Scalar
    doc: str
    example: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    flag: str = ""

    @property
    def variable(self) -> str:
        """Its name in the environment: ``DS4TOP_SCREEN_THEME``."""
        return "DS4TOP_" + self.key.upper().replace(".", "_").replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option("server.pid", int, None, "Watch this process, whatever its name.", "4711", 1,
           flag="--pid"),
    Option("server.url", str, None, "Where the server answers; else its own listening socket.",
           '"http://127.0.0.1:8000"', flag="--url"),
    Option("server.log", str, None, "The server's log; else the file behind its standard error.",
           '"/var/log/ds4-server.log"', flag="--log"),
    Option("server.kv_dir", str, None, "The KV disk cache; else the one on its command line.",
           '"/var/cache/ds4-kv"', flag="--kv-dir"),
    Option("screen.theme", str, None, "A theme by name; t tries them in turn.", '"light"',
           flag="--theme"),
    Option("screen.interval_s", float, 1.0, "Seconds between paints. Sampling has its own pace.",
           low=0.25, high=10, flag="--interval"),
    Option("screen.mouse", bool, True, "Take the mouse. Off, the terminal selects text.",
           flag="--no-mouse"),
    Option("screen.ascii", bool, False, "Draw with ASCII only.", flag="--ascii"),
    Option("history.keep", bool, True,
           "Keep requests, decode samples, starts and events (SQLite, 90 days; never a prompt).",
           flag="--no-history"),
    Option("memory.warning_gib", float, 6.0, "Headroom below this warns.", low=0, high=1024),
    Option("memory.critical_gib", float, 2.5, "Headroom below this is critical.", low=0, high=1024),
    Option("control.read_only", bool, False, "Take every key and command that acts away.",
           flag="--read-only"),
    Option("control.grace_s", int, 600,
           "How long a stop may take; the server drains and saves its KV cache.", low=10,
           high=86400),
    Option("control.start", tuple, (), "A command of your own that starts the server.",
           '["/usr/local/bin/start-ds4"]'),
    Option("control.stop", tuple, (), "A command of your own that stops it.",
           '["/usr/local/bin/stop-ds4"]'),
)  # fmt: skip
"""Every setting but the keys, which are named by action in a table of their own."""

SECTIONS: Mapping[str, str] = {
    "server": "Which server. Nothing of this is needed where it runs on this machine.",
    "screen": "How it looks.",
    "history": "What is kept.",
    "memory": "When headroom is too small.",
    "control": "Restart, stop, start. DS4TOP_MODE (mmap or no-mmap) is set for your own commands.",
    "keys": 'Other keys for an action, by its name in the help: "server.restart" = "ctrl+r".',
}

_BY_KEY = {option.key: option for option in OPTIONS}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_TABLE = re.compile(r"\s*\[\s*([\w.\"'-]+)\s*\]")


@dataclass(frozen=True, slots=True)
class Value:
    """A setting's value and where it came from, in words (``default``, ``flag --theme``, …)."""

    value: Scalar
    origin: str


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, other keys for actions by id, what was wrong, and where the file lies."""

    values: Mapping[str, Value]
    keys: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    path: str = ""

    def text(self, key: str) -> str | None:
        """A text, or ``None`` where it is not set. Raises ``KeyError`` for an unknown key."""
        value = self.values[key].value
        return None if value is None else str(value)

    def number(self, key: str) -> float:
        """A number that has a default. Raises ``KeyError`` for an unknown key."""
        value = self.values[key].value
        assert isinstance(value, int | float)
        return float(value)

    def whole(self, key: str) -> int | None:
        """A whole number, or ``None`` where it is not set."""
        value = self.values[key].value
        assert value is None or isinstance(value, int)
        return value

    def flag(self, key: str) -> bool:
        """A yes or no. Raises ``KeyError`` for an unknown key."""
        return bool(self.values[key].value)

    def words(self, key: str) -> tuple[str, ...]:
        """An argument vector; empty where it is not set."""
        value = self.values[key].value
        return value if isinstance(value, tuple) else ()


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {found[0]}?" if found else ""


def check(option: Option, value: Any) -> Scalar:
    """A TOML value as this option takes it. Raises ``ValueError`` that says what is wanted."""
    wanted = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if option.kind is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
            raise ValueError("must be a list of texts, the command and its arguments")
        return tuple(value)
    right = isinstance(value, option.kind)
    if option.kind is float:
        right = isinstance(value, int | float)
    if not right or (option.kind is not bool and isinstance(value, bool)):
        raise ValueError(f"must be {wanted[option.kind]}, not {value!r}")
    if option.choices and value not in option.choices:
        raise ValueError(f"must be one of {', '.join(option.choices)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = option.low, option.high
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = f"{low:g} or more" if high is None else f"between {low:g} and {high:g}"
            raise ValueError(f"must be {bounds}, not {value}")
        return float(value) if option.kind is float else value
    return str(value) if option.kind is str else bool(value)


def from_environment(option: Option, text: str) -> Scalar:
    """The value of an environment variable. Raises ``ValueError`` that says what is wanted."""
    if option.kind is bool:
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise ValueError(f"must be 1 or 0, not {text!r}")
        return word in _TRUE
    if option.kind is tuple:
        return tuple(text.split())
    if option.kind in (int, float):
        try:
            return check(option, option.kind(text))
        except ValueError as error:
            kind = "a whole number" if option.kind is int else "a number"
            said = str(error)
            raise ValueError(said if said.startswith("must") else f"must be {kind}") from error
    return check(option, text)


def _lines(text: str) -> dict[str, int]:
    """The line of each ``section.name`` and of each section; the first where one stands twice."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if table := _TABLE.match(line):
            section = table[1].strip("\"'")
            found.setdefault(section, number)
        elif "=" in line and not line.lstrip().startswith("#"):
            name = line.split("=", 1)[0].strip().strip("\"'")
            found.setdefault(f"{section}.{name}" if section else name, number)
    return found


@dataclass(frozen=True, slots=True)
class _File:
    values: Mapping[str, Value]
    keys: Mapping[str, str]
    problems: tuple[str, ...]


def read_file(text: str, name: str, actions: Sequence[str] = ()) -> _File:
    """The settings of a TOML text. ``name`` is what messages call it; ``actions`` are known ids."""
    import tomllib

    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _File({}, {}, (f"{name}: {error}; the file is left aside",))
    lines = _lines(text)
    values: dict[str, Value] = {}
    keys: dict[str, str] = {}
    problems: list[str] = []

    def wrong(key: str, what: str) -> None:
        line = lines.get(key)
        place = f"{name}, line {line}" if line is not None else name
        problems.append(f"{place}: {key} {what}")

    for section, table in tables.items():
        if section not in SECTIONS or not isinstance(table, dict):
            wrong(section, f"is no section{_nearest(section, SECTIONS)}")
            continue
        for key, value in table.items():
            full = f"{section}.{key}"
            if section == "keys":
                if actions and key not in actions:
                    wrong(full, f"is no action{_nearest(key, actions)}")
                elif not isinstance(value, str) or not value:
                    wrong(full, f'must be a key such as "ctrl+r", not {value!r}')
                else:
                    keys[key] = value
            elif (option := _BY_KEY.get(full)) is None:
                wrong(full, f"is no setting{_nearest(full, _BY_KEY)}")
            else:
                try:
                    values[full] = Value(check(option, value), f"{name}, line {lines.get(full)}")
                except ValueError as error:
                    wrong(full, str(error))
    return _File(values, keys, tuple(problems))


def settle(
    *,
    flags: Mapping[str, Scalar] | None = None,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
    name: str = "config.toml",
    actions: Sequence[str] = (),
) -> Config:
    """The settings that hold. ``flags`` has only what was given; ``text`` is the file's."""
    file = read_file(text, name, actions) if text is not None else _File({}, {}, ())
    problems = list(file.problems)
    values: dict[str, Value] = {}
    environment = environment or {}
    for option in OPTIONS:
        found = file.values.get(option.key, Value(option.default, "default"))
        if (said := environment.get(option.variable)) is not None:
            try:
                found = Value(from_environment(option, said), f"environment {option.variable}")
            except ValueError as error:
                problems.append(f"environment: {option.variable} {error}")
        if flags and option.key in flags:
            found = Value(flags[option.key], f"flag {option.flag}")
        values[option.key] = found
    known = {option.variable for option in OPTIONS} | {
        "DS4TOP_CONFIG",
        "DS4TOP_DEMO",
        "DS4TOP_MODE",
    }
    problems += [
        f"environment: {variable} is no setting{_nearest(variable, known)}"
        for variable in sorted(environment)
        if variable.startswith("DS4TOP_") and variable not in known
    ]
    return Config(values, dict(file.keys), tuple(problems))


def to_toml(value: Scalar) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(to_toml(part) for part in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "" if value is None else f"{value:g}"


def template() -> str:
    """A config file with every setting, commented out at its default, and every key explained."""
    out = [
        "# ds4top. Every setting stands here, commented out at its default.",
        "# Flags come first, then DS4TOP_* in the environment, then this file.",
    ]
    for section, words in SECTIONS.items():
        out += ["", f"# {words}", f"[{section}]"]
        for option in OPTIONS:
            owner, _, short = option.key.partition(".")
            if owner != section:
                continue
            shown = option.example or to_toml(option.default)
            also = f" Also {option.flag}." if option.flag else ""
            out += [f"# {option.doc}{also} ({option.variable})", f"# {short} = {shown}"]
        if section == "keys":
            out.append('# "look.theme" = "T"')
    return "\n".join(out) + "\n"


def shown(config: Config) -> list[tuple[str, str, str]]:
    """Key, value and origin of every setting, for ``config show``."""
    rows = [
        (key, "not set" if found.value is None else to_toml(found.value), found.origin)
        for key, found in config.values.items()
    ]
    return rows + [(f"keys.{name}", to_toml(key), "file") for name, key in config.keys.items()]
