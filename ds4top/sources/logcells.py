"""One cell of a log file: the lines that begin in it, read with what stands around it."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from ds4top.core.logtext import holds, may_hold_model_text, model_places

CELL_BYTES = 65_536
WINDOW_BYTES = 16_384
"""Of a line so much is read and searched."""
SHOWN_BYTES = 4_096
LEAD_BYTES = 16_384
"""So much before a cell tells whether a snippet of model text goes on into it."""
_LINE = re.compile(rb"[^\r\n\0]+")
_END = re.compile(rb"[\r\n\0]")
_START = re.compile(rb"[\r\n\0][^\r\n\0]")
_ENDS = b"\r\n\0"


@dataclass(slots=True)
class Cell:
    """Lines that begin in one cell, with their offsets from the file's base."""

    offsets: list[int]
    lines: list[bytes]
    model_at: list[int]
    _found: dict[tuple[tuple[bytes, ...], bool], list[int]] = field(default_factory=dict)

    def index(self, offset: int) -> int | None:
        """Which of its lines begins at an offset."""
        at = bisect_left(self.offsets, offset)
        return at if at < len(self.offsets) and self.offsets[at] == offset else None

    def found(self, words: tuple[bytes, ...], *, hide: bool) -> list[int]:
        """Offsets of the lines with all these words."""
        key = (words, hide)
        offsets = self._found.get(key)
        if offsets is None:
            offsets = self._found[key] = [
                offset
                for offset, line, at in zip(self.offsets, self.lines, self.model_at, strict=True)
                if holds(line[:at] if hide else line, words)
            ]
        return offsets


def count_starts(data: bytes) -> int:
    """Line starts in a stretch, from its second byte on; the first is what stands before it."""
    if b"\r" in data or b"\0" in data or b"\n\n" in data:
        return len(_START.findall(data))
    return data.count(b"\n", 0, len(data) - 1)


def read_after(fd: int, place: int, count: int) -> bytes:
    """Bytes from ``place`` on with the one before them, a line end at the start of the file."""
    return os.pread(fd, count + 1, place - 1) if place else b"\n" + os.pread(fd, count, 0)


def read_cell(fd: int, base: int, begin: int) -> Cell:
    """The lines that begin in the cell at ``base + begin``. Raises ``OSError``."""
    data, at = _read(fd, base, begin)
    first, stop = _span(data, at)
    found = [(m.start(), m[0][:WINDOW_BYTES]) for m in _LINE.finditer(data, first, stop)]
    lines = [line for _, line in found]
    lead = _lead(data, first) if may_hold_model_text(data) else []
    places = model_places([*lead, *lines])[len(lead) :]
    return Cell([begin + place - at for place, _ in found], lines, places)


def count_found(fd: int, base: int, begin: int, words: Sequence[bytes], *, hide: bool) -> int:
    """How many lines that begin in a cell have all these words. Raises ``OSError``."""
    data, at = _read(fd, base, begin)
    first, stop = _span(data, at)
    low = data.lower()
    if any(low.find(word, first, stop) < 0 for word in words):
        return 0
    if hide and may_hold_model_text(data):
        return len(read_cell(fd, base, begin).found(tuple(words), hide=True))
    lines = low[first:stop].replace(b"\r", b"\n").replace(b"\0", b"\n").split(b"\n")
    if len(words) == 1:
        word = words[0]
        return sum([word in line[:WINDOW_BYTES] for line in lines])
    return sum([all(word in line[:WINDOW_BYTES] for word in words) for line in lines])


def _read(fd: int, base: int, begin: int) -> tuple[bytes, int]:
    """A cell with its surroundings, and where in these it begins: after at least one byte."""
    lead = min(LEAD_BYTES, base + begin)
    data = os.pread(fd, lead + CELL_BYTES + WINDOW_BYTES, base + begin - lead)
    return (data, lead) if lead else (b"\n" + data, 1)


def _span(data: bytes, at: int) -> tuple[int, int]:
    """From the first line start of the cell to the end of its last line."""
    size = len(data)
    if at >= size:
        return size, size
    first = at
    if data[at - 1] not in _ENDS:
        first = _next_end(data, at)
    end = min(at + CELL_BYTES, size)
    if first >= end:
        return size, size
    return first, end if data[end - 1] in _ENDS else _next_end(data, end)


def _next_end(data: bytes, at: int) -> int:
    found = _END.search(data, at)
    return found.start() if found else len(data)


def _lead(data: bytes, first: int) -> list[bytes]:
    return _LINE.findall(data, _next_end(data, 0), first)
