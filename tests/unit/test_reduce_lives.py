"""Lines into lives: starts, failed starts, stops and deaths."""

from __future__ import annotations

import pytest

from ds4top.core import events as ev
from ds4top.core.state import End, Life
from tests.unit.test_reduce import (
    BASE,
    BUFFERS,
    CUDA,
    DONE,
    ENGINE,
    FINISH,
    LISTENING,
    OOM_SCORE,
    START,
    STOP,
    STORED,
    ends,
    run,
)


def test_a_start_in_full_is_one_life() -> None:
    state = run(
        OOM_SCORE, "ds4: warming mapped tensor pages: 80.00 GiB", CUDA,
        "ds4: CUDA startup model preparation covered 80.76 GiB of tensor spans in 24.310s", ENGINE,
        BUFFERS, LISTENING,
    )  # fmt: skip
    (life,) = state.lives
    assert (life.start_seen, life.listened, life.url) == (True, True, "http://127.0.0.1:8000")
    assert (life.oom_score_adj, life.device, life.sm) == (1000, "NVIDIA GB10", "sm_121")
    assert life.listening_at == BASE + 6
    assert [stage.stage for stage in life.stages] == [
        "warm", "prepared", "engine", "buffers",
    ]  # fmt: skip


@pytest.mark.parametrize("first", [OOM_SCORE, CUDA, BUFFERS], ids=["oom", "cuda", "buffers"])
def test_the_first_line_of_a_start_begins_a_life_after_one_that_listened(first: str) -> None:
    state = run(BUFFERS, LISTENING, first, LISTENING)
    assert [life.listened for life in state.lives] == [True, True]


@pytest.mark.parametrize(
    "lines",
    [
        (OOM_SCORE, CUDA, OOM_SCORE, CUDA),
        (CUDA, ENGINE, CUDA, ENGINE),
        (CUDA, ENGINE, OOM_SCORE, CUDA),
        (CUDA, BUFFERS, CUDA),
        (BUFFERS, BUFFERS),
    ],
)
def test_a_load_that_was_killed_is_a_life_that_never_listened(lines: tuple[str, ...]) -> None:
    state = run(*lines, BUFFERS if lines[-1] != BUFFERS else ENGINE, LISTENING)
    assert [life.listened for life in state.lives] == [False, True]
    assert [life.fatal for life in state.lives] == [None, None]


def test_a_second_device_is_the_same_start() -> None:
    state = run(CUDA, CUDA.replace("dev=0", "dev=1"), BUFFERS, LISTENING)
    assert len(state.lives) == 1


def test_engine_lines_in_mid_life_begin_nothing() -> None:
    state = run(BUFFERS, LISTENING, ENGINE, "ds4: CUDA preparing model tensor mappings", START)
    assert len(state.lives) == 1


def test_a_fatal_line_is_a_failed_start_of_its_own() -> None:
    state = run(BUFFERS, LISTENING, STOP, "unknown option: --no-mmap", BUFFERS, LISTENING)
    assert [life.listened for life in state.lives] == [True, False, True]
    fatal = state.lives[1].fatal
    assert fatal is not None
    assert (fatal.reason, fatal.detail) == ("unknown_option", "--no-mmap")


def test_a_port_in_use_belongs_to_the_start_before_it() -> None:
    state = run(CUDA, BUFFERS, "failed to listen on h:1: Address already in use")
    (life,) = state.lives
    assert life.fatal is not None
    assert (life.fatal.reason, life.listened) == ("port_in_use", False)


def test_a_refused_second_instance_leaves_the_running_life_alone() -> None:
    state = run(
        BUFFERS, LISTENING, START,
        "ds4: another ds4 process is already running (pid 7); refusing to start", DONE, FINISH,
    )  # fmt: skip
    assert state.refused_starts == [BASE + 2]
    assert len(state.lives) == 1
    assert ends(state) == [End.COMPLETED]


def test_out_of_memory_in_mid_life_is_its_death_and_no_start() -> None:
    state = run(BUFFERS, LISTENING, START, "ds4-kvstore: out of memory")
    (life,) = state.lives
    assert (life.died, life.fatal) == ("out of memory", None)


@pytest.mark.parametrize(
    ("lines", "persisted", "is_open", "lost"),
    [
        ((STORED.format(9, "shutdown"),), True, False, False),
        (
            ("kv cache skipped tokens=9 reason=shutdown because live checkpoint is at 7",),
            True, False, False,
        ),
        (
            ("kv cache store failed (shutdown): No space left on device save=1.0 ms",),
            True, False, False,
        ),
        (("kv cache failed to create /c/a: EACCES save=1.0 ms",), True, False, False),
        ((), False, True, False),
        (
            (
                "persisting resident KV cache before shutdown slot=1 tokens=9",
                STORED.format(9, "shutdown"),
            ),
            True, False, True,
        ),
    ],
)  # fmt: skip
def test_what_came_of_persisting(
    lines: tuple[str, ...], persisted: bool, is_open: bool, lost: bool
) -> None:
    state = run(
        BUFFERS, LISTENING, STOP, "persisting resident KV cache before shutdown slot=0 tokens=9",
        *lines,
    )  # fmt: skip
    life = state.lives[0]
    assert life.shutdown
    assert (life.persisted, life.persist_open, life.persist_lost) == (persisted, is_open, lost)


def test_a_killed_server_leaves_its_request_open_at_the_end_of_its_life() -> None:
    state = run(BUFFERS, LISTENING, START, BUFFERS, LISTENING)
    assert [life.open_at_end for life in state.lives] == [True, False]
    assert ends(state) == [End.INTERRUPTED]


def test_the_first_request_of_a_life_is_known_only_where_its_start_is_in_the_log() -> None:
    state = run(START, FINISH, BUFFERS, LISTENING, START, FINISH, START, FINISH)
    assert [request.first_of_life for request in state.requests] == [False, True, False]


def test_a_stop_without_a_request_is_seen_with_its_time() -> None:
    state = run(BUFFERS, LISTENING, STOP)
    assert (state.lives[0].shutdown_at, state.lives[0].open_at_end) == (BASE + 2, False)
    assert isinstance(state.lives[0].buffers, ev.ContextBuffers)


def test_an_engine_line_that_was_read_after_listening_tells_no_time() -> None:
    life = Life(1, 100.0, True, engine_at=43.0, listening_at=100.0)
    assert life.load_s == 57.0
    # Whole seconds: listening is stamped with the second that it came in.
    assert Life(1, 100.0, True, engine_at=100.6, listening_at=100.0).load_s == 0.0
    # A log that was read in one piece, long after.
    assert Life(1, 100.0, True, engine_at=335.0, listening_at=100.0).load_s is None
