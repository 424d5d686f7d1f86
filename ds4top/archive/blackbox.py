"""The black box: the last ten minutes on disk, so that a machine that dies leaves word.

``BlackBox`` is the file, for one thread. A record is written by ``pwrite`` as soon as it comes (a
ds4top that is killed loses nothing of it) and flushed by ``fdatasync`` by ``core.boxrecord``'s
policy (so does a machine that dies). ``BoxPump`` takes records from any thread without waiting and
is the source whose thread writes them: that thread alone ever waits for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import ClassVar

from ds4top.archive.blackbox_read import PROBLEMS, read_box, read_fd
from ds4top.archive.paths import private_folder, reason_of, sync_folder
from ds4top.core.boxfill import Follower
from ds4top.core.boxrecord import (
    HEADER_BYTES,
    RING_BYTES,
    SLOT_BYTES,
    SLOTS,
    BoxRecord,
    Kind,
    Past,
    boot_of,
    encode_slot,
    flush_due,
    header_bytes,
    header_state,
    is_urgent,
    parse_ring,
)
from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import OK_BYTES
from ds4top.sources.base import Source, SourceFault

RETRY_S = 10.0
MOST_HELD = 1200
"""Records kept for a disk that refuses them: four minutes at five a second."""
_URGENT_TURN_S, _CALM_TURN_S = 0.1, 0.5


class BlackBox:
    """A ring file, owned. No method raises ``OSError``: ``problem`` says what is wrong.

    Records that could not be written or flushed are kept (the newest ``MOST_HELD``) and written
    again ``RETRY_S`` later; ``lost`` counts those that had to go. ``flushed`` is the number of the
    last record that is known to be on the disk. ``past``: what the ring held when it was taken,
    until its pump has told it.
    """

    def __init__(
        self,
        path: Path,
        boot_id: str,
        pwrite: Callable[[int, bytes, int], int] = os.pwrite,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self.path = path
        self.problem = ""
        self.lost = 0
        self.flushed = 0
        self.past: Past | None = None
        self._boot = boot_of(boot_id)
        self._pwrite = pwrite
        self._sync = sync
        self._fd = -1
        self._run = 0
        self._held: deque[tuple[Kind, BoxRecord]] = deque()
        self._first_seq = 0
        self._written = 0
        self._urgent = False
        self._flush_t: float | None = None
        self._retry_t: float | None = None

    @classmethod
    def open(cls, path: Path, boot_id: str, now: float = 0.0) -> BlackBox:
        """Take the ring at monotonic ``now``, made where it is not there; see ``problem``."""
        box = cls(path, boot_id)
        box.tick(now)
        return box

    @property
    def seq(self) -> int:
        """The number of the newest record that was written; 0 before the first."""
        return self._first_seq + self._written - 1 if self._written else self.flushed

    def add(self, record: BoxRecord, now: float, urgent: bool = False) -> None:
        """Write a record, and flush if that is due."""
        self._hold("sample", record)
        before, self._urgent = self._urgent, urgent
        self._go_on(now, flush_due(self._since(now), urgent, before))

    def tick(self, now: float) -> None:
        """Flush what has waited long enough; try again where the disk refused."""
        self._go_on(now, flush_due(self._since(now), self._urgent, self._urgent))

    def flush(self, now: float) -> None:
        """Write and flush now."""
        self._go_on(now, True)

    def close(self, wall: float, t: float, now: float) -> None:
        """Say goodbye: mark the ring as closed, flush, let it go. May be called again."""
        if self._fd >= 0:
            self._hold("closed", BoxRecord(wall, t))
            self._retry_t = None
            self._go_on(now, True)
        self._let_go()

    # writing --------------------------------------------------------------------------------

    def _since(self, now: float) -> float:
        return float("inf") if self._flush_t is None else now - self._flush_t

    def _hold(self, kind: Kind, record: BoxRecord) -> None:
        self._held.append((kind, record))
        if len(self._held) > MOST_HELD:
            self._held.popleft()
            self._first_seq += 1
            self._written = max(self._written - 1, 0)
            self.lost += 1

    def _go_on(self, now: float, flush: bool) -> None:
        if self._retry_t is not None and now < self._retry_t:
            return
        try:
            if self._fd < 0 and not self._take():
                self._retry_t = now + RETRY_S
                return
            self._write()
            if flush and self._held:
                self._flush(now)
        except OSError as error:
            # After a failed flush the kernel may have dropped what it holds: all is written anew.
            self._written = 0
            self._retry_t = now + RETRY_S
            self.problem = f"{self.path}: {reason_of(error)}; tried again"
            self._only_read()
            return
        self._retry_t = None
        self.problem = ""

    def _only_read(self) -> None:
        """What cannot be written may still be read: a disk that came back read-only."""
        if self.past is None:
            box = read_box(self.path)
            if box.past.records and not box.owned:
                self.past = box.past

    def _write(self) -> None:
        while self._written < len(self._held):
            kind, record = self._held[self._written]
            seq = self._first_seq + self._written
            data = encode_slot(seq, self._run, self._boot, kind, record)
            self._put(data, HEADER_BYTES + seq % SLOTS * SLOT_BYTES)
            self._written += 1

    def _put(self, data: bytes, at: int) -> None:
        while data:
            done = self._pwrite(self._fd, data, at)
            data, at = data[done:], at + done

    def _flush(self, now: float) -> None:
        self._sync(self._fd)
        self._flush_t = now
        if not os.fstat(self._fd).st_nlink:
            # Somebody removed the file: what is in it is lost with it.
            self._let_go()
            self._written = 0
            raise FileNotFoundError(errno.ENOENT, "removed")
        self._first_seq += self._written
        self.flushed = self._first_seq - 1
        for _ in range(self._written):
            self._held.popleft()
        self._written = 0

    # the file -------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Own the ring. Raises ``OSError``; ``False`` with ``problem`` where it is not for us."""
        private_folder(self.path.parent)
        for _ in range(2):
            # Not blocking: a pipe by this name must not stop us.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(self.path, flags, 0o600)
            try:
                taken = self._inspect()
            except OSError:
                self._let_go()
                raise
            if taken is None:
                continue
            if not taken:
                self._let_go()
            return taken
        self.problem = f"{self.path} {PROBLEMS['damaged']} and could not be moved aside"
        return False

    def _inspect(self) -> bool | None:
        """Whether the file that is open is ours now; ``None``: it was moved aside, open anew."""
        fd = self._fd
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self.problem = f"{self.path} is no file"
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.problem = f"another ds4top keeps {self.path}"
            return False
        data = read_fd(fd)
        state = header_state(data)
        if state == "foreign":
            self.problem = f"{self.path} {PROBLEMS[state]}"
            return False
        if state in PROBLEMS:
            os.rename(self.path, self.path.with_name(self.path.name + ".old"))
            self._let_go()
            return None
        os.fchmod(fd, 0o600)
        if len(data) < RING_BYTES:
            self._reserve(new=state == "empty")
        if state == "empty":
            self._put(header_bytes(), 0)
            os.fsync(fd)
            sync_folder(self.path.parent)
        past = parse_ring(data)
        if self.past is None:
            self.past = past
        self._run = past.last_run + 1
        self._first_seq = past.last_seq + 1
        self._written = 0
        return True

    def _reserve(self, *, new: bool) -> None:
        """All the room at once: a disk that fills up later cannot take it back."""
        try:
            os.posix_fallocate(self._fd, 0, RING_BYTES)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                if new:
                    os.ftruncate(self._fd, 0)
                raise
            os.ftruncate(self._fd, RING_BYTES)

    def _let_go(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True, slots=True)
class BoxPast:
    """What the box held when it was taken: the last run of ds4top on this machine."""

    queued: ClassVar[bool] = True
    past: Past


class BoxPump:
    """Source ``black box``: takes moments from any thread, writes them in its own.

    ``look`` and ``memory`` only append to a bounded queue, of which the oldest goes: they never
    wait for the disk. The first turn gives ``BoxPast``; a problem is a ``SourceFault``, so that
    the Sources view shows it; records are taken on meanwhile.
    """

    name = "black box"
    backoff_most_s = 2.0
    """The box itself paces what it tries again; its thread must go on taking records."""

    def __init__(self, box: BlackBox, ok_bytes: int = OK_BYTES, capacity: int = 256) -> None:
        self.box = box
        self.dropped = 0
        self._ok_bytes = ok_bytes
        self._lock = Lock()
        self._waiting: deque[BoxRecord] = deque(maxlen=capacity)
        self._follower = Follower()
        self._urgent = False
        self._told = False
        self._last: BoxRecord | None = None

    @property
    def interval_s(self) -> float:
        """A tenth of a second while it matters."""
        return _URGENT_TURN_S if self._urgent else _CALM_TURN_S

    def look(self, frame: BoxRecord) -> None:
        """All that is known besides memory, as of now; it goes with the memory samples to come."""
        with self._lock:
            self._follower.frame = frame

    def memory(self, sample: MemorySample) -> None:
        """A memory sample, from the thread that took it: one record."""
        with self._lock:
            if len(self._waiting) == self._waiting.maxlen:
                self.dropped += 1
            record = self._follower.memory(sample)
            self._waiting.append(record)
            self._urgent = is_urgent(record, self._ok_bytes)

    def open(self) -> None:
        """Nothing: the box is taken in the first turn."""

    def read(self, now: float) -> Sequence[BoxPast]:
        """Write what waits. Raises ``SourceFault``: the disk or another ds4top is in the way."""
        with self._lock:
            records = list(self._waiting)
            self._waiting.clear()
        for record in records:
            self.box.add(record, now, is_urgent(record, self._ok_bytes))
            self._last = record
        self.box.tick(now)
        if self.box.past is not None and not self._told:
            self._told = True
            past, self.box.past = self.box.past, replace(self.box.past, records=())
            return (BoxPast(past),)
        if self.box.problem:
            raise SourceFault("error", self.box.problem)
        return ()

    def close(self) -> None:
        """Write what waits and mark the box as closed."""
        with contextlib.suppress(SourceFault):
            self.read(float("inf"))
        last = self._last
        self.box.close(last.wall if last else 0.0, last.t if last else 0.0, float("inf"))


class Tapped:
    """A source that shows each of its samples to somebody, in its own thread, before all others."""

    def __init__(self, source: Source, tap: Callable[[object], None]) -> None:
        self._source = source
        self._tap = tap

    @property
    def name(self) -> str:
        """Of the source itself."""
        return self._source.name

    @property
    def interval_s(self) -> float:
        """Of the source itself."""
        return self._source.interval_s

    def open(self) -> None:
        """Open the source."""
        self._source.open()

    def read(self, now: float) -> Sequence[object]:
        """The source's samples."""
        samples = self._source.read(now)
        for sample in samples:
            self._tap(sample)
        return samples

    def close(self) -> None:
        """Close the source."""
        self._source.close()
