"""One request in full, over the view it was opened from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import ModalScreen

from ds4top.core.keymap import Keys
from ds4top.core.state import Request
from ds4top.ui.commands import bindings
from ds4top.ui.paint import TightPaint
from ds4top.ui.widgets.lines import TableView
from ds4top.view.requests import detail_rows
from ds4top.view.text import Row, row

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top


def closes(keys: Keys) -> tuple[Row, Row]:
    """How to leave it, at its end."""
    return row(""), row((f" {keys['app.cancel']} closes", "dim"))


class Scroller(TightPaint, ModalScreen[None]):
    """Rows to read, over a view; the movement keys move in it."""

    # The keys of the app do not reach what is under a modal screen.
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("views", "move", "app")]

    def compose(self) -> ComposeResult:
        """One table of rows without a header."""
        app: Ds4top = self.app  # type: ignore[assignment]
        yield TableView(id="paper", charset=app.look.charset)

    def on_mount(self) -> None:
        """Show the rows."""
        self.fill()

    def on_resize(self) -> None:
        """Other widths make other rows."""
        self.call_after_refresh(self.fill)

    def fill(self) -> None:
        """Put the rows into the table."""

    def paint(self, *, frozen: bool) -> None:
        """Time goes on; what lies over a view mostly stays as it is."""

    def action_move(self, step: int) -> None:
        """Move by rows."""
        self.query_one(TableView).move(step)

    def action_page(self, step: int) -> None:
        """Move by screenfuls."""
        self.query_one(TableView).page(step)

    def action_home(self) -> None:
        """To the first row."""
        self.query_one(TableView).home()

    def action_end(self) -> None:
        """To the last row."""
        self.query_one(TableView).end()

    def action_details(self) -> None:
        """Enter closes what it opened."""
        self.dismiss()


class Detail(Scroller):
    """A request with its timeline."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request

    def fill(self) -> None:
        """The request's figures, then its timeline."""
        app: Ds4top = self.app  # type: ignore[assignment]
        width = self.query_one(TableView).size.width
        rows = (
            *detail_rows(self._request, app.look, app.model.tz, width),
            *closes(app.keys),
        )
        self.query_one(TableView).show_table(None, list(enumerate(rows)))
