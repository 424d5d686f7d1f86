"""The app: wiring only. One tick moves samples into the state and shows the current screen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.timer import Timer

from ds4top.core.alertlog import begun_before
from ds4top.core.alerts import Alert, AlertBook
from ds4top.core.config import Config, settle
from ds4top.core.derive import Status
from ds4top.core.keymap import COMMANDS, Command, Keys, clashes
from ds4top.core.model import Model
from ds4top.core.standing import standing
from ds4top.core.units import count_of
from ds4top.lean import give_back
from ds4top.reach.configfile import config_path
from ds4top.session import Session
from ds4top.ui import theme as themes
from ds4top.ui.acts import Acts
from ds4top.ui.commands import bindings
from ds4top.ui.driver import CleanDriver
from ds4top.ui.keep import Keeping
from ds4top.ui.logbook import LogBook
from ds4top.ui.paint import honour_no_color
from ds4top.ui.preview import Previewing, ThemeChoice
from ds4top.ui.screens import VIEWS, picker
from ds4top.ui.screens.base import View
from ds4top.ui.screens.detail import Scroller
from ds4top.ui.screens.help import Help
from ds4top.view.facts import alert_facts
from ds4top.view.header import VIEW_NAMES
from ds4top.view.look import WINDOWS_S, Look
from ds4top.view.rates import RateBook
from ds4top.view.today import Today, TodayBook
from ds4top.view.verdicts import VerdictBook

INTERVALS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
_SEEK_S = 30.0
_MACHINE_S = 0.2
"""The machine is looked at once the first picture is painted, which it would only delay."""
_FIRST_TICKS_S = (0.01, 0.03, 0.08, 0.3, 0.6)
_SETTLED_S = 1.0
_ACTS_S = 0.6
_GIVE_BACK_TICKS = 600


def _own_themes() -> Path:
    return config_path(None, os.environ).parent / "themes"


def _settle() -> None:
    """Spare later collections what the start has made, which stays: modules, styles, widgets."""
    gc.collect()
    gc.freeze()
    gc.enable()
    give_back()


class Ds4top(Keeping, Previewing, App[None]):
    """The dashboard over one session."""

    CSS_PATH = Path(__file__).with_name("ds4top.tcss")
    TITLE = "ds4top"
    MODES = VIEWS
    DEFAULT_MODE = "live"
    ENABLE_COMMAND_PALETTE = True
    AUTO_FOCUS = None
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"),
        (60, "-narrow"),
        (80, "-normal"),
        (118, "-wide"),
        (160, "-vast"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (20, "-medium"),
        (28, "-tall"),
        (44, "-huge"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [*bindings()]

    def __init__(
        self,
        session: Session,
        look: Look,
        config: Config | None = None,
        *,
        theme_name: str | None = None,
        ticking: bool = True,
    ) -> None:
        super().__init__(driver_class=CleanDriver)
        honour_no_color(self)
        self.session = session
        self.look = look
        self.book = RateBook()
        self._todays = TodayBook()
        self._offer = picker.Offer()
        self._ticking = ticking
        self._ticks = 0
        self._timer: Timer | None = None
        self._alert_book = AlertBook()
        self._recalls, self._begun = True, session.model.now
        self.verdicts = VerdictBook()
        self._alerts: tuple[Alert, ...] | None = None
        self.config = config = config or settle()
        self.keys = session.model.keys = Keys(config.keys)
        self.acts = Acts(self, session.acting_place, config)
        # Before the start: a theme that is set later makes Textual read all style sheets twice.
        wanted = theme_name or config.text("screen.theme")
        self._problems = [
            *config.problems,
            *clashes(config.keys),
            *self._choose_theme(wanted),
        ]
        self.set_keymap(config.keys)
        self.log_book = LogBook(session)
        session.on_log = self.log_book.feed
        session.on_reset = self.log_book.clear

    def _choose_theme(self, wanted: str | None) -> list[str]:
        found = themes.find(_own_themes())
        for theme in found.by_name.values():
            self.register_theme(theme.to_textual())
        problems = list(found.problems)
        if wanted is not None and wanted not in found.by_name:
            problems.append(f"no theme named {wanted}: {', '.join(sorted(found.by_name))}")
            wanted = None
        self.theme = wanted or themes.default_name(os.environ)
        return problems

    # figures -------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """The model as of the last tick."""
        return self.session.model

    def status(self) -> Status:
        """The server's state as of the model's time."""
        return standing(self.model)

    def today(self) -> Today:
        """Figures since midnight."""
        return self._todays.today(self.model, self.book)

    def alerts(self, status: Status) -> tuple[Alert, ...]:
        """What is worth acting on, the worst first; looked at once for each tick."""
        if self._alerts is None:
            facts = alert_facts(self.model, status, self.book)
            self._alerts = self._alert_book.update(facts, self.model.now)
        return self._alerts

    @property
    def ticking(self) -> bool:
        """Whether time moves by itself, and not by a test."""
        return self._ticking

    @property
    def written_bytes(self) -> int | None:
        """What the terminal was given so far; ``None`` where there is none."""
        return self._driver.written_bytes if isinstance(self._driver, CleanDriver) else None

    # life ----------------------------------------------------------------------------------

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our variables for themes that are not ours."""
        return themes.variable_defaults()

    def on_mount(self) -> None:
        """Signals, sources, and the one timer."""
        for problem in self._problems:
            self.notify(problem, severity="warning")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            # Outside the main thread, as in tests, no handler can be set.
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self._signalled, number)
        self.book.scale, self.book.flags = self.model.speed, self.model.flags
        if self._ticking:
            self.session.start_log()
            self.set_timer(_MACHINE_S, self.session.start_machine)
            self._timer = self.set_interval(self.look.interval_s, self.tick)
            # The first figures as soon as the source has them, not a whole interval later.
            for delay_s in _FIRST_TICKS_S:
                self.set_timer(delay_s, self.tick)
            self.set_timer(_SETTLED_S, _settle)
            self.set_timer(_ACTS_S, self.acts.start)

    def on_unmount(self) -> None:
        """Let go of what the views hold."""
        self.log_book.close()

    def _signalled(self, number: int) -> None:
        self.acts.leave()
        self.exit(return_code=128 + number)

    def tick(self) -> None:
        """Take what arrived and show it; nothing is painted that did not change."""
        if self._ticking:
            self.session.tick()
        self._alerts = None
        # A view that is frozen or covered asks for none, and the history wants them.
        self.book.update(self.model.log, self.model.kept)
        if self._recalls and self.model.past_alerts:
            self._recalls = False
            self._alert_book.recall(begun_before(self.model.past_alerts, self._begun))
        self.model.alerts = self.alerts(self.status())
        self._offer.look(self)
        self.paint()
        self._ticks += 1
        if self._ticks % _GIVE_BACK_TICKS == 0:
            give_back()

    def paint(self) -> None:
        """Show the model on the current screen, unless the view is frozen."""
        self.acts.look()
        screen = self.screen
        if not isinstance(screen, View | Scroller) or not screen.is_mounted:
            return
        self.book.update(self.model.log, self.model.kept)
        with self.batch_update():
            screen.paint(frozen=self.look.frozen)

    # actions -------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: every action of the key table, by name."""
        for command in self.commands():
            if command.id != "app.palette":
                keys = self.keys.all_of(command.id)
                yield SystemCommand(
                    command.words, f"{command.id}   {keys}", self._runner(command.action)
                )
        for name in sorted(self.available_themes):
            yield SystemCommand(f"Theme {name}", "look.theme", ThemeChoice(self, name))
        for kind, drive in self.session.driven.items():
            yield SystemCommand(f"Demo: {kind}", "bring the simulated machine there", drive)

    def _runner(self, action: str):  # type: ignore[no-untyped-def]
        async def run() -> None:
            await self.run_action(action)

        return run

    def _change(self, look: Look, word: str = "") -> None:
        self.look = look
        self.paint()
        if word and isinstance(self.screen, View):
            self.screen.say(word)

    async def action_view(self, name: str) -> None:
        """Show a view."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        await self.switch_mode(name)
        self.paint()

    async def action_cycle(self, step: int) -> None:
        """The next or the previous view."""
        names = VIEW_NAMES
        at = names.index(self.current_mode) if self.current_mode in names else 0
        await self.action_view(names[(at + step) % len(names)])

    def action_freeze(self) -> None:
        """Hold the picture; in a replay, hold its time."""
        clock = self.session.replay_clock
        if clock is not None:
            if clock.paused:
                clock.resume()
            else:
                clock.pause()
            self._change(replace(self.look), "paused" if clock.paused else "playing")
            return
        frozen = not self.look.frozen
        self._change(
            replace(self.look, frozen=frozen), "frozen: sampling goes on" if frozen else "live"
        )

    def action_history(self, step: int) -> None:
        """A replay seeks by half a minute; else the panel of now steps through past requests."""
        clock = self.session.replay_clock
        if clock is not None:
            clock.seek(step * _SEEK_S)
            self._change(replace(self.look), f"{step * _SEEK_S:+.0f} s")
            return
        last = max(len(self.model.log.requests) - 1, 0)
        back = min(max(self.look.history - step, 0), last)
        said = f"{count_of(back, 'turn')} back" if back else "now"
        self._change(replace(self.look, history=back), said)

    def action_window(self) -> None:
        """The next window of the plots."""
        at = WINDOWS_S.index(self.look.window_s) if self.look.window_s in WINDOWS_S else -1
        look = replace(self.look, window_s=WINDOWS_S[(at + 1) % len(WINDOWS_S)])
        self._change(look, f"window {look.window_name}")

    def action_axis(self) -> None:
        """The context axis, logarithmic or linear."""
        look = replace(self.look, is_log=not self.look.is_log)
        self._change(look, "context axis " + ("logarithmic" if look.is_log else "linear"))

    def action_unit(self) -> None:
        """Tokens per second or milliseconds per token."""
        look = replace(self.look, ms_per_token=not self.look.ms_per_token)
        self._change(look, "ms per token" if look.ms_per_token else "tok/s")

    def action_interval(self, step: int) -> None:
        """Paint more or less often."""
        near = min(INTERVALS_S, key=lambda s: abs(s - self.look.interval_s))
        at = min(max(INTERVALS_S.index(near) + step, 0), len(INTERVALS_S) - 1)
        look = replace(self.look, interval_s=INTERVALS_S[at])
        if self._timer is not None:
            self._timer.stop()
            self._timer = self.set_interval(look.interval_s, self.tick)
        self._change(look, f"paints every {look.interval_s:g} s")

    def action_next_theme(self) -> None:
        """The next of our themes."""
        names = sorted(themes.find(_own_themes()).by_name)
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]
        self._change(self.look, f"theme {self.theme}")

    def action_choose_server(self) -> None:
        """Which of several servers is watched."""
        picker.choose(self)

    def action_copy_pane(self) -> None:
        """Copy the server's tmux pane to a file, asked first."""
        from ds4top.ui.screens import panecopy

        panecopy.ask_copy(self)

    def action_help(self) -> None:
        """Help, made from the live bindings."""
        if not isinstance(self.screen, Help):
            self.push_screen(Help(self.look, self.live_keys()))

    def live_keys(self) -> list[tuple[str, str, str]]:
        """Group, keys and words of every action, as bound now."""
        return [(c.group, self.keys.all_of(c.id), c.words) for c in self.commands()]

    def commands(self) -> list[Command]:
        """Every action that there is now: those that act may be taken away."""
        return [c for c in COMMANDS if c.group != "act" or self.acts.shows(c.id)]

    def action_act(self, what: str) -> None:
        """An acting key: it asks, or says why not."""
        self.acts.ask(what)

    async def action_quit(self) -> None:
        """End, unless something goes on on the server: then ask."""
        if self.acts.may_leave():
            self.exit()

    def action_cancel(self) -> None:
        """Close what lies on top, then the filter, then history; never quits."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        elif isinstance(self.screen, View) and self.screen.cancel():
            pass
        elif self.look.history or self.look.frozen:
            self._change(replace(self.look, history=0, frozen=False), "now")
