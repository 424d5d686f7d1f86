"""Lines of the kernel log that matter to a model server: OOM kills, the NVIDIA driver, their kin.

Formats: mm/oom_kill.c; NVRM and Xid lines as in NVIDIA/open-gpu-kernel-modules#1358 and
antirez/ds4#621; systemd-oomd (systemd#23606); earlyoom.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]

BURST = 10
BURST_S = 10.0
POISON_XIDS = frozenset({13, 31, 43, 45})
FIRMWARE_XIDS = frozenset({79, 109, 119, 120, 154})


@dataclass(frozen=True, slots=True)
class OomKill:
    """A process was killed for want of memory. ``by``: kernel, cgroup, systemd-oomd, earlyoom."""

    wall: float | None
    pid: int | None
    comm: str
    by: str
    anon_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DriverNoMemory:
    """The driver could not allocate (NV_ERR_NO_MEMORY). One alone says nothing."""

    wall: float | None
    where: str


@dataclass(frozen=True, slots=True)
class Xid:
    """An error of the GPU by its number; ``pid`` is not always told."""

    wall: float | None
    number: int
    pid: int | None
    text: str


KernelEvent = OomKill | DriverNoMemory | Xid

_KILLED = re.compile(
    r"(?P<group>Memory cgroup out|Out) of memory(?: \([^)]*\))?: Killed process (?P<pid>\d+)"
    r" \((?P<comm>.*)\)(?:,? total-vm:\d+kB, anon-rss:(?P<anon>\d+)kB|$)"
)
_XID = re.compile(
    r"NVRM: Xid \(PCI:[0-9a-fA-F:.]+\): (?P<xid>\d+)(?:, pid='?(?P<pid>\d+|<unknown>)'?)?"
)
_NO_MEMORY = re.compile(r"NVRM: .*\[(?P<err>NV_ERR_NO_MEMORY)\].*?returned from (?P<where>\w+)")
_OOMD = re.compile(r"^Killed (?P<unit>\S+) due to memory ")
_EARLYOOM = re.compile(
    r"^sending SIG(?:TERM|KILL) to process (?P<pid>\d+)[^\"]*\"(?P<comm>[^\"]*)\""
)


def _oom(found: re.Match[str], wall: float | None, text: str) -> KernelEvent:
    by = "cgroup" if found["group"].startswith("Memory") else "kernel"
    anon = None if found["anon"] is None else int(found["anon"]) * 1024
    return OomKill(wall, int(found["pid"]), found["comm"], by, anon)


def _xid(found: re.Match[str], wall: float | None, text: str) -> KernelEvent:
    pid = found["pid"]
    return Xid(wall, int(found["xid"]), int(pid) if pid and pid.isdecimal() else None, text)


_PATTERNS: tuple[
    tuple[re.Pattern[str], Callable[[re.Match[str], float | None, str], KernelEvent]], ...
] = (
    (_KILLED, _oom),
    (_XID, _xid),
    (_NO_MEMORY, lambda found, wall, text: DriverNoMemory(wall, found["where"])),
    (_OOMD, lambda found, wall, text: OomKill(wall, None, found["unit"], "systemd-oomd")),
    (
        _EARLYOOM,
        lambda found, wall, text: OomKill(wall, int(found["pid"]), found["comm"], "earlyoom"),
    ),
)


def parse_line(text: str, wall: float | None = None) -> KernelEvent | None:
    """The event of a line, whatever stands before it; ``None`` for any other line."""
    for pattern, build in _PATTERNS:
        if (found := pattern.search(text)) is not None:
            return build(found, wall, text)
    return None


def parse_record(data: bytes) -> KernelEvent | None:
    """The event of a journal record in JSON, whose message may be a list of byte values."""
    try:
        record: Any = json.loads(data)
        message = record["MESSAGE"]
        if isinstance(message, list):
            message = bytes(message).decode("utf-8", "replace")
        stamp = record.get("__REALTIME_TIMESTAMP")
        wall = int(stamp) / 1e6 if stamp is not None else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return parse_line(message, wall) if isinstance(message, str) else None


@dataclass(slots=True)
class KernelTrack:
    """What the kernel log told, bounded; and how bad it is."""

    kills: deque[OomKill] = field(default_factory=lambda: deque(maxlen=50))
    xids: deque[Xid] = field(default_factory=lambda: deque(maxlen=50))
    no_memory: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    def take(self, events: Iterable[KernelEvent], now: float) -> None:
        """Events as they come; those without a time of their own happened ``now``."""
        for event in events:
            wall = now if event.wall is None else event.wall
            match event:
                case OomKill():
                    self.kills.append(event)
                case Xid():
                    self.xids.append(event)
                case DriverNoMemory():
                    self.no_memory += 1
                    self._recent.append(wall)

    def driver_level(self, now: float, free_bytes: int | None, *, falling: bool) -> Severity:
        """Of NV_ERR_NO_MEMORY: a burst warns; with memory gone, or going, it is critical."""
        burst = sum(1 for wall in self._recent if wall > now - BURST_S) >= BURST
        if not burst:
            return "info"
        low = free_bytes is not None and free_bytes < 3 << 30
        return "critical" if low or falling else "warning"

    def poisoned(self, pid: int | None, *, only_process: bool = False) -> Xid | None:
        """An error that leaves the server alive with a lost GPU context (antirez/ds4#759).

        43 and 45 name the pid; 13 and 31 do not, and count beside one that does, or where the
        server is the only process on the GPU.
        """
        named = [x for x in self.xids if x.number in (43, 45) and x.pid == pid and pid is not None]
        if named:
            return named[-1]
        if only_process:
            lost = [x for x in self.xids if x.number in (13, 31)]
            return lost[-1] if lost else None
        return None
