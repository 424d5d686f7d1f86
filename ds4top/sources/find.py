"""The source ``process``: which servers run, which one is watched, when it comes and goes.

Processes are known by their exact name. Without a server the names of new pids are looked at twice
a second; with one, its descriptor tells its end at once, and the rest is looked through each 5 s.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ds4top.core.plan import Target
from ds4top.core.process import COMMS, ServerProcess
from ds4top.sources.base import SYSTEM_CLOCK, Clock
from ds4top.sources.procfs import ProcFs

ABSENT_S = 0.5
PRESENT_S = 5.0
WHOLE_S = 30.0
"""How often all of a server that is known is read again."""
_WAIT_S = 0.4
FORK_S = 0.2
"""A fork has its parent's name until its exec: it is looked at again after this."""
_SETTLES = 6
"""A server listens only once it has loaded, and its log is found once it is written: look again."""


@dataclass(frozen=True, slots=True)
class ServersSeen:
    """All servers that run, and the one that is watched (``None``: none, or not chosen yet)."""

    queued: ClassVar[bool] = True
    servers: tuple[ServerProcess, ...]
    chosen: ServerProcess | None
    t: float
    wall: float


@dataclass(frozen=True, slots=True)
class ServerGone:
    """The watched server has ended."""

    queued: ClassVar[bool] = True
    target: Target
    t: float
    wall: float


class Finder:
    """Finds servers. ``pid`` watches one process whatever its name; ``demo`` is the mark of a demo,
    whose servers nobody else lists.
    """

    name = "process"

    def __init__(
        self,
        procfs: ProcFs | None = None,
        *,
        pid: int | None = None,
        exe: str | None = None,
        demo: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``exe``: the program of the last choice, which wins where there are several."""
        self._procfs = procfs or ProcFs(Path("/proc"))
        self._pid = pid
        self._exe = exe
        self._demo = demo
        self._clock = clock
        self._seen: set[int] = set()
        self._again: dict[int, float] = {}
        self._servers: dict[int, ServerProcess] = {}
        self._chosen: Target | None = None
        self._pidfd: int | None = None
        self._settles = 0
        self._told: tuple[object, ...] | None = None
        self._last_full = float("-inf")
        self._whole = float("-inf")

    @property
    def interval_s(self) -> float:
        """At once while its descriptor is waited on; that wait is the pace."""
        if self._again:
            return FORK_S
        return 0.0 if self._pidfd is not None else ABSENT_S

    def choose(self, pid: int) -> None:
        """Watch this one from now on. May be called from any thread."""
        self._pid = pid
        self._last_full = float("-inf")

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> Sequence[ServersSeen | ServerGone]:
        """One look. Raises ``OSError`` without /proc."""
        out: list[ServersSeen | ServerGone] = []
        if self._pidfd is not None and self._ended(_WAIT_S):
            assert self._chosen is not None
            out.append(ServerGone(self._chosen, now, self._clock.wall()))
            self._let_go()
        settle = self._settles < _SETTLES and self._pidfd is not None
        if self._pidfd is None or settle or now - self._last_full >= PRESENT_S:
            self._settles += 1
            self._last_full = now
            self._look(now)
            self._choose()
            told = (tuple(self._servers.values()), self._chosen)
            if told != self._told:
                self._told = told
                chosen = self._servers.get(self._chosen.pid) if self._chosen else None
                out.append(
                    ServersSeen(tuple(self._servers.values()), chosen, now, self._clock.wall())
                )
        return out

    def close(self) -> None:
        """Let go of the descriptor."""
        self._let_go()

    def _look(self, now: float) -> None:
        pids = self._procfs.pids()
        self._seen &= pids
        new = pids - self._seen
        due = {pid for pid, at in self._again.items() if at <= now}
        self._again = {pid: at for pid, at in self._again.items() if at > now and pid in pids}
        for pid in new | due:
            self._seen.add(pid)
            if pid == self._pid or self._procfs.comm(pid) in COMMS:
                if pid in new and self._procfs.forked_only(pid):
                    self._again[pid] = now + FORK_S
                else:
                    self._servers.pop(pid, None)
                    self._take(pid)
            elif pid in new and self._procfs.comm(pid) not in COMMS:
                # It may become one by an exec that is still to come.
                self._again.setdefault(pid, now + FORK_S)
        for pid in list(self._servers):
            if pid not in pids or not self._refresh(pid):
                del self._servers[pid]

    def _take(self, pid: int) -> None:
        found = self._procfs.server(pid)
        if found is None or (found.demo != self._demo and pid != self._pid):
            return
        contained = found.owner.kind in ("docker", "podman")
        if found.foreign_namespace and not contained and pid != self._pid:
            # A sandbox of somebody's: not a server of this machine.
            return
        self._servers[pid] = found

    def _refresh(self, pid: int) -> bool:
        """Whether it is still the same server; what has changed of it is read anew."""
        known = self._servers[pid]
        if self._procfs.target(pid) != known.target:
            self._seen.discard(pid)
            return False
        if pid != (self._chosen.pid if self._chosen else None):
            return True
        now = self._clock.monotonic()
        if self._settles < _SETTLES or not known.listening or now - self._whole >= WHOLE_S:
            self._whole = now
            found = self._procfs.server(pid)
            if found is not None:
                self._servers[pid] = found
        return True

    def _choose(self) -> None:
        wanted = self._servers.get(self._pid) if self._pid is not None else None
        if wanted is None and self._chosen is not None and self._chosen.pid in self._servers:
            return
        if wanted is None and self._pid is None:
            candidates = list(self._servers.values())
            of_old = [each for each in candidates if self._exe and each.exe == self._exe]
            if len(candidates) == 1:
                wanted = candidates[0]
            elif len(of_old) == 1:
                wanted = of_old[0]
        if wanted is None or wanted.target == self._chosen:
            return
        self._let_go()
        with contextlib.suppress(OSError):
            # Opened before the identity is read again: what is held is what was seen.
            fd = os.pidfd_open(wanted.target.pid)
            if self._procfs.target(wanted.target.pid) != wanted.target:
                os.close(fd)
                return
            self._pidfd, self._chosen, self._settles = fd, wanted.target, 0

    def _ended(self, wait_s: float) -> bool:
        assert self._pidfd is not None
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def _let_go(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
        if self._chosen is not None:
            self._servers.pop(self._chosen.pid, None)
            self._seen.discard(self._chosen.pid)
        self._pidfd = self._chosen = None
        self._last_full = float("-inf")
