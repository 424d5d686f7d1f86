"""Acting on the server from the screen: who may, the plan, the action that goes on, what was done.

The app has one of these. Whatever blocks runs in a thread of its own, which no end of ds4top waits
for; nothing of ``control`` is imported before the first of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from textual.notifications import SeverityLevel

from ds4top.core.config import Config
from ds4top.core.deeds import VERBS, Deed
from ds4top.core.keymap import COMMANDS
from ds4top.core.model import Model
from ds4top.core.plan import Action, Mode, Plan
from ds4top.session import ActingPlace
from ds4top.ui.ledger import Ledger
from ds4top.ui.screens.base import View
from ds4top.view.acting import act_hints, can_start, instead, read_only_why, switch_to
from ds4top.view.text import clean

if TYPE_CHECKING:
    from ds4top.control.act import Controller
    from ds4top.control.doing import Doing
    from ds4top.control.facts import Gatherer, Situation
    from ds4top.ui.app import Ds4top

T = TypeVar("T")
_LEAVE_S = 2.0
"""How long the end of ds4top waits for an action to write down that it was left."""


@dataclass(frozen=True, slots=True)
class Look:
    """A plan, and the situation it was made from."""

    plan: Plan
    situation: Situation


class Acts:
    """What the acting keys do. ``make`` stands in for the controller in tests."""

    def __init__(
        self,
        app: Ds4top,
        place: ActingPlace | None,
        config: Config,
        make: Callable[[Situation], Controller] | None = None,
    ) -> None:
        self.app = app
        self.place = place
        self.config = config
        self.keys = {
            command.id.partition(".")[2]: app.keys[command.id]
            for command in COMMANDS
            if command.group == "act"
        }
        self.make = make or self._controller
        self.monotonic: Callable[[], float] = time.monotonic
        self._doing: Doing | None = None
        self._told = True
        self._seen = True
        self.ledger = Ledger(self)
        self._gatherer: Gatherer | None = None

    # what is known ------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """The model as of the last tick."""
        return self.app.model

    @property
    def deed(self) -> Deed | None:
        """The action that goes on, or the last one until it was seen."""
        return self._doing.deed if self._doing is not None else None

    def hints(self, width: int) -> tuple[tuple[str, str], ...]:
        """The acting keys for the footer."""
        return act_hints(self.model, self.keys, width)

    def shows(self, command_id: str) -> bool:
        """Whether help and palette list an acting command now."""
        if self.model.read_only:
            return False
        return command_id != "server.start" or can_start(self.model)

    def start(self) -> None:
        """Once the screen stands: what became of an action that was cut off, and what was done."""
        self.ledger.start()

    def look(self) -> None:
        """With every paint: whether acting is allowed, how far it is, whether something is new."""
        model = self.model
        url = self.config.text("server.url")
        asked = self.config.flag("control.read_only")
        model.read_only = read_only_why(model, asked=asked, url=url, uid=os.geteuid())
        deed = model.acting = self.deed
        if deed is not None and not deed.goes_on:
            self._ended(deed)
        self.ledger.look()

    def _ended(self, deed: Deed) -> None:
        from ds4top.ui.screens.act import ProgressScreen

        assert deed.outcome is not None
        shown = any(isinstance(screen, ProgressScreen) for screen in self.app.screen_stack)
        if not self._told:
            self._told = True
            self.ledger.read()
            if not shown:
                words = f"{deed.outcome.words}: {deed.outcome.reason or ''}".rstrip(": ")
                if deed.outcome.done:
                    self.notice(words)
                    self._seen = True
                else:
                    self.notice(f"{words}. {self.keys['restart']} shows it", "error")
        if self._seen and not shown:
            self._doing = None
            self.model.acting = None

    def was_seen(self) -> None:
        """How it ended has been shown."""
        self._seen = True

    # threads ------------------------------------------------------------------------------

    def apart(self, work: Callable[[], T], then: Callable[[T], object]) -> None:
        """Do something that blocks in a thread, and go on with it here."""

        def run() -> None:
            # The app may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                try:
                    result = work()
                except Exception as error:
                    self.app.call_later(self.tell, f"acting: {error}")
                    return
                self.app.call_later(then, result)

        threading.Thread(target=run, name="acting: looking", daemon=True).start()

    def _controller(self, situation: Situation) -> Controller:
        from ds4top.control.act import Controller
        from ds4top.control.executor import MemoryNow
        from ds4top.control.facts import Gatherer

        assert self.place is not None
        memory = self.place.memory
        # What a build's help says is asked for once.
        asker = self._gatherer.asker if self._gatherer is not None else None
        self._gatherer = Gatherer(
            self.config, self.place.state, asker=asker, plain=self.place.plain
        )
        return Controller(
            self._gatherer,
            lambda: situation,
            memory=None if memory is None else lambda pid: MemoryNow(*memory(pid)),
            demo=self.place.demo,
        )

    def _situation(self) -> Situation:
        """What is seen now; to be asked where the model is not being changed."""
        from ds4top.control.facts import situation_of

        request = self.model.log.running
        eta = self.app.book.eta_s(request) if request is not None else None
        return situation_of(self.model, prefill_left_s=eta)

    # keys ---------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Answer a key that does nothing."""
        screen = self.app.screen
        if isinstance(screen, View):
            screen.say(text)
        else:
            self.notice(text)

    def notice(self, text: str, severity: SeverityLevel = "information") -> None:
        """Tell it over whatever is shown; a log's words are in it, and are no markup."""
        lasts_s = 5.0 if severity == "information" else 15.0
        self.app.notify(clean(text), severity=severity, timeout=lasts_s, markup=False)

    def ask(self, what: str) -> None:
        """What an acting key does: show the action that goes on, or ask for a new one."""
        if self.deed is not None and (self.deed.goes_on or not self._seen):
            self.show_progress()
        elif (why := self._why_not(what)) is not None:
            self.tell(why)
        elif what == "signal":
            from ds4top.ui.screens.act import Signals

            self.app.push_screen(Signals(self))
        elif what == "mode":
            self._switch()
        else:
            actions = {"restart": Action.RESTART, "park": Action.STOP, "start": Action.START}
            self.confirm(actions[what], None)

    def _why_not(self, what: str) -> str | None:
        model = self.model
        server = model.machine.server
        if model.read_only:
            return instead(model, what)
        if self.place is None:
            return "there is no home to keep the way back in"
        if server is None and model.machine.servers:
            pids = ", ".join(str(each.target.pid) for each in model.machine.servers)
            return f"several servers run: {pids}; ds4top --pid PID says which"
        if what == "start":
            if server is not None:
                return f"it runs already: {server.target.comm} {server.target.pid}"
            return None if can_start(model) else "nothing to start: no way back was kept"
        if server is None and not (what == "mode" and can_start(model)):
            start = f"; {self.keys['start']} starts it" if can_start(model) else ""
            return f"no server is running{start}"
        return None

    def _switch(self) -> None:
        runs = self.model.machine.server is not None
        want = switch_to(self.model) if runs else None
        action = Action.RESTART if runs else Action.START
        if want is not None:
            self.confirm(action, want)
            return
        from ds4top.ui.screens.act import Modes

        self.app.push_screen(Modes(self, action))

    def confirm(self, action: Action, want: Mode | None) -> None:
        """Show the plan of an action and ask."""
        from ds4top.ui.screens.act import Confirm

        self.app.push_screen(Confirm(self, action, want))

    # acting -------------------------------------------------------------------------------

    def plan(self, action: Action, want: Mode | None, then: Callable[[Look], object]) -> None:
        """Have a plan made; ``then`` is given it."""

        def work() -> Look:
            try:
                return Look(self.make(situation).plan(action, want), situation)
            except Exception as error:
                from ds4top.core.plan import Supervisor

                why = f"it could not be looked at: {error}"
                return Look(Plan(action, None, Supervisor("none"), refused=why), situation)

        situation = self._situation()
        self.apart(work, then)

    def other_server(self, look: Look) -> bool:
        """Whether another server is meant by now, or the same is stopping since."""
        now = self._situation()
        return _meant(now) != _meant(look.situation)

    def differs(self, look: Look) -> bool:
        """Whether what an action would lose is something else by now."""
        now = self._situation()
        return (*_meant(now), now.flight.phase, now.flight.waiting) != (
            *_meant(look.situation), look.situation.flight.phase, look.situation.flight.waiting,
        )  # fmt: skip

    def begin(self, plan: Plan, *, forced: bool) -> None:
        """Do it, and show how far it is."""
        from ds4top.control.doing import Doing

        self._run(Doing(self.make(self._situation()), plan, self._changed, forced=forced))

    def take_back(self) -> None:
        """Go back to the last settings that worked, where the last action failed."""
        from ds4top.control.doing import Doing

        deed = self.deed
        if deed is None or deed.back is None:
            return
        controller = self.make(self._situation())
        # As with the commands: what had room then has it now, or waits for it.
        back = Doing(controller, deed.back, self._changed, forced=True, after=deed.outcome)
        self._run(back)

    def _run(self, doing: Doing) -> None:
        self._told = self._seen = False
        self._doing = doing.start()
        self.app.paint()
        self.show_progress()

    def _changed(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.app.call_later(self.app.paint)

    def show_progress(self) -> None:
        """The action that goes on, over the view."""
        from ds4top.ui.screens.act import ProgressScreen

        if not isinstance(self.app.screen, ProgressScreen):
            self.app.push_screen(ProgressScreen(self))
        else:
            self.app.screen.fill()

    # the end ------------------------------------------------------------------------------

    def may_leave(self) -> bool:
        """Whether ds4top may end at once; else it is asked."""
        from ds4top.ui.screens.act import Leave

        if self.deed is None or not self.deed.goes_on:
            return True
        if not isinstance(self.app.screen, Leave):
            self.app.push_screen(Leave(self, self.app.exit))
        return False

    def leave(self) -> None:
        """Wait for nothing any more: ds4top ends."""
        if self._doing is not None:
            self._doing.leave()

    def close(self) -> str:
        """Leave what goes on, once its end is written down or the time for that is over; says so.

        Called when the screen is gone.
        """
        doing = self._doing
        if doing is None or not doing.deed.goes_on:
            return ""
        from ds4top.view.deeds import left_words

        before = doing.deed
        doing.leave()
        doing.join(_LEAVE_S)
        after = doing.deed
        if (after.outcome is not None and after.outcome.done) or self.model.demo:
            return ""
        at = (before.at or 0) + 1
        verb = VERBS[before.plan.action]
        left = left_words(before, self.app.keys)
        return f"{verb} was left in step {at} of {len(before.steps)}. {left}"


def _meant(situation: Situation) -> tuple[object, ...]:
    server, flight = situation.server, situation.flight
    return (server.target if server is not None else None, flight.shutdown_seen, flight.poisoned)
