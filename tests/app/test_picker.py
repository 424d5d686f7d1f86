"""Several servers: the list comes by itself, Enter watches one, and the choice is remembered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from ds4top.archive.paths import CHOICE
from ds4top.core.plan import Target
from ds4top.core.process import LogPlace, ServerProcess
from ds4top.core.state import LogState
from ds4top.reach.choice import last_choice, remember
from ds4top.session import Wanted, live
from ds4top.sources.find import ServersSeen
from ds4top.sources.logroute import LogAddress
from ds4top.ui.app import Ds4top
from ds4top.ui.screens.picker import Picker
from ds4top.view.look import Look
from ds4top.watch import Watch
from tests.unit.test_status_view import server
from tests.unit.test_watch import router


def second() -> ServerProcess:
    place = LogPlace("file", "/srv/other.log", "/srv/other.log")
    return replace(
        server(), target=Target(5000, 8, "boot", "llama-server"), exe="/opt/llama", log=place,
        kv_dir=None, listening=(),
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "ds4top"


def app_over(*servers: ServerProcess) -> Ds4top:
    made = Ds4top(live(Wanted()), Look(), ticking=False)
    made.model.machine.seen(servers, None)
    return made


async def offered(made: Ds4top, pilot: Pilot[None]) -> None:
    """Two looks, a second apart."""
    made.tick()
    await pilot.pause()
    assert not isinstance(made.screen, Picker)
    made.model.now += 1.0
    made.tick()
    await pilot.pause()
    assert isinstance(made.screen, Picker)


async def test_an_offered_list_goes_once_a_server_is_watched(home: Path) -> None:
    made = app_over(server(), second())
    async with made.run_test() as pilot:
        await offered(made, pilot)
        made.model.machine.server = server()
        assert isinstance(made.screen, Picker)
        made.screen.fill()
        await pilot.pause()
        assert not isinstance(made.screen, Picker)


async def test_the_list_comes_by_itself_and_enter_watches_one(home: Path) -> None:
    made = app_over(server(), second())
    async with made.run_test(size=(80, 24)) as pilot:
        await offered(made, pilot)
        await pilot.press("j", "enter")
        await made.workers.wait_for_complete()
        assert not isinstance(made.screen, Picker)
        watch = made.session.watch
        assert watch is not None
        assert watch.wanted.pid == watch.finder._asked == 5000
        # It is not asked again until other servers run.
        made.tick()
        await pilot.pause()
        assert not isinstance(made.screen, Picker)
    assert json.loads((home / CHOICE).read_text()) == {
        "schema": "ds4top.choice/1", "exe": "/opt/llama",
    }  # fmt: skip
    assert (home / CHOICE).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in home.iterdir()] == [CHOICE]
    assert last_choice({"XDG_STATE_HOME": str(home.parent)}) == "/opt/llama"


async def test_escape_leaves_it_and_the_key_brings_it_back(home: Path) -> None:
    made = app_over(server(), second())
    async with made.run_test(size=(60, 12)) as pilot:
        await offered(made, pilot)
        await pilot.press("escape")
        assert not isinstance(made.screen, Picker)
        await pilot.press("c")
        await pilot.pause()
        assert isinstance(made.screen, Picker)
    assert not home.exists()


async def test_with_one_server_there_is_nothing_to_choose(home: Path) -> None:
    made = app_over(server())
    async with made.run_test() as pilot:
        made.tick()
        await pilot.press("c")
        assert not isinstance(made.screen, Picker)
        assert made.screen._said == "only one server runs here"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other", "exe": "/x"}', '{"exe": 7}'])
def test_a_choice_that_cannot_be_read_is_none(home: Path, text: str) -> None:
    home.mkdir()
    (home / CHOICE).write_text(text)
    assert last_choice({"XDG_STATE_HOME": str(home.parent)}) is None


def test_a_choice_is_replaced_whole(home: Path) -> None:
    environment = {"XDG_STATE_HOME": str(home.parent)}
    remember(environment, "/a")
    remember(environment, "/b")
    assert last_choice(environment) == "/b"
    assert last_choice({"XDG_STATE_HOME": str(home.parent / "none")}) is None


def test_another_server_brings_nothing_of_the_one_before() -> None:
    first = replace(server(), log=LogPlace("file", "/srv/one.log", "/srv/one.log"))
    watch = Watch(Wanted(), router(), LogState)
    gone: list[str] = []
    watch.detach = gone.append
    watch.take(ServersSeen((first,), first, 1.0, 1.0))
    assert watch._router.address == LogAddress("/srv/one.log", "/srv/one.log")
    watch.take(ServersSeen((first, second()), second(), 2.0, 2.0))
    assert watch._router.address == LogAddress("/srv/other.log", "/srv/other.log")
    assert {"KV directory", "/v1/models", "/metrics"} <= set(gone)
    assert (watch.machine.kv, watch.machine.models) == (None, None)
    silent = replace(second(), target=Target(6000, 9, "boot", "ds4-server"),
                     log=LogPlace("null", "/dev/null"))  # fmt: skip
    watch.take(ServersSeen((silent,), silent, 3.0, 3.0))
    assert watch._router.address is None
