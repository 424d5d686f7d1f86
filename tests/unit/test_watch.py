"""What becomes of the machine's samples: the log decides which server it belongs to."""

from __future__ import annotations

from pathlib import Path

from ds4top.core.plan import Target
from ds4top.core.process import LogPlace, ServerProcess
from ds4top.core.state import LogState
from ds4top.sources.find import ServersSeen
from ds4top.sources.logroute import LogAddress, LogRouter
from ds4top.watch import Wanted, Watch


def seen(log: str | None) -> ServersSeen:
    """One server whose log is this file."""
    place = LogPlace("file", log or "a terminal", log)
    server = ServerProcess(
        Target(7, 1, "b", "ds4-server"), 0.0, "ds4", 0, "root", log=place, kv_dir=None
    )
    return ServersSeen((server,), server, 1.0, 1.0)


def router() -> LogRouter:
    """A router that is never read."""

    def make(address: LogAddress):  # type: ignore[no-untyped-def]
        raise AssertionError(address)

    return LogRouter(make)


def test_the_log_of_the_server_that_is_found_is_read() -> None:
    route = router()
    watch = Watch(Wanted(), route, LogState)
    assert watch.take(seen("/x/server.log"))
    assert watch.machine.server is not None
    assert route.address == LogAddress("/x/server.log", "/x/server.log")


def test_a_server_that_writes_another_log_is_not_the_one_that_was_asked_for(
    tmp_path: Path,
) -> None:
    wanted = tmp_path / "mine.log"
    route = router()
    watch = Watch(Wanted(log=str(wanted)), route, LogState)
    watch.take(seen(str(tmp_path / "other.log")))
    assert watch.machine.server is None
    assert len(watch.machine.servers) == 1
    link = tmp_path / "link.log"
    wanted.write_text("")
    link.symlink_to(wanted)
    watch.take(seen(str(link)))
    assert watch.machine.server is not None
    assert route.address == LogAddress(str(wanted), str(wanted))


def test_a_server_whose_log_cannot_be_read_may_be_it() -> None:
    watch = Watch(Wanted(log="/x/mine.log"), router(), LogState)
    watch.take(seen(None))
    assert watch.machine.server is not None


def test_other_samples_are_not_the_machines() -> None:
    assert not Watch(Wanted(), router(), LogState).take("a line")
