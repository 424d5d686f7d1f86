"""What ds4top itself costs: read while a view shows it, by nobody else.

``/proc/self`` has its start (``stat``), memory and threads (``status``), what it had written to
storage (``io``), its descriptors, and of each thread the nanoseconds that it ran
(``task/TID/schedstat``), see proc(5).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ds4top.core.own import OwnCost, OwnFile
from ds4top.core.proctext import parse_stat, parse_status, status_bytes

SPAN_S = 60.0
"""Rates are over this time, or since the first look where that is nearer."""
_GAP_S = 10.0
"""Looks further apart than this were not of one showing: older ones tell nothing of now."""
_FILES_S = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MOST = 1_000
_SIDES = ("", "-wal", "-shm")
"""What SQLite has beside its file counts with it."""


class _Look(NamedTuple):
    t: float
    cpu_s: float
    written: int | None
    ran_ns: Mapping[str, int]


def thread_names() -> dict[int, str]:
    """Names of the threads of this process by their kernel id."""
    return {each.native_id: each.name for each in threading.enumerate() if each.native_id}


class OwnReader:
    """Reads the process that it runs in. ``files``: what lies in ``folder``, and what it holds.

    ``cpu`` gives the processor time of the process, ``names`` those of its threads.
    """

    def __init__(
        self,
        folder: Path | None = None,
        files: Sequence[tuple[str, str]] = (),
        root: Path = Path("/proc"),
        cpu: Callable[[], float] = time.process_time,
        names: Callable[[], Mapping[int, str]] = thread_names,
    ) -> None:
        self._root, self._self = root, root / "self"
        self._folder, self._wanted = folder, files
        self._cpu, self._names = cpu, names
        self._looks: deque[_Look] = deque()
        self._files: tuple[OwnFile, ...] = ()
        self._files_t = float("-inf")

    def read(self, now: float, written: int | None) -> OwnCost:
        """One look at monotonic ``now``; ``written``: bytes that went to the terminal so far."""
        cpu_s = self._cpu()
        status = parse_status(self._text("status"))
        threads = status.get("Threads", "")
        look = _Look(now, cpu_s, written, self._ran_ns())
        if self._looks and not 0 <= now - self._looks[-1].t <= _GAP_S:
            self._looks.clear()
        self._looks.append(look)
        while len(self._looks) > 2 and now - self._looks[1].t >= SPAN_S:
            self._looks.popleft()
        first = self._looks[0]
        span_s = now - first.t
        per_min = _rate(first.written, written, span_s)
        return OwnCost(
            span_s=span_s,
            cpu_share=_rate(first.cpu_s, cpu_s, span_s),
            cpu_s=cpu_s,
            up_s=self._up_s(),
            threads=_shares(first.ran_ns, look.ran_ns, span_s),
            thread_count=int(threads) if threads.isdecimal() else None,
            rss_bytes=status_bytes(status, "VmRSS"),
            rss_peak_bytes=status_bytes(status, "VmHWM"),
            open_files=self._count("fd"),
            written_bytes=written,
            written_per_min=None if per_min is None else per_min * 60.0,
            stored_bytes=self._stored(),
            folder=str(self._folder or ""),
            files=self._kept(now),
        )

    def _text(self, name: str) -> str:
        try:
            return (self._self / name).read_text(errors="replace")
        except OSError:
            return ""

    def _up_s(self) -> float | None:
        try:
            begun_s = parse_stat(self._text("stat")).start_ticks / _TICKS
            return max(float((self._root / "uptime").read_text().split()[0]) - begun_s, 0.0)
        except (OSError, ValueError, IndexError):
            return None

    def _ran_ns(self) -> dict[str, int]:
        found: dict[str, int] = {}
        names = self._names()
        try:
            ids = os.listdir(self._self / "task")
        except OSError:
            return {}
        for number in ids:
            words = self._text(f"task/{number}/schedstat").split()
            if words and words[0].isdecimal():
                name = names.get(int(number)) or self._text(f"task/{number}/comm").strip()
                found[name] = found.get(name, 0) + int(words[0])
        return found

    def _count(self, folder: str) -> int | None:
        try:
            return len(os.listdir(self._self / folder))
        except OSError:
            return None

    def _stored(self) -> int | None:
        words = dict(line.split(":") for line in self._text("io").splitlines() if ":" in line)
        found = words.get("write_bytes", "").strip()
        return int(found) if found.isdecimal() else None

    def _kept(self, now: float) -> tuple[OwnFile, ...]:
        if self._folder is not None and not 0 <= now - self._files_t < _FILES_S:
            self._files_t = now
            self._files = tuple(
                OwnFile(name, holds, _size(self._folder / name)) for name, holds in self._wanted
            )
        return self._files


def _rate(before: float | None, now: float | None, span_s: float) -> float | None:
    return None if before is None or now is None or span_s <= 0 else (now - before) / span_s


def _shares(before: Mapping[str, int], now: Mapping[str, int], span_s: float) -> dict[str, float]:
    """Of a core; a thread that began since counts from nothing."""
    if span_s <= 0:
        return {}
    return {name: max(ran - before.get(name, 0), 0) / 1e9 / span_s for name, ran in now.items()}


def _size(path: Path) -> int | None:
    """Bytes of a file, or of what lies in a folder; ``None`` where there is none."""
    try:
        if path.is_dir():
            with os.scandir(path) as inside:
                # A folder of thousands is not gone through to the end.
                first = [each for each, _ in zip(inside, range(_MOST), strict=False)]
            return sum(each.stat(follow_symlinks=False).st_size for each in first)
        return path.stat().st_size + sum(
            side.stat().st_size
            for side in (path.with_name(path.name + end) for end in _SIDES[1:])
            if side.exists()
        )
    except OSError:
        return None
