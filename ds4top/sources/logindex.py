"""A log file of any size to page and search in: never in memory, always all of it.

The file is divided into cells of 64 KiB, and for each cell is kept how many lines begin before it:
8 bytes for 64 KiB of log. Line N is then one bisection and one ``pread`` away. What a search
found is kept in the same way, so it costs no more however much matches. A thread counts and
searches; whoever looks at lines reads the one cell where they are.

A line begins at a byte that is no line end (``\\n``, ``\\r``, NUL) after one that is, so blank
lines do not count, each step of a progress line does, and the hole that a truncation leaves is
nothing. Of a line its first 16 KiB are searched and its first 4 KiB shown.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import overload

from ds4top.core.logtext import Line, LogShape
from ds4top.sources.base import SourceFault
from ds4top.sources.cursor import first_data_offset
from ds4top.sources.logcells import (
    CELL_BYTES,
    SHOWN_BYTES,
    WINDOW_BYTES,
    Cell,
    count_found,
    count_starts,
    read_after,
    read_cell,
)
from ds4top.sources.logparts import Counts, Part
from ds4top.sources.logpath import open_log

BLOCK_BYTES = 1024 * 1024
_CELLS_A_STEP = 8
_PAUSE_S = 0.0005
_TELL_S = 0.1
_KEPT_PARTS = 8
_KEPT_CELLS = 8
_PART_SHIFT = 48
_ABSENT = (FileNotFoundError, NotADirectoryError)


class LogPages:
    """The lines of the file at ``path``, through rotation and truncation.

    ``start`` opens it in a thread of its own; ``wake`` makes that look again and count on.
    ``on_change`` is called from that thread, a few times a second at most. A file that took the
    path's name is appended to the one that had it, which stays open; of a file that was emptied
    the old lines are gone.
    """

    def __init__(
        self,
        path: str,
        on_change: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = os.path.abspath(path)
        self.on_change = on_change
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._active = False
        self._parts: list[Part] = []
        self._numbers = 0
        self._inode = (0, 0)
        self._note = ""
        self._words: tuple[bytes, ...] = ()
        self._hide = True
        self._searching = False
        self._version = 0
        self._told_at = 0.0
        self._told = -1
        self._cells: dict[tuple[int, int, int], Cell] = {}

    # life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the file, in the background; nothing is counted before the first ``wake``."""
        self._thread = threading.Thread(target=self._run, name="log-pages", daemon=True)
        self._thread.start()
        self._wake.set()

    def wake(self) -> None:
        """Look at the file now: it may have grown, or be another one."""
        self._active = True
        self._wake.set()

    def close(self) -> None:
        """End the thread and let go of the files."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(0.5)
        with self._lock:
            for part in self._parts:
                os.close(part.fd)
            self._parts.clear()

    # what can be seen ----------------------------------------------------------------------

    @property
    def shape(self) -> LogShape:
        """How much there is now."""
        with self._lock:
            parts = self._parts
            return LogShape(
                name=self.path,
                version=self._version,
                lines=sum(part.lines.total for part in parts),
                size_bytes=sum(part.size for part in parts),
                indexed_bytes=sum(part.lines.done_bytes for part in parts),
                found=sum(part.found.total for part in parts) if self._words else None,
                searched_bytes=sum(part.found.done_bytes for part in parts),
                searching=self._is_running,
                parts=len(parts),
                note=self._note,
            )

    def rows(self, *, found: bool = False) -> Rows:
        """Keys of all lines, or of those that were found, as of now; they never change."""
        with self._lock:
            totals = [(p, (p.found if found else p.lines).total) for p in self._parts]
            return Rows(self, totals, self._words if found else (), self._version)

    def line(self, key: int) -> Line | None:
        """The line with this key; ``None`` where the file no longer has it."""
        with self._lock:
            part = self._part(key)
            if part is None:
                return None
            offset = key & ((1 << _PART_SHIFT) - 1)
            cell = self._cell(part, offset // CELL_BYTES)
            at = cell.index(offset)
            if at is None:
                return None
            data, model_at = cell.lines[at], cell.model_at[at]
            if len(data) > SHOWN_BYTES:
                return Line(data[:SHOWN_BYTES], min(model_at, SHOWN_BYTES), clipped=True)
            return Line(data, model_at)

    # search --------------------------------------------------------------------------------

    def search(self, words: tuple[bytes, ...], *, hide: bool = True) -> None:
        """Look for the lines with all of these words, from the first line on; none: no search.

        ``hide``: not in what the model wrote. What was found before is forgotten.
        """
        with self._lock:
            if words == self._words and hide == self._hide:
                return
            self._words, self._hide = words, hide
            self._searching = bool(words)
            for part in self._parts:
                part.found = Counts()
            self._version += 1
        self.wake()

    def stop_search(self) -> bool:
        """Give up a search that is still running; whether one was. What it found stays."""
        with self._lock:
            running = self._is_running
            if running:
                self._searching = False
                self._version += 1
            return running

    @property
    def _is_running(self) -> bool:
        return self._searching and any(p.found.done_bytes < p.size for p in self._parts)

    # the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._look()
                while not self._stop.is_set() and self._step():
                    self._tell(0.0 if self._wake.is_set() else _TELL_S)
                    # Without a pause the one who waits for the lock may wait for long.
                    self._stop.wait(_PAUSE_S)
            except SourceFault as fault:
                self._say(str(fault))
            except OSError as error:
                self._say(f"{self.path}: {error.strerror}")
            self._tell(0.0)

    def _tell(self, least_s: float) -> None:
        now = self._monotonic()
        if self._version != self._told and now - self._told_at >= least_s:
            self._told, self._told_at = self._version, now
            self.on_change()

    def _say(self, note: str) -> None:
        if note != self._note:
            self._note = note
            self._version += 1

    def _look(self) -> None:
        try:
            info = os.stat(self.path)
        except _ABSENT:
            state = "still shown from the open file" if self._parts else "waiting for it"
            self._say(f"{self.path} is not there: {state}")
            info = None
        if info is not None:
            inode = (info.st_dev, info.st_ino)
            if not self._parts or (inode != self._inode and info.st_size):
                self._append()
        with self._lock:
            for place, part in enumerate(self._parts):
                size = max(os.fstat(part.fd).st_size - part.base, 0)
                if part.is_new_content(size):
                    part = self._parts[place] = self._new_part(part.fd)
                    size = max(os.fstat(part.fd).st_size - part.base, 0)
                    self._say("the log was emptied and written anew: its old lines are gone")
                part.grow(size)

    def _append(self) -> None:
        fd = open_log(self.path)
        info = os.fstat(fd)
        with self._lock:
            self._inode = (info.st_dev, info.st_ino)
            had = bool(self._parts)
            self._parts.append(self._new_part(fd))
            while len(self._parts) > _KEPT_PARTS:
                os.close(self._parts.pop(0).fd)
            self._say("rotated: the new file's lines follow the old one's" if had else "")

    def _new_part(self, fd: int) -> Part:
        self._numbers += 1
        self._version += 1
        return Part(self._numbers, fd, first_data_offset(fd) // CELL_BYTES * CELL_BYTES)

    def _step(self) -> bool:
        """Count or search a little further; whether there was something to do."""
        if not self._active:
            return False
        with self._lock:
            for part in self._parts:
                if part.lines.done_bytes < part.size:
                    self._count(part)
                    return True
            if self._searching:
                for part in self._parts:
                    if part.found.done_bytes < part.size:
                        self._find(part)
                        return True
        return False

    def _count(self, part: Part) -> None:
        counts = part.lines
        counts.reopen()
        begin = counts.final * CELL_BYTES
        data = read_after(part.fd, part.base + begin, min(BLOCK_BYTES, part.size - begin))
        got = len(data) - 1
        for place in range(0, got, CELL_BYTES):
            stop = min(place + CELL_BYTES, got)
            counts.add(count_starts(data[place : stop + 1]), final=place + CELL_BYTES <= got)
        # Nothing to read where there should be: emptied since it was looked at.
        counts.done_bytes = begin + got if got > 0 else part.size
        self._version += 1

    def _find(self, part: Part) -> None:
        counts = part.found
        counts.reopen()
        for _ in range(_CELLS_A_STEP):
            begin = (len(counts.before) - 1) * CELL_BYTES
            if begin >= part.size:
                counts.done_bytes = part.size
                break
            final = begin + CELL_BYTES + WINDOW_BYTES <= part.size
            found = count_found(part.fd, part.base, begin, self._words, hide=self._hide)
            counts.add(found, final=final)
            counts.done_bytes = min(begin + CELL_BYTES, part.size)
        self._version += 1

    # cells ---------------------------------------------------------------------------------

    def _part(self, key: int) -> Part | None:
        number = key >> _PART_SHIFT
        return next((part for part in self._parts if part.number == number), None)

    def _cell(self, part: Part, number: int) -> Cell:
        if part not in self._parts:
            return Cell([], [], [])
        # A cell that is not full yet is another one when the file has grown.
        whole = (number + 1) * CELL_BYTES + WINDOW_BYTES <= part.size
        key = (part.number, number, 0 if whole else part.size)
        cell = self._cells.pop(key, None)
        if cell is None:
            try:
                cell = read_cell(part.fd, part.base, number * CELL_BYTES)
            except OSError:
                return Cell([], [], [])
        self._cells[key] = cell
        while len(self._cells) > _KEPT_CELLS:
            del self._cells[next(iter(self._cells))]
        return cell

    def _offsets(self, part: Part, number: int, words: tuple[bytes, ...]) -> Sequence[int]:
        cell = self._cell(part, number)
        return cell.found(words, hide=self._hide) if words else cell.offsets

    def _key_at(self, part: Part, counts: Counts, place: int, words: tuple[bytes, ...]) -> int:
        number = bisect_right(counts.before, place) - 1
        offsets = self._offsets(part, number, words)
        at = place - counts.before[number] if number < len(counts.before) else -1
        return part.number << _PART_SHIFT | offsets[at] if 0 <= at < len(offsets) else -1


class Rows(Sequence[int]):
    """Keys of lines in their order: each ascending, found by its place with one read."""

    def __init__(
        self,
        pages: LogPages,
        parts: Sequence[tuple[Part, int]],
        words: tuple[bytes, ...],
        version: int,
    ) -> None:
        self._pages = pages
        self._parts = parts
        self._words = words
        self._len = sum(total for _, total in parts)
        self._same = (id(pages), version, words, self._len)

    def __len__(self) -> int:
        return self._len

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self._same == other._same

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...

    def __getitem__(self, place: int | slice) -> int | list[int]:
        """The key of a line; -1 where the file no longer has it."""
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(self._len))]
        if place < 0:
            place += self._len
        with self._pages._lock:
            for part, total in self._parts:
                if 0 <= place < total:
                    return self._pages._key_at(part, self._of(part), place, self._words)
                place -= total
        raise IndexError(place)

    def rank(self, key: int) -> int:
        """How many rows stand before this key."""
        number, offset = key >> _PART_SHIFT, key & ((1 << _PART_SHIFT) - 1)
        rank = 0
        with self._pages._lock:
            for part, total in self._parts:
                if part.number < number:
                    rank += total
                elif part.number == number:
                    before = self._of(part).before
                    cell = offset // CELL_BYTES
                    if cell >= len(before):
                        return rank + total
                    offsets = self._pages._offsets(part, cell, self._words)
                    here = sum(1 for each in offsets if each < offset)
                    return rank + min(before[cell] + here, total)
        return rank

    def index(self, value: int, start: int = 0, stop: int | None = None) -> int:
        """The place of a key. Raises ``ValueError`` where it is not among them."""
        place = self.rank(value)
        if start <= place < min(self._len, self._len if stop is None else stop):
            with contextlib.suppress(IndexError):
                if self[place] == value:
                    return place
        raise ValueError(value)

    def _of(self, part: Part) -> Counts:
        return part.found if self._words else part.lines
