"""Asks before a tmux pane is copied to a file: the command letter by letter, No as the default."""

from __future__ import annotations

import os
import shlex
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from ds4top.archive.paths import state_dir
from ds4top.control.panecopy import copy_path, pane_to_copy
from ds4top.core.logplace import pipe_command
from ds4top.core.process import ServerProcess
from ds4top.sources.logroute import LogAddress, LogRouter
from ds4top.ui.paint import TightPaint
from ds4top.ui.screens.base import View
from ds4top.ui.widgets.lines import TableView
from ds4top.view.text import Row, row

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top


class AskCopy(TightPaint, ModalScreen[bool]):
    """``y`` copies; Enter, Esc and ``n`` do not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", show=False),
        Binding("enter,escape,n,q", "answer(False)", "No", show=False),
    ]
    DEFAULT_CSS = "AskCopy { background: $background; }"

    def __init__(self, lines: tuple[Row, ...]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        """The question."""
        app: Ds4top = self.app  # type: ignore[assignment]
        yield TableView(id="paper", charset=app.look.charset)

    def on_mount(self) -> None:
        """Show it."""
        self.query_one(TableView).show_table(None, list(enumerate(self._lines)))

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)


def question(server: ServerProcess, path: str, width: int) -> tuple[Row, ...]:
    """What is asked; the command is shown whole."""
    *words, last = pipe_command(server.log.pane, path, server.log.tmux)
    # The path is plain: within double quotes the last word is what tmux is given.
    command = wrap(f'{shlex.join(words)} "{last}"', max(width - 12, 20), break_on_hyphens=False)
    return (
        row((f" COPY tmux pane {server.log.pane} TO A FILE", "title")),
        row(""),
        row(f"  {server.target.comm} {server.target.pid} writes its log into this pane."),
        row("  tmux copies what is printed from now on; what stands there already is not in it."),
        row(""),
        *(
            row(("  runs    " if not at else " " * 10, "label"), (line, "value"))
            for at, line in enumerate(command)
        ),
        row(("  undone  ", "label"), "when ds4top ends; the file stays"),
        row(("  server  ", "label"), "goes on as it is"),
        row(""),
        row("  ", ("y", "key"), " copies   ", ("Enter", "key"), " No"),
    )


def ask_copy(app: Ds4top) -> None:
    """Ask, or say why there is nothing to copy."""
    server = app.model.machine.server
    folder = state_dir(os.environ)
    why = pane_to_copy(server)
    if app.config.flag("control.read_only"):
        why = "read-only: nothing is changed"
    path = copy_path(folder, server.target) if folder is not None and server is not None else None
    if not why and path is None:
        why = "no plain state folder for the file: set XDG_STATE_HOME"
    if why or server is None or path is None:
        _say(app, why)
        return

    def answered(yes: bool | None) -> None:
        if yes:
            app.run_worker(partial(_copy, app, server, path), thread=True)
        else:
            _say(app, "not copied")

    app.push_screen(AskCopy(question(server, path, app.size.width)), answered)


def _copy(app: Ds4top, server: ServerProcess, path: str) -> None:
    place = server.log
    trouble = app.session.panes().start(place.tmux, place.pane, path)
    if not trouble and isinstance(app.session.source, LogRouter):
        # As the finder will name it once it sees the copy.
        name = f"tmux pane {place.pane}, copied to {path}"
        app.session.source.point(LogAddress(name, path))
    app.call_from_thread(_say, app, trouble or f"copied to {path} from now on")


def _say(app: Ds4top, text: str) -> None:
    if isinstance(app.screen, View):
        app.screen.say(text)
