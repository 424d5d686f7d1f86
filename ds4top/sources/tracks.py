"""What a replay plays: frames of a raw log by its own stamps, or of a recording by its times.

A raw log tells time only in stamped lines, in whole seconds. A frame is all that one stamp's lines
hold; lines without a stamp (engine lines, progress) ride with the next stamped line: it is the
first moment at which they are known to have been there. Spreading them over the gap before it
would invent times, and rates with them.
"""

from __future__ import annotations

import base64
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ds4top.sources.base import SourceFault
from ds4top.sources.logpath import open_log

FRAME_BYTES = 256 * 1024
_BLOCK_BYTES = 1024 * 1024
# The first stamped message of a line, after what a carrier (journald, docker) or progress put
# before it; a stamp later in the line is text.
_STAMPED = re.compile(rb"(?:\A|[\n\r])[^\n\r]{0,160}?(\d{4} \d\d:\d\d:\d\d) ds4-server: ")

StampTime = Callable[[str], float | None]
"""Epoch seconds of ``MMDD HH:MM:SS``; stamps are given in their order."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What happened by ``at`` (epoch seconds): bytes of the log, a break of it, or a sample."""

    at: float
    log: bytes = b""
    live: bool = True
    broken: str = ""
    source: str = ""
    data: Mapping[str, Any] | None = None


class Track(Protocol):
    """Frames in the order of their times."""

    @property
    def times(self) -> Sequence[float]:
        """Epoch seconds of each frame, never going back."""
        ...

    @property
    def mtime(self) -> float:
        """What settles the year of the log's stamps, epoch seconds."""
        ...

    def open(self) -> None:
        """Find the times. Raises ``SourceFault`` or ``OSError``."""
        ...

    def frames(self, start: int, stop: int) -> Iterator[tuple[int, Frame]]:
        """Frames from ``start``, each with the index that follows it; bytes may come merged."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class LogTrack:
    """A raw server log. ``make_clock`` gives the stamps' times, from the file's mtime."""

    def __init__(self, path: str, make_clock: Callable[[float], StampTime]) -> None:
        self.path = path
        self.times: Sequence[float] = array("d")
        self.mtime = 0.0
        self._make_clock = make_clock
        self._ends: Sequence[int] = array("q")
        self._fd = -1

    def open(self) -> None:
        """Read the file once for its stamps. Raises ``SourceFault``, ``OSError``."""
        try:
            self._fd = open_log(self.path)
        except FileNotFoundError:
            raise SourceFault("not_found", f"{self.path} does not exist") from None
        self.mtime = os.fstat(self._fd).st_mtime
        index = _StampIndex(self._make_clock(self.mtime))
        place, carry = 0, b""
        while block := os.pread(self._fd, _BLOCK_BYTES, place + len(carry)):
            block = carry + block
            cut = block.rfind(b"\n") + 1 or len(block)
            index.scan(block[:cut], place)
            place, carry = place + cut, block[cut:]
        index.scan(carry, place)
        self.times, self._ends = index.finish(place + len(carry), self.mtime)

    def frames(self, start: int, stop: int) -> Iterator[tuple[int, Frame]]:
        """Frames that follow each other, merged up to ``FRAME_BYTES``."""
        while start < stop:
            begin = self._ends[start - 1] if start else 0
            end = max(start + 1, min(stop, bisect_right(self._ends, begin + FRAME_BYTES)))
            data = os.pread(self._fd, self._ends[end - 1] - begin, begin)
            yield end, Frame(self.times[end - 1], data)
            start = end

    def close(self) -> None:
        """Close the file; ``open`` may follow."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _StampIndex:
    """Where the lines of each stamp end, found without parsing a line."""

    def __init__(self, time_of: StampTime) -> None:
        self._time_of = time_of
        self._stamp = b""
        self._at: float | None = None
        self._line_end = 0
        self._times = array("d")
        self._ends = array("q")

    def scan(self, block: bytes, base: int) -> None:
        """Whole lines that stand at ``base``."""
        newest = -1
        for match in _STAMPED.finditer(block):
            stamp = match[1]
            if stamp != self._stamp:
                at = self._time_of(stamp.decode())
                if at is None:
                    continue
                if newest >= 0:
                    self._line_end = base + _line_end(block, newest)
                if self._at is not None:
                    self._add(self._at, self._line_end)
                self._stamp, self._at = stamp, at
            newest = match.end()
        if newest >= 0:
            self._line_end = base + _line_end(block, newest)

    def finish(self, size: int, mtime: float) -> tuple[array[float], array[int]]:
        """Times that never go back, and ends; the last frame takes what is left."""
        if size:
            self._add(mtime if self._at is None else self._at, size)
        times = self._times
        # Model text can forge a stamp: one that neither neighbour bears out is not believed.
        for place in range(1, len(times) - 1):
            before, here, after = times[place - 1 : place + 2]
            if before <= after and not before <= here <= after:
                times[place] = before
        for place in range(1, len(times)):
            times[place] = max(times[place], times[place - 1])
        return times, self._ends

    def _add(self, at: float, end: int) -> None:
        begin = self._ends[-1] if self._ends else 0
        while end - begin > FRAME_BYTES:
            begin += FRAME_BYTES
            self._times.append(at)
            self._ends.append(begin)
        self._times.append(at)
        self._ends.append(end)


def _line_end(block: bytes, place: int) -> int:
    return block.find(b"\n", place) + 1 or len(block)


class RecordedSample(Protocol):
    """One line of a recording."""

    @property
    def t(self) -> float:
        """Seconds since the recording began."""
        ...

    @property
    def source(self) -> str:
        """Who it came from; ``log`` for the log."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """The sample as plain values."""
        ...


class RecordingLike(Protocol):
    """A recording that is indexed already."""

    @property
    def times(self) -> Sequence[float]:
        """Seconds since the start, of each sample."""
        ...

    @property
    def wall_start(self) -> float:
        """When it began, epoch seconds."""
        ...

    def read(self, start: int, stop: int) -> Iterator[RecordedSample]:
        """The samples from ``start`` up to ``stop``."""
        ...


class RecordTrack:
    """A recording as a track."""

    def __init__(self, recording: RecordingLike) -> None:
        start = recording.wall_start
        self.times: Sequence[float] = array("d", (start + t for t in recording.times))
        self.mtime = self.times[-1] if self.times else start
        self._recording = recording

    def open(self) -> None:
        """Nothing to do: it was read when it was opened."""

    def frames(self, start: int, stop: int) -> Iterator[tuple[int, Frame]]:
        """One frame for each sample."""
        for place, sample in enumerate(self._recording.read(start, stop), start):
            at, data = self.times[place], sample.data
            if sample.source != "log":
                yield place + 1, Frame(at, source=sample.source, data=data)
            elif "break" in data:
                yield place + 1, Frame(at, broken=str(data["break"]))
            else:
                yield place + 1, Frame(at, _log_bytes(data), bool(data.get("live", True)))

    def close(self) -> None:
        """Nothing is held open between reads."""


def _log_bytes(data: Mapping[str, Any]) -> bytes:
    if "base64" in data:
        return base64.b64decode(str(data["base64"]))
    return str(data.get("text", "")).encode("utf-8", "surrogateescape")
