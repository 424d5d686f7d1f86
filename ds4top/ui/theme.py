"""Themes from TOML files: read, checked and turned into Textual's.

A file is named after its theme and has the keys of ``KNOWN``. Its colours are of the 256-colour
palette, or ``ansi_*`` names where ``ansi`` is true, so that they look the same over any link. What
a file leaves out follows from its ``[colors]``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES
from textual.theme import Theme as TextualTheme

import ds4top
from ds4top.ui.span_styles import FALLBACKS, MONO_VARIABLE

DEFAULT = "dark"
_COLORS = (
    *("primary", "secondary", "accent", "success", "warning", "error"),
    *("foreground", "background", "surface", "panel", "boost"),
)
_FLAGS = ("dark", "ansi", "mono")
# Table in the file -> what its keys begin with as variables of the theme.
_FAMILIES = {"text": "span", "chart": "chart", "state": "state", "memory": "memory"}
KNOWN: dict[str, frozenset[str]] = {
    "": frozenset(("name", *_FLAGS, "colors", "variables", *_FAMILIES)),
    "colors": frozenset(_COLORS),
    **{
        table: frozenset(
            key.removeprefix(prefix + "-") for key in FALLBACKS if key.startswith(prefix + "-")
        )
        for table, prefix in _FAMILIES.items()
    },
}
"""Keys a theme file may have, by table; ``""`` is the file itself."""

_LEVELS = (0, 95, 135, 175, 215, 255)
PALETTE: frozenset[str] = frozenset(
    [f"#{r:02x}{g:02x}{b:02x}" for r in _LEVELS for g in _LEVELS for b in _LEVELS]
    + [f"#{grey:02x}{grey:02x}{grey:02x}" for grey in range(8, 239, 10)]
)
"""The 240 colours that every 256-colour terminal shows alike."""


class ThemeError(ValueError):
    """A theme file that cannot be used; the text names file and key and what would be right."""

    def __init__(self, path: Path, key: str, problem: str) -> None:
        self.path, self.key, self.problem = path, key, problem
        super().__init__(f"{path.name}: {key}: {problem}" if key else f"{path.name}: {problem}")


@dataclass(frozen=True, slots=True)
class Theme:
    """A theme as its file gives it; ``variables`` are those of Textual and of span styles."""

    name: str
    dark: bool
    ansi: bool
    mono: bool
    colors: Mapping[str, str]
    variables: Mapping[str, str]

    def to_textual(self) -> TextualTheme:
        """The same for ``App.register_theme``."""
        return TextualTheme(
            name=self.name,
            dark=self.dark,
            ansi=self.ansi,
            variables=dict(self.variables),
            **self.colors,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class Themes:
    """Every usable theme by name, and one line for each file that is none."""

    by_name: Mapping[str, Theme]
    problems: tuple[str, ...]


def themes_dir() -> Path:
    """Where the themes of the program lie: in the package, or beside it in a checkout."""
    package = Path(ds4top.__path__[0])
    inside = package / "themes"
    return inside if inside.is_dir() else package.parent / "themes"


def load(path: Path) -> Theme:
    """The theme in a file.

    Raises:
        ThemeError: the file cannot be read, or a key or value is none of those known.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ThemeError(path, "", str(error)) from error
    _check_keys(path, data, "")
    name = data.get("name")
    if name != path.stem or not re.fullmatch(r"[a-z0-9-]+", path.stem):
        raise ThemeError(path, "name", f"must be the name of the file, {path.stem!r}, in [a-z0-9-]")
    flags = {key: data.get(key, key == "dark") for key in _FLAGS}
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise ThemeError(path, key, "must be true or false")
    colors = {
        key: _color(path, f"colors.{key}", value, flags["ansi"])
        for key, value in _table(path, data, "colors").items()
    }
    for key in ("primary", "foreground", "background", "surface"):
        if key not in colors:
            raise ThemeError(path, f"colors.{key}", "is missing")
    variables = _terminal_variables(flags["dark"]) if flags["ansi"] else {}
    variables[MONO_VARIABLE] = "1" if flags["mono"] else "0"
    for table, prefix in _FAMILIES.items():
        for key, value in _table(path, data, table).items():
            variables[f"{prefix}-{key}"] = _color(path, f"{table}.{key}", value, flags["ansi"])
    for key, fallback in FALLBACKS.items():
        variables.setdefault(key, colors.get(fallback, colors["foreground"]))
    plain = Theme(str(name), **flags, colors=colors, variables=variables)
    own = _variables(path, plain, _table(path, data, "variables"))
    return Theme(str(name), **flags, colors=colors, variables=variables | own)


def find(user_dir: Path | None = None, builtin: Path | None = None) -> Themes:
    """The themes of the program and of a user's folder; a later one replaces one of its name."""
    found: dict[str, Theme] = {}
    problems: list[str] = []
    for folder in (builtin or themes_dir(), user_dir):
        paths = sorted(folder.glob("*.toml")) if folder is not None and folder.is_dir() else []
        for path in paths:
            try:
                theme = load(path)
            except ThemeError as error:
                problems.append(str(error))
            else:
                found[theme.name] = theme
    return Themes(found, tuple(problems))


def variable_defaults() -> dict[str, str]:
    """Values of our variables for themes that are not ours (``get_theme_variable_defaults``)."""
    theme = load(themes_dir() / f"{DEFAULT}.toml")
    return {key: theme.variables[key] for key in (*FALLBACKS, MONO_VARIABLE)}


def _terminal_variables(dark: bool) -> dict[str, str]:
    """What Textual's own style sheets need beyond the colours where a theme is an ``ansi`` one."""
    return dict(BUILTIN_THEMES["ansi-dark" if dark else "ansi-light"].variables)


def default_name(environ: Mapping[str, str]) -> str:
    """The theme where none was chosen, from ``NO_COLOR``, ``TERM`` and ``COLORTERM``."""
    term = environ.get("TERM", "")
    many = "256" in term or "direct" in term or environ.get("COLORTERM", "") not in ("", "no")
    return "ansi" if environ.get("NO_COLOR") or not many else DEFAULT


def _table(path: Path, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise ThemeError(path, name, "must be a table")
    if name in KNOWN:
        _check_keys(path, table, name)
    return table


def _check_keys(path: Path, table: Mapping[str, Any], name: str) -> None:
    for key in table:
        if key not in KNOWN[name]:
            raise _unknown(path, f"{name}.{key}" if name else key, key, KNOWN[name])


def _unknown(path: Path, full: str, key: str, known: frozenset[str]) -> ThemeError:
    near = get_close_matches(key, sorted(known), n=1)
    return ThemeError(path, full, "unknown key" + (f", did you mean {near[0]}?" if near else ""))


def _color(path: Path, key: str, value: object, ansi: bool) -> str:
    if not isinstance(value, str):
        raise ThemeError(path, key, "must be a colour in quotes")
    if value.startswith("ansi_"):
        try:
            Color.parse(value)
        except ColorParseError as error:
            raise ThemeError(path, key, f"{value!r} is no colour name of a terminal") from error
        if not ansi:
            raise ThemeError(path, key, f"{value!r} needs ansi = true")
        return value
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise ThemeError(path, key, f"{value!r} is no colour; write it as #rrggbb")
    if value.lower() not in PALETTE:
        near = f"the nearest is {nearest(value)}"
        raise ThemeError(path, key, f"{value} is not in the 256-colour palette, {near}")
    return value.lower()


def nearest(value: str) -> str:
    """The colour of the 256-colour palette that is next to ``#rrggbb``."""

    def parts(text: str) -> tuple[int, int, int]:
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)

    wanted = parts(value)

    def distance(text: str) -> int:
        return sum((a - b) ** 2 for a, b in zip(parts(text), wanted, strict=True))

    return min(sorted(PALETTE), key=distance)


def _variables(path: Path, theme: Theme, table: Mapping[str, Any]) -> dict[str, str]:
    """The ``[variables]`` of a file, which may be any that Textual makes of a theme."""
    known = frozenset(theme.to_textual().to_color_system().generate())
    for key, value in table.items():
        if key not in known:
            raise _unknown(path, f"variables.{key}", key, known)
        if not isinstance(value, str):
            raise ThemeError(path, f"variables.{key}", "must be text in quotes")
        if value.startswith("#"):
            _color(path, f"variables.{key}", value.split()[0], theme.ansi)
    return dict(table)
