"""Help, made from the live bindings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ds4top.core.keymap import GROUPS
from ds4top.ui.screens.detail import Scroller, closes
from ds4top.ui.widgets.lines import TableView
from ds4top.view.look import Look
from ds4top.view.text import Row, row

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top

WORDS: tuple[tuple[str, str], ...] = (
    ("hot", "at least half of the prompt came from memory or disk"),
    ("cold", "less than half; why is beside it"),
    ("short", "a prompt below 2,048 tokens"),
    ("TTFT", "prefill, evict save and disk load by the log; without the wait in the queue"),
    ("expected", "by this server's own samples, else the curve of its build; it says which"),
    ("last known", "an open request in a log that no longer grows"),
    ("aborted", "the client went away; interrupted: the server did"),
    ("K", "1,000 tokens in text; the ticks of the context axis are powers of two"),
)
"""Words of the screen that need a word themselves."""


def help_rows(keys: Sequence[tuple[str, str, str]]) -> list[Row]:
    """Every action with its keys, by group."""
    rows: list[Row] = [row((" KEYS", "title"), ("   lower case looks, upper case acts", "dim"))]
    for group, title in GROUPS.items():
        if not any(g == group for g, _, _ in keys):
            continue
        rows += [row(""), row((f" {title}", "header"))]
        rows += [
            row(f"  {label:<14}", style="key") + row(words)
            for g, label, words in keys
            if g == group
        ]
    rows += [
        row(""),
        row((" Words", "header")),
        *(row(f"  {word:<12}", style="key") + row(meaning) for word, meaning in WORDS),
    ]
    return rows


class Help(Scroller):
    """The keys, over the view."""

    def __init__(self, look: Look, keys: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._keys = keys

    def fill(self) -> None:
        """The table of keys."""
        app: Ds4top = self.app  # type: ignore[assignment]
        rows = [*help_rows(self._keys), *closes(app.keys)]
        self.query_one(TableView).show_table(None, list(enumerate(rows)))
