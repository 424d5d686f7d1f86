"""Follows a log: bytes in order, and word when the file is not the one it was. I/O only.

A file is looked at by name and by descriptor in each turn, so it works on any file system and
needs no notification. What is guaranteed: bytes written to a file before it is renamed, and after
it until its successor holds something, arrive once and before those of the successor. What
cannot be known: bytes that were written and truncated away between two turns, and a file that
came and went between two turns.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from threading import Event
from typing import Protocol

from ds4top.sources.base import SourceFault
from ds4top.sources.cursor import Cursor, first_data_offset, line_start
from ds4top.sources.logpath import denied, open_log
from ds4top.sources.samples import BreakReason, LogBreak, LogChunk

TURN_BYTES = 256 * 1024
"""Most that one turn reads."""
BUSY_S = 0.1
IDLE_S, QUIET_S = 0.25, 0.5
_IDLE_TURNS = 40
"""Without a byte, until the log is called quiet: ten seconds."""
ENDED_S = 1.0
_PIPE_BYTES = 65_536
_MOST_WAITING = 16
_ABSENT = (FileNotFoundError, NotADirectoryError)

Item = LogChunk | LogBreak


class Follower(Protocol):
    """Where the bytes of a log come from."""

    @property
    def generation(self) -> int:
        """Counts the files, or the contents of one file, that bytes came from."""
        ...

    @property
    def mtime(self) -> float | None:
        """When the log was last written to, seconds since the epoch; ``None``: cannot be known."""
        ...

    @property
    def more(self) -> bool:
        """Whether the last turn left bytes unread."""
        ...

    @property
    def pause_s(self) -> float:
        """Seconds until it is worth looking again."""
        ...

    def read(self) -> list[Item]:
        """One turn. Raises ``SourceFault`` or ``OSError``."""
        ...

    def close(self) -> None:
        """Let go of the descriptors."""
        ...


class LogFollower:
    """Follows the file at ``path`` through growth, rotation, truncation and absence.

    ``tail_bytes``: of a file that is bigger when it is first seen only so much is read, from a
    line start on; ``began_offset`` tells where, ``known_bytes`` how big the file was.
    ``detail`` is what to show of the file's state, empty while all is as it should be.
    """

    def __init__(
        self,
        path: str,
        tail_bytes: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        turn_bytes: int = TURN_BYTES,
    ) -> None:
        self.path = os.path.abspath(path)
        self.generation = 0
        self.began_offset = 0
        self.data_offset = 0
        self.known_bytes = 0
        self.more = False
        self.detail = ""
        self._given = path
        self._tail_bytes = tail_bytes
        self._now = monotonic
        self._turn_bytes = turn_bytes
        self._cursor: Cursor | None = None
        self._waiting: list[int] = []
        self._inode = (0, 0)
        self._absent = False
        self._got = 0
        self._idle_turns = 0

    @property
    def offset(self) -> int:
        """The first byte of this generation that was not read yet."""
        return self._cursor.offset if self._cursor else 0

    @property
    def mtime(self) -> float | None:
        """The open file's last change, seconds since the epoch; ``None`` while there is none."""
        return os.fstat(self._cursor.fd).st_mtime if self._cursor else None

    @property
    def pause_s(self) -> float:
        """At once while there is more, ten times a second under load, four times after it, then
        twice.
        """
        if self.more or self._got:
            return 0.0 if self.more else BUSY_S
        return IDLE_S if self._idle_turns < _IDLE_TURNS else QUIET_S

    def duplicate(self) -> int:
        """A second descriptor of the open file, the caller's own. Raises ``OSError``."""
        if self._cursor is None:
            raise FileNotFoundError(self.path)
        return os.dup(self._cursor.fd)

    def read(self) -> list[Item]:
        """One turn: at most ``turn_bytes``, with breaks between what does not belong together.

        Raises ``SourceFault`` where the path cannot be followed; the state stays as it was.
        """
        out: list[Item] = []
        self._idle_turns = 0 if self._got else self._idle_turns + 1
        self.more = False
        self._got = 0
        if self._cursor is None and not self._first(out):
            return out
        # Looked for before the old file is read: what was written to that until then comes first.
        fault = self._look(out)
        successor = self._successor()
        drained = self._take(out)
        if successor is not None and not drained:
            self.more = True
        elif successor is not None:
            self._switch(successor, out)
        elif fault is not None and drained and not out:
            raise fault
        return out

    def close(self) -> None:
        """Close the files; a later ``read`` would begin anew."""
        while self._waiting:
            os.close(self._waiting.pop())
        if self._cursor is not None:
            os.close(self._cursor.fd)
            self._cursor = None

    def _first(self, out: list[Item]) -> bool:
        try:
            fd = open_log(self._given)
        except _ABSENT:
            if not self._absent:
                self._absent = True
                self.detail = f"{self.path} does not exist yet; waiting for it"
                out.append(self._break("missing", self.detail))
            return False
        info = os.fstat(fd)
        self._inode = _inode(info)
        begin = 0
        if self._absent:
            out.append(self._break("appeared"))
        else:
            self.known_bytes = info.st_size
            self.data_offset = first_data_offset(fd)
            tail = self._tail_bytes
            if tail is not None and info.st_size - self.data_offset > tail:
                begin = line_start(fd, info.st_size - tail, info.st_size)
        self._absent = False
        self.detail = ""
        self.began_offset = begin
        self._cursor = Cursor(fd, begin)
        return True

    def _look(self, out: list[Item]) -> SourceFault | None:
        """Note what has the name now; the fault of a new file that cannot be followed."""
        try:
            if _inode(os.stat(self._given)) != self._inode:
                # Held from now on, so that it is not lost if it is renamed in its turn.
                fd = open_log(self._given)
                self._waiting.append(fd)
                if len(self._waiting) > _MOST_WAITING:
                    os.close(self._waiting.pop(0))
                self._inode = _inode(os.fstat(fd))
            elif self._absent:
                out.append(self._break("appeared"))
        except _ABSENT:
            if not self._absent:
                self._absent = True
                self.detail = f"{self.path} was removed or renamed; reading on in the open file"
                out.append(self._break("missing", self.detail))
            return None
        except PermissionError:
            return denied(self._given)
        except SourceFault as fault:
            return fault
        self._absent = False
        # A server whose output is redirected keeps writing to the file it was started with.
        self.detail = (
            f"{self.path} is new and empty; reading on in the old file, still open"
            if self._waiting
            else ""
        )
        return None

    def _successor(self) -> int | None:
        """Where in the files that wait the first one with something in it stands."""
        filled = (place for place, fd in enumerate(self._waiting) if os.fstat(fd).st_size)
        return next(filled, None)

    def _take(self, out: list[Item]) -> bool:
        """Read what there is; whether the end of the open file was reached."""
        cursor = self._cursor
        assert cursor is not None
        left = self._turn_bytes - self._got
        data = _progress(cursor, left)
        if data is None:
            self.generation += 1
            out.append(self._break("truncated", f"{self.path} was emptied and written anew"))
            cursor = self._cursor = Cursor(cursor.fd)
            data = _progress(cursor, left)
            if data is None:
                self.more = True
                return False
        if data:
            self._got += len(data)
            out.append(LogChunk(data, cursor.offset - len(data), self.generation, self._now()))
        self.more = len(data) >= left
        return not data

    def _switch(self, place: int, out: list[Item]) -> None:
        assert self._cursor is not None
        os.close(self._cursor.fd)
        for fd in self._waiting[:place]:
            os.close(fd)
        self._cursor = Cursor(self._waiting[place])
        del self._waiting[: place + 1]
        if not self._waiting and not self._absent:
            self.detail = ""
        self.generation += 1
        out.append(self._break("rotated", f"{self.path} is a new file"))
        self._take(out)

    def _break(self, reason: BreakReason, detail: str = "") -> LogBreak:
        return LogBreak(reason, self.generation, self._now(), self.path, detail)


def _inode(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _progress(cursor: Cursor, count: int) -> bytes | None:
    """What the cursor reads, past any stretch of NUL bytes at the file's start."""
    while True:
        before = cursor.offset
        data = cursor.read(count)
        if data != b"" or cursor.offset == before:
            return data


class StreamFollower:
    """Reads a pipe (or any descriptor) to its end: ``--log -``. The end is a state, no error.

    ``wait_s`` is how long a turn waits for the first byte; ``stop`` ends the wait between turns.
    """

    generation = 0
    mtime: float | None = None

    def __init__(
        self,
        fd: int,
        name: str = "standard input",
        stop: Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wait_s: float = IDLE_S,
        turn_bytes: int = TURN_BYTES,
    ) -> None:
        """Raises ``SourceFault`` for a terminal, where nobody would ever see an end."""
        if os.isatty(fd):
            mend = "ds4-server ... 2>&1 | ds4top --log -"
            raise SourceFault("unsupported", f"{name} is a terminal; pipe the log into it: {mend}")
        self.path = name
        self.offset = 0
        self.more = False
        self.ended = False
        self._fd = fd
        self._stop = stop or Event()
        self._now = monotonic
        self._wait_s = wait_s
        self._turn_bytes = turn_bytes
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN | select.POLLHUP)

    @property
    def pause_s(self) -> float:
        """At once, for the waiting is done in ``read``; slowly after the end."""
        return ENDED_S if self.ended else 0.0

    def read(self) -> list[Item]:
        """What the pipe holds, up to ``turn_bytes``; waits for it at most ``wait_s``."""
        out: list[Item] = []
        blocks: list[bytes] = []
        size = 0
        wait_s = self._wait_s
        while not self.ended and size < self._turn_bytes and not self._stop.is_set():
            # Polled before each read, instead of O_NONBLOCK: that flag would be set for every
            # program that shares this pipe's end.
            if not self._poll.poll(wait_s * 1000):
                break
            wait_s = 0.0
            block = self._block(min(_PIPE_BYTES, self._turn_bytes - size))
            if block is None:
                break
            self.ended = not block
            blocks.append(block)
            size += len(block)
        self.more = size >= self._turn_bytes
        if size:
            out.append(LogChunk(b"".join(blocks), self.offset, 0, self._now()))
            self.offset += size
        if self.ended and blocks:
            detail = f"{self.path} ended after {self.offset} bytes"
            out.append(LogBreak("ended", 0, self._now(), self.path, detail))
        return out

    def close(self) -> None:
        """The descriptor is the caller's; it stays open."""
        with contextlib.suppress(KeyError):
            self._poll.unregister(self._fd)
        self.ended = True

    def _block(self, count: int) -> bytes | None:
        try:
            return os.read(self._fd, count)
        except BlockingIOError:
            # Another reader of the same pipe was faster.
            return None
        except OSError:
            # A pseudo-terminal whose other side is gone answers EIO: that is its end.
            return b""
