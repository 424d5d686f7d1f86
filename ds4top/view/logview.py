"""Lines of the log for the Log view: clean, coloured by event, what the model wrote left out.

``LogLines`` keeps the newest lines of what cannot be read again (a pipe, a replay); a file is
paged by ``sources.logindex``, which answers the same questions (``Pages``).
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ds4top.core.keymap import DEFAULT_KEYS, Keys
from ds4top.core.logread import strip_controls
from ds4top.core.logtext import Line, LogShape, ModelText, holds
from ds4top.core.pieces import PieceSplitter
from ds4top.core.units import count_of, fmt_num
from ds4top.view.text import UNICODE, Charset, Part, Row, clip, pack, row, row_width

KEPT_LINES = 5_000
LINE_BYTES = 512
HIDDEN = "[model text hidden: v shows]"
GONE = "(no longer in the file)"
_STYLES: tuple[tuple[str, str], ...] = (
    ("finish=error", "log-error"),
    (" failed", "log-error"),
    ("refusing to start", "log-error"),
    ("unknown option", "log-error"),
    ("decoding chunk=", "log-decode"),
    ("prefill chunk", "log-prefill"),
    ("kv cache", "log-kv"),
    ("KV disk cache", "log-kv"),
    ("prompt start", "log-request"),
    ("prompt done", "log-prefill"),
    ("finish=", "log-request"),
    ("shutdown requested", "log-warn"),
    ("listening on", "log-start"),
    ("ds4: ", "log-start"),
    ("context buffers", "log-start"),
)
_STAMPED = re.compile(r"\d{4} \d\d:\d\d:\d\d ", re.ASCII)


class Pages(Protocol):
    """What the Log view asks of a log: keys of its lines in their order, and one line by key."""

    @property
    def shape(self) -> LogShape:
        """How much there is, and how far it was looked through."""
        ...

    def wake(self) -> None:
        """The view is looked at: see what is new."""
        ...

    def rows(self, *, found: bool = False) -> Sequence[int]:
        """Keys of all lines, or of those that were found; ascending."""
        ...

    def line(self, key: int) -> Line | None:
        """A line; ``None`` where it is gone."""
        ...

    def search(self, words: tuple[bytes, ...], *, hide: bool = True) -> None:
        """Find the lines with all of these words."""
        ...

    def stop_search(self) -> bool:
        """Give up a search that is still running; whether one was."""
        ...


def style_of(text: str) -> str:
    """The style of a line by what it tells."""
    return next((style for mark, style in _STYLES if mark in text), "log-other")


def text_of(line: Line | None, *, hide: bool) -> str:
    """A line as text that is safe to draw; with ``hide`` without what the model wrote."""
    if line is None:
        return GONE
    cut = hide and line.model_at < len(line.data)
    text = strip_controls(line.data[: line.model_at if cut else None].decode("utf-8", "replace"))
    return text + (HIDDEN if cut else UNICODE.ellipsis if line.clipped else "")


def line_row(text: str, words: Sequence[bytes] = ()) -> Row:
    """One line, its stamp apart, coloured by event, the words that are searched for marked."""
    stamp = text[:13] if _STAMPED.match(text) else ""
    style = style_of(text)
    body = text[14:].removeprefix("ds4-server: ") if stamp else text
    parts: list[Part] = [(f" {stamp:13} ", "log-time")]
    place = 0
    for begin, end in _marked(body, words):
        parts += [(body[place:begin], style), (body[begin:end], "match")]
        place = end
    return row(*parts, (body[place:], style))


def _marked(body: str, words: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where the words stand, each place once."""
    if not words:
        return []
    wanted = "|".join(re.escape(word.decode()) for word in sorted(words, key=len, reverse=True))
    return [found.span() for found in re.finditer(wanted, body, re.IGNORECASE)]


class LogLines:
    """The last lines of a stream, by their number since its start.

    ``why`` says what is bounded: it is shown once lines were let go.
    """

    def __init__(self, kept: int = KEPT_LINES, why: str = "a pipe is not kept") -> None:
        self.why = why
        self._splitter = PieceSplitter()
        self._model_text = ModelText()
        self._lines: deque[Line] = deque(maxlen=kept)
        self._count = 0
        self._version = 0
        self._words: tuple[bytes, ...] = ()
        self._hide = True

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the log."""
        for piece in self._splitter.feed(data):
            if piece.strip():
                line = piece.encode("utf-8", "replace")
                place = self._model_text.place(line)
                clipped = len(line) > LINE_BYTES
                self._lines.append(Line(line[:LINE_BYTES], min(place, LINE_BYTES), clipped))
                self._count += 1
        self._version += 1

    def clear(self) -> None:
        """Forget everything: a replay went back, or another log is read."""
        self._splitter = PieceSplitter()
        self._model_text = ModelText()
        self._lines.clear()
        self._version += 1

    @property
    def shape(self) -> LogShape:
        """How many lines are kept, and how many were let go."""
        count = len(self._lines)
        full = count == self._lines.maxlen and self._count > count
        return LogShape(
            version=self._version,
            lines=count,
            found=len(self._found()) if self._words else None,
            kept=count if full else None,
            dropped=self._count - count if full else 0,
            note=f"only the last {count:,} lines: {self.why}" if full else "",
        )

    def wake(self) -> None:
        """Lines come by themselves."""

    def rows(self, *, found: bool = False) -> Sequence[int]:
        """Numbers of all lines, or of those that were found."""
        return self._found() if found else range(self._count - len(self._lines), self._count)

    def line(self, key: int) -> Line | None:
        """One line by its number; ``None`` where it is no longer kept."""
        index = key - (self._count - len(self._lines))
        return self._lines[index] if 0 <= index < len(self._lines) else None

    def search(self, words: tuple[bytes, ...], *, hide: bool = True) -> None:
        """Find the lines with all of these words; at once."""
        self._words, self._hide = words, hide
        self._version += 1

    def stop_search(self) -> bool:
        """Nothing to stop: what is kept is searched at once."""
        return False

    def _found(self) -> list[int]:
        first = self._count - len(self._lines)
        return [
            number
            for number, line in enumerate(self._lines, first)
            if holds(line.data[: line.model_at] if self._hide else line.data, self._words)
        ]


def next_match(found: Sequence[int], key: int | None, step: int) -> int | None:
    """The match after (``step`` 1) or before a line; without one the first or the last."""
    if not found:
        return None
    if key is None:
        return found[0] if step > 0 else found[-1]
    place = _rank(found, key)
    if step > 0:
        place += place < len(found) and found[place] == key
    else:
        place -= 1
    return found[place] if 0 <= place < len(found) else None


def nearest(rows: Sequence[int], key: int) -> int | None:
    """The row at a line, else the next after it, else the last."""
    return rows[min(_rank(rows, key), len(rows) - 1)] if rows else None


def _rank(rows: Sequence[int], key: int) -> int:
    rank = getattr(rows, "rank", None)
    return int(rank(key)) if rank is not None else bisect_left(rows, key)


def bar_row(
    shape: LogShape,
    place: int | None,
    words: str,
    *,
    filtered: bool,
    follow: bool,
    width: int,
    charset: Charset = UNICODE,
    keys: Keys = DEFAULT_KEYS,
) -> Row:
    """What is in sight of how much: the place, the search with its progress, the file.

    ``place``: the number of the line under the cursor among all of them, from 1.
    """
    items: list[Part] = []
    if shape.indexed_bytes < shape.size_bytes:
        done = _percent(shape.indexed_bytes, shape.size_bytes)
        items.append((f"indexing {done} %, {count_of(shape.lines, 'line')} so far", "now"))
    elif place is not None:
        items.append(row("line ", (f"{place:,}", "value"), f" of {shape.lines:,}"))
    else:
        items.append(row((f"{shape.lines:,}", "value"), " lines"))
    if shape.found is not None:
        found = f"{shape.found:,} found" if not filtered else f"{shape.found:,} match"
        items.append(row((found, "match"), "" if filtered else f" {words}"))
        if shape.searching:
            done = _percent(shape.searched_bytes, shape.size_bytes)
            items.append((f"searching {done} %, {keys['app.cancel']} stops", "now"))
        elif shape.searched_bytes < shape.size_bytes:
            done = _percent(shape.searched_bytes, shape.size_bytes)
            items.append((f"search stopped at {done} %", "warn"))
    if shape.note:
        items.append((shape.note, "warn"))
    if follow:
        items.append(("follows", "dim"))
    if shape.name:
        size = fmt_num(shape.size_bytes / 1e6, 1, "MB")
        items.append((f"{os.path.basename(shape.name)} {size}", "dim"))
    packed = row(" ", pack(items, max(width - 1, 0)))
    # Nothing of the first item is lost without a sign, however narrow.
    return packed if row_width(packed) > 1 else clip(row(" ", items[0]), width, charset)


def _percent(done: float, whole: float) -> int:
    """A share in whole percent that says 100 only at the end."""
    return min(int(100 * done / whole), 99) if whole and done < whole else 100
