"""Reads the beginning of a big log beside its live end, into a reader and a store of its own.

The stretches to read are those that the live side has read or passed over, so what is handed
over at the end is exactly what was followed: every byte once. The live side may go on to a new
file while this one is read; descriptors keep the old one.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass
from threading import Lock

from ds4top.sources.cursor import Cursor
from ds4top.sources.samples import HistoryState, Reader, Store

SLICE_BYTES = 256 * 1024


@dataclass(slots=True)
class _Stretch:
    """One file up to where the live side has read it; ``closed``: it went on to the next."""

    cursor: Cursor
    generation: int
    end: int
    closed: bool = False


class Backfill:
    """Two threads share it: ``slice`` is for the background one, the rest for the live side."""

    def __init__(self, fd: int, generation: int, end: int, reader: Reader, store: Store) -> None:
        """Takes over ``fd``; ``end`` is where the live side stands in it."""
        self.reader = reader
        self.store = store
        self.state: HistoryState = "reading"
        self.note = ""
        self._stretches = deque([_Stretch(Cursor(fd), generation, end)])
        self._passed_bytes = 0
        self._lock = Lock()

    def grew(self, end: int) -> None:
        """The live side has read its present file up to ``end``."""
        # One store of one integer: the background thread sees the old or the new, both right.
        self._stretches[-1].end = end

    def rotated(self, fd: int, generation: int) -> None:
        """The live side read the present file to its end and went on to ``fd`` (taken over)."""
        with self._lock:
            if self.state != "reading":
                os.close(fd)
                return
            self._stretches[-1].closed = True
            self._stretches.append(_Stretch(Cursor(fd), generation, 0))

    def abandon(self, note: str) -> None:
        """Give up, for ``note``: the live store stays the only one."""
        with self._lock:
            self._end("abandoned", note)

    def slice(self, size: int = SLICE_BYTES) -> bool:
        """Read at most ``size`` bytes; whether there was something to do."""
        with self._lock:
            return self._slice(size)

    def finish(self, most_bytes: int) -> bool:
        """Catch up if no more than ``most_bytes`` are missing; whether it is done now.

        Called by the live side between two of its turns, so that both stand at one byte.
        """
        with self._lock:
            if self._missing() > most_bytes:
                return False
            while self._slice(SLICE_BYTES):
                pass
            self._end("done", "")
            return self._is("done")

    def progress(self) -> tuple[int, int]:
        """Bytes read and bytes to read in all, as far as known now."""
        stretches = tuple(self._stretches)
        done = self._passed_bytes + sum(s.cursor.offset for s in stretches)
        return done, self._passed_bytes + sum(s.end for s in stretches)

    def _missing(self) -> int:
        return sum(max(0, s.end - s.cursor.offset) for s in self._stretches)

    def _is(self, state: HistoryState) -> bool:
        return self.state == state

    def _slice(self, size: int) -> bool:
        if not self._is("reading"):
            return False
        try:
            return self._read(size)
        except Exception as error:
            # Whatever it is, the live side has a store that works.
            self._end("abandoned", f"the beginning of the log could not be read: {error}")
            return False

    def _read(self, size: int) -> bool:
        stretch = self._stretches[0]
        cursor = stretch.cursor
        before = cursor.offset
        if before >= stretch.end:
            return self._next(stretch)
        data = cursor.read(size, stretch.end)
        if data is None or cursor.offset == before:
            self._end("abandoned", "the log was emptied before its beginning had been read")
            return False
        if data:
            self.store.apply(self.reader.feed(data))
        return True

    def _next(self, stretch: _Stretch) -> bool:
        if not stretch.closed:
            return False
        # The same break that the live side put between the two files: a torn line ends here.
        self.store.apply(self.reader.close())
        self._passed_bytes += stretch.cursor.offset
        self._stretches.popleft()
        os.close(stretch.cursor.fd)
        return True

    def _end(self, state: HistoryState, note: str) -> None:
        if self.state != "reading":
            return
        self.state, self.note = state, note
        for stretch in self._stretches:
            with contextlib.suppress(OSError):
                os.close(stretch.cursor.fd)
