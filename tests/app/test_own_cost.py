"""ds4top looks at itself only while the Sources view is shown."""

from __future__ import annotations

import pytest

from ds4top.sources import own
from ds4top.ui.app import Ds4top
from ds4top.view.look import Look
from tests.frames import demo, frame_of


async def test_only_the_view_that_shows_it_has_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    read = own.OwnReader.read

    def counted(self: own.OwnReader, now: float, written: int | None) -> own.OwnCost:
        looks.append(now)
        return read(self, now, written)

    monkeypatch.setattr(own.OwnReader, "read", counted)
    monkeypatch.setattr("ds4top.ui.screens.others._OWN_S", 0.0)
    session = demo()
    session.model.own = None
    app = Ds4top(session, Look(interval_s=10.0), ticking=True)
    for what, name in ((session, "start_log"), (session, "start_machine"), (app, "tick")):
        monkeypatch.setattr(what, name, lambda: None)
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.pause()
        for _ in range(3):
            app.paint()
        assert looks == []
        await app.action_view("sources")
        await pilot.pause()
        shown = len(looks)
        assert shown >= 1
        app.paint()
        await pilot.pause()
        assert len(looks) == shown + 1
        rows = frame_of(app).rows
        memory = next(row for row in rows if "MiB resident" in row)
        # A Python with Textual in it takes tens of MiB; there is no terminal to be written to.
        assert 10 < float(memory.split()[1]) < 4_000
        terminal = next(row for row in rows if row.startswith("  terminal "))
        assert terminal.split()[1] == "–"
        await app.action_view("live")
        after = len(looks)
        for _ in range(3):
            app.paint()
        assert len(looks) == after
