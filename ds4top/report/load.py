"""Reads the log files of a report: as a stream, in 1 MiB pieces, through the one parser.

Several files are read in the order of their first stamp, the same file only once, ``.gz`` as it
is and ``-`` from standard input. The log has no year: it is the newest one that puts a file's last
stamp no later than its mtime and a day; ``year`` instead names the year of the last stamp of the
last file. Only where the first guess turns out wrong at the end of a file are the files read again.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import BinaryIO, cast

from ds4top.core.figures import Report, SourceFacts, SourceNote, assemble
from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import DAY_S, StampClock
from ds4top.core.state import LogState
from ds4top.core.tally import RequestSink, Tally, Window

CHUNK_BYTES = 1 << 20
STDIN = "-"
_PEEK_BYTES = 8 << 20
_SPOOL_BYTES = 8 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_READINGS = 3


class LogFileError(Exception):
    """A file that cannot be read: ``path`` and the ``reason`` in words."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Source:
    path: str
    raw: BinaryIO
    packed: bool
    latest: float
    first_at: float | None
    first_year: int | None

    def open(self) -> BinaryIO:
        self.raw.seek(0)
        return cast(BinaryIO, gzip.GzipFile(fileobj=self.raw)) if self.packed else self.raw


def load(
    paths: Sequence[str],
    *,
    now: float,
    tz: tzinfo | None = None,
    year: int | None = None,
    window: Window | None = None,
    sink_for: Callable[[], RequestSink] | None = None,
    stdin: BinaryIO | None = None,
) -> Report:
    """Read log files into a report.

    ``now`` (seconds since the epoch) bounds the stamps of standard input. ``sink_for`` is called
    at the beginning of each reading, and what it gives sees each request of the window once, in
    the order in which they began. Raises ``LogFileError``.
    """
    with ExitStack() as stack:
        sources = _sources(paths, now, tz, stdin, stack)
        years = [source.first_year for source in sources]
        if year is not None and (last := _last(years)) is not None:
            years = _shifted(years, year - last)
        for reading in range(_READINGS):
            tally = Tally(window or Window(), sink_for() if sink_for else None)
            state = LogState()
            facts, clocks = _read(sources, years, tz, state, tally)
            right = _right_years(years, clocks, year)
            if right == years or reading == _READINGS - 1:
                break
            years = right
        notes = (*_year_notes(clocks, year), *facts.notes)
        return assemble(tally, state, replace(facts, notes=notes), tz)


def _last(years: Sequence[int | None]) -> int | None:
    return next((y for y in reversed(years) if y is not None), None)


def _shifted(years: Sequence[int | None], by: int) -> list[int | None]:
    return [None if y is None else y + by for y in years]


def _right_years(
    years: list[int | None], clocks: Sequence[StampClock], year: int | None
) -> list[int | None]:
    """The year of each file's first stamp, by what its last stamp turned out to be."""
    if year is None:
        pairs = zip(years, clocks, strict=True)
        return [None if y is None else y + clock.years_off() for y, clock in pairs]
    last = _last([clock.year for clock in clocks])
    return years if last is None else _shifted(years, year - last)


def _year_notes(clocks: Sequence[StampClock], year: int | None) -> Iterable[SourceNote]:
    if any(clock.year is not None for clock in clocks):
        how = "given with --year" if year is not None else "taken from the time of the file"
        yield SourceNote("year", "ok", f"the log's stamps have no year; it was {how}")


def _sources(
    paths: Sequence[str], now: float, tz: tzinfo | None, stdin: BinaryIO | None, stack: ExitStack
) -> list[_Source]:
    found: list[_Source] = []
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            if path == STDIN:
                if any(source.path == STDIN for source in found):
                    continue
                raw, latest = _spooled(stdin or sys.stdin.buffer, stack), now + DAY_S
            else:
                raw = stack.enter_context(open(path, "rb"))  # noqa: SIM115
                about = os.fstat(raw.fileno())
                if (about.st_dev, about.st_ino) in seen:
                    continue
                seen.add((about.st_dev, about.st_ino))
                latest = about.st_mtime + DAY_S
                if not raw.seekable():
                    raw, latest = _spooled(raw, stack), now + DAY_S
            found.append(_peeked(path, raw, latest, tz))
        except _READ_ERRORS as error:
            raise LogFileError(path, _words(error)) from error
    return sorted(found, key=lambda s: (s.first_at is None, s.first_at or 0.0))


_READ_ERRORS = (OSError, EOFError, zlib.error)


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _spooled(stream: BinaryIO, stack: ExitStack) -> BinaryIO:
    """A pipe that can be read twice: small ones in memory, large ones in a temporary file."""
    spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115
    while data := stream.read(CHUNK_BYTES):
        spool.write(data)
    return cast(BinaryIO, spool)


def _peeked(path: str, raw: BinaryIO, latest: float, tz: tzinfo | None) -> _Source:
    """A source with the time of its first stamp, by which files are ordered."""
    raw.seek(0)
    packed = raw.read(2) == _GZIP_MAGIC
    source = _Source(path, raw, packed, latest, None, None)
    stream, size, first = source.open(), 0, None
    clock = StampClock(latest, tz)
    reader = LogReader(clock)
    while first is None and size < _PEEK_BYTES and (data := stream.read(1 << 16)):
        size += len(data)
        first = next((e.at for e in reader.feed(data) if e.at is not None), None)
    # The first stamp's year, though the piece that was read may reach into the next year.
    first_year = None
    if clock.first is not None:
        first_year = datetime.fromtimestamp(clock.first, tz).year
    return replace(source, first_at=first, first_year=first_year)


def _read(
    sources: Sequence[_Source], years: Sequence[int | None], tz: tzinfo | None,
    state: LogState, tally: Tally,
) -> tuple[SourceFacts, list[StampClock]]:  # fmt: skip
    reducer = Reducer(state)
    clocks: list[StampClock] = []
    lines = unrecognised = 0
    last_at: float | None = None
    for source, year in zip(sources, years, strict=True):
        clock = StampClock(source.latest, tz, year)
        reader = LogReader(clock)
        try:
            stream = source.open()
            while data := stream.read(CHUNK_BYTES):
                reducer.apply(reader.feed(data))
                tally.drain(state)
        except _READ_ERRORS as error:
            raise LogFileError(source.path, _words(error)) from error
        reducer.apply(reader.close())
        lines += reader.lines
        unrecognised += reader.unrecognised
        clocks.append(clock)
        # Files may overlap: the last line read need not be the latest.
        if state.last_at is not None and (last_at is None or state.last_at > last_at):
            last_at = state.last_at
    tally.finish(state)
    return SourceFacts(tuple(s.path for s in sources), lines, unrecognised, last_at), clocks
