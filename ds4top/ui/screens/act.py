"""The screens of acting: the confirmation, the menu of signals, the progress, leaving meanwhile.

They show and ask; what is done is ``ui.acts``'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from ds4top.core.plan import Action, Mode, Plan
from ds4top.ui.commands import bindings
from ds4top.ui.screens.detail import Scroller
from ds4top.ui.widgets.lines import LineView, TableView
from ds4top.view.deeds import keys_row, leave_rows, progress_rows
from ds4top.view.owners import MODES
from ds4top.view.planview import plan_rows
from ds4top.view.text import Row, row

if TYPE_CHECKING:
    from ds4top.ui.acts import Acts, Look

_KEPT_S = 2.0
"""A plan is looked at again when what it would lose has changed, at most so often."""


class ActScreen(Scroller):
    """Rows that scroll, and a question under them."""

    def __init__(self, acts: Acts) -> None:
        super().__init__()
        self.acts = acts

    def compose(self) -> ComposeResult:
        """Rows, and the line with the keys."""
        charset = self.acts.app.look.charset
        yield TableView(id="paper", charset=charset)
        yield LineView(id="question", charset=charset)

    def rows(self, width: int) -> Sequence[Row]:
        """What it says."""
        return ()

    def question(self) -> Row:
        """What is asked, with the keys that answer."""
        return row(" ", (self.acts.app.keys["app.cancel"], "key"), " closes")

    def away(self, words: str) -> Row:
        """The keys that do nothing but close it, and what that means."""
        keys = self.acts.app.keys
        return row(" ", (keys["row.details"], "key"), " or ", (keys["app.cancel"], "key"), words)

    def fill(self) -> None:
        """Rows and question, as of now."""
        if not self.query(TableView):
            # Not put together yet, or taken apart already.
            return
        paper = self.query_one(TableView)
        asked = self.question()
        if paper.size.width:
            rows = list(enumerate(self.rows(paper.size.width)))
            paper.show_table(None, rows)
            if len(rows) > paper.size.height:
                keys = self.acts.app.keys
                asked = row(
                    asked,
                    "   ",
                    (f"{keys['move.page_down']} {keys['move.page_up']}", "key"),
                    " more",
                )
        self.query_one("#question", LineView).show((asked,))

    def close(self) -> None:
        """Take it away, if it lies on top."""
        if self.app.screen is self:
            self.app.pop_screen()


class Confirm(ActScreen):
    """A plan, and whether it is to be done. Enter is No, as is Esc; ``y`` is yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "Yes", show=False),
        Binding("n", "no", "No", show=False),
    ]

    def __init__(self, acts: Acts, action: Action, want: Mode | None = None) -> None:
        super().__init__(acts)
        self.action_wanted, self.want = action, want
        self.plan: Plan | None = None
        self._shown: Plan | None = None
        self._look: Look | None = None
        self._looked_t = 0.0
        self._looking = False
        self._note = ""

    def on_mount(self) -> None:
        """Have the plan made; it may take a while."""
        self._ask()
        super().on_mount()

    def _ask(self) -> None:
        self._looking, self._looked_t = True, self.acts.monotonic()
        self.acts.plan(self.action_wanted, self.want, self._take)

    def _take(self, look: Look) -> None:
        again = self._look is not None
        self._looking, self._look = False, look
        if self.plan is not None and look.plan.confirm != self.plan.confirm:
            self.query("#word").remove()
        self.plan = look.plan
        self._note = "looked again: what it would do has changed since" if again else ""
        if not self.is_mounted:
            return
        if self.plan.refused is None and self.plan.confirm is not None:
            if not self.query("#word"):
                box = Input(placeholder=f"type {self.plan.confirm} to go on", id="word")
                self.mount(box)
                self.call_after_refresh(box.focus)
        else:
            self.query("#word").remove()
        self.fill()
        # A key that came before it stood there was no answer to it.
        self._shown = None
        self.call_after_refresh(self._has_shown, look.plan)

    def _has_shown(self, plan: Plan) -> None:
        self._shown = plan

    @property
    def is_shown(self) -> bool:
        """Whether the plan stands on the screen: only then is yes an answer to it."""
        return self.plan is not None and self.plan is self._shown

    def paint(self, *, frozen: bool) -> None:
        """Look again where the server has gone on to something else."""
        old = self.acts.monotonic() - self._looked_t >= _KEPT_S
        if self._look is not None and not self._looking and old and self.acts.differs(self._look):
            self._ask()

    def rows(self, width: int) -> Sequence[Row]:
        """The plan in full, or that it is being made."""
        if self.plan is None:
            return [
                row((" looking …", "now"), ("   at the server, its supervisor, its build", "dim"))
            ]
        rows = plan_rows(self.plan, width - 2, self.acts.app.look.charset)
        noted = [row(""), row((f" {self._note}", "warn"))] if self._note else []
        return [*(row(" ", each) for each in rows), *noted]

    def question(self) -> Row:
        """Yes or no, or the word to type."""
        if self.plan is None or self.plan.refused is not None:
            return self.away(" closes; nothing is done")
        no = self.away(": No")
        if self.plan.confirm is not None:
            return row(f" Type {self.plan.confirm} and Enter to do it.  ", no)
        return row(" Do it?   ", ("y", "key"), " yes  ", no)

    def action_yes(self) -> None:
        """Do what is shown, once it is."""
        if self.plan is None or not self.is_shown:
            return
        if self.plan.refused is None and self.plan.confirm is None:
            self._go(forced=False)

    def action_no(self) -> None:
        """Do nothing."""
        self.close()

    def action_details(self) -> None:
        """Enter is No."""
        self.close()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Only the very word goes on."""
        event.stop()
        word = event.value.strip()
        if self.plan is not None and self.plan.confirm is not None and word == self.plan.confirm:
            self._go(forced=True)
        elif not word:
            self.close()
        else:
            event.input.clear()
            self._note = (
                f"{word} is not {self.plan.confirm if self.plan else 'it'}: nothing is done"
            )
            self.fill()

    def _go(self, *, forced: bool) -> None:
        assert self.plan is not None
        assert self._look is not None
        if self.acts.other_server(self._look):
            # What was shown is not what would be done.
            self._note = ""
            self._ask()
            return
        plan = self.plan
        self.close()
        self.acts.begin(plan, forced=forced)


class Choice(ActScreen):
    """A few acts to choose from, each with its key and why it is refused."""

    def options(self) -> dict[str, tuple[str, str]]:
        """By key: words, and why it cannot be had."""
        return {}

    def heading(self) -> str:
        """What is to be chosen."""
        return ""

    def chosen(self, key: str) -> tuple[Action, Mode | None]:
        """What a key asks for."""
        # Without options there is no key that could be asked for.
        raise NotImplementedError

    def rows(self, width: int) -> Sequence[Row]:
        """An option a line."""
        rows = [row((f" {self.heading()}", "title")), row("")]
        for key, (words, refused) in self.options().items():
            rows.append(row("  ", (f"{key}  ", "dim" if refused else "key"), words))
            if refused:
                rows.append(row("     ", (refused, "dim")))
        return rows

    def question(self) -> Row:
        """How to leave it."""
        return self.away(" closes; nothing is done")

    def action_choose(self, key: str) -> None:
        """Go on to its confirmation; what is refused stays."""
        if self.options()[key][1]:
            return
        action, want = self.chosen(key)
        self.close()
        self.acts.confirm(action, want)


class Modes(Choice):
    """Which mode, where the present one is not known."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "choose('m')", "mmap", show=False),
        Binding("c", "choose('c')", "copy", show=False),
    ]

    def __init__(self, acts: Acts, action: Action) -> None:
        super().__init__(acts)
        self._action = action

    def heading(self) -> str:
        """What for."""
        return f"{'Restart' if self._action is Action.RESTART else 'Start'} with the weights …"

    def options(self) -> dict[str, tuple[str, str]]:
        """Both modes."""
        return {"m": (MODES[Mode.MMAP], ""), "c": (MODES[Mode.COPY], "")}

    def chosen(self, key: str) -> tuple[Action, Mode | None]:
        """The mode."""
        return self._action, {"m": Mode.MMAP, "c": Mode.COPY}[key]


class Signals(Choice):
    """TERM, and KILL once TERM has had its time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "choose('t')", "TERM", show=False),
        Binding("K", "choose('K')", "KILL", show=False),
    ]

    def __init__(self, acts: Acts) -> None:
        super().__init__(acts)
        self._refused: dict[str, str | None] = {"t": "looking …", "K": "looking …"}

    def on_mount(self) -> None:
        """Ask what may be sent."""
        super().on_mount()
        self.acts.plan(Action.STOP, None, lambda look: self._take("t", look))
        self.acts.plan(Action.KILL, None, lambda look: self._take("K", look))

    def _take(self, key: str, look: Look) -> None:
        self._refused[key] = look.plan.refused
        self.fill()

    def heading(self) -> str:
        """Whom."""
        server = self.acts.app.model.machine.server
        return (
            f"Signal {server.target.comm} {server.target.pid}" if server is not None else "Signal"
        )

    def options(self) -> dict[str, tuple[str, str]]:
        """Both signals."""
        return {
            "t": ("TERM   stop it once: it drains, saves its KV cache, ends",
                  self._refused["t"] or ""),
            "K": ("KILL   at once, nothing is saved; asks for a typed word",
                  self._refused["K"] or ""),
        }  # fmt: skip

    def chosen(self, key: str) -> tuple[Action, Mode | None]:
        """The act of a signal."""
        return (Action.STOP if key == "t" else Action.KILL), None


class ProgressScreen(ActScreen):
    """The action that goes on, or how the last one ended. Esc hides it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "back", "Back to the last settings", show=False),
        *bindings("act"),
    ]

    def on_mount(self) -> None:
        """As it is now."""
        super().on_mount()
        self.fill()

    def paint(self, *, frozen: bool) -> None:
        """As it is now."""
        self.fill()

    def rows(self, width: int) -> Sequence[Row]:
        """Steps, times, outcome."""
        app, deed = self.acts.app, self.acts.deed
        if deed is None:
            return [row((" nothing goes on", "dim"))]
        if not deed.goes_on:
            self.acts.was_seen()
        return progress_rows(deed, app.model, app.book, self.acts.monotonic(), width)

    def question(self) -> Row:
        """What can be done now."""
        deed = self.acts.deed
        if deed is None:
            return super().question()
        startable = self.acts.app.model.startable is not None
        return keys_row(deed, self.size.width, self.acts.app.keys, startable=startable)

    def action_back(self) -> None:
        """Take the failed action back, as it is shown."""
        self.acts.take_back()

    def action_details(self) -> None:
        """Enter closes it, as Esc does."""
        self.close()


class Leave(ActScreen):
    """Whether to end ds4top while it acts. Enter is No."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "Yes", show=False),
        Binding("n", "no", "No", show=False),
    ]

    def __init__(self, acts: Acts, leave: Callable[[], None]) -> None:
        super().__init__(acts)
        self._leave = leave

    def paint(self, *, frozen: bool) -> None:
        """It goes on meanwhile; once it has ended there is nothing to ask."""
        deed = self.acts.deed
        if deed is None or not deed.goes_on:
            self.close()
        else:
            self.fill()

    def rows(self, width: int) -> Sequence[Row]:
        """What would become of the action."""
        deed = self.acts.deed
        demo = bool(self.acts.model.demo)
        return leave_rows(deed, width, self.acts.app.keys, demo=demo) if deed is not None else ()

    def question(self) -> Row:
        """Leave or stay."""
        return row(" End ds4top now?   ", ("y", "key"), " yes  ", self.away(": No, stay"))

    def action_yes(self) -> None:
        """End it."""
        self._leave()

    def action_no(self) -> None:
        """Stay."""
        self.close()

    def action_details(self) -> None:
        """Enter is No."""
        self.close()
