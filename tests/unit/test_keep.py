"""The history of a session: fed from what is seen, read back by the next one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ds4top.archive.history import History
from ds4top.archive.history_schema import DecodeRow, MinimumRow, StartRow
from ds4top.archive.paths import machine_key
from ds4top.core.alerts import Alert
from ds4top.core.kept import Kept, PastEvent, PastStart
from ds4top.core.kernlines import OomKill
from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import GIB
from ds4top.core.model import Model
from ds4top.core.standing import standing
from ds4top.keep import Keep, build_name, keep_of, model_name, recalled, subject_of
from ds4top.session import Session, Wanted, live
from ds4top.sources.base import Clock, SourceFault
from tests.unit.keep_tools import DATA, LOG, MODEL, NOW, log_of, server, watched

TURNS = DATA / "standin" / "turns.log"


class Run:
    """A keep whose clock is moved by hand, and whose thread is this one."""

    def __init__(self, path: Path, machine: str = "spark") -> None:
        self.t = 0.0
        self.keep = Keep(path, machine, Clock(lambda: self.t, lambda: NOW + self.t))
        self.keep.read(0.0)

    def step(self, model: Model) -> list[Kept]:
        """Two seconds of a session; what the store gave."""
        self.t += 2.0
        found = list(self.keep.read(self.t))
        for sample in found:
            assert self.keep.take(sample, model)
        self.keep.look(model, standing(model))
        return found

    def close(self) -> None:
        self.keep.finish()
        self.keep.close()


def counts(path: Path) -> dict[str, int]:
    tables = ("requests", "decode", "starts", "minima", "events")
    with sqlite3.connect(path) as db:
        return {name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables}


def run(path: Path, model: Model, steps: int = 4, machine: str = "spark") -> list[Kept]:
    session = Run(path, machine)
    found = [kept for _ in range(steps) for kept in session.step(model)]
    session.close()
    return found


def test_a_log_read_by_two_runs_is_kept_once_and_comes_back(tmp_path):
    path = tmp_path / "h"
    model = watched()
    run(path, model)
    first = counts(path)
    assert first["requests"] == 29
    assert first["starts"] == 1
    assert first["decode"] > 0
    again = watched()
    found = run(path, again)
    assert counts(path) == first
    assert len(found) == 1
    assert [start.load_s for start in again.kept.starts] == [57.0]
    assert again.past_starts_s == {"copy": 57.0}
    # The only samples of its last life are those of a first request, which no line may have.
    assert again.kept.decode == ()
    assert again.kept.prompts is not None
    assert again.kept.prompts.count == 29
    assert again.kept.minima == ()


def test_samples_of_earlier_runs_come_back_with_their_time(tmp_path):
    path = tmp_path / "h"
    log = log_of(TURNS.read_bytes())
    assert len(log.decode) == 5
    run(path, watched(log))
    again = watched(log_of(TURNS.read_bytes()))
    run(path, again)
    samples = zip(log.decode.at, log.decode.context, log.decode.tps, strict=True)
    assert again.kept.decode == tuple(samples)


def test_a_command_reads_at_once_what_was_kept(tmp_path):
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    model = watched(log_of(TURNS.read_bytes()))
    assert recalled(model, environment) == Kept()
    run(tmp_path / "ds4top" / "history.sqlite", model, machine=machine_key())
    found = recalled(watched(log_of(TURNS.read_bytes())), environment)
    assert len(found.decode) == 5
    assert found.prompts is not None
    assert found.prompts.count == 1


def test_another_build_or_model_has_no_samples_of_this_one(tmp_path):
    path = tmp_path / "h"
    run(path, watched(log_of(TURNS.read_bytes())))
    other = watched(log_of(TURNS.read_bytes()))
    assert other.machine.server is not None
    other.machine.server = replace(other.machine.server, exe_key=(1, 2, 5))
    run(path, other)
    assert other.kept.decode == ()
    assert other.kept.prompts is not None
    assert model_name(server(0.0)) == f"q2.gguf {MODEL}"
    assert build_name(server(0.0)) == "ds4-server 1779000000"


def test_a_log_of_an_earlier_life_belongs_to_nobody():
    log = log_of(LOG.read_bytes())
    assert log.life is not None
    assert log.life.listening_at is not None
    model = watched(log)
    assert subject_of(model, "spark") is not None
    began = server(log.life.listening_at + 600)
    model.machine.seen((began,), began)
    log.life.shutdown = True
    assert subject_of(model, "spark") is None


def test_minutes_of_an_earlier_run_are_recalled_behind_a_gap(tmp_path):
    path = tmp_path / "h"
    minute = NOW // 60 * 60
    before = History(path)
    before.add(MinimumRow("spark", minute - 60 * n, (20 - n) * GIB) for n in (3, 4))
    assert before.turn()
    model = watched()
    model.machine.memory.take(MemorySample(1.0, NOW, 120 * GIB, GIB, 30 * GIB))
    run(path, model)
    assert model.machine.memory.by_minute() == [
        16 * GIB, 17 * GIB, None, None, 30 * GIB,
    ]  # fmt: skip
    assert counts(path)["minima"] == 2


def test_a_kill_seen_again_with_another_clock_is_one_event(tmp_path):
    path = tmp_path / "h"
    for jitter in (0.0, 0.4):
        model = watched()
        model.machine.kernel.take([OomKill(NOW - 100 + jitter, 7, "ds4-server", "kernel")], NOW)
        run(path, model)
    # Its log has two clean stops, with stamps of their own.
    assert [event.kind for event in model.kept.events] == ["stop", "stop", "oom"]
    assert model.kept.events[2] == PastEvent(NOW - 100, "oom", "ds4-server 7 by kernel")
    assert counts(path)["events"] == 3


def test_an_alert_is_kept_with_its_begin_and_end_and_comes_back(tmp_path):
    path = tmp_path / "h"
    low = Alert("headroom", "warning", "headroom", "5.2 GiB, below 6.0 GiB", "close it", NOW)
    model = watched()
    session = Run(path)
    model.alerts = (low,)
    for _ in range(4):
        session.step(model)
    # It is told while it stands, from what is kept.
    assert [(each.rule, each.ended) for each in model.past_alerts] == [("headroom", None)]
    session.close()
    again = watched()
    session = Run(path)
    # The next run finds it standing: still the same one, which ends now.
    again.alerts = (low,)
    for _ in range(4):
        session.step(again)
    again.alerts, again.now = (), NOW + 148
    session.step(again)
    session.close()
    assert len(again.past_alerts) == 1
    assert (again.past_alerts[0].began, again.past_alerts[0].ended) == (NOW, NOW + 148)
    with sqlite3.connect(path) as db:
        sql = "SELECT at, kind, text FROM events WHERE kind LIKE '% %'"
        events = db.execute(sql).fetchall()
    assert events == [
        (NOW, "warning headroom", "headroom: 5.2 GiB, below 6.0 GiB"),
        (NOW + 148, "over headroom",
         "headroom: over after 2 m 28 s, last 5.2 GiB, below 6.0 GiB"),
    ]  # fmt: skip
    third = watched()
    run(path, third)
    assert third.past_alerts == again.past_alerts
    assert [event.kind for event in third.kept.events] == ["stop", "stop"]


def test_how_a_process_ended_is_written_once_its_reason_had_time(tmp_path):
    path = tmp_path / "h"
    model = watched()
    assert model.machine.server is not None
    assert model.log.life is not None
    model.log.life.shutdown, model.log.life.shutdown_at = False, None
    model.machine.ended(model.machine.server.target, NOW)
    session = Run(path)
    for _ in range(3):
        session.step(model)
    model.now = NOW + 11
    session.step(model)
    session.step(model)
    session.close()
    with sqlite3.connect(path) as db:
        sql = "SELECT at, kind, substr(text, 1, 12) FROM events WHERE kind != 'stop'"
        events = db.execute(sql).fetchall()
    assert events == [(NOW, "gone", "pid 7 killed")]


def test_trouble_with_the_disk_is_a_fault_of_the_source(tmp_path):
    path = tmp_path / "h"
    path.write_text("somebody else's")
    session = Run(path)
    with pytest.raises(SourceFault, match="not a history of ds4top"):
        settle(session.keep, lambda: session.step(watched()))
    session.close()
    assert path.read_text() == "somebody else's"


def settle(keep: Keep, step: Callable[[], object]) -> None:
    """Have the writing thread try once, then step again."""
    step()
    assert keep._history is not None
    keep._history.flush()
    step()


def test_the_state_is_told_in_figures(tmp_path):
    session = Run(tmp_path / "h")
    assert session.keep.detail() == "not opened yet"
    model = watched()
    settle(session.keep, lambda: session.step(model))
    assert session.keep._history is not None
    session.keep._history.flush()
    written = session.keep._history.written
    assert written > 29
    assert session.keep.detail() == f"rows written {written}; under 1 MiB in {tmp_path / 'h'}"
    session.close()


def test_the_last_start_of_each_kind_is_the_newest(tmp_path):
    path = tmp_path / "h"
    kept = History(path)
    name = model_name(server(0.0))
    kept.add(
        StartRow("spark", NOW - 1000 * n, name, "b", held, load, True)
        for n, held, load in ((1, "mmap", 418.0), (2, "copy", 61.0), (3, "copy", 57.0))
    )
    kept.add(DecodeRow("spark", "b", name, "copy", NOW - n, 1_000 + n, 14.0) for n in range(3))
    kept.turn()
    assert kept.past_starts("spark", name)[0] == PastStart("mmap", 418.0, NOW - 1000)
    model = watched(log_of(b"1124 18:00:00 ds4-server: listening on http://127.0.0.1:8000\n"))
    run(path, model)
    assert model.past_starts_s == {"mmap": 418.0, "copy": 61.0}


def test_a_start_is_known_to_the_next_one_of_the_same_session(tmp_path):
    session = Run(tmp_path / "h")
    model = watched()
    for _ in range(4):
        session.step(model)
    assert model.past_starts_s == {"copy": 57.0}
    session.close()


def test_no_history_is_said_and_the_folder_is_the_users(tmp_path):
    session: Session = live(Wanted(), not_kept="--no-history")
    session.tick()
    assert [(s.state, s.detail) for s in session.model.health if s.name == "history"] == [
        ("missing", "--no-history")
    ]
    session.close()
    found = keep_of({"HOME": str(tmp_path)})
    assert found is not None
    assert found.path == tmp_path / ".local/state/ds4top/history.sqlite"


def test_sqlite_is_not_loaded_with_the_program():
    code = "import sys, ds4top.launch, ds4top.ui.app; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
