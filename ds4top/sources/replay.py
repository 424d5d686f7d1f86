"""Plays a recording or a raw log in its own time, with the samples of the live sources.

Everything that looks at a clock is given the ``ReplayClock``: its time is the time of what is
played, so ages, rates and "today" are right at any speed, and stand still while it is paused.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

from ds4top.core.events import Event as LogEvent
from ds4top.sources.base import Clock, SourceFault
from ds4top.sources.samples import (
    BreakReason,
    LogBreak,
    LogEvents,
    Reader,
    ReplayPosition,
    ReplayReset,
)
from ds4top.sources.tracks import FRAME_BYTES, Frame, Track

PLAY_S = 0.1
TURN_BYTES = 1024 * 1024
_TURN_FRAMES = 2_000
_BREAKS: dict[str, BreakReason] = {
    "rotated": "rotated",
    "truncated": "truncated",
    "missing": "missing",
    "appeared": "appeared",
    "ended": "ended",
}

Decode = Callable[[str, Mapping[str, Any], float], object | None]
"""From source, plain data and replay time to the sample; ``None``: not known to this version."""


class ReplayClock:
    """Maps real time to the time of what is played, epoch seconds. Safe to use from any thread.

    ``monotonic=None`` makes a fixed clock, for tests and pictures: only ``advance`` and ``seek``
    move it.
    """

    def __init__(
        self, speed: float = 1.0, monotonic: Callable[[], float] | None = time.monotonic
    ) -> None:
        """Raises ``ValueError`` unless ``speed`` is above 0."""
        if not speed > 0:
            raise ValueError(f"the speed of a replay is above 0, not {speed:g}")
        self.begin = 0.0
        self.end = 0.0
        self._seeks = 0
        self._speed = speed
        self._monotonic = monotonic
        self._lock = Lock()
        self._paused = False
        self._at = 0.0
        self._since = 0.0

    def load(self, begin: float, end: float) -> None:
        """Stand at ``begin`` of a track that ends at ``end``."""
        with self._lock:
            self.begin, self.end = begin, max(begin, end)
            self._hold(begin)

    def now(self) -> float:
        """The time that is played, never outside the track."""
        with self._lock:
            return self._now()

    def look(self) -> tuple[float, int]:
        """``now`` and how often it jumped until then."""
        with self._lock:
            return self._now(), self._seeks

    @property
    def speed(self) -> float:
        """How many times faster than it was."""
        return self._speed

    @property
    def paused(self) -> bool:
        """Whether time stands still by order."""
        return self._paused

    def pause(self) -> None:
        """Stand still."""
        with self._lock:
            self._hold(self._now())
            self._paused = True

    def resume(self) -> None:
        """Go on from where it stands."""
        with self._lock:
            self._hold(self._now())
            self._paused = False

    def seek(self, seconds: float) -> None:
        """Jump by ``seconds`` of played time, forward or back."""
        with self._lock:
            self._jump(self._now() + seconds)

    def advance(self, to: float) -> None:
        """Play on to ``to``, epoch seconds: how a fixed clock moves. Never goes back."""
        with self._lock:
            self._hold(max(self._now(), to))

    def clock(self) -> Clock:
        """This clock for everything that wants one: both its times are the played time."""
        return Clock(self.now, self.now)

    def _now(self) -> float:
        at = self._at
        if self._monotonic is not None and not self._paused:
            at += (self._monotonic() - self._since) * self._speed
        return min(max(at, self.begin), self.end)

    def _jump(self, at: float) -> None:
        self._seeks += 1
        self._hold(at)

    def _hold(self, at: float) -> None:
        self._at = min(max(at, self.begin), self.end)
        self._since = self._monotonic() if self._monotonic is not None else 0.0


class ReplaySource:
    """Source of what a track holds, up to the time that its clock shows.

    Going back hands out a ``ReplayReset``, and then everything from the start up to there. What
    was jumped over is not ``live``. ``decode`` turns recorded values of other sources into their
    samples; without it only the log is played.
    """

    name = "replay"

    def __init__(
        self,
        track: Track,
        clock: ReplayClock,
        make_reader: Callable[[float], Reader],
        decode: Decode | None = None,
    ) -> None:
        self.track = track
        self.clock = clock
        self.more = False
        self._make_reader = make_reader
        self._decode = decode
        self._reader: Reader | None = None
        self._next = 0
        self._generation = 0
        self._seeks = 0
        self._past_until = float("-inf")

    @property
    def interval_s(self) -> float:
        """At once while there is more to hand out, else ten times a second."""
        return 0.0 if self.more else PLAY_S

    def open(self) -> None:
        """Index the track and stand at its start. Raises ``SourceFault``, ``OSError``."""
        self.track.open()
        times = self.track.times
        if not times:
            raise SourceFault("parse", "there is nothing in it to replay")
        self.clock.load(times[0], times[-1])
        self._restart()

    def read(self, now: float) -> Sequence[object]:
        """What happened since the last turn, about ``TURN_BYTES`` at most, and the position."""
        out: list[object] = []
        at, seeks = self.clock.look()
        wanted = bisect_right(self.track.times, at)
        if seeks != self._seeks:
            self._seeks = seeks
            self._past_until = at
        if wanted < self._next:
            self._restart()
            out.append(ReplayReset(at))
        self._play(wanted, out)
        self.more = self._next < wanted
        out.append(self._position(at))
        return out

    def read_to(self, at: float) -> list[object]:
        """Advance a fixed clock to ``at`` and hand out everything up to there."""
        self.clock.advance(at)
        out = list(self.read(at))
        while self.more:
            out += self.read(at)
        return out

    def close(self) -> None:
        """Let go of the file."""
        self.track.close()

    @property
    def _opened(self) -> Reader:
        if self._reader is None:
            self._reader = self._make_reader(self.track.mtime)
        return self._reader

    def _restart(self) -> None:
        self._reader = None
        self._next = 0
        self._generation = 0

    def _play(self, wanted: int, out: list[object]) -> None:
        # What was jumped over and what is played are never in one sample.
        past = bisect_right(self.track.times, self._past_until)
        live = self._next >= past
        stop = wanted if live else min(wanted, past)
        batch = _Batch(live)
        spent = 0
        frames = self.track.frames(self._next, stop)
        for count, (following, frame) in enumerate(frames, 1):
            self._next = following
            spent += len(frame.log)
            if frame.log:
                if not batch.takes(frame):
                    self._log(batch, out)
                    batch = _Batch(live)
                batch.add(frame)
            elif frame.broken:
                self._log(batch, out)
                batch = _Batch(live)
                self._break(frame, out)
            elif self._decode is not None and frame.data is not None:
                sample = self._decode(frame.source, frame.data, frame.at)
                if sample is not None:
                    out.append(sample)
            if spent >= TURN_BYTES or count >= _TURN_FRAMES:
                break
        self._log(batch, out)

    def _log(self, batch: _Batch, out: list[object]) -> None:
        data = b"".join(batch.blocks)
        if data:
            reader = self._opened
            before = reader.lines
            events = reader.feed(data)
            lines = reader.lines - before
            out.append(self._events(events, lines, batch.at, batch.live, data))

    def _break(self, frame: Frame, out: list[object]) -> None:
        reason = _BREAKS.get(frame.broken)
        if reason is None:
            return
        item = LogBreak(reason, self._generation, frame.at, "", "as recorded")
        if item.closes:
            events = self._opened.close()
            if events:
                out.append(self._events(events, 0, frame.at, True, b""))
        if reason in ("rotated", "truncated"):
            self._generation += 1
            item = replace(item, generation=self._generation)
        out.append(item)

    def _events(
        self, events: Sequence[LogEvent], lines: int, at: float, live: bool, data: bytes
    ) -> LogEvents:
        return LogEvents(tuple(events), lines, at, at, self._generation, live, data)

    def _position(self, at: float) -> ReplayPosition:
        clock = self.clock
        return ReplayPosition(
            position_s=at - clock.begin,
            total_s=clock.end - clock.begin,
            wall=at,
            speed=clock.speed,
            paused=clock.paused,
            ended=at >= clock.end and not self.more,
            t=at,
        )


class _Batch:
    """Bytes that become one sample."""

    __slots__ = ("at", "blocks", "live", "size", "was_live")

    def __init__(self, live: bool) -> None:
        self.live = live
        self.was_live = True
        self.blocks: list[bytes] = []
        self.size = 0
        self.at = 0.0

    def takes(self, frame: Frame) -> bool:
        """Whether ``frame`` may go in with what is there."""
        return not self.blocks or (self.was_live == frame.live and self.size < FRAME_BYTES)

    def add(self, frame: Frame) -> None:
        """Take it."""
        self.was_live = frame.live
        self.live = self.live and frame.live
        self.blocks.append(frame.log)
        self.size += len(frame.log)
        self.at = frame.at
