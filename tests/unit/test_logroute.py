"""One log source that is pointed at one log after another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.sources.base import SourceFault
from ds4top.sources.logroute import LogAddress, LogRouter, opener
from ds4top.sources.samples import LogBreak, LogEvents, ReplayReset

DEADLINE_TURNS = 2_000
LINE = b"0101 10:00:00 ds4-server: listening on http://127.0.0.1:8000\n"


def router() -> LogRouter:
    """A router with the real reader and store."""
    return LogRouter(
        opener(lambda mtime: LogReader(StampClock(mtime)), lambda: Reducer(LogState()))
    )


def turns(route: LogRouter, until: Callable[[list[object]], bool]) -> list[object]:
    """Samples of as many turns as it takes."""
    found: list[object] = []
    for _ in range(DEADLINE_TURNS):
        found += route.read(0.0)
        if until(found):
            return found
    raise AssertionError(f"never: {found}")


def lines_of(samples: list[object]) -> int:
    """Physical lines in these samples."""
    return sum(sample.lines for sample in samples if isinstance(sample, LogEvents))


def test_it_waits_for_an_address() -> None:
    route = router()
    route.open()
    assert route.read(0.0) == ()
    assert route.interval_s > 0


def test_the_first_log_is_no_reset_the_second_is(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_bytes(LINE)
    two.write_bytes(LINE * 2)
    route = router()
    route.point(LogAddress("one", str(one)))
    first = turns(route, lambda found: lines_of(found) == 1)
    assert not any(isinstance(sample, ReplayReset) for sample in first)
    route.point(LogAddress("two", str(two)))
    assert route.interval_s == 0
    second = turns(route, lambda found: lines_of(found) == 2)
    assert isinstance(second[0], ReplayReset)
    route.close()


def test_no_address_forgets_what_was_read(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(LINE)
    route = router()
    route.point(LogAddress("log", str(log)))
    turns(route, lambda found: lines_of(found) == 1)
    route.point(None)
    assert [*route.read(0.0), *route.read(0.0)] == [ReplayReset(0.0)]


def test_the_output_of_a_command_is_a_log_until_it_ends() -> None:
    script = f"import sys; sys.stdout.buffer.write({LINE!r} * 3); sys.exit(3)"
    route = router()
    route.point(LogAddress("command", command=(sys.executable, "-c", script)))
    found = turns(route, lambda found: any(isinstance(sample, LogBreak) for sample in found))
    assert lines_of(found) == 3
    with pytest.raises(SourceFault, match="ended with 3"):
        turns(route, lambda found: False)
    # The next turn starts it again.
    assert lines_of(turns(route, lambda found: lines_of(found) == 3)) == 3
    route.close()


def test_a_command_that_is_not_there_is_said() -> None:
    route = router()
    route.point(LogAddress("command", command=("/no/such/journalctl", "-f")))
    with pytest.raises(SourceFault, match="/no/such/journalctl"):
        route.read(0.0)
