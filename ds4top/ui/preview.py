"""Themes tried on in the palette: the one under the cursor is shown, Esc takes it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.command import Command, CommandPalette
from textual.timer import Timer

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top

_REST_S = 0.12
"""A cursor that moves on within this tries nothing on: a theme restyles every screen."""


class ThemeChoice:
    """What the palette runs for a theme."""

    def __init__(self, app: Ds4top, name: str) -> None:
        self._app, self.name = app, name

    def __call__(self) -> None:
        """Have this theme."""
        self._app.theme = self.name


class Previewing:
    """Handlers of the app for what happens in the palette."""

    _theme_before: str | None = None
    _wanted: str = ""
    _resting: Timer | None = None

    def _app(self) -> Ds4top:
        from ds4top.ui.app import Ds4top

        assert isinstance(self, Ds4top)
        return self

    def on_command_palette_opened(self) -> None:
        """Remember what there was."""
        self._theme_before = self._wanted = self._app().theme

    def on_command_palette_option_highlighted(
        self, event: CommandPalette.OptionHighlighted
    ) -> None:
        """Try a theme on once the cursor rests on it; on anything else, the one before."""
        if self._theme_before is None:
            return
        option = event.highlighted_event.option
        choice = option.hit.command if isinstance(option, Command) else None
        self._wanted = choice.name if isinstance(choice, ThemeChoice) else self._theme_before
        if self._resting is not None:
            self._resting.stop()
        self._resting = self._app().set_timer(_REST_S, self._try_on)

    def _try_on(self) -> None:
        if self._theme_before is None or self._wanted == self._app().theme:
            return
        app = self._app()
        app.theme = self._wanted
        # Textual restyles every screen but those of its own, and this one would stay as it was.
        app.call_next(app.stylesheet.update, app.screen)

    def on_command_palette_closed(self, event: CommandPalette.Closed) -> None:
        """Closed without a choice: back to the theme before."""
        if self._resting is not None:
            self._resting.stop()
        if self._theme_before is not None:
            before, self._theme_before = self._theme_before, None
            # What was chosen stays on: a moment of the old one would restyle twice.
            self._app().theme = self._wanted if event.option_selected else before
