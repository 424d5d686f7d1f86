"""The acting keys in a running app, with a controller of the test's own: what is asked and done."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot

from ds4top.archive.paths import JOURNAL
from ds4top.control.journal import Entry
from ds4top.core.config import settle
from ds4top.core.deeds import Startable
from ds4top.core.plan import (
    Action,
    Mode,
    Outcome,
    Plan,
    Progress,
    Signal,
    Spawn,
    Spec,
    Supervisor,
    Target,
    WaitAnswer,
    WaitGone,
)
from ds4top.core.process import ServerProcess
from ds4top.session import ActingPlace, Wanted, live
from ds4top.ui.app import Ds4top
from ds4top.ui.screens.act import Confirm, Leave, Modes, ProgressScreen, Signals
from ds4top.ui.screens.base import View
from ds4top.ui.widgets.lines import LineView
from ds4top.view.look import Look
from ds4top.view.text import row_text

DEADLINE_S = 10.0
TARGET = Target(4711, 99, "boot", "ds4-server")
SPEC = Spec(("/srv/ds4-server", "--ctx", "65536"), (), "/srv", "/srv/ds4-server")
STEPS = (
    Signal(15, "one SIGTERM"),
    WaitGone(600.0, "wait until it has drained"),
    Spawn(SPEC, "start it"),
    WaitAnswer(900.0, "wait until it answers"),
)


def plan_of(action: Action, **changes: Any) -> Plan:
    """A plan of a plain process."""
    base = Plan(
        action, TARGET, Supervisor("none"), STEPS, argv_before=SPEC.argv, argv_after=SPEC.argv,
        before=SPEC, after=SPEC,
    )  # fmt: skip
    return replace(base, **changes)


class Fake:
    """A controller that does nothing; ``go`` lets a step end, ``outcome`` is how it ends."""

    def __init__(self) -> None:
        self.plans: list[tuple[Action, Mode | None]] = []
        self.ran: list[tuple[Plan, bool]] = []
        self.changes: dict[str, Any] = {}
        self.outcome = Outcome(True, "restart done", pid=5000)
        self.taken_back: Plan | None = None
        self.go, self.may_look = Event(), Event()
        self.may_look.set()
        self.kept: Startable | None = None
        self.entries: list[Entry] = []
        self.gatherer = SimpleNamespace(journal=SimpleNamespace(entries=lambda: iter(self.entries)))

    def plan(self, action: Action, want: Mode | None = None) -> Plan:
        """As the test wants it."""
        assert self.may_look.wait(DEADLINE_S)
        self.plans.append((action, want))
        return plan_of(action, **self.changes)

    def run(
        self, plan: Plan, emit: Callable[[Progress], None], *, forced: bool, stop: Event
    ) -> Outcome:
        """One step begun; it ends when it may, or is told to stop."""
        self.ran.append((plan, forced))
        emit(Progress(0, "begun", "one SIGTERM", time.monotonic()))
        emit(Progress(0, "done", "one SIGTERM", time.monotonic()))
        emit(Progress(1, "begun", "wait", time.monotonic()))
        end = time.monotonic() + DEADLINE_S
        while not self.go.is_set() and not stop.wait(0.01):
            assert time.monotonic() < end
        if stop.is_set():
            return Outcome(False, "restart failed", "told to stop waiting")
        return self.outcome

    def back(self, plan: Plan, outcome: Outcome) -> Plan | None:
        """As the test wants it."""
        return None if outcome.done else self.taken_back

    def recovered(self) -> None:
        """Nothing was cut off."""

    def startable(self) -> Startable | None:
        """As the test wants it."""
        return self.kept


def server(uid: int | None = None, user: str = "me") -> ServerProcess:
    """A running server."""
    mine = os.geteuid() if uid is None else uid
    return ServerProcess(TARGET, 0.0, "ds4", mine, user, argv=SPEC.argv)


@contextmanager
def app_over(
    tmp_path: Path, *, runs: bool = True, flags: dict[str, Any] | None = None
) -> Iterator[tuple[Ds4top, Fake]]:
    """An app whose sources do not run, and what stands in for acting."""
    session = live(Wanted())
    session.acting_place = ActingPlace(tmp_path)
    # Where nothing was ever done nobody looks for what was done.
    (tmp_path / JOURNAL).touch()
    if runs:
        session.model.machine.server = server()
    app = Ds4top(session, Look(), settle(flags=flags), ticking=False)
    fake = Fake()
    app.acts.make = lambda situation: fake  # type: ignore[assignment,return-value]
    try:
        yield app, fake
    finally:
        fake.go.set()
        session.close()


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str) -> None:
    """Let the app go on until the condition holds."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        await pilot.pause()
        # A thread of the app's has no event that could be waited for here.
        await asyncio.sleep(0.005)


def shown(app: Ds4top) -> str:
    """What the screen on top says."""
    parts = app.screen.query(LineView)
    return "\n".join(row_text(line) for part in parts for line in part.rows)


async def asked(pilot: Pilot[None], app: Ds4top, key: str) -> None:
    """Press an acting key and wait until its plan is there to be seen."""
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, Confirm) and app.screen.is_shown, "a plan")


@pytest.mark.parametrize(
    ("key", "action"), [("R", Action.RESTART), ("P", Action.STOP)], ids=["restart", "park"]
)
@pytest.mark.parametrize("no", ["enter", "n", "escape", "y-too-early"])
async def test_no_is_the_default(tmp_path: Path, key: str, action: Action, no: str) -> None:
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            if no == "y-too-early":
                fake.may_look.clear()
                await pilot.press(key)
                assert "looking" in shown(app)
                await pilot.press("y")
                fake.may_look.set()
                await until(pilot, lambda: "Do it?" in shown(app), "the question")
                await pilot.press("enter")
            else:
                await asked(pilot, app, key)
                assert "Do it?" in shown(app)
                assert "1. one SIGTERM" in shown(app)
                await pilot.press(no)
            assert isinstance(app.screen, View)
            assert fake.plans == [(action, None)]
            assert fake.ran == []


async def test_a_yes_between_the_plan_and_its_picture_is_none(tmp_path: Path) -> None:
    """Typed ahead, it would come when the plan has come and nobody has seen it."""
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            screen = app.screen
            assert isinstance(screen, Confirm)
            look = screen._look
            assert look is not None
            screen._take(replace(look, plan=plan_of(Action.STOP)))
            screen.action_yes()
            assert not screen.is_shown
            await until(pilot, lambda: screen.is_shown, "the other plan is painted")
            assert fake.ran == []
            await pilot.press("y")
            await until(pilot, lambda: bool(fake.ran), "it is done")
            assert [plan.action for plan, _ in fake.ran] == [Action.STOP]


async def test_yes_does_it_and_shows_how_far_it_is(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            await pilot.press("y")
            await until(pilot, lambda: "→ wait until it has drained" in shown(app), "the step")
            assert "✓ one SIGTERM" in shown(app)
            assert "· start it" in shown(app)
            assert [(plan.action, forced) for plan, forced in fake.ran] == [(Action.RESTART, False)]
            await pilot.press("escape")
            app.paint()
            assert "restart 2/4" in shown(app)
            await pilot.press("P")
            assert isinstance(app.screen, ProgressScreen)
            assert len(fake.plans) == 1
            fake.go.set()
            await until(pilot, lambda: "restart done (pid 5000)" in shown(app), "the end")
            await pilot.press("enter")
            app.paint()
            assert app.model.acting is None
            assert "restart 2/4" not in shown(app)


async def test_hidden_it_says_how_it_ended(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            await pilot.press("y")
            await pilot.press("escape")
            fake.outcome = Outcome(False, "restart failed", "out of memory", ("last words",))
            fake.taken_back = plan_of(Action.START)
            fake.go.set()
            await until(pilot, lambda: app._notifications, "a notice")
            (note,) = app._notifications
            assert note.message == "restart failed: out of memory. R shows it"
            assert "restart FAILED" in shown(app)
            await pilot.press("R")
            assert isinstance(app.screen, ProgressScreen)
            assert "last words" in shown(app)
            assert "Back to the last settings that worked" in shown(app)
            fake.outcome = Outcome(True, "start done", pid=6000)
            await pilot.press("b")
            await until(pilot, lambda: "taken back (pid 6000)" in shown(app), "the way back")
            assert [(plan.action, forced) for plan, forced in fake.ran] == [
                (Action.RESTART, False), (Action.START, True),
            ]  # fmt: skip


async def test_what_is_refused_says_why_and_cannot_be_done(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        fake.changes = {"refused": "in pane %3 it is run by start.sh", "steps": ()}
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            assert "in pane %3 it is run by start.sh" in shown(app)
            await pilot.press("y")
            assert isinstance(app.screen, Confirm)
            await pilot.press("enter")
            assert isinstance(app.screen, View)
            assert fake.ran == []


async def test_a_typed_word_is_asked_letter_by_letter(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        fake.changes = {"confirm": "START"}
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            await until(pilot, lambda: app.focused is not None, "the field")
            await pilot.press("y", "enter")
            assert "y is not START: nothing is done" in shown(app)
            await pilot.press(*"start", "enter")
            assert fake.ran == []
            await pilot.press(*"START", "enter")
            await until(pilot, lambda: fake.ran, "it is done")
            assert fake.ran[0][1] is True
            assert isinstance(app.screen, ProgressScreen)
            fake.go.set()
    with app_over(tmp_path) as (app, fake):
        fake.changes = {"confirm": "START"}
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            await until(pilot, lambda: app.focused is not None, "the field")
            await pilot.press("enter")
            assert isinstance(app.screen, View)
            assert fake.ran == []


async def test_a_server_that_stops_meanwhile_is_looked_at_again(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            await asked(pilot, app, "P")
            app.model.machine.server = replace(server(), target=replace(TARGET, pid=4712))
            await pilot.press("y")
            await until(pilot, lambda: "looked again" in shown(app), "another look")
            assert fake.ran == []
            assert len(fake.plans) == 2


async def test_switch_asks_which_where_the_mode_is_not_known(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            await pilot.press("M")
            assert isinstance(app.screen, Modes)
            await pilot.press("enter")
            assert isinstance(app.screen, View)
            for key, want in (("m", Mode.MMAP), ("c", Mode.COPY)):
                await pilot.press("M", key)
                await until(pilot, lambda: "Do it?" in shown(app), "the question")
                assert fake.plans[-1] == (Action.RESTART, want)
                await pilot.press("escape")


async def test_signals_that_are_refused_cannot_be_chosen(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        fake.changes = {"refused": "not now"}
        async with app.run_test() as pilot:
            await pilot.press("K")
            await until(pilot, lambda: shown(app).count("not now") == 2, "both plans")
            await pilot.press("t", "K")
            assert isinstance(app.screen, Signals)
            await pilot.press("enter")
            assert isinstance(app.screen, View)
            fake.changes = {"confirm": "KILL"}
            await pilot.press("K")
            await until(pilot, lambda: "looking" not in shown(app), "both plans")
            await pilot.press("K")
            await until(pilot, lambda: "Type KILL" in shown(app), "the word")
            assert fake.plans[-1] == (Action.KILL, None)
            assert fake.ran == []


async def test_start_is_there_where_there_is_something_to_start(tmp_path: Path) -> None:
    with app_over(tmp_path, runs=False) as (app, fake):
        async with app.run_test(size=(120, 30)) as pilot:
            app.paint()
            assert "Start what was parked" not in [words for _, _, words in app.live_keys()]
            for key, why in (("S", "nothing to start"), ("R", "no server is running")):
                await pilot.press(key)
                assert why in shown(app)
                assert isinstance(app.screen, View)
            at = app.model.now - 720
            fake.kept = Startable("ds4-server", "tmux pane %3", "copy", 8000, at)
            app.acts.ledger.read()
            await until(pilot, lambda: "S starts" in shown(app), "what it would start")
            text = shown(app)
            parked = datetime.fromtimestamp(at, app.model.tz).strftime("%H:%M")
            assert f" S starts  no-mmap (copy)  port 8000  parked {parked}  12 m ago" in text
            assert "S start " in text
            assert "Start what was parked" in [words for _, _, words in app.live_keys()]
            await asked(pilot, app, "S")
            assert fake.plans == [(Action.START, None)]
            await pilot.press("escape", "M")
            assert isinstance(app.screen, Modes)
            await pilot.press("escape")


async def test_read_only_is_seen_and_nothing_acts(tmp_path: Path) -> None:
    with app_over(tmp_path, flags={"control.read_only": True}) as (app, fake):
        async with app.run_test(size=(120, 30)) as pilot:
            app.paint()
            assert shown(app).count("read-only") == 2
            for key in "RMPSK":
                await pilot.press(key)
                assert isinstance(app.screen, View)
                assert "read-only: --read-only" in shown(app)
            assert {group for group, _, _ in app.live_keys()} == {
                "views", "move", "find", "time", "look", "app",
            }  # fmt: skip
            titles = [command.title for command in app.get_system_commands(app.screen)]
            assert "Restart the server" not in titles
            await pilot.press("question_mark")
            assert "Restart" not in shown(app)
            assert fake.plans == []


async def test_help_and_palette_have_the_keys(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, _):
        async with app.run_test(size=(120, 60)) as pilot:
            app.paint()
            titles = [command.title for command in app.get_system_commands(app.screen)]
            assert "Restart the server" in titles
            assert "Start what was parked" not in titles
            await pilot.press("question_mark")
            text = shown(app)
            for key, words in (("R", "Restart the server"), ("M", "Switch between mmap")):
                assert f"  {key:<14}{words}" in text


async def test_leaving_while_it_acts_is_asked(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            await pilot.press("y")
            await until(pilot, lambda: fake.ran, "it goes on")
            await pilot.press("q")
            assert isinstance(app.screen, Leave)
            assert "Nobody starts it again" in " ".join(shown(app).split())
            await pilot.press("q", "enter")
            assert isinstance(app.screen, ProgressScreen)
            await pilot.press("ctrl+c", "y")
            await until(pilot, lambda: app._exit, "the end")
        left = app.acts.close()
        assert left.startswith("restart was left in step 2 of 4. The server was told to stop")
        assert app.acts.close() == ""


async def test_the_question_of_leaving_goes_when_nothing_goes_on(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        async with app.run_test() as pilot:
            await asked(pilot, app, "R")
            await pilot.press("y")
            await until(pilot, lambda: fake.ran, "it goes on")
            await pilot.press("q")
            fake.go.set()
            await until(pilot, lambda: isinstance(app.screen, ProgressScreen), "it is over")
            assert "restart done" in shown(app)
            await pilot.press("q")
            await until(pilot, lambda: app._exit, "the end")


async def test_the_journal_says_who_started_it(tmp_path: Path) -> None:
    with app_over(tmp_path) as (app, fake):
        fake.entries = [
            Entry("a", "begun", 1_780_000_000.0, {
                "who": "ana", "action": "restart", "target": [4000, 5, "boot", "ds4-server"],
                "before": "mmap", "after": "copy",
            }),
            Entry("a", "outcome", 1_780_000_052.0, {
                "done": True, "words": "restart done", "pid": 4711,
                "started": [4711, 99, "boot", "python"],
            }),
        ]  # fmt: skip
        async with app.run_test(size=(180, 40)) as pilot:
            app.acts.ledger.read()
            await until(pilot, lambda: app.model.past, "the journal")
            assert "ds4top restart mmap → copy, by ana, " in shown(app)
            await pilot.press("5")
            await pilot.pause()
            app.paint()
            text = shown(app)
            assert "LAST ACTIONS" in text
            assert "restart mmap → copy      restart done, pid 4711 in 52 s" in text
