"""Keys that keep what is seen: export, picture; and the mouse given to the terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ds4top.archive.files import write_private
from ds4top.archive.paths import EXPORTS, reason_of, state_dir
from ds4top.ui.driver import CleanDriver
from ds4top.ui.screens.base import View
from ds4top.ui.screens.live import RequestTable

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top


class Keeping:
    """Actions of the app that write files, or change who has the mouse."""

    def _this(self) -> Ds4top:
        from ds4top.ui.app import Ds4top

        assert isinstance(self, Ds4top)
        return self

    async def action_export(self) -> None:
        """Write the figures of this view to a file."""
        from ds4top.report.export import Shown, export

        app, screen = self._this(), self._this().screen
        if not isinstance(screen, View):
            return
        status = app.status()
        requests = screen.shown_requests if isinstance(screen, RequestTable) else ()
        lines = await asyncio.to_thread(screen.shown_lines)
        shown = Shown(
            app.model,
            status,
            app.book,
            app.today(),
            app.alerts(status),
            requests,
            lines,
        )
        found = export(screen.name_, shown)
        await self._write(screen, {found.suffix: found.text}, found.what)

    async def action_picture(self) -> None:
        """Write what this view looks like to two files."""
        from ds4top.ui.pictures import picture

        app, screen = self._this(), self._this().screen
        if not isinstance(screen, View):
            return
        found = picture(app, f"ds4top {screen.name_}")
        await self._write(screen, {"svg": found.svg, "txt": found.text}, "")

    async def _write(self, screen: View, files: Mapping[str, str], what: str) -> None:
        app = self._this()
        base = state_dir(os.environ)
        if base is None:
            screen.say("nothing written: no home folder; XDG_STATE_HOME names one")
            return
        when = datetime.fromtimestamp(app.model.now, app.model.tz)
        stem = free_stem(base / EXPORTS, f"{screen.name_}-{when:%Y%m%d-%H%M%S}", tuple(files))
        try:
            for suffix, text in files.items():
                path = base / EXPORTS / f"{stem}.{suffix}"
                await asyncio.to_thread(write_private, path, text)
        except OSError as error:
            screen.say(f"nothing written: {base / EXPORTS}: {reason_of(error)}")
            return
        names = " and .".join(files)
        said = f"{what} " if what else ""
        screen.say(f"wrote {stem}.{names}: {said}in {tilde(base / EXPORTS)}")

    def action_mouse(self) -> None:
        """Take the mouse, or leave it to the terminal, which then selects text."""
        app = self._this()
        driver = app._driver
        if not isinstance(driver, CleanDriver):
            said = "no terminal, no mouse"
        elif driver.take_mouse(not driver.has_mouse):
            said = "mouse on: click and wheel are ds4top's"
        else:
            said = "mouse off: the terminal selects text"
        if isinstance(app.screen, View):
            app.screen.say(said)


def free_stem(folder: Path, stem: str, suffixes: tuple[str, ...]) -> str:
    """The name of a file that is not there yet: a number goes behind where it is."""
    number, name = 1, stem
    while any((folder / f"{name}.{suffix}").exists() for suffix in suffixes):
        number += 1
        name = f"{stem}-{number}"
    return name


def tilde(path: Path) -> str:
    """A path as people write it, their home as ``~``."""
    home = os.environ.get("HOME", "")
    text = str(path)
    return "~" + text[len(home) :] if home and text.startswith(home + "/") else text
