"""Which of several servers is watched: a list over the view."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ds4top.reach.choice import remember
from ds4top.ui.screens.base import View
from ds4top.ui.screens.detail import Scroller
from ds4top.ui.widgets.lines import TableView
from ds4top.view.sourcesview import SERVER_HEADS, server_cells, server_widths
from ds4top.view.text import Row, columns, row

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top

_AGAIN_S = 1.0
_HINT = -1
_NOTHING = {0: "no server runs here", 1: "only one server runs here"}


class Picker(Scroller):
    """The servers that run; Enter watches the one under the cursor."""

    def __init__(self, *, offered: bool = False) -> None:
        """``offered``: it came by itself, and goes once a server is watched."""
        super().__init__()
        self._offered = offered

    def on_mount(self) -> None:
        """The cursor on the one that is watched, else on the first."""
        self.call_after_refresh(self._begin)
        self.set_interval(_AGAIN_S, self.fill)

    def _begin(self) -> None:
        self.fill()
        app: Ds4top = self.app  # type: ignore[assignment]
        machine = app.model.machine
        table = self.query_one(TableView)
        if machine.server is None or not table.select(machine.server.target.pid):
            table.home()

    def fill(self) -> None:
        """A row a server, by its pid."""
        app: Ds4top = self.app  # type: ignore[assignment]
        machine, now = app.model.machine, app.model.now
        if self._offered and machine.server is not None:
            self.dismiss()
            return
        table = self.query_one(TableView)
        widths = server_widths(table.size.width)
        watched = machine.server.target if machine.server is not None else None
        rows: list[tuple[int | None, Row]] = [
            (
                server.target.pid,
                row(
                    (" > " if server.target == watched else "   ", "now"),
                    columns(server_cells(server, now), widths),
                ),
            )
            for server in machine.servers
        ]
        enter, esc = app.keys["row.details"], app.keys["app.cancel"]
        heads = columns([(head, "header") for head in SERVER_HEADS], widths)
        rows += [
            (None, row("")),
            (_HINT, row((f"   {enter} watches the server under the cursor, {esc} closes", "dim"))),
        ]
        table.show_table(row(("   ", "header"), heads), rows)

    def action_details(self) -> None:
        """Watch the server under the cursor."""
        key = self.query_one(TableView).selected_key
        app: Ds4top = self.app  # type: ignore[assignment]
        server = next((s for s in app.model.machine.servers if s.target.pid == key), None)
        if server is None or app.session.watch is None:
            return
        self.dismiss()
        app.session.watch.choose(server)
        exe = server.exe
        if exe is not None and app.config.flag("history.keep"):
            self.app.run_worker(lambda: _keep(exe), thread=True)
        if isinstance(app.screen, View):
            app.screen.say(f"watching {server.target.comm} {server.target.pid}")


def _keep(exe: str) -> None:
    with contextlib.suppress(OSError):
        remember(os.environ, exe)


def choose(app: Ds4top, *, offered: bool = False) -> None:
    """Show the list, or say why there is nothing to choose."""
    count = len(app.model.machine.servers)
    if isinstance(app.screen, Picker):
        return
    why = _NOTHING.get(count, "")
    if app.session.replay_clock is not None:
        why = "a replay shows what was recorded"
    if why:
        if isinstance(app.screen, View):
            app.screen.say(why)
        return
    app.push_screen(Picker(offered=offered))


class Offer:
    """Shows the list by itself where several servers run and none is chosen, once for each set."""

    def __init__(self) -> None:
        self._offered: frozenset[object] = frozenset()
        self._seen: frozenset[object] = frozenset()
        self._since = 0.0

    def look(self, app: Ds4top) -> None:
        """Called once a tick."""
        machine = app.model.machine
        if machine.server is not None or len(machine.servers) < 2:
            return
        found = frozenset(server.target for server in machine.servers)
        if found != self._seen:
            self._seen, self._since = found, app.model.now
        # A server that starts and is refused by the other's lock is there for a moment only.
        lasting = app.model.now - self._since >= _AGAIN_S
        if found == self._offered or not lasting or not isinstance(app.screen, View):
            return
        self._offered = found
        choose(app, offered=True)
