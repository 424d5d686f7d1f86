"""Other keys for actions, and what the screen says of a config that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds4top.core.config import settle
from ds4top.session import replay
from ds4top.ui.app import Ds4top
from ds4top.view.keymap import ACTIONS
from ds4top.view.look import Look

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
