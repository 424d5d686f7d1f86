"""Theme files: what is refused and how it is said; contrast; styles without colour."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from rich.color import ColorSystem
from textual.color import Color

import ds4top
from ds4top.ui.span_styles import FALLBACKS, RULES, contrast, readable_on, style_table
from ds4top.ui.theme import (
    PALETTE,
    Theme,
    ThemeError,
    default_name,
    find,
    load,
    nearest,
    themes_dir,
    variable_defaults,
)

NAMES = ["ansi", "ansi256", "colour-blind", "dark", "light", "mono"]
GRAPHICS = {"plot-sample", "plot-own", "plot-ref", "plot-cursor", "plot-area", "bar", "spark"}
FAINT = {"axis", "bar-empty"}
SMALL = """\
name = "small"
dark = true
[colors]
primary = "#5fafff"
foreground = "#dadada"
background = "#121212"
surface = "#121212"
"""


def themes() -> dict[str, Theme]:
    return dict(find().by_name)


def variables(theme: Theme) -> dict[str, str]:
    return {**theme.to_textual().to_color_system().generate(), **theme.variables}


def write(folder: Path, text: str, name: str = "small") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_themes_of_the_program_are_usable():
    found = find()
    assert sorted(found.by_name) == NAMES
    assert found.problems == ()


@pytest.mark.parametrize("name", ["colour-blind", "dark", "light", "mono", "ansi256"])
@pytest.mark.parametrize("rounded", [False, True])
def test_contrast(name, rounded):
    theme = themes()[name]
    ground = [Color(0, 0, 0)]
    if not theme.ansi:
        ground = [Color.parse(theme.colors[key]) for key in ("background", "surface")]

    def seen(color: Color) -> Color:
        if not rounded:
            return color
        number = color.rich_color.downgrade(ColorSystem.EIGHT_BIT)
        return Color.from_rich_color(number) if number.triplet else Color(*number.get_truecolor())

    for style_name, style in style_table(variables(theme)).items():
        text = Color.from_rich_color(style.color)
        if text.ansi is not None:
            assert theme.ansi
            continue
        behind = [Color.from_rich_color(style.bgcolor)] if style.bgcolor else ground
        least = min(contrast(seen(text), seen(color)) for color in behind)
        wanted = 1.7 if style_name in FAINT else 3.0 if style_name in GRAPHICS else 4.5
        if style_name == "plot-area":
            wanted = 1.5
        assert least >= wanted, (style_name, least)


@pytest.mark.parametrize("name", ["colour-blind", "dark", "light", "ansi256"])
def test_what_is_compared_in_a_plot_has_colours_of_its_own(name):
    table = style_table(variables(themes()[name]))
    shown = ["plot-sample", "plot-own", "plot-ref", "plot-bound", "plot-live"]
    colors = [table[key].color.downgrade(ColorSystem.EIGHT_BIT) for key in shown]
    assert len(set(colors)) == len(shown)


def test_colours_of_the_colour_blind_theme_stay_apart_without_red_and_green():
    table = style_table(variables(themes()["colour-blind"]))
    for names in (("ok", "warn", "crit"), ("plot-sample", "plot-own", "plot-ref")):
        seen = [_deuteranope(Color.from_rich_color(table[key].color)) for key in names]
        for index, one in enumerate(seen):
            for other in seen[index + 1 :]:
                assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 40


def _deuteranope(color: Color) -> tuple[float, float, float]:
    """Viénot's simulation, linear part only: good enough to tell two colours apart."""
    r, g, b = color.rgb
    return 0.293 * r + 0.707 * g, 0.293 * r + 0.707 * g, -0.022 * r + 0.022 * g + b


@pytest.mark.parametrize("no_color", [False, True])
def test_without_colour_states_differ_in_their_attributes(no_color):
    table = style_table(variables(themes()["mono"]), no_color)

    def look(name: str) -> tuple[object, ...]:
        style = table[name]
        return style.bold, style.reverse, style.underline

    assert len({look("ok"), look("warn"), look("crit")}) == 3
    assert look("text") != look("cursor")
    parts = [
        "mem-weights", "mem-working", "mem-other-gpu", "mem-other", "mem-cache", "mem-kernel",
        "mem-unaccounted", "mem-free",
    ]  # fmt: skip
    assert all(look(a) != look(b) for a, b in pairwise(parts))
    assert all(table[name].bgcolor is None for name in RULES)


def test_no_color_uses_the_colours_of_the_terminal_alone():
    for theme in themes().values():
        for style in style_table(variables(theme), no_color=True).values():
            assert style.color is None or style.color.is_default


def test_every_rule_has_a_fallback_for_themes_that_are_not_ours():
    assert {rule.variable for rule in RULES.values()} <= {*FALLBACKS, "foreground"}
    table = style_table({"foreground": "#dadada", "success": "#87d787"})
    assert table["ok"].color.name == "#87d787"
    assert table["state-decode"].bgcolor.name == "#87d787"


@pytest.mark.parametrize("value", ["#000000", "#ffffff", "#767676", "#d7875f", "#5f87d7"])
def test_text_on_a_filled_part_is_readable(value):
    color = Color.parse(value)
    assert contrast(readable_on(color), color) >= 4.5


def test_contrast_of_black_and_white():
    assert contrast(Color(0, 0, 0), Color(255, 255, 255)) == pytest.approx(21.0)


def test_what_a_file_leaves_out_follows_from_its_colours(tmp_path):
    theme = load(write(tmp_path, SMALL))
    assert theme.variables["span-title"] == "#5fafff"
    assert theme.variables["chart-own"] == "#dadada"
    assert (theme.dark, theme.ansi, theme.mono) == (True, False, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1\n" + SMALL, "colour: unknown key, did you mean colors?"),
        (SMALL + "primry = '#5fafff'\n", "colors.primry: unknown key, did you mean primary?"),
        (SMALL + "[chart]\nown = '#123456'\n",
         "chart.own: #123456 is not in the 256-colour palette, the nearest is #005f5f"),
        (SMALL + "[chart]\nown = 'red'\n",
         "chart.own: 'red' is no colour; write it as #rrggbb"),
        (SMALL + "[chart]\nown = 7\n", "chart.own: must be a colour in quotes"),
        (SMALL + "[state]\nok = 'ansi_green'\n", "state.ok: 'ansi_green' needs ansi = true"),
        (SMALL + "[memory]\nkv = '#5fafff'\n", "memory.kv: unknown key"),
        (SMALL + "[variables]\nfoter-background = '#121212'\n",
         "variables.foter-background: unknown key, did you mean footer-background?"),
        (SMALL + "[variables]\nborder = '#5fafaa'\n",
         "variables.border: #5fafaa is not in the 256-colour palette, the nearest is #5fafaf"),
        ("text = 3\n" + SMALL, "text: must be a table"),
        (SMALL.replace("true", "'yes'"), "dark: must be true or false"),
        (SMALL.replace('"small"', '"other"'),
         "name: must be the name of the file, 'small', in [a-z0-9-]"),
        (SMALL.replace('surface = "#121212"\n', ""), "colors.surface: is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(ThemeError) as caught:
        load(write(tmp_path, text))
    assert str(caught.value) == f"small.toml: {message}"


def test_a_file_that_is_no_toml_is_named(tmp_path):
    with pytest.raises(ThemeError, match=r"^small\.toml: "):
        load(write(tmp_path, "name = \n"))
    with pytest.raises(ThemeError, match=r"^none\.toml: "):
        load(tmp_path / "none.toml")


def test_a_theme_of_the_user_wins_and_a_bad_one_is_skipped(tmp_path):
    write(tmp_path, SMALL.replace("small", "dark"), "dark")
    write(tmp_path, SMALL)
    write(tmp_path, SMALL + "[bad", "bad")
    found = find(tmp_path)
    assert sorted(found.by_name) == sorted([*NAMES, "small"])
    assert found.by_name["dark"].variables["chart-own"] == "#dadada"
    assert len(found.problems) == 1
    assert found.problems[0].startswith("bad.toml: ")


def test_a_folder_that_is_not_there_has_no_themes(tmp_path):
    assert sorted(find(tmp_path / "none").by_name) == NAMES


def test_themes_are_found_in_the_package_and_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "ds4top"
    package.mkdir(parents=True)
    monkeypatch.setattr(ds4top, "__path__", [str(package)])
    assert themes_dir() == tmp_path / "site" / "themes"
    (package / "themes").mkdir()
    assert themes_dir() == package / "themes"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"TERM": "xterm-256color"}, "dark"),
        ({"TERM": "tmux-256color", "NO_COLOR": "1"}, "ansi"),
        ({"TERM": "tmux-256color", "NO_COLOR": ""}, "dark"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "dark"),
        ({"TERM": "xterm"}, "ansi"),
        ({"TERM": "linux"}, "ansi"),
        ({}, "ansi"),
    ],
)
def test_default_theme(environ, name):
    assert default_name(environ) == name


def test_themes_that_are_not_ours_get_our_variables_from_the_default():
    defaults = variable_defaults()
    assert defaults.keys() >= FALLBACKS.keys()
    assert defaults["chart-own"] == "#ffd75f"


def test_palette():
    assert len(PALETTE) == 240
    assert nearest("#121213") == "#121212"
