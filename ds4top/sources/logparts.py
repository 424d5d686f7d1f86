"""One file of a log, or one content of it, and what was counted in it cell by cell."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass

_PRINT_BYTES = 256


class Counts:
    """How many of some lines of a file begin before each of its cells.

    Cells that may still change (the last, and the one whose last line may grow) are counted anew.
    """

    __slots__ = ("before", "done_bytes", "final")

    def __init__(self) -> None:
        self.before = array("q", [0])
        self.final = 0
        self.done_bytes = 0

    @property
    def total(self) -> int:
        """All of them, as far as the file was looked through."""
        return self.before[-1]

    def reopen(self) -> None:
        """Forget the cells that may have changed."""
        del self.before[self.final + 1 :]

    def add(self, count: int, *, final: bool) -> None:
        """The count of the next cell."""
        self.before.append(self.before[-1] + count)
        self.final += final


@dataclass(eq=False)
class Part:
    """One file, or one content of a file that was emptied: numbered in the order of their lines."""

    number: int
    fd: int
    base: int
    size: int = 0
    head: bytes = b""
    last: bytes = b""

    def __post_init__(self) -> None:
        self.lines = Counts()
        self.found = Counts()

    def is_new_content(self, size: int) -> bool:
        """Whether the file no longer begins with, or no longer holds, what was read of it."""
        if size < self.size:
            return True
        head = os.pread(self.fd, _PRINT_BYTES, self.base)
        end = self.base + self.size
        last = os.pread(self.fd, len(self.last), end - len(self.last)) if self.last else b""
        return not head.startswith(self.head) or last != self.last

    def grow(self, size: int) -> None:
        """Note how big it is now (bytes past ``base``), and by what it is known again."""
        if size != self.size:
            self.size = size
            self.head = os.pread(self.fd, min(_PRINT_BYTES, size), self.base)
            known = min(_PRINT_BYTES, size)
            self.last = os.pread(self.fd, known, self.base + size - known)
