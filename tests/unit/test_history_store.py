"""The history: what is kept, once each, and what becomes of it on a disk that fails."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import pytest

from ds4top.archive.history import History, NoHistory, is_ours
from ds4top.archive.history_feed import Feed
from ds4top.archive.history_schema import (
    APPLICATION_ID,
    KEEP_S,
    MIGRATIONS,
    AlertRow,
    DecodeRow,
    EventRow,
    MinimumRow,
    RequestRow,
    StartRow,
    Subject,
)
from ds4top.archive.paths import machine_key, private_folder, state_dir
from ds4top.core.kept import PastEvent, PastPrompts, PastStart
from ds4top.core.logread import LogReader
from ds4top.core.meminfo import MemorySample
from ds4top.core.memtrack import MemoryTrack
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.sources.base import Clock

DATA = Path(__file__).parents[1] / "data" / "ds4"
GIB = 1 << 30
NOW = datetime(2026, 11, 24, 19, tzinfo=UTC).timestamp()
SPARK = Subject("spark", "2026-05-21", "q2.gguf", "copy")
CLOCK = Clock(wall=lambda: NOW)
REQUEST = RequestRow(
    "spark", NOW - 60, 48_113, 2_048, 0, NOW - 900, "chat", 312, "cold", "diverged", 153.2, 152.8,
    5.2, 213.0, "completed", "stop",
)  # fmt: skip


def history(path: Path, **options: int) -> History:
    return History(path, CLOCK, **options)


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as db:
        found = db.execute(sql).fetchall()
    db.close()
    return found


def start(at: float, residency: str, load_s: float | None, **changes: object) -> StartRow:
    row = StartRow("spark", at, "q2.gguf", "2026-05-21", residency, load_s, True)
    return replace(row, **changes)


def points(count: int, begin: float = NOW - 3600) -> list[DecodeRow]:
    return [
        DecodeRow("spark", "2026-05-21", "q2.gguf", "copy", begin + n, 1_000 + n, 14.0 - n / 100)
        for n in range(count)
    ]


# writing and reading ----------------------------------------------------------------------------


def test_all_kinds_come_back(tmp_path):
    kept = history(tmp_path / "state" / "history.sqlite")
    kept.add([REQUEST, *points(3), start(NOW - 900, "copy", 57.0), start(NOW - 90, "mmap", 421.5)])
    kept.add(
        [MinimumRow("spark", NOW - 60, 7 * GIB), EventRow("spark", NOW - 5, "gone", "it went")]
    )
    assert kept.turn()
    assert (kept.written, kept.dropped, kept.problem) == (8, 0, "")
    assert kept.past_starts("spark", "q2.gguf") == [
        PastStart("mmap", 421.5, NOW - 90),
        PastStart("copy", 57.0, NOW - 900),
    ]
    assert kept.past_starts("spark", "other.gguf") == []
    assert kept.past_starts("other", "q2.gguf") == []
    points_at = [(NOW - 3600 + n, 1_000 + n, 14.0 - n / 100) for n in range(3)]
    assert kept.decode_points(SPARK) == points_at
    assert kept.decode_points(SPARK, limit=1) == points_at[2:]
    assert kept.decode_points(replace(SPARK, residency="mmap")) == []
    assert kept.minima("spark", NOW - 61) == [(NOW - 60, 7 * GIB)]
    assert kept.minima("spark", NOW - 59) == []
    assert kept.events("spark", 0.0) == [PastEvent(NOW - 5, "gone", "it went")]
    assert kept.prompts("spark", NOW - 61) == PastPrompts(1, 48_113.0, 46_065, 0)
    assert kept.prompts("spark", NOW - 59) is None
    assert rows(kept.path, "SELECT cause, ttft_s FROM requests") == [("diverged", 153.2)]
    kept.close()


def test_the_files_are_private(tmp_path):
    path = tmp_path / "state" / "history.sqlite"
    kept = history(path)
    kept.add([REQUEST])
    kept.turn()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes.pop("history.sqlite") == 0o600
    assert set(modes.values()) <= {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_schema_version_and_migrations(tmp_path):
    kept = history(tmp_path / "h")
    kept.turn()
    assert rows(kept.path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert rows(kept.path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert rows(kept.path, "SELECT version, at FROM migrations") == [(1, NOW)]
    assert rows(kept.path, "PRAGMA journal_mode") == [("wal",)]
    again = history(kept.path)
    again.add([REQUEST])
    assert again.turn()
    assert rows(kept.path, "SELECT COUNT(*) FROM migrations") == [(1,)]


def test_what_is_seen_again_is_kept_once(tmp_path):
    kept = history(tmp_path / "h")
    for _ in range(2):
        kept.add([REQUEST, *points(5), EventRow("spark", 1e9 + NOW, "gone", "it went")])
        kept.turn()
    second = history(kept.path)
    second.add([replace(REQUEST, cause="new_prefix"), replace(REQUEST, ordinal=1), *points(5)])
    second.turn()
    assert rows(kept.path, "SELECT ordinal, cause FROM requests") == [
        (0, "diverged"),
        (1, "diverged"),
    ]
    assert rows(kept.path, "SELECT COUNT(*) FROM decode") == [(5,)]
    assert rows(kept.path, "SELECT COUNT(*) FROM events") == [(1,)]


def test_an_alert_that_two_ds4tops_see_is_told_once_and_stands_apart(tmp_path):
    kept, other = history(tmp_path / "h"), history(tmp_path / "h")
    begun = AlertRow("spark", NOW - 60, "warning headroom", "headroom: 5.2 GiB")
    kept.add([begun, EventRow("spark", NOW - 70, "stop", "shutdown requested")])
    kept.turn()
    later = [
        replace(begun, at=NOW - 59, text="headroom: 5.1 GiB"),
        replace(begun, at=NOW - 58, kind="critical headroom", text="headroom: 2.4 GiB"),
        replace(begun, at=NOW - 50, kind="over headroom", text="headroom: over after 10 s"),
        replace(begun, at=NOW - 40),
        replace(begun, machine="other"),
    ]
    other.add(later)
    other.turn()
    assert [(event.at - NOW, event.kind) for event in kept.alerts("spark", 0.0)] == [
        (-60, "warning headroom"), (-58, "critical headroom"), (-50, "over headroom"),
        (-40, "warning headroom"),
    ]  # fmt: skip
    assert [event.text for event in kept.alerts("spark", NOW - 59, limit=2)] == [
        "headroom: over after 10 s", "headroom: 5.2 GiB",
    ]  # fmt: skip
    assert [event.kind for event in kept.events("spark", 0.0)] == ["stop"]


def test_what_is_learned_later_is_filled_in(tmp_path):
    kept = history(tmp_path / "h")
    kept.add([start(NOW, "unknown", None)])
    kept.add([start(NOW, "copy", 57.0)])
    kept.add([start(NOW, "mmap", 99.0)])
    kept.add([MinimumRow("spark", NOW, n * GIB) for n in (7, 5, 6)])
    kept.turn()
    assert kept.past_starts("spark", "q2.gguf") == [PastStart("copy", 57.0, NOW)]
    assert kept.minima("spark", 0.0) == [(NOW, 5 * GIB)]


def test_a_first_request_is_left_out_and_failed_starts_are_no_starts(tmp_path):
    kept = history(tmp_path / "h")
    kept.add([replace(points(1)[0], first=True), *points(2, NOW - 60)])
    kept.add([start(NOW, "copy", 3.0, listened=False, failed="port_in_use")])
    kept.turn()
    assert len(kept.decode_points(SPARK)) == 2
    assert kept.past_starts("spark", "q2.gguf") == []
    assert rows(kept.path, "SELECT failed FROM starts") == [("port_in_use",)]


def test_ninety_days_are_kept(tmp_path):
    kept = history(tmp_path / "h")
    old, young = NOW - KEEP_S - 1, NOW - KEEP_S + 1
    for at in (old, young):
        kept.add([replace(REQUEST, started=at), start(at, "copy", 57.0), *points(1, at)])
        kept.add([MinimumRow("spark", at, 1), EventRow("spark", at, "x", "y")])
    kept.turn()
    tables = ("requests", "starts", "decode", "minima", "events")
    assert [rows(kept.path, f"SELECT COUNT(*) FROM {name}") for name in tables] == [[(1,)]] * 5
    assert kept.events("spark", 0.0)[0].at == young


def test_no_column_has_room_for_a_prompt(tmp_path):
    kept = history(tmp_path / "h")
    kept.turn()
    text = [
        (table, column)
        for (table,) in rows(kept.path, "SELECT name FROM sqlite_master WHERE type = 'table'")
        for _, column, kind, *_ in rows(kept.path, f"PRAGMA table_info({table})")
        if kind == "TEXT"
    ]
    names = {column for _, column in text}
    assert names == {
        "machine", "build", "model", "residency", "api", "heat", "cause", "end", "finish",
        "failed", "stages", "kind", "text",
    }  # fmt: skip
    assert [table for table, column in text if column == "text"] == ["events"]


# the thread -------------------------------------------------------------------------------------


def test_the_thread_writes_and_ends(tmp_path):
    kept = history(tmp_path / "h").start()
    kept.add([REQUEST])
    assert kept.flush(30.0)
    assert rows(kept.path, "SELECT COUNT(*) FROM requests") == [(1,)]
    kept.add([replace(REQUEST, ordinal=1)])
    assert kept.close(30.0)
    assert rows(kept.path, "SELECT COUNT(*) FROM requests") == [(2,)]
    assert not Path(f"{kept.path}-wal").exists()


def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path):
    kept = history(tmp_path / "h", capacity=3)
    kept.add(points(5))
    assert kept.dropped == 2
    kept.turn()
    assert [context for _, context, _ in kept.decode_points(SPARK)] == [1_000, 1_001, 1_002]
    kept.add(points(1, NOW))
    kept.turn()
    assert (kept.written, kept.dropped) == (4, 2)


def test_adding_does_not_wait_for_a_database_that_another_holds(tmp_path):
    kept = history(tmp_path / "h").start()
    assert kept.flush(30.0)
    holder = sqlite3.connect(kept.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    kept.add([REQUEST])
    assert not kept.flush(0.01)
    added = Event()
    adder = Thread(target=lambda: (kept.add(points(3)), added.set()))
    adder.start()
    assert added.wait(1.0), "add waited for the disk"
    adder.join()
    holder.execute("ROLLBACK")
    holder.close()
    assert kept.flush(30.0) or kept.flush(30.0)
    assert kept.problem == ""
    assert rows(kept.path, "SELECT COUNT(*) FROM decode") == [(3,)]
    assert kept.close(30.0)


def test_a_lock_that_stays_is_said_and_the_rows_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr("ds4top.archive.history._BUSY_S", 0.01)
    kept = history(tmp_path / "h")
    kept.turn()
    kept._shut()
    holder = sqlite3.connect(kept.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    kept.add([REQUEST])
    assert not kept.turn()
    assert kept.problem == f"{kept.path}: database is locked"
    holder.execute("ROLLBACK")
    holder.close()
    assert kept.turn()
    assert (kept.problem, kept.written) == ("", 1)


def test_two_ds4tops_write_the_same_file(tmp_path):
    both = [history(tmp_path / "h").start() for _ in range(2)]
    for kept in both:
        kept.add([REQUEST, *points(50)])
    assert all(kept.close(30.0) for kept in both)
    assert rows(tmp_path / "h", "SELECT COUNT(*) FROM decode") == [(50,)]
    assert rows(tmp_path / "h", "SELECT COUNT(*) FROM requests") == [(1,)]


def test_a_figure_that_no_column_takes_costs_itself_alone(tmp_path):
    kept = history(tmp_path / "h")
    kept.add([MinimumRow("spark", 1.0 + NOW, 1 << 70), MinimumRow("spark", NOW, 5)])
    assert kept.turn()
    assert kept.dropped == 1
    assert kept.minima("spark", 0.0) == [(NOW, 5)]


# the disk ---------------------------------------------------------------------------------------


def test_a_broken_file_of_ours_is_put_aside(tmp_path):
    kept = history(tmp_path / "h")
    kept.add(points(2_000))
    assert kept.close() is False
    kept.turn()
    kept._shut()
    size = kept.path.stat().st_size
    with kept.path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (size - 100))
    assert is_ours(kept.path)
    broken = history(kept.path)
    broken.add([REQUEST])
    assert not broken.turn()
    aside = tmp_path / f"h.broken-{int(NOW)}"
    assert broken.problem.endswith(f"kept as {aside.name}, a new one is begun")
    assert aside.stat().st_size == size
    assert broken.turn()
    assert rows(kept.path, "SELECT COUNT(*) FROM requests") == [(1,)]
    assert broken.problem == ""


@pytest.mark.parametrize("content", [b"somebody's notes, for a longer time than a page", b"SQLite"])
def test_a_strangers_file_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "h"
    path.write_bytes(content)
    kept = history(path)
    kept.add([REQUEST])
    assert not kept.turn()
    assert kept.problem == f"{path} is not a history of ds4top, and is left as it is"
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_another_programs_database_is_left_as_it_is(tmp_path):
    path = tmp_path / "h"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.execute("PRAGMA user_version = 1")
    db.close()
    before = path.read_bytes()
    kept = history(path)
    kept.add([REQUEST])
    assert not kept.turn()
    assert "not a history of ds4top" in kept.problem
    assert path.read_bytes() == before


def test_a_newer_schema_is_left_alone(tmp_path):
    kept = history(tmp_path / "h")
    kept.add(points(1))
    kept.turn()
    kept._shut()
    with sqlite3.connect(kept.path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    older = history(kept.path)
    older.add([REQUEST])
    assert not older.turn()
    assert older.problem == (
        f"{kept.path} is of a newer ds4top (schema 2, this one knows 1): nothing is kept"
    )
    assert older.decode_points(SPARK) == []
    assert rows(kept.path, "SELECT COUNT(*) FROM requests") == [(0,)]


def test_a_folder_that_cannot_be_made_is_said():
    kept = history(Path("/proc/version/ds4top/history.sqlite"))
    kept.add([REQUEST])
    assert not kept.turn()
    assert kept.problem == "/proc/version/ds4top/history.sqlite: Not a directory"
    assert kept.past_starts("spark", "q2.gguf") == []
    assert kept.events("spark", 0.0) == []


def test_a_full_disk_by_a_limit_of_pages_is_said_and_mended(tmp_path):
    kept = history(tmp_path / "h")
    kept.turn()
    assert kept._db is not None
    kept._db.execute("PRAGMA max_page_count = 1")
    kept.add(points(5_000))
    assert not kept.turn()
    assert kept.problem == f"{kept.path}: database or disk is full"
    assert kept.decode_points(SPARK) == []
    assert kept.turn()
    assert (kept.problem, len(kept.decode_points(SPARK, 9_999))) == ("", 5_000)


def test_a_file_removed_under_it_is_begun_anew(tmp_path):
    kept = history(tmp_path / "h")
    kept.add([REQUEST])
    kept.turn()
    for file in tmp_path.iterdir():
        file.unlink()
    kept.add([replace(REQUEST, ordinal=4)])
    assert kept.turn()
    assert rows(kept.path, "SELECT ordinal FROM requests") == [(4,)]


def test_no_history_keeps_nothing_and_answers():
    none = NoHistory("no home")
    none.add([REQUEST])
    assert none.past_starts("a", "b") == none.minima("a", 0.0) == none.events("a", 0.0) == []
    assert none.alerts("a", 0.0) == []
    assert none.decode_points(SPARK) == []
    assert none.flush()
    assert none.close()
    assert none.problem == "no home"


# what goes in -----------------------------------------------------------------------------------


def state_of(data: bytes) -> LogState:
    state, reader = LogState(limit=5_000), LogReader(StampClock(NOW, UTC))
    reducer = Reducer(state)
    reducer.apply([*reader.feed(data), *reader.close()])
    return state


def fed(path: Path, *states: LogState, subject: Subject | None = SPARK) -> History:
    kept = history(path)
    feed = Feed(kept, "spark")
    for state in states:
        for _ in range(3):
            feed.take(state, subject, MemoryTrack())
    feed.close()
    assert kept.turn()
    return kept


def test_a_whole_log_goes_in_once_however_often_it_is_read(tmp_path):
    data = (DATA / "h200-copy" / "server.log").read_bytes()
    state = state_of(data)
    kept = fed(tmp_path / "h", state)
    counted = rows(kept.path, "SELECT COUNT(*), SUM(generated_tokens) FROM requests")
    assert counted == [(29, sum(request.generated_tokens for request in state.requests))]
    assert rows(kept.path, "SELECT end, COUNT(*) FROM requests GROUP BY end ORDER BY end") == [
        ("aborted", 3),
        ("completed", 25),
        ("interrupted", 1),
    ]
    first = rows(kept.path, "SELECT * FROM requests")
    samples = rows(kept.path, "SELECT at, context_tokens, tps FROM decode")
    # The same log at the next start; its second half, as after a rotation; both in one run.
    half = data[data.index(b"\n", len(data) // 2) + 1 :]
    fed(kept.path, state_of(data))
    fed(kept.path, state_of(half))
    fed(kept.path, state_of(half), state_of(data))
    assert rows(kept.path, "SELECT * FROM requests") == first
    assert rows(kept.path, "SELECT at, context_tokens, tps FROM decode") == samples


def test_samples_are_those_of_the_life_whose_residency_is_known(tmp_path):
    state = state_of((DATA / "h200-copy" / "server.log").read_bytes())
    assert state.life is not None
    ours = {r.number for r in state.requests if r.life == state.life.number}
    expected = sum(1 for number in state.decode.request if number in ours)
    assert 0 < expected < len(state.decode)
    unknown = fed(tmp_path / "u", state, subject=replace(SPARK, residency="unknown"))
    assert rows(unknown.path, "SELECT COUNT(*) FROM decode") == [(0,)]
    kept = fed(tmp_path / "h", state)
    assert rows(kept.path, "SELECT COUNT(*) FROM decode") == [(expected,)]
    assert rows(kept.path, "SELECT residency FROM subjects") == [("copy",)]


def test_samples_wait_until_the_residency_is_known(tmp_path):
    state = state_of((DATA / "h200-copy" / "server.log").read_bytes())
    kept = history(tmp_path / "h")
    feed = Feed(kept, "spark")
    feed.take(state, replace(SPARK, residency="unknown"), MemoryTrack())
    feed.take(state, SPARK, MemoryTrack())
    feed.take(state, SPARK, MemoryTrack())
    kept.turn()
    assert rows(kept.path, "SELECT COUNT(*) > 0 FROM decode") == [(1,)]
    assert rows(kept.path, "SELECT residency, listened FROM starts") == [("copy", 1)]
    (stages,) = rows(kept.path, "SELECT stages FROM starts")[0]
    assert [stage for stage, *_ in json.loads(str(stages))][-1] == "disk-cache"


def test_without_a_server_its_requests_are_kept_and_nothing_else(tmp_path):
    state = state_of((DATA / "sim-short" / "server.log").read_bytes())
    kept = fed(tmp_path / "h", state, subject=None)
    assert rows(kept.path, "SELECT COUNT(*) FROM requests") == [(29,)]
    assert rows(kept.path, "SELECT COUNT(*) FROM decode") == [(0,)]
    assert rows(kept.path, "SELECT COUNT(*) FROM starts") == [(0,)]


def test_equal_requests_of_one_second_are_two_constructed(tmp_path):
    line = "1124 18:00:00 ds4-server: chat ctx=0..100:100 {}\n"
    lines = (line.format("prompt start"), line.format("gen=5 finish=stop 0.200s")) * 2
    data = "".join(lines).encode()
    kept = fed(tmp_path / "h", state_of(data), state_of(data))
    assert rows(kept.path, "SELECT ordinal, finish FROM requests") == [(0, "stop"), (1, "stop")]


def test_a_running_request_is_not_kept_yet_constructed(tmp_path):
    data = b"1124 18:00:00 ds4-server: chat ctx=0..100:100 prompt start\n"
    kept = fed(tmp_path / "h", state_of(data))
    assert rows(kept.path, "SELECT COUNT(*) FROM requests") == [(0,)]


def test_minutes_that_are_over_go_in_constructed(tmp_path):
    kept = history(tmp_path / "h")
    feed, track, log = Feed(kept, "spark"), MemoryTrack(), LogState()
    begin = NOW // 60 * 60
    for step in range(0, 200, 10):
        available = (20 - step // 60) * GIB + step
        track.take(MemorySample(float(step), begin + step, 120 * GIB, GIB, available))
        feed.take(log, None, track)
    kept.turn()
    assert kept.minima("spark", 0.0) == [
        (begin, 20 * GIB),
        (begin + 60, 19 * GIB + 60),
        (begin + 120, 18 * GIB + 120),
    ]


# where ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/var/s", "HOME": "/home/a"}, "/var/s/ds4top"),
        ({"XDG_STATE_HOME": "s", "HOME": "/home/a"}, "/home/a/.local/state/ds4top"),
        ({"HOME": "/home/a"}, "/home/a/.local/state/ds4top"),
    ],
)
def test_the_state_folder(environment, expected):
    assert state_dir(environment) == Path(expected)


def test_a_private_folder_and_the_machines_key(tmp_path):
    assert stat.S_IMODE(private_folder(tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    key = machine_key(tmp_path)
    assert len(key) == 16
    assert "0123456789abcdef" not in key
    assert machine_key(tmp_path / "none") == os.uname().nodename
