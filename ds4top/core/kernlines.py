"""Lines of the kernel log that matter to a model server: OOM kills, the NVIDIA driver, their kin.

Formats: mm/oom_kill.c; NVRM and Xid lines as in NVIDIA/open-gpu-kernel-modules#1358 and
antirez/ds4#621; systemd-oomd (systemd#23606); earlyoom.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]

BURST = 10
BURST_S = 10.0
_NAMING = frozenset({43, 45})
_NAMELESS = frozenset({13, 31})


@dataclass(frozen=True, slots=True)
class OomKill:
    """A process was killed for want of memory. ``by``: kernel, cgroup, systemd-oomd, earlyoom.

    ``comm`` is the victim, or the scope that systemd-oomd killed; ``asked_by`` the process whose
    request could not be met, ``by_driver`` whether the NVIDIA driver stood in its call trace.
    ``anon_bytes`` of a server that holds CUDA memory is small: the kernel does not count that.
    """

    wall: float | None
    pid: int | None
    comm: str
    by: str
    anon_bytes: int | None = None
    total_vm_bytes: int | None = None
    cgroup: str | None = None
    asked_by: str | None = None
    by_driver: bool = False


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
    r"(?P<group>Memory cgroup out|Out) of memory(?: \([^)]*\))?: Killed process (?P<pid>\d{1,10})"
    r" \((?P<comm>.*)\)"
    r"(?:,? total-vm:(?P<vm>\d{1,18})kB, anon-rss:(?P<anon>\d{1,18})kB|$)"
)
_XID = re.compile(
    r"NVRM: Xid \(PCI:[0-9a-fA-F:.]+\): (?P<xid>\d{1,9})(?:, pid='?(?P<pid>\d{1,10}|<unknown>)'?)?"
)
_NO_MEMORY = re.compile(r"NVRM: .*NV_ERR_NO_MEMORY(?:.*?returned from (?P<where>\w+))?")
_OOMD = re.compile(r"^Killed (?P<unit>\S+) due to memory ")
_EARLYOOM = re.compile(
    r"^sending SIG(?:TERM|KILL) to process (?P<pid>\d{1,10})[^\"]*\"(?P<comm>[^\"]*)\""
)
_ASKED = " invoked oom-killer: "
_CHOSEN = re.compile(
    r"oom-kill:constraint=\w+,.*?task_memcg=(?P<cgroup>[^,]*),task=.*,pid=(?P<pid>\d{1,10}),uid="
)
_DRIVER = re.compile(r" \[nvidia\w*\]")
"""A frame of the driver: sysmemAllocResources, or UVM's phys_mem_allocate."""
_FRAMES = 400
"""Lines of one report at most: its call trace and the table of tasks."""


def _kb(text: str | None) -> int | None:
    return None if text is None else int(text) * 1024


def _oom(found: re.Match[str], wall: float | None, text: str) -> KernelEvent:
    by = "cgroup" if found["group"].startswith("Memory") else "kernel"
    return OomKill(wall, int(found["pid"]), found["comm"], by, _kb(found["anon"]), _kb(found["vm"]))


def _xid(found: re.Match[str], wall: float | None, text: str) -> KernelEvent:
    pid = found["pid"]
    return Xid(wall, int(found["xid"]), int(pid) if pid and pid.isdecimal() else None, text)


_PATTERNS: tuple[
    tuple[re.Pattern[str], Callable[[re.Match[str], float | None, str], KernelEvent]], ...
] = (
    (_KILLED, _oom),
    (_XID, _xid),
    (_NO_MEMORY, lambda found, wall, text: DriverNoMemory(wall, found["where"] or "")),
    (_OOMD, lambda found, wall, text: OomKill(wall, None, found["unit"], "systemd-oomd")),
    (
        _EARLYOOM,
        lambda found, wall, text: OomKill(wall, int(found["pid"]), found["comm"], "earlyoom"),
    ),
)


def parse_line(text: str, wall: float | None = None) -> KernelEvent | None:
    """The event of a line, whatever stands before a kernel's; ``None`` for any other line."""
    for pattern, build in _PATTERNS:
        if (found := pattern.search(text)) is not None:
            return build(found, wall, text)
    return None


class KernelReader:
    """Lines in, events out; an OOM kill takes with it what the lines before it told.

    The kernel prints who asked, a call trace, which task was chosen, and then who was killed.
    """

    def __init__(self) -> None:
        self._asked: str | None = None
        self._driver = False
        self._chosen: tuple[int, str] | None = None
        self._left = 0

    def feed(self, text: str, wall: float | None = None) -> KernelEvent | None:
        """The event of a line; ``None`` for any other."""
        event = parse_line(text, wall)
        if isinstance(event, OomKill) and event.by in ("kernel", "cgroup"):
            return self._whole(event)
        if event is None:
            self._note(text)
        return event

    def _note(self, text: str) -> None:
        before, asked, _ = text.partition(_ASKED)
        if asked:
            # A file has a stamp and a host before the message, a journal record has not.
            comm = before.rpartition("kernel: ")[2].rpartition("] ")[2]
            self._asked, self._driver, self._chosen = comm.strip(), False, None
            self._left = _FRAMES
        elif self._left:
            self._left -= 1
            self._driver = self._driver or _DRIVER.search(text) is not None
            if (chosen := _CHOSEN.search(text)) is not None:
                self._chosen = int(chosen["pid"]), chosen["cgroup"]

    def _whole(self, kill: OomKill) -> OomKill:
        asked, driver, chosen = self._asked, self._driver, self._chosen
        told = self._left > 0
        self._left = 0
        if not told:
            return kill
        cgroup = chosen[1] if chosen is not None and chosen[0] == kill.pid else None
        return replace(kill, cgroup=cgroup, asked_by=asked, by_driver=driver)


def record_text(data: bytes) -> tuple[str, float | None] | None:
    """Message and wall time of a journal record in JSON; ``None`` for what is none.

    A message may be a list of byte values (systemd's JSON of what is not printable).
    """
    try:
        record: Any = json.loads(data)
        message = record["MESSAGE"]
        if isinstance(message, list):
            message = bytes(message).decode("utf-8", "replace")
        stamp = record.get("__REALTIME_TIMESTAMP")
        wall = int(stamp) / 1e6 if stamp is not None else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return (message, wall) if isinstance(message, str) else None


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
                    self.kills.append(replace(event, wall=wall))
                case Xid():
                    self.xids.append(replace(event, wall=wall))
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

    def poisoned(
        self, pid: int | None, *, only_process: bool = False, since: float | None = None
    ) -> Xid | None:
        """An error that leaves the server alive with a lost GPU context (antirez/ds4#759).

        43 and 45 name the pid; 13 and 31 do not, and count where the server is the only process on
        the GPU. ``since`` is the wall time of its start: what was before befell another.
        """
        if pid is None:
            return None
        found: Xid | None = None
        for xid in self.xids:
            if since is not None and xid.wall is not None and xid.wall < since:
                continue
            named = xid.number in _NAMING and xid.pid == pid
            nameless = xid.number in _NAMELESS and only_process
            if named or (nameless and (found is None or found.pid is None)):
                found = xid
        return found
