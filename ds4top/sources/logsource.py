"""The log as a source: follower, reader and what the store needs to know, in one.

A big file is not waited for. Its tail goes to the live store at once; the whole of it is read in
the background into a second store, which replaces the first when both stand at the same byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread

from ds4top.core.events import Event as LogEvent
from ds4top.sources.backfill import Backfill
from ds4top.sources.base import SYSTEM_CLOCK, Clock
from ds4top.sources.logtail import TURN_BYTES, Follower, LogFollower
from ds4top.sources.samples import (
    HistoryProgress,
    HistorySwap,
    LogBreak,
    LogChunk,
    LogEvents,
    Reader,
    Store,
)

TAIL_BYTES = 2 * 1024 * 1024
"""Of a bigger file this much is shown at once."""
_SLICE_PAUSE_S = 0.005
_CAUGHT_UP_PAUSE_S = 0.05

MakeReader = Callable[[float], Reader]
"""From the file's mtime (seconds since the epoch), which settles the year of its stamps."""
MakeStore = Callable[[], Store]
Spawn = Callable[[Callable[[], None]], None]


def spawn_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in a daemon thread."""
    Thread(target=work, name="log-history", daemon=True).start()


class LogSource:
    """Source of ``LogEvents``, ``LogBreak``, ``HistoryProgress`` and ``HistorySwap`` samples."""

    name = "log"

    def __init__(
        self,
        follower: Follower,
        make_reader: MakeReader,
        make_store: MakeStore,
        clock: Clock = SYSTEM_CLOCK,
        spawn: Spawn = spawn_thread,
    ) -> None:
        """``make_store`` is called only for a file that is bigger than the follower's tail."""
        self.follower = follower
        self.backfill: Backfill | None = None
        self._make_reader = make_reader
        self._make_store = make_store
        self._clock = clock
        self._spawn = spawn
        self._stop = Event()
        self._reader: Reader | None = None
        self._began = False
        self._generation = 0
        self._told: tuple[int, int, str] | None = None

    @property
    def interval_s(self) -> float:
        """The follower's own pace."""
        return self.follower.pause_s

    @property
    def lines(self) -> int:
        """Physical lines of the log as far as it is known; the whole once the history is in."""
        return self._reader.lines if self._reader else 0

    def open(self) -> None:
        """Nothing to do: the follower opens when it can."""

    def read(self, now: float) -> Sequence[object]:
        """One turn of the follower, as samples."""
        out: list[object] = []
        self._swap(out)
        items = self.follower.read()
        for item in items:
            if isinstance(item, LogBreak):
                self._break(item, out)
            else:
                self._chunk(item, out)
        self._begin_history()
        self._progress(out)
        return out

    def close(self) -> None:
        """End the background reading and let go of the file."""
        self._stop.set()
        if self.backfill is not None:
            self.backfill.abandon("ended")
        self.follower.close()

    def _opened(self) -> Reader:
        if self._reader is None:
            mtime = self.follower.mtime
            self._reader = self._make_reader(self._clock.wall() if mtime is None else mtime)
        return self._reader

    def _chunk(self, chunk: LogChunk, out: list[object]) -> None:
        reader = self._opened()
        before = reader.lines
        events = reader.feed(chunk.data)
        out.append(
            self._events(
                events, reader.lines - before, chunk.generation, self._is_live(chunk), chunk.data
            )
        )
        if self.backfill is not None and chunk.generation == self._generation:
            self.backfill.grew(chunk.offset + len(chunk.data))

    def _is_live(self, chunk: LogChunk) -> bool:
        if isinstance(self.follower, LogFollower):
            return chunk.generation > 0 or chunk.offset >= self.follower.known_bytes
        # A pipe that fills whole turns is being caught up with, not followed.
        return not self.follower.more

    def _break(self, item: LogBreak, out: list[object]) -> None:
        if item.closes and self._reader is not None:
            events = self._reader.close()
            if events:
                out.append(self._events(events, 0, self._generation, True, b""))
        out.append(item)
        if self.backfill is not None:
            if item.reason == "truncated":
                self.backfill.abandon("the log was emptied before its beginning had been read")
            elif item.reason == "rotated" and isinstance(self.follower, LogFollower):
                self.backfill.rotated(self.follower.duplicate(), item.generation)
        self._generation = item.generation

    def _events(
        self, events: Sequence[LogEvent], lines: int, generation: int, live: bool, data: bytes
    ) -> LogEvents:
        clock = self._clock
        return LogEvents(
            tuple(events), lines, clock.monotonic(), clock.wall(), generation, live, data
        )

    def _begin_history(self) -> None:
        """Once, after the first turn that found the file: is there anything before its tail?"""
        follower = self.follower
        if self._began or not isinstance(follower, LogFollower) or follower.mtime is None:
            return
        self._began = True
        if follower.began_offset <= follower.data_offset or follower.generation:
            return
        self.backfill = Backfill(
            follower.duplicate(),
            0,
            follower.offset,
            self._make_reader(follower.mtime),
            self._make_store(),
        )
        self._spawn(self._read_history)

    def _read_history(self) -> None:
        backfill = self.backfill
        assert backfill is not None
        while backfill.state == "reading" and not self._stop.is_set():
            worked = backfill.slice()
            self._stop.wait(_SLICE_PAUSE_S if worked else _CAUGHT_UP_PAUSE_S)

    def _swap(self, out: list[object]) -> None:
        backfill = self.backfill
        if backfill is None or not backfill.finish(TURN_BYTES):
            return
        assert isinstance(self.follower, LogFollower)
        self._reader = backfill.reader
        now, wall = self._clock.monotonic(), self._clock.wall()
        place = (self.follower.offset, self._generation)
        self._progress(out)
        out.append(HistorySwap(backfill.store, self.lines, *place, now, wall))

    def _progress(self, out: list[object]) -> None:
        backfill = self.backfill
        if backfill is None:
            return
        done, total = backfill.progress()
        told = (done, total, backfill.state)
        if told != self._told:
            self._told = told
            now = self._clock.monotonic()
            out.append(HistoryProgress(done, total, backfill.state, now, backfill.note))
        if backfill.state != "reading":
            self.backfill = None
