"""Themes in the palette: shown while the cursor is on them, taken back by Esc."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette
from textual.pilot import Pilot

from ds4top.ui.app import Ds4top
from ds4top.view.look import Look
from tests.screenshots import DECODE, session_at


def app_of(theme: str = "dark") -> Ds4top:
    return Ds4top(session_at(DECODE), Look(), theme_name=theme, ticking=False)


async def until(pilot: Pilot[None], condition, what: str) -> None:
    for _ in range(200):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError(f"never: {what}")


async def search(pilot: Pilot[None], words: str) -> None:
    """Open the palette and type; done when the list is whole and begins with it."""
    app = pilot.app
    await pilot.press("ctrl+p")
    await until(pilot, lambda: CommandPalette.is_open(app), "palette")
    await pilot.press(*("space" if letter == " " else letter for letter in words))

    def listed() -> bool:
        options = app.screen.query_one(CommandList).options
        first = str(options[0].prompt) if options else ""
        return first.startswith(words) and all(it.is_finished for it in app.workers)

    await until(pilot, listed, f"{words} on top")


def ground(app: Ds4top) -> str:
    """The background that the view under the palette has now."""
    return app.screen_stack[0].styles.background.hex


async def test_a_theme_is_tried_on_and_taken_back() -> None:
    app = app_of()
    async with app.run_test() as pilot:
        dark = ground(app)
        await search(pilot, "Theme light")
        await until(pilot, lambda: app.theme == "light", "light is tried on")
        await until(pilot, lambda: ground(app) != dark, "the view under it too")
        white = app.theme_variables["background"]
        over = app.screen.styles
        await until(pilot, lambda: over.background.hex6 == white.upper(), "the palette too")
        await pilot.press("escape")
        await until(pilot, lambda: app.theme == "dark", "dark again")
        await until(pilot, lambda: ground(app) == dark, "the view again")
    app.session.close()


async def test_enter_keeps_it() -> None:
    app = app_of()
    async with app.run_test() as pilot:
        await search(pilot, "Theme mono")
        await pilot.press("enter")
        await until(pilot, lambda: not CommandPalette.is_open(app), "closed")
        await until(pilot, lambda: app.theme == "mono", "mono holds")
    app.session.close()


async def test_another_action_leaves_the_theme() -> None:
    app = app_of()
    seen: list[str] = []
    async with app.run_test() as pilot:
        app.theme_changed_signal.subscribe(app, lambda theme: seen.append(theme.name))
        await search(pilot, "Context axis")
        await pilot.press("enter")
        await until(pilot, lambda: not app.look.is_log, "the axis is linear")
        assert app.theme == "dark"
        assert seen == []
    app.session.close()


async def test_a_cursor_that_moves_on_tries_nothing_on() -> None:
    app = app_of()
    seen: list[str] = []
    async with app.run_test() as pilot:
        app.theme_changed_signal.subscribe(app, lambda theme: seen.append(theme.name))
        await search(pilot, "Theme a")
        seen.clear()
        options = app.screen.query_one(CommandList).options
        await pilot.press(*["down"] * 3)
        await until(pilot, lambda: bool(seen), "one is tried on")
        lines = [str(option.prompt).splitlines()[0] for option in options[:4]]
        assert all(line.startswith("Theme ") for line in lines)
        assert seen == [lines[3].removeprefix("Theme ")]
    app.session.close()
