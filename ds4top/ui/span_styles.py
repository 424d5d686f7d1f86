"""The styles that spans name, as data: which theme colour each takes, and what stands for that
colour where there is none. No state is told by hue alone: each has its attribute as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

from rich.style import Style
from textual.app import App
from textual.color import Color, ColorParseError

MONO_VARIABLE = "span-mono"
"""Theme variable that is ``1`` in a theme whose colours say nothing."""


class Rule(NamedTuple):
    """Theme variable of a style, whether it fills the background, its attributes, and those that
    replace them where colour says nothing (mono themes, ``NO_COLOR``).
    """

    variable: str
    attributes: str = ""
    mono: str | None = None
    fills: bool = False


RULES: dict[str, Rule] = {
    # Text
    "text": Rule("foreground"),
    "dim": Rule("span-dim", mono="dim"),
    "label": Rule("span-label"),
    "title": Rule("span-title", "bold"),
    "value": Rule("span-value"),
    "now": Rule("span-now", "bold"),
    "key": Rule("span-key", "bold"),
    "header": Rule("span-header", "bold", "underline"),
    "link": Rule("span-key", "underline"),
    "cursor": Rule("span-cursor", "bold", "reverse", fills=True),
    "match": Rule("span-match", "", "reverse", fills=True),
    "add": Rule("state-ok", "bold"),
    "remove": Rule("state-crit", "", "dim"),
    # How something is
    "ok": Rule("state-ok"),
    "warn": Rule("state-warn", "bold"),
    "crit": Rule("state-crit", "bold", "bold reverse"),
    "stale": Rule("state-stale", "italic"),
    "off": Rule("state-off", mono="dim"),
    "hot": Rule("state-hot"),
    "cold": Rule("state-cold", mono="bold"),
    "short": Rule("span-label"),
    # What the server does: the one filled word
    "state-decode": Rule("state-decode", "bold", "bold reverse", fills=True),
    "state-prefill": Rule("state-prefill", "bold", "bold reverse", fills=True),
    "state-load": Rule("state-load", "bold", "bold reverse", fills=True),
    "state-idle": Rule("state-idle", "bold", "bold reverse", fills=True),
    "state-stopped": Rule("state-stopped", "bold", "bold reverse", fills=True),
    "state-fault": Rule("state-fault", "bold", "bold reverse", fills=True),
    "state-unknown": Rule("state-off", "bold", "bold reverse", fills=True),
    # Pictures
    "bar": Rule("chart-bar"),
    "bar-empty": Rule("chart-track", mono="dim"),
    "bar-warn": Rule("state-warn", mono="bold"),
    "bar-crit": Rule("state-crit", mono="bold"),
    "spark": Rule("chart-spark"),
    "axis": Rule("chart-axis", mono="dim"),
    "axis-label": Rule("chart-label"),
    "plot-sample": Rule("chart-sample", mono="dim"),
    "plot-own": Rule("chart-own", "", "bold"),
    "plot-ref": Rule("chart-ref"),
    "plot-bound": Rule("chart-bound", mono="dim"),
    "plot-live": Rule("chart-live", "bold"),
    "plot-cursor": Rule("chart-cursor"),
    "plot-area": Rule("chart-area"),
    # Parts of memory: neighbours differ in more than their hue
    "mem-weights": Rule("memory-weights", "", "reverse", fills=True),
    "mem-working": Rule("memory-working", "", "bold underline", fills=True),
    "mem-other-gpu": Rule("memory-other-gpu", "", "reverse dim", fills=True),
    "mem-other": Rule("memory-other", "", "underline", fills=True),
    "mem-cache": Rule("memory-cache", "", "reverse", fills=True),
    "mem-kernel": Rule("memory-kernel", "", "underline", fills=True),
    "mem-unaccounted": Rule("memory-unaccounted", "", "reverse dim", fills=True),
    "mem-free": Rule("memory-free", "", "", fills=True),
    # Lines of the log
    "log-time": Rule("span-dim", mono="dim"),
    "log-request": Rule("span-title"),
    "log-prefill": Rule("state-prefill"),
    "log-decode": Rule("state-decode"),
    "log-kv": Rule("state-hot"),
    "log-start": Rule("state-load"),
    "log-warn": Rule("state-warn", "bold"),
    "log-error": Rule("state-crit", "bold", "bold reverse"),
    "log-other": Rule("span-label"),
}

# Themes that are not ours (Textual's own) have no variables of these families.
FALLBACKS: dict[str, str] = {
    "span-dim": "foreground",
    "span-label": "foreground",
    "span-title": "primary",
    "span-value": "foreground",
    "span-now": "foreground",
    "span-key": "accent",
    "span-header": "secondary",
    "span-cursor": "primary",
    "span-match": "accent",
    "state-ok": "success",
    "state-warn": "warning",
    "state-crit": "error",
    "state-stale": "foreground",
    "state-off": "foreground",
    "state-hot": "success",
    "state-cold": "primary",
    "state-decode": "success",
    "state-prefill": "primary",
    "state-load": "accent",
    "state-idle": "secondary",
    "state-stopped": "warning",
    "state-fault": "error",
    "chart-sample": "secondary",
    "chart-own": "warning",
    "chart-ref": "accent",
    "chart-bound": "foreground",
    "chart-live": "foreground",
    "chart-cursor": "secondary",
    "chart-area": "secondary",
    "chart-axis": "foreground",
    "chart-label": "foreground",
    "chart-bar": "primary",
    "chart-track": "foreground",
    "chart-spark": "secondary",
    "memory-weights": "primary",
    "memory-working": "accent",
    "memory-other-gpu": "warning",
    "memory-other": "secondary",
    "memory-cache": "success",
    "memory-kernel": "secondary",
    "memory-unaccounted": "error",
    "memory-free": "foreground",
}


@lru_cache(maxsize=64)
def _style(value: str, attributes: str, fills: bool) -> Style:
    try:
        color = Color.parse(value)
    except ColorParseError:
        return Style.parse(attributes)
    style = Style.parse(attributes)
    if not fills:
        return Style(color=color.rich_color) + style
    if color.ansi is not None:
        # The terminal alone knows what these look like; swapping them stays readable.
        return Style(color=color.rich_color, reverse=True) + style
    return Style(color=readable_on(color).rich_color, bgcolor=color.rich_color) + style


def contrast(one: Color, other: Color) -> float:
    """Contrast of two colours from 1 to 21, as WCAG 2 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: Color) -> float:
    parts = [part / 255 for part in color.rgb]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def readable_on(color: Color) -> Color:
    """Black or white, whichever stands out more on a colour (at least 4.5 to 1)."""
    return max(Color(0, 0, 0), Color(255, 255, 255), key=lambda text: contrast(color, text))


def style_table(variables: Mapping[str, str], no_color: bool = False) -> dict[str, Style]:
    """The Rich style of every span name, from the variables of the theme in use.

    Where colour says nothing the attributes of ``Rule.mono`` take over. Built when the theme
    changes, not when something is drawn.
    """
    is_mono = no_color or variables.get(MONO_VARIABLE) == "1"
    table: dict[str, Style] = {}
    for name, rule in RULES.items():
        value = variables.get(rule.variable)
        if value is None:
            value = variables.get(FALLBACKS.get(rule.variable, "foreground"), "ansi_default")
        attributes = rule.attributes if rule.mono is None or not is_mono else rule.mono
        if no_color:
            value = "ansi_default"
        elif is_mono:
            # The grey itself is the dimming.
            attributes = attributes.replace("dim", "").strip()
        table[name] = _style(value, attributes, rule.fills and not is_mono)
    return table


_tables: WeakKeyDictionary[App[object], tuple[Mapping[str, str], dict[str, Style]]] = (
    WeakKeyDictionary()
)


def styles_of(app: App[object]) -> dict[str, Style]:
    """The table for the theme an app has now; the same object until the theme is another."""
    known = _tables.get(app)
    if known is None or known[0] is not app.theme_variables:
        known = (app.theme_variables, style_table(app.theme_variables, app.no_color))
        _tables[app] = known
    return known[1]
