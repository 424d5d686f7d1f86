"""Widgets made of rows: they repaint the cells that changed, and nothing when nothing did."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ds4top.ui.span_styles import styles_of
from ds4top.view.diff import changed_cells
from ds4top.view.text import UNICODE, Charset, Row, Span, fit, pad, row_text

_WHEEL_ROWS = 3


class LineView(Widget, can_focus=False):
    """Shows rows, one per line, each cut or filled to the width of the widget.

    Rows beyond the height are not drawn; lines without a row are blank. Nothing is laid out when
    rows change. ``charset`` decides how what was cut ends, and whether only ASCII is drawn.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = "LineView { width: 1fr; height: 1; }"

    def __init__(
        self,
        rows: tuple[Row, ...] = (),
        *,
        charset: Charset = UNICODE,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.charset = charset
        self._rows = rows
        self._lines: list[Row] = []
        self._fitted = Size(0, 0)
        self._strips: dict[int, Strip] = {}
        self._base: Style | None = None
        self._table: dict[str, Style] | None = None
        self._styles: dict[str, Style] = {}

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows that are shown."""
        return self._rows

    def show(self, rows: tuple[Row, ...]) -> None:
        """Shows other rows; cells that stay the same are not painted again."""
        if rows == self._rows:
            return
        before, self._rows = self._rows, rows
        if self._fitted != self.content_size:
            # Not laid out yet, or about to be painted whole.
            self.refresh()
            return
        regions = []
        for y, line in enumerate(self._lines):
            after = rows[y] if y < len(rows) else ()
            if after == (before[y] if y < len(before) else ()):
                continue
            fitted = fit(after, self._fitted.width, "<", self.charset)
            cells = changed_cells(line, fitted)
            self._lines[y] = fitted
            if cells:
                self._strips.pop(y, None)
                regions += [Region(x, y, width, 1) for x, width in cells]
        if regions:
            self.refresh(*regions)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """Textual asks this for ``width: auto``: the whole container."""
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Textual asks this for ``height: auto``: a line per row."""
        return len(self._rows)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Some lines; a plain widget needs none of Textual's work on borders and tints."""
        styles = self.styles
        if any(styles.gutter) or styles.opacity < 1 or styles.has_any_rules("tint", "hatch"):
            return super().render_lines(crop)
        strips = [self.render_line(y) for y in crop.line_range]
        for line_filter in self.get_line_filters():
            ground = self.background_colors[1]
            strips = [strip.apply_filter(line_filter, ground) for strip in strips]
        if crop.column_span != (0, self._fitted.width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        """The line ``y`` of the content."""
        self._prepare()
        strip = self._strips.get(y)
        if strip is None:
            line = self._lines[y] if y < len(self._lines) else pad((), self._fitted.width)
            segments = [Segment(text, self._style(style)) for text, style in line]
            strip = self._strips[y] = Strip(segments, self._fitted.width)
        return strip

    def _prepare(self) -> None:
        """Fits the rows when the size is another, and drops what is drawn in other colours."""
        if self._fitted != self.content_size:
            self._fitted = self.content_size
            width, height = self._fitted
            rows = (*self._rows[:height], *[()] * (height - len(self._rows)))
            self._lines = [fit(line, width, "<", self.charset) for line in rows]
            self._strips.clear()
        base, table = self.visual_style.rich_style, styles_of(self.app)
        if base != self._base or table is not self._table:
            self._base, self._table = base, table
            self._styles.clear()
            self._strips.clear()

    def _style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            own = (self._table or {}).get(name, Style.null())
            style = self._styles[name] = (self._base or Style.null()) + own
        return style


class TableView(LineView):
    """A header and rows that scroll, with a cursor that stays on its row's key.

    Only rows in sight are made and drawn. Until something is selected there is no cursor. With
    ``follow`` the last rows are in sight and the cursor, if any, is on the last one.
    """

    DEFAULT_CSS = "TableView { height: 1fr; }"

    class Moved(Message):
        """The cursor is on another row, or gone (``None``)."""

        def __init__(self, table: TableView, key: Hashable | None) -> None:
            super().__init__()
            self.table, self.key = table, key

        @property
        def control(self) -> TableView:
            """The table."""
            return self.table

    class Chosen(Moved):
        """The row under the cursor was clicked."""

    def __init__(
        self,
        *,
        follow: bool = False,
        charset: Charset = UNICODE,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(charset=charset, id=id, classes=classes)
        self._header: Row | None = None
        self._keys: Sequence[Hashable] = ()
        self._row_of: Callable[[int], Row] = lambda index: ()
        self._cursor: int | None = None
        self._top = 0
        self._follow = follow

    def show_table(self, header: Row | None, rows: Sequence[tuple[Hashable, Row]]) -> None:
        """Shows rows by key, under a header that stays (``None``: without one)."""
        self.show_keys(header, [key for key, _ in rows], lambda index: rows[index][1])

    def show_keys(
        self, header: Row | None, keys: Sequence[Hashable], row_of: Callable[[int], Row]
    ) -> None:
        """The same where rows are dear: ``row_of(index)`` is asked only for those in sight."""
        before, key = self._keys, self.selected_key
        self._header, self._keys, self._row_of = header, keys, row_of
        if before != keys:
            self._keep_place(before)
            if self.selected_key != key:
                self.post_message(self.Moved(self, self.selected_key))
        self._draw()

    def _keep_place(self, before: Sequence[Hashable]) -> None:
        """Moves cursor and view with their rows; the row after a lost one takes its place."""
        count = len(self._keys)
        anchor = self._top if self._cursor is None else self._cursor
        # At the very top without a cursor, what is new comes into sight.
        if self._cursor is None and not self._top:
            return
        index = _index(self._keys, before[anchor], anchor) if anchor < len(before) else None
        index = min(anchor, count - 1) if index is None else index
        self._top += index - anchor
        if self._cursor is not None:
            self._cursor = (count - 1 if self._follow else index) if count else None

    @property
    def selected_key(self) -> Hashable | None:
        """The key of the row under the cursor."""
        return None if self._cursor is None else self._keys[self._cursor]

    @property
    def place(self) -> tuple[int | None, int]:
        """The number of the row under the cursor, from 1, and of all rows."""
        return (None if self._cursor is None else self._cursor + 1), len(self._keys)

    @property
    def follow(self) -> bool:
        """Whether the end is kept in sight."""
        return self._follow

    @follow.setter
    def follow(self, value: bool) -> None:
        self._follow = value
        if value and self._cursor is not None:
            self._go(len(self._keys) - 1)
        self._draw()

    def select(self, key: Hashable | None) -> bool:
        """Puts the cursor on a key (``None`` takes it away); false where there is no such row."""
        index = None if key is None else _index(self._keys, key, 0)
        self._go(index)
        return key is None or index is not None

    def move(self, delta: int) -> None:
        """Moves the cursor by rows; without one, to the first in sight (following: the last)."""
        if not self._keys:
            return
        if self._cursor is None:
            last_in_sight = min(self._top + self._body, len(self._keys)) - 1
            self._go(last_in_sight if self._follow or delta < 0 else self._top)
        else:
            self._go(self._cursor + delta)

    def page(self, delta: int) -> None:
        """Moves the cursor by screenfuls."""
        self.move(delta * max(self._body - 1, 1))

    def home(self) -> None:
        """Moves the cursor to the first row."""
        self._go(0)

    def end(self) -> None:
        """Moves the cursor to the last row."""
        self._go(len(self._keys) - 1)

    @property
    def _body(self) -> int:
        return max(self.content_size.height - (self._header is not None), 0)

    def _go(self, index: int | None) -> None:
        count = len(self._keys)
        before = self._cursor
        self._cursor = None if index is None or not count else min(max(index, 0), count - 1)
        if self._cursor is not None:
            if self._cursor < count - 1:
                self._follow = False
            self._top = max(min(self._top, self._cursor), self._cursor - max(self._body, 1) + 1)
        if self._cursor != before:
            self.post_message(self.Moved(self, self.selected_key))
        self._draw()

    def _draw(self) -> None:
        body, count = self._body, len(self._keys)
        last = max(count - body, 0)
        self._top = last if self._follow else min(max(self._top, 0), last)
        lines: list[Row] = [] if self._header is None else [self._header]
        for index in range(self._top, min(self._top + body, count)):
            line = self._row_of(index)
            if index == self._cursor:
                line = fit(line, self.content_size.width, "<", self.charset)
                line = (Span(row_text(line), "cursor"),)
            lines.append(line)
        self.show(tuple(lines))

    def on_resize(self) -> None:
        """More or fewer rows are in sight."""
        if self._cursor is not None:
            self._top = max(self._top, self._cursor - max(self._body, 1) + 1)
        self._draw()

    def on_click(self, event: Click) -> None:
        """A click selects a row, on the selected one it chooses it."""
        offset = event.get_content_offset(self)
        index = -1 if offset is None else offset.y - (self._header is not None) + self._top
        if not self._top <= index < len(self._keys):
            return
        if index == self._cursor:
            self.post_message(self.Chosen(self, self.selected_key))
        else:
            self._go(index)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel moves the view, not the cursor."""
        self._scroll(_WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel moves the view, not the cursor; up from the end it stops following."""
        self._scroll(-_WHEEL_ROWS)

    def _scroll(self, rows: int) -> None:
        last = max(len(self._keys) - self._body, 0)
        self._follow = self._follow and rows > 0
        self._top = min(max(self._top + rows, 0), last)
        self._draw()


def _index(keys: Sequence[Hashable], key: Hashable, near: int) -> int | None:
    if near < len(keys) and keys[near] == key:
        return near
    try:
        return keys.index(key)
    except ValueError:
        return None
