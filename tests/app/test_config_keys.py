"""Other keys for actions, and what the screen says of a config that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ds4top.core.alert_facts import AlertFacts
from ds4top.core.alert_rules import RULES
from ds4top.core.config import settle
from ds4top.core.keymap import ACTIONS, Keys
from ds4top.session import replay
from ds4top.ui.app import Ds4top
from ds4top.view.look import Look
from tests.frames import STATES, frame_of

LOG = Path(__file__).parents[1] / "data" / "ds4" / "sim-short" / "server.log"


def app_with(text: str) -> Ds4top:
    """The app over a recorded log, with this config file."""
    config = settle(text=text, name="config.toml", actions=ACTIONS)
    return Ds4top(replay(str(LOG), fixed=True), Look(), config, ticking=False)


async def test_an_action_takes_another_key_and_leaves_its_own() -> None:
    app = app_with('[keys]\n"look.theme" = "ctrl+t"\n')
    async with app.run_test() as pilot:
        before = app.theme
        await pilot.press("t")
        assert app.theme == before
        await pilot.press("ctrl+t")
        assert app.theme != before
        assert ("look", "ctrl+t", "Next theme") in app.live_keys()


async def test_two_actions_on_one_key_are_named() -> None:
    app = app_with('[keys]\n"look.theme" = "j"\n')
    async with app.run_test() as pilot:
        await pilot.pause()
        said = [note.message for note in app._notifications]
        assert said == ["keys: j is look.theme now, and no longer move.down"]
        before = app.theme
        await pilot.press("j")
        assert app.theme != before


async def test_a_key_that_another_action_has_is_called_by_nobody_any_more() -> None:
    app = app_with('[keys]\n"look.theme" = "j"\n"view.kv" = "g"\n')
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.pause()
        assert ("move", "↓", "Down") in app.live_keys()
        assert ("move", "Home", "First row") in app.live_keys()
        await pilot.press("y")
        assert "no row to copy: ↓ and k choose one" in app.screen.message.rows[0][1].text


HINTS = """[keys]
"app.help" = "ctrl+h"
"app.cancel" = "f10"
"view.kv" = "z"
"view.launch" = "L"
"view.sources" = "ctrl+s"
"server.choose" = "ctrl+o"
"log.copy_pane" = "f6"
"move.down" = "ctrl+j"
"filter.edit" = "f3"
"filter.next" = "f4"
"server.restart" = "ctrl+r"
"row.details" = "ctrl+d"
"""
"""Every action here has another key than its own."""


@pytest.mark.parametrize(
    ("state", "view", "width", "words", "not_words"),
    [
        ("several servers", "live", 120, "ctrl+o   chooses one, as does ds4top --pid 4711", "c  "),
        ("several servers", "sources", 120, "SERVERS   ctrl+o chooses one", "c chooses"),
        ("log not readable", "live", 120, "2 sources not read (ctrl+s)", "(8)"),
        ("no server", "log", 120, " z kv  4 memory  L launch  ", "3 kv"),
        ("no server", "log", 140, "F3 filter  F4 next  f follow", "/ filter"),
        ("no server", "requests", 140, "ctrl+d details  F3 filter", "Enter"),
        ("no server", "live", 80, " Tab views   live", "1-8"),
        ("no server", "live", 80, "ctrl+h help   q quit", "? help"),
        ("log in a tmux pane", "live", 120, "F6   tmux copies the pane to a file", "l  "),
    ],
)  # fmt: skip
async def test_texts_call_a_key_by_what_it_is_now(
    state: str, view: str, width: int, words: str, not_words: str
) -> None:
    config = settle(text=HINTS, name="config.toml", actions=ACTIONS)
    assert config.problems == ()
    app = Ds4top(STATES[state](), Look(), config, ticking=False)
    async with app.run_test(size=(width, 30)) as pilot:
        await app.action_view(view)
        await pilot.pause()
        app.paint()
        await pilot.pause()
        (line,) = [row for row in frame_of(app).rows if words in row]
    assert not_words not in line.replace(words, "")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (AlertFacts(state="failed"), "see the log (6), then start it again (F9)"),
        (AlertFacts(last_known=True, quiet_s=95.0),
         "is it alive? see its process (L) and its log (6)"),
        (AlertFacts(driver_no_memory="warning"), "close what shares the memory (M)"),
    ],
)  # fmt: skip
def test_alerts_too(facts: AlertFacts, words: str) -> None:
    keys = Keys({"view.launch": "L", "view.memory": "M", "server.start": "f9"})
    asked = replace(facts, keys=keys)
    said = [rule.check(asked, False) for rule in RULES]
    assert words in [each.fix for each in said if each is not None]


def test_an_action_without_a_key_is_called_by_the_palettes() -> None:
    keys = Keys({"look.theme": "c", "app.help": "f1"})
    assert (keys["look.theme"], keys["app.help"], keys["app.quit"]) == ("c", "F1", "q")
    assert (keys["server.choose"], keys.all_of("server.choose")) == (":", "")


async def test_a_wrong_config_is_said_and_the_screen_stays() -> None:
    app = app_with("[screen]\nthem = 'light'\n")
    async with app.run_test() as pilot:
        await pilot.pause()
        said = [note.message for note in app._notifications]
        assert said == [
            "config.toml, line 2: screen.them is no setting; did you mean screen.theme?"
        ]


async def test_the_theme_of_the_config_holds() -> None:
    async with app_with('[screen]\ntheme = "light"\n').run_test() as pilot:
        assert pilot.app.theme == "light"


async def test_a_theme_of_the_users_own_folder_is_found_and_a_broken_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ds4top" / "themes"
    folder.mkdir(parents=True)
    light = (Path(__file__).parents[2] / "themes" / "light.toml").read_text()
    (folder / "mine.toml").write_text(light.replace('name = "light"', 'name = "mine"'))
    (folder / "torn.toml").write_text("name = ")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    app = app_with('[screen]\ntheme = "mine"\n')
    async with app.run_test() as pilot:
        await pilot.pause()
        assert app.theme == "mine"
        (said,) = [note.message for note in app._notifications]
        assert said.startswith("torn.toml: ")
