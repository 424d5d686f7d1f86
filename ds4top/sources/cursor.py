"""A place in an open log file, and the bytes before it by which the file is known again.

A log that was emptied and written anew (logrotate's copytruncate, a restart with ``>``) keeps
its inode and may have any size by the time it is looked at. Stamps make the bytes before the
reading position practically unique, so they are read again together with the new ones, in one
``pread``: if they differ, what was read up to here is not in the file any more.
"""

from __future__ import annotations

import errno
import os

FINGERPRINT_BYTES = 256


class Cursor:
    """Reads one open regular file forwards from ``offset``; others may share the descriptor."""

    __slots__ = ("_fresh", "_head", "_tail", "fd", "offset")

    def __init__(self, fd: int, offset: int = 0) -> None:
        """``offset`` 0 skips the hole that a writer without O_APPEND leaves after a truncation."""
        self.fd = fd
        self.offset = offset
        self._fresh = offset == 0
        self._head = os.pread(fd, FINGERPRINT_BYTES, 0) if offset else b""
        self._tail = os.pread(
            fd, min(offset, FINGERPRINT_BYTES), max(0, offset - FINGERPRINT_BYTES)
        )

    def read(self, count: int, end: int | None = None) -> bytes | None:
        """At most ``count`` bytes, none at or past ``end``; ``None``: the file was written anew.

        Empty at the end of the file. NUL bytes at the start of a file are passed over: look at
        ``offset`` to see whether there was progress. Raises ``OSError``.
        """
        head = os.pread(self.fd, FINGERPRINT_BYTES, 0)
        if not head.startswith(self._head):
            return None
        self._head = head
        if self._fresh and not self._skip_hole():
            return b""
        if end is not None:
            count = min(count, end - self.offset)
        known = len(self._tail)
        data = os.pread(self.fd, known + max(count, 0), self.offset - known)
        if data[:known] != self._tail:
            return None
        if len(data) == known:
            return b""
        self.offset += len(data) - known
        if self._fresh and not data.lstrip(b"\0"):
            return b""
        self._tail = data[-FINGERPRINT_BYTES:]
        if not self._fresh:
            return data[known:]
        self._fresh = False
        return data.lstrip(b"\0")

    def _skip_hole(self) -> bool:
        try:
            self.offset = os.lseek(self.fd, self.offset, os.SEEK_DATA)
        except OSError as error:
            # ENXIO: nothing but hole up to the end. Else a file system that cannot say.
            return error.errno != errno.ENXIO
        return True


def first_data_offset(fd: int) -> int:
    """Where the first byte that was ever written stands: 0 unless the file begins with a hole."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:
        return 0


def line_start(fd: int, offset: int, size: int) -> int:
    """The first line start at or after ``offset``; ``offset`` itself where no line ends there."""
    if offset <= 0:
        return 0
    place = offset - 1
    while place < size:
        block = os.pread(fd, 65_536, place)
        if not block:
            break
        found = block.find(b"\n")
        if found >= 0:
            return place + found + 1
        place += len(block)
    return offset
