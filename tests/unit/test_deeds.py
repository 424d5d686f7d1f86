"""What goes on and what was done: how far a step is, what the log tells meanwhile, the journal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ds4top.control.journal import Journal
from ds4top.control.past import past_deeds, starts_of
from ds4top.core import deeds
from ds4top.core.deeds import Deed, Startable, deed_of, told
from ds4top.core.events import KvStored, LoadProgress
from ds4top.core.keymap import DEFAULT_KEYS
from ds4top.core.machine import Machine
from ds4top.core.model import Model, Replay
from ds4top.core.plan import (
    Action,
    Outcome,
    Plan,
    Progress,
    Run,
    Signal,
    Spawn,
    Spec,
    Supervisor,
    Target,
    WaitAnswer,
    WaitGone,
)
from ds4top.core.process import ServerProcess
from ds4top.core.state import Life, LogState, Phase, Request
from ds4top.ui.span_styles import RULES
from ds4top.ui.theme import find
from ds4top.view import planview
from ds4top.view.acting import (
    act_hints,
    acting_words,
    instead,
    is_loopback,
    read_only_why,
    start_row,
)
from ds4top.view.deeds import keys_row, leave_rows, left_words, progress_rows
from ds4top.view.past import past_rows
from ds4top.view.rates import RateBook
from ds4top.view.text import row_text

NOW = 1_780_000_100.0
T0 = 500.0
TARGET = Target(4711, 99, "boot", "ds4-server")
SPEC = Spec(("/srv/ds4-server",), (), "/srv", "/srv/ds4-server")
PLAN = Plan(
    Action.RESTART,
    TARGET,
    Supervisor("none", "bash"),
    (
        Signal(15, "one SIGTERM"),
        WaitGone(600.0, "wait until it has drained"),
        Spawn(SPEC, "start it"),
        WaitAnswer(900.0, "wait until it answers"),
    ),
    before=SPEC,
    after=SPEC,
    start_s_estimate=57.0,
    start_s_origin="a Spark's, as reference",
)
KEYS = {"restart": "R", "mode": "M", "park": "P", "start": "S", "signal": "K"}


def model(log: LogState | None = None, **fields: object) -> Model:
    """A model at a fixed time."""
    return Model(log or LogState(), NOW, tz=UTC, **fields)  # type: ignore[arg-type]


def at(step: int, state: str = "begun", t: float = T0 + 10) -> Deed:
    """A restart in a step, those before it done."""
    deed = deed_of(PLAN, T0)
    for number in range(step):
        deed = told(told(deed, Progress(number, "begun", "", T0)), Progress(number, "done", "", T0))
    return told(deed, Progress(step, state, "", t))  # type: ignore[arg-type]


def text(deed: Deed, of: Model, book: RateBook | None = None, now_t: float = T0 + 40) -> str:
    """All rows as text."""
    rows = progress_rows(deed, of, book or RateBook(), now_t, 80)
    return "\n".join(row_text(line).rstrip() for line in rows)


def prefilling(**changes: object) -> LogState:
    """A log whose server prefills and was told to stop."""
    life = Life(1, NOW - 500, True, listened=True, shutdown=True, shutdown_at=NOW - 30)
    request = Request(1, 1, "chat", 0, 44_871, 44_871, NOW - 130, 512, False)
    request.phase, request.prefill_done_tokens = Phase.PREFILL, 20_480
    request.prefill_elapsed_s, request.prefill_tps = 100.0, 200.0
    log = LogState(lives=[life], requests=[request], open=[request], heard_at=NOW - 7)
    for name, value in changes.items():
        setattr(life, name, value)
    return log


def test_a_step_is_begun_waits_is_done_or_failed() -> None:
    deed = deed_of(PLAN, T0)
    assert [step.state for step in deed.steps] == ["todo"] * 4
    assert (deed.at, deed.goes_on) == (None, True)
    deed = told(deed, Progress(0, "begun", "", 501.0))
    assert told(deed, Progress(0, "waiting", "", 502.0)) is deed
    deed = told(deed, Progress(0, "done", "", 503.0))
    assert (deed.steps[0].begun_t, deed.steps[0].ended_t) == (501.0, 503.0)
    failed = told(deed, Progress(1, "failed", "", 504.0))
    assert (failed.at, failed.steps[1].state) == (1, "failed")
    assert told(deed, Progress(9, "begun", "", 1.0)) is deed


def test_a_drain_tells_the_time_that_a_prefill_still_takes() -> None:
    book = RateBook()
    log = prefilling()
    eta = book.eta_s(log.open[0])
    assert eta == pytest.approx(24_391 / 204.8, rel=0.05)
    shown = text(at(1), model(log), book)
    assert "✓ one SIGTERM" in shown
    assert "→ wait until it has drained" in shown
    assert "30 s" in shown
    assert "a prefill is running, 20,480 of 44,871 tokens\n" in shown
    assert " left; it ends first" in shown
    assert "last line of its log 5 s ago" in shown
    assert "elapsed 40 s" in shown


def test_what_was_saved_stays_after_the_drain() -> None:
    log = prefilling(persist_open=True)
    log.open.clear()
    assert "saving its KV cache" in text(at(1), model(log))
    log.stores.append(KvStored(NOW - 400, 9_000, 0, "shutdown", "k", 1.0, 9.0))
    log.stores.append(KvStored(NOW - 35, 48_325, 0, "shutdown", "k", 1_731.25, 3_204.0))
    shown = text(at(2), model(log))
    assert "saved 48,325 tokens, 1,731.2 MiB, in 3,204 ms" in shown
    assert "9,000" not in shown


def test_a_start_tells_its_stage_and_what_is_left_of_the_last_such_start() -> None:
    life = Life(2, NOW - 20, True, engine_at=NOW - 20)
    life.stages.append(LoadProgress(None, "tensors", 40.0, 80.0))
    shown = text(at(3), model(LogState(lives=[life])))
    assert "loading tensors  40.0 of 80.0 GiB" in shown
    assert "about 17 s left   of 57 s: a Spark's, as reference" in shown
    late = text(at(3), model(LogState(lives=[life])), now_t=T0 + 90)
    assert "longer than the 57 s of a Spark's, as reference" in late
    # The life before is none of this start's.
    old = Life(1, NOW - 900, True, engine_at=NOW - 900, listened=True)
    assert "listening" not in text(at(3), model(LogState(lives=[old])))


def test_how_it_ended() -> None:
    failed = Outcome(False, "restart failed", "out of memory", ("ds4: CUDA error",), failed_step=3)
    deed = replace(at(3, "failed"), outcome=failed, ended_t=T0 + 20, back=PLAN)
    shown = text(deed, model())
    for words in ("✗ wait until it answers", "restart failed", "out of memory",
                  "   ds4: CUDA error", "Back to the last settings that worked", "3. start it",
                  "elapsed 20 s"):  # fmt: skip
        assert words in shown
    line = row_text(keys_row(deed, 80, DEFAULT_KEYS, startable=True))
    assert line.split("   ")[0] == " b goes back to the last settings that worked"
    # Where there is little room the reason comes before the steps, and keys are told shortly.
    assert shown.index("out of memory") < shown.index("3. start it") < shown.index("✗ wait until")
    line = row_text(keys_row(deed, 60, DEFAULT_KEYS, startable=True))
    assert line.split("   ")[0] == " b goes back"
    line = row_text(keys_row(replace(deed, back=None), 80, DEFAULT_KEYS, startable=True))
    assert "S starts it again" in line
    stuck = replace(at(1, "failed"), outcome=replace(failed, failed_step=1))
    assert "K signals" in row_text(keys_row(stuck, 80, DEFAULT_KEYS, startable=True))
    assert acting_words(deed) == "restart FAILED"
    assert acting_words(replace(deed, outcome=Outcome(True, "restart done"))) == ""
    assert acting_words(at(1)) == "restart 2/4"


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (deed_of(PLAN, T0), "Nothing was done to the server yet."),
        (at(1), "Nobody starts it again then: ds4top start does"),
        (at(3), "The start goes on by itself"),
        (
            told(
                deed_of(Plan(Action.STOP, TARGET, Supervisor("systemd-user", "ds4.service"), (
                    Run(("systemctl",), 1.0, "stop", stops=True),
                )), T0),
                Progress(0, "begun", "", T0),
            ),
            "it drains, saves its KV cache and ends by itself.",
        ),
    ],
    ids=["before", "draining", "starting", "unit"],
)  # fmt: skip
def test_what_becomes_of_it_when_ds4top_ends(deed: Deed, words: str) -> None:
    assert words in left_words(deed, DEFAULT_KEYS)
    shown = " ".join("".join(row_text(line) for line in leave_rows(deed, 60, DEFAULT_KEYS)).split())
    assert words in shown
    demo = "".join(row_text(line) for line in leave_rows(deed, 60, DEFAULT_KEYS, demo=True))
    assert "The demo's server ends with it." in demo


def test_the_journal_is_read_newest_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    switch = replace(PLAN, residency_before="mmap", residency_after="copy")
    journal.begun("a", switch, 1_780_000_000.0)
    now = Target(5000, 7, "boot", "python")
    journal.step("a", 2, "done", "start it", 1_780_000_030.0, now)
    done = Outcome(True, "restart done", pid=5000, started=replace(now, comm="ds4-server"))
    journal.outcome("a", done, 1_780_000_060.0)
    journal.begun("b", replace(PLAN, action=Action.STOP), 1_780_000_070.0)
    journal.outcome("b", Outcome(False, "stop failed", "still there"), 1_780_000_080.0)
    journal.begun("c", PLAN, 1_780_000_090.0)
    entries = list(journal.entries())
    past = past_deeds(entries)
    assert [(deed.action, deed.done) for deed in past] == [
        ("restart", None), ("stop", False), ("restart", True),
    ]  # fmt: skip
    assert past_deeds(entries, 1) == past[:1]
    assert list(starts_of(entries, UTC)) == [(5000, 7, "boot")]
    words = starts_of(entries, UTC)[5000, 7, "boot"]
    assert words.startswith("ds4top restart mmap → copy, by ")
    assert words.endswith(", 28 May 20:27")
    shown = [row_text(line) for line in past_rows(model(past=past), 100)]
    assert shown[1] == " LAST ACTIONS   of ds4top, from its journal"
    assert "28 May 20:28:10" in shown[2]
    assert shown[2].endswith("no end was written")
    assert "stop failed in 10 s" in shown[3]
    assert shown[4].strip() == "still there"
    assert shown[5].endswith("restart mmap → copy      restart done, pid 5000 in 1 m 00 s")
    assert past_rows(model(), 100) == []


def server(uid: int) -> ServerProcess:
    """A server of a user."""
    return ServerProcess(TARGET, 0.0, "ds4", uid, "ana", argv=("ds4-server",))


@pytest.mark.parametrize(
    ("fields", "asked", "url", "uid", "why"),
    [
        ({}, False, None, 1000, ""),
        ({}, False, "http://127.0.0.1:8000", 1000, ""),
        ({}, False, "localhost:8000", 1000, ""),
        ({}, False, "http://[::1]:8000", 1000, ""),
        ({}, False, "http://spark.local:8000", 1000, "spark.local:8000 is not on this machine's"),
        ({}, False, "http://127.evil.example.:8000@192.0.2.1", 1000, "is not on this machine's"),
        ({}, True, None, 1000, "--read-only"),
        ({"replay": Replay(0, 1, 1.0, False, False)}, False, None, 0, "a replay"),
        ({"machine": Machine(server=server(1000))}, False, None, 1000, ""),
        ({"machine": Machine(server=server(1000))}, False, None, 0, ""),
        ({"machine": Machine(server=server(0))}, False, None, 1000,
         "it belongs to ana; as that user: sudo -u ana ds4top restart"),
    ],
)  # fmt: skip
def test_who_may_act(
    fields: dict[str, object], asked: bool, url: str | None, uid: int, why: str
) -> None:
    found = read_only_why(model(**fields), asked=asked, url=url, uid=uid)
    assert found.startswith("read-only: ") == bool(why)
    assert why in found


def test_the_command_to_run_instead() -> None:
    of = model(machine=Machine(server=server(0)))
    of.read_only = read_only_why(of, asked=False, url=None, uid=1000)
    assert instead(of, "park").endswith("as that user: sudo -u ana ds4top stop")
    assert instead(of, "mode").endswith("as that user: sudo -u ana ds4top restart")
    of.read_only = read_only_why(of, asked=True, url=None, uid=1000)
    assert "sudo" not in instead(of, "park")


def test_loopback_by_host_and_not_by_the_look() -> None:
    assert is_loopback("http://127.8.9.1/")
    assert not is_loopback("http://127.0.0.1.example.com/")
    assert not is_loopback("http://10.0.0.1:8000")


def test_the_hints_of_the_footer() -> None:
    of = model(machine=Machine(server=server(1000)))
    assert act_hints(of, KEYS, 120) == (("R", "restart"), ("M", "mode"), ("P", "park"))
    assert act_hints(of, KEYS, 60) == act_hints(of, KEYS, 100) == (("R M P", "act"),)
    of.acting = at(1)
    assert act_hints(of, KEYS, 120) == (("R", "shows the restart"),)
    of.read_only = "read-only: …"
    assert act_hints(of, KEYS, 120) == (("", "read-only"),)
    none = model()
    assert act_hints(none, KEYS, 120) == ()
    none.startable = Startable("ds4-server")
    assert act_hints(none, KEYS, 120) == (("S", "start"),)
    # One of several that run: what was parked may be one of them.
    none.machine.servers = (server(1000),)
    assert act_hints(none, KEYS, 120) == ()


def test_what_the_start_key_would_start() -> None:
    of = model()
    assert start_row(of, 120) == ()
    kept = Startable("ds4-server", "tmux pane %3", "copy", 8000, NOW - 720, "S")
    of.startable = kept
    clock = datetime.fromtimestamp(NOW - 720, UTC).strftime("%H:%M")
    whole = (
        f" S starts  no-mmap (copy)  port 8000  parked {clock}  12 m ago  ds4-server (tmux pane %3)"
    )
    assert row_text(start_row(of, 120)) == whole
    # What does not fit whole is left out, the mode and the port last.
    assert row_text(start_row(of, 60)) == whole.partition("  ds4-server")[0]
    assert row_text(start_row(of, 40)) == " S starts  no-mmap (copy)  port 8000"
    days = replace(kept, wall=NOW - 3 * 86_400.0, mode="unknown", port=None)
    of.startable = days
    date = datetime.fromtimestamp(NOW - 3 * 86_400.0, UTC).strftime("%d %b %H:%M")
    assert row_text(start_row(of, 60)).startswith(f" S starts  parked {date}  ")
    of.read_only = "read-only: …"
    assert start_row(of, 120) == ()
    of.read_only, of.acting = "", at(1)
    assert start_row(of, 120) == ()
    of.acting, of.machine = None, Machine(server=server(1000))
    assert start_row(of, 120) == ()


def test_every_style_of_a_plan_is_there_in_every_theme() -> None:
    assert set(planview._STYLES.values()) <= set(RULES)
    for theme in find().by_name.values():
        for style in planview._STYLES.values():
            assert RULES[style].variable in {*theme.variables, *theme.colors}, (theme.name, style)


def test_a_verb_for_every_action() -> None:
    assert set(deeds.VERBS) == set(Action)
