"""The source ``memory``: what the kernel tells of the machine's memory, at a pace that fits.

Files are opened once and read by pread, so that nothing is allocated or looked up when memory is
nearly gone.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ds4top.core.meminfo import (
    MIB,
    MemorySample,
    parse_buddyinfo,
    parse_meminfo,
    parse_pressure,
    parse_vmstat,
    sample_of,
)
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault

STEADY_S = 0.5
FAST_S = 0.2
FALLING_BYTES_PER_S = 300 * MIB
"""A fall that is looked at more closely, whatever it means."""
_FALL_S = 1.0
_CALM_S = 5.0
_SLOW_TURNS = 4
"""vmstat, pressure and buddyinfo change slowly and cost more: every fourth turn."""
_READ_BYTES = 65_536


class HostMemory:
    """Source of ``MemorySample``. ``fast`` says when to look more often: while a model is loaded.

    That MemAvailable falls it sees for itself, at once: who holds the samples looks at them once a
    paint, and a collapse is over in a few seconds.
    """

    name = "memory"

    def __init__(
        self,
        root: Path = Path("/proc"),
        fast: Callable[[], bool] = lambda: False,
        clock: Clock = SYSTEM_CLOCK,
        *,
        texts: Callable[[str], str] | None = None,
        scale: float = 1.0,
    ) -> None:
        """``texts`` stands in for the files, ``scale`` for how fast time goes (a demo's)."""
        self._root = root
        self._texts = texts
        self._scale = scale
        self._fast = fast
        self._clock = clock
        self._fds: dict[str, int] = {}
        self._turn = 0
        self._seen: deque[tuple[float, int]] = deque(maxlen=int(_FALL_S / FAST_S) + 1)
        self._fast_until = float("-inf")
        self._closely = False
        self._vmstat: dict[str, int] = {}
        self._pressure: dict[str, float] = {}
        self._buddy = ""
        self._page_bytes = resource.getpagesize()

    @property
    def interval_s(self) -> float:
        """Twice a second, five times where it matters."""
        return FAST_S if self._closely else STEADY_S

    def open(self) -> None:
        """Open what there is. Raises ``OSError`` without meminfo."""
        if self._texts is not None:
            return
        for name in ("meminfo", "vmstat", "pressure/memory", "buddyinfo"):
            try:
                self._fds[name] = os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                if name == "meminfo":
                    raise

    def read(self, now: float) -> Sequence[MemorySample]:
        """One sample. Raises ``SourceFault`` where meminfo makes no sense."""
        # Asked here and not for the pause: what it asks may raise, and that ends no thread here.
        asked = self._fast()
        if self._turn % (1 if asked or self._closely else _SLOW_TURNS) == 0:
            self._vmstat = parse_vmstat(self._text("vmstat"))
            self._pressure = parse_pressure(self._text("pressure/memory"))
            self._buddy = self._text("buddyinfo")
        self._turn += 1
        meminfo = parse_meminfo(self._text("meminfo"))
        try:
            sample = sample_of(
                now * self._scale,
                self._clock.wall(),
                meminfo,
                self._vmstat,
                self._pressure,
                parse_buddyinfo(self._buddy, self._page_bytes),
                self._page_bytes,
            )
        except ValueError as error:
            raise SourceFault("parse", f"{self._root}/meminfo: {error}", reopen=True) from error
        self._watch(now, sample.available_bytes)
        self._closely = asked or now < self._fast_until
        return (sample,)

    def close(self) -> None:
        """Let go of the files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _watch(self, now: float, available: int | None) -> None:
        if available is None:
            return
        while self._seen and self._seen[0][0] < now - _FALL_S - FAST_S:
            self._seen.popleft()
        self._seen.append((now, available))
        begin, before = self._seen[0]
        if before - available > FALLING_BYTES_PER_S * max(now - begin, FAST_S):
            self._fast_until = now + _CALM_S

    def _text(self, name: str) -> str:
        if self._texts is not None:
            return self._texts(name)
        fd = self._fds.get(name)
        if fd is None:
            return ""
        try:
            return os.pread(fd, _READ_BYTES, 0).decode("ascii", "replace")
        except OSError:
            # A kernel without memory pressure opens the file and refuses to read it.
            return ""
