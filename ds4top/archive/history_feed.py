"""What of a log and a machine goes into the history, and when: each thing once it is settled."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from ds4top.archive.history_schema import (
    DecodeRow,
    MinimumRow,
    RequestRow,
    Subject,
    request_row,
    start_row,
)
from ds4top.core.kept import start_s
from ds4top.core.memtrack import MINUTE_S, MemoryTrack
from ds4top.core.state import Life, LogState, Request

if TYPE_CHECKING:
    from ds4top.archive.history import NoHistory

UNKNOWN = "unknown"
_MOST_ROWS, _MOST_REQUESTS = 2_000, 500
"""Decode samples and requests a call looks at: a long log is spread over several."""


class Feed:
    """Call ``take`` about once a second, ``close`` at the end. Not for a replay."""

    def __init__(self, history: NoHistory, machine: str) -> None:
        self._history = history
        self._machine = machine
        self._log: LogState | None = None
        self._minute: int | None = None
        self.starts = 0
        """How many starts were handed over."""
        self._forget()

    def _forget(self) -> None:
        self._requests = self._samples = 0
        self._open: list[Request] = []
        self._over: list[Request] = []
        self._equal: Counter[tuple[float, int, int]] = Counter()
        self._ordinals: dict[int, int] = {}
        self._start: tuple[int, str] | None = None

    def take(
        self,
        log: LogState,
        subject: Subject | None,
        memory: MemoryTrack,
        started_wall: float | None = None,
    ) -> None:
        """``subject``: the server that runs, ``None`` where none is seen. Its residency may be
        ``unknown``; decode samples then wait until it is known. ``started_wall``: of its process.
        """
        if log is not self._log:
            # The whole of the log in place of its end: what is written twice is kept once.
            self._log = log
            self._forget()
        self._take_requests(log)
        if subject is not None and log.life is not None:
            self._take_start(log.life, subject, started_wall)
            read = self._requests == log.requests_dropped + len(log.requests)
            if subject.residency != UNKNOWN and read:
                self._take_samples(log, log.life, subject)
        self._take_minutes(memory)

    def close(self) -> None:
        """Hand over what had only just ended."""
        self._give([r for r in (*self._over, *self._open) if not r.is_open])
        self._over, self._open = [], []

    def _take_requests(self, log: LogState) -> None:
        begin = max(self._requests - log.requests_dropped, 0)
        end = min(len(log.requests), begin + _MOST_REQUESTS)
        for request in log.requests[begin:end]:
            self._open.append(request)
            if request.started_at is not None:
                key = (request.started_at, request.prompt_tokens, request.cached_tokens)
                self._ordinals[request.number] = self._equal[key]
                self._equal[key] += 1
        self._requests = log.requests_dropped + end
        # A client that went may be followed by the finish line of its request: not at once.
        self._give(self._over)
        self._over = [request for request in self._open if not request.is_open]
        self._open = [request for request in self._open if request.is_open]
        if len(self._equal) > 1_000:
            self._equal.clear()

    def _give(self, requests: list[Request]) -> None:
        lives = {life.number: life for life in self._log.lives} if self._log and requests else {}
        rows: list[RequestRow] = []
        for request in requests:
            ordinal = self._ordinals.pop(request.number, None)
            if ordinal is not None:
                life = lives.get(request.life)
                rows.append(request_row(self._machine, request, life, ordinal))
        if rows:
            self._history.add(rows)

    def _take_start(self, life: Life, subject: Subject, started_wall: float | None) -> None:
        done = (life.number, subject.residency)
        if self._start == done:
            return
        stages = json.dumps([[s.stage, s.done_gib, s.elapsed_s] for s in life.stages])
        row = start_row(
            self._machine, life, subject.model, subject.build, subject.residency, stages,
            start_s(life, started_wall),
        )  # fmt: skip
        if row is not None:
            self._start = done
            self.starts += 1
            self._history.add([row])

    def _take_samples(self, log: LogState, life: Life, subject: Subject) -> None:
        series = log.decode
        begin = max(self._samples - series.dropped, 0)
        end = min(len(series), begin + _MOST_ROWS)
        rows: list[DecodeRow] = []
        for at in range(begin, end):
            index = series.request[at] - 1 - log.requests.dropped
            known = log.requests[index] if 0 <= index < len(log.requests) else None
            # Of other lives it is not known how they held the weights.
            if known is not None and known.life == life.number and series.at[at] > 0:
                rows.append(
                    DecodeRow(
                        subject.machine, subject.build, subject.model, subject.residency,
                        series.at[at], series.context[at], series.tps[at], known.first_of_life,
                    )
                )  # fmt: skip
        self._samples = series.dropped + end
        if rows:
            self._history.add(rows)

    def _take_minutes(self, memory: MemoryTrack) -> None:
        """Minutes that are over."""
        if memory.minutes_from is None:
            return
        now = memory.minutes_from + len(memory.minutes) - 1
        if self._minute is None:
            self._minute = memory.minutes_from
        if self._minute >= now:
            return
        values = memory.by_minute()
        rows = [
            MinimumRow(self._machine, minute * MINUTE_S, value)
            for minute in range(max(self._minute, memory.minutes_from), now)
            if (value := values[minute - memory.minutes_from]) is not None
        ]
        self._minute = now
        if rows:
            self._history.add(rows)
