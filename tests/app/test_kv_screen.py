"""Keys on the KV cache view: the cursor stays on its entry while the order changes."""

from __future__ import annotations

from pathlib import Path

from ds4top.core.kvfile import KvDirSample, KvEntry
from ds4top.session import replay
from ds4top.ui.app import Ds4top
from ds4top.ui.screens.kv import EntryDetail, Kv
from ds4top.view.look import Look
from tests.unit.kv_tools import NOW_S, recorded

LOG = Path(__file__).parents[1] / "data" / "ds4" / "h200-copy" / "server.log"


def app() -> Ds4top:
    """The app over a recorded log and the directory of the same server."""
    made = Ds4top(replay(str(LOG), fixed=True), Look(), ticking=False)
    entries = tuple(e for e in recorded("h200-copy", "end").values() if isinstance(e, KvEntry))
    made.model.now = float(NOW_S)
    made.model.machine.kv = KvDirSample(
        1.0, NOW_S, "/kv", entries, used_bytes=sum(e.file_bytes for e in entries)
    )
    return made


async def test_sort_and_filter_keep_the_entry_under_the_cursor() -> None:
    made = app()
    async with made.run_test(size=(120, 30)) as pilot:
        await pilot.press("3", "j", "j")
        screen = made.screen
        assert isinstance(screen, Kv)
        chosen = screen.table().selected_key
        assert isinstance(chosen, str)
        assert screen.table().place == (2, screen.table().place[1])
        await pilot.press("s")
        assert screen.table().selected_key == chosen
        biggest = screen.table()._keys[0]
        tokens = {name: line.entry.tokens for name, line in screen._lines.items()}
        assert tokens[str(biggest)] == max(tokens.values())
        reason = screen._lines[chosen].entry.reason
        await pilot.press("slash", *reason, "enter")
        assert screen.table().selected_key == chosen
        assert {line.entry.reason for line in screen._lines.values()} == {reason}
        assert screen.row_text().split()[-1] == chosen[:12]
        await pilot.press("enter")
        assert isinstance(made.screen, EntryDetail)
        await pilot.press("escape")
        assert made.screen is screen


async def test_enter_without_an_entry_says_so() -> None:
    made = app()
    async with made.run_test(size=(60, 12)) as pilot:
        await pilot.press("3", "enter")
        assert isinstance(made.screen, Kv)
        assert made.screen._said == "no entry under the cursor: j and k choose one"
