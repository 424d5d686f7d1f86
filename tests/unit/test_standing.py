"""The state by log and process together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from ds4top.core.autopsy import Autopsy
from ds4top.core.derive import ServerState
from ds4top.core.kernlines import OomKill
from ds4top.core.logread import LogReader
from ds4top.core.model import Model
from ds4top.core.plan import Target
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.standing import standing
from ds4top.core.state import LogState
from tests.unit.keep_tools import server

IDLE = b"0101 10:00:00 ds4-server: listening on http://127.0.0.1:8000\n"
TARGET = Target(4711, 1, "b", "ds4-server")


def model_of(log: bytes) -> Model:
    """A model over a log, at noon of its day."""
    state = LogState()
    noon = 1_767_268_800.0
    Reducer(state).apply(LogReader(StampClock(noon, UTC)).feed(log))
    return Model(state, noon, tz=UTC)


def test_the_log_alone() -> None:
    assert standing(model_of(IDLE)).state is ServerState.IDLE


def test_a_missing_process_wins() -> None:
    model = model_of(IDLE)
    model.machine.ended(TARGET, model.now - 60)
    found = standing(model)
    assert found.state is ServerState.STOPPED
    assert found.quiet_s == 60
    assert found.why == "pid 4711 killed, or died without a word at 11:59:00"
    model.machine.kernel.take([OomKill(None, 4711, "ds4-server", "kernel")], model.now)
    assert standing(model).why == "pid 4711 OOM-killed by kernel at 11:59:00"


def test_an_end_that_the_black_box_tells_of_wins_over_a_log_that_stopped_there() -> None:
    model = model_of(IDLE)
    assert model.log.last_at is not None
    end = Autopsy(
        model.log.last_at + 30, "idle", None, None, None, None, None, "inferred",
        machine_died=False, advice="", lines=("the server ended at 10:00:30",),
    )  # fmt: skip
    model.machine.autopsy = end
    found = standing(model)
    assert (found.state, found.since) == (ServerState.STOPPED, model.log.last_at + 30)
    assert found.why == "the server ended at 10:00:30"
    # A log that went on since, or had been quiet before, is not known to be that life's.
    for when in (model.log.last_at - 6, model.log.last_at + 61):
        model.machine.autopsy = replace(end, when_wall=when)
        assert standing(model).state is ServerState.IDLE
    model.machine.autopsy = end
    running = server(model.now - 10)
    model.machine.seen((running,), running)
    assert standing(model).state is ServerState.IDLE


def test_what_the_log_says_of_its_end_stands() -> None:
    model = model_of(IDLE + b"0101 10:00:01 ds4-server: shutdown requested, draining requests\n")
    model.machine.ended(TARGET, model.now)
    found = standing(model)
    assert found.state is ServerState.STOPPED
    assert "killed" not in found.why
