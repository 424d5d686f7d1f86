"""What every view has: header, body, a line for alerts or messages, footer, a filter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Input

from ds4top.ui.paint import TightPaint
from ds4top.ui.widgets.lines import LineView, TableView
from ds4top.view.header import alert_row, footer_row, header_row
from ds4top.view.text import row

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top

_SAY_S = 3.0


TABLE_HINTS = (
    ("row.details", "details"),
    ("filter.edit", "filter"),
    ("sort.next", "sort"),
    ("app.help", "help"),
    ("app.quit", "quit"),
)
"""Of a view that is a table: actions, and what the footer calls them."""


class View(TightPaint):
    """Base of the views. ``name_`` is its word in the footer; ``hints`` actions that matter
    here, after the acting keys or, where it has many, before them.
    """

    name_: ClassVar[str] = ""
    hints: ClassVar[tuple[tuple[str, str], ...]] = (("app.help", "help"), ("app.quit", "quit"))
    acts_first: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.filter_text = ""
        self._said = ""
        self._said_until = 0.0
        self._foot: tuple[object, ...] = ()

    @property
    def ds4top(self) -> Ds4top:
        """The app, by its own type."""
        from ds4top.ui.app import Ds4top

        assert isinstance(self.app, Ds4top)
        return self.app

    def compose(self) -> ComposeResult:
        """Header, body, message line, footer."""
        charset = self.ds4top.look.charset
        self.head = LineView(id="head", charset=charset)
        self.message = LineView(id="message", charset=charset)
        self.foot = LineView(id="foot", charset=charset)
        yield self.head
        yield from self.body()
        yield self.message
        yield self.foot

    def body(self) -> ComposeResult:
        """The widgets between header and message line."""
        yield Widget()

    def paint(self, *, frozen: bool) -> None:
        """Show the model. Frozen: only header and message line, so that the age counts."""
        app = self.ds4top
        width = self.size.width
        if not width:
            return
        status = app.status()
        self.head.show((header_row(app.model, status, app.look, width),))
        if self._said and time.monotonic() < self._said_until:
            self.message.show((row(" ", (self._said, "now")),))
        elif self.filter_text:
            clears = f"   {app.keys['app.cancel']} clears"
            self.message.show((row(" filter ", (self.filter_text, "match"), (clears, "dim")),))
        else:
            self._said = ""
            hurting = app.verdicts.hurting(app.model)
            alerts = app.alerts(status)
            self.message.show((alert_row(alerts, app.model, width, app.look, hurting),))
        acts = app.acts.hints(width)
        if (width, acts) != self._foot:
            # Half of what a tick would cost, and only this changes it.
            self._foot = (width, acts)
            own = tuple((app.keys[action], word) for action, word in self.hints)
            # Others stand behind the keys of the view, before help and quit.
            hints = (*acts, *own) if self.acts_first else (*own[:-2], *acts, *own[-2:])
            self.foot.show((footer_row(self.name_, hints, width, app.keys),))
        if not frozen:
            self.show_body()

    @property
    def roomy(self) -> bool:
        """Whether the screen is both wide and high: then there is room for what is looked up."""
        return self.has_class("-huge") and self.has_class("-vast")

    def show_body(self) -> None:
        """Fill the widgets of ``body``."""

    def say(self, text: str) -> None:
        """Answer a key in the message line for a few seconds."""
        self._said = text
        # Real time: that of a replay may run fast, or stand still.
        self._said_until = time.monotonic() + _SAY_S
        self.message.show((row(" ", (text, "now")),))

    def on_resize(self) -> None:
        """Other widths make other rows."""
        self.ds4top.call_after_refresh(self.ds4top.paint)

    def on_screen_resume(self) -> None:
        """A view that was hidden, or is the first, catches up."""
        self.ds4top.call_after_refresh(self.ds4top.tick)

    # actions -------------------------------------------------------------------------------

    def table(self) -> TableView | None:
        """The table that the movement keys move, if there is one."""
        return None

    def action_move(self, step: int) -> None:
        """Move the cursor by rows."""
        if (table := self.table()) is not None:
            table.move(step)

    def action_page(self, step: int) -> None:
        """Move the cursor by screenfuls."""
        if (table := self.table()) is not None:
            table.page(step)

    def action_home(self) -> None:
        """To the first row."""
        if (table := self.table()) is not None:
            table.home()

    def action_end(self) -> None:
        """To the last row."""
        if (table := self.table()) is not None:
            table.end()

    def action_details(self) -> None:
        """Open the row; nothing here."""
        self.say("nothing to open here")

    def action_sort(self) -> None:
        """Sort by another column; nothing here."""
        self.say("nothing to sort here")

    def action_follow(self) -> None:
        """Keep the newest in sight, or not."""
        table = self.table()
        if table is None:
            self.say("nothing to follow here")
            return
        table.follow = not table.follow
        self.say("following the newest" if table.follow else "not following")

    def action_text(self) -> None:
        """Show or hide what the model wrote; nothing here."""
        self.say(f"no model text here: {self.ds4top.keys['view.log']} is the log")

    def action_filter(self) -> None:
        """Ask for a filter."""
        if self.table() is None:
            self.say("nothing to filter here")
            return
        if not self.query("#filter"):
            box = Input(self.filter_text, placeholder="filter, Enter keeps it", id="filter")
            self.mount(box)
            self.call_after_refresh(box.focus)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, and name it at once, over what was said before."""
        self.filter_text = event.value.strip()
        self._said = ""
        event.input.remove()
        self.set_focus(None)
        self.ds4top.paint()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self.filter_text = event.value.strip()
        self.show_body()

    def action_match(self, step: int) -> None:
        """The next or previous match: with a filter, rows are matches."""
        if not self.filter_text:
            self.say(f"no filter: {self.ds4top.keys['filter.edit']} sets one")
            return
        self.action_move(step)

    @property
    def movers(self) -> str:
        """The keys that choose a row, in words."""
        return f"{self.ds4top.keys['move.down']} and {self.ds4top.keys['move.up']}"

    def action_copy(self) -> None:
        """Copy the row under the cursor to the terminal's clipboard."""
        text = self.row_text()
        if not text:
            self.say(f"no row to copy: {self.movers} choose one")
            return
        self.app.copy_to_clipboard(text)
        self.say(f"copied: {text[:60]}")

    def shown_lines(self) -> list[tuple[int, str]]:
        """Lines of the log, with their numbers, that an export of this view has; called in a
        thread.
        """
        return []

    def row_text(self) -> str:
        """The row under the cursor as plain text."""
        return ""

    def cancel(self) -> bool:
        """Close the filter or clear it, or take the cursor away; whether there was anything."""
        boxes = self.query("#filter")
        if boxes or self.filter_text:
            boxes.remove()
            self.filter_text = ""
            self.set_focus(None)
            self.ds4top.paint()
            return True
        table = self.table()
        if table is not None and table.selected_key is not None:
            table.select(None)
            return True
        return False
