"""Fakes for following logs: a reader whose events are lines, a store that keeps them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ds4top.sources.base import Clock


class LineReader:
    """Events are the lines themselves; a torn tail becomes ``~tail``."""

    def __init__(self, mtime: float = 0.0) -> None:
        self.mtime = mtime
        self.lines = 0
        self._open = b""

    def feed(self, data: bytes) -> list[Any]:
        *done, self._open = (self._open + data).split(b"\n")
        self.lines += len(done)
        return [line.decode() for line in done]

    def close(self) -> list[Any]:
        tail, self._open = self._open, b""
        return [f"~{tail.decode()}"] if tail else []


class ListStore:
    """Keeps every event it was given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def apply(self, events: Iterable[Any], heard_at: float | None = None) -> None:
        self.seen.extend(events)


class Log:
    """A log being written, rotated and truncated like a server and logrotate would."""

    def __init__(self, path: Path, *, append: bool = True) -> None:
        self.path = path
        self._append = append
        self._count = 0
        self.fd = -1
        self.reopen()

    def reopen(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        mode = os.O_APPEND if self._append else 0
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | mode, 0o644)

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def rename(self) -> None:
        self._count += 1
        self.path.rename(self.path.with_name(f"{self.path.name}.{self._count}"))

    def truncate(self) -> None:
        os.truncate(self.path, 0)


def fixed_clock(t: float = 5.0, wall: float = 1000.0) -> Clock:
    return Clock(lambda: t, lambda: wall, lambda: 0.0)
