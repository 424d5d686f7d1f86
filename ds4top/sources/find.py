"""The source ``process``: which servers run, which one is watched, when it comes and goes.

Processes are known by their exact name. Without a server new pids are looked at twice a second,
after twenty seconds once; with one, its descriptor tells its end at once, and the rest is looked
through each 5 s. A process keeps its name until its exec, however long that takes (a start script
that prepares something), so each is looked at again: soon while it is young, each 5 s later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ds4top.core.process import COMMS, ServerProcess, successor
from ds4top.core.supervision import runs_a_script
from ds4top.core.target import Target
from ds4top.sources.base import SYSTEM_CLOCK, Clock
from ds4top.sources.procfs import ProcFs

ABSENT_S, QUIET_S = 0.5, 1.0
_ABSENT_LOOKS = 40
"""Without a server, until there is no haste: twenty seconds."""
PRESENT_S = 5.0
WHOLE_S = 30.0
"""How often all of a server that is known is read again."""
_WAIT_S = 0.4
FORK_S = 0.2
"""A fork has its parent's name until its exec: it is looked at again after this, and later after a
quarter of the time that it is known."""
_GROWTH = 1.25
_SETTLES = 6
"""A server listens only once it has loaded, and its log is found once it is written: look again."""
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class ServersSeen:
    """All servers that run, and the one that is watched (``None``: none, or not chosen yet).

    ``blind``: why others may run that are not seen from here; empty where all are seen. ``demos``:
    processes that would be servers if they were not of somebody's demo.
    """

    queued: ClassVar[bool] = True
    servers: tuple[ServerProcess, ...]
    chosen: ServerProcess | None
    t: float
    wall: float
    blind: str = ""
    demos: tuple[int, ...] = ()


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
        hold: Callable[[int], int] = os.pidfd_open,
    ) -> None:
        """``exe``: the program of the last choice, which wins where there are several.

        ``hold`` opens a descriptor that becomes readable when the process ends.
        """
        self._procfs = procfs or ProcFs(Path("/proc"))
        self._asked = pid
        self._named = pid
        self._exe = exe
        self._demo = demo
        self._clock = clock
        self._hold = hold
        self._looks: dict[int, tuple[float, float]] = {}
        self._servers: dict[int, ServerProcess] = {}
        self._demos: set[int] = set()
        self._chosen: Target | None = None
        self._was: ServerProcess | None = None
        self._known: frozenset[Target] = frozenset()
        self._ended_t = 0.0
        self._pidfd: int | None = None
        self._settles = 0
        self._sockets: set[int] = set()
        self._absent_looks = 0
        self._told: tuple[object, ...] | None = None
        self._last_full = float("-inf")
        self._whole = float("-inf")

    @property
    def interval_s(self) -> float:
        """At once while its descriptor is waited on; that wait is the pace."""
        if self._pidfd is not None:
            return 0.0
        if any(wait_s == FORK_S for _, wait_s in self._looks.values()):
            return FORK_S
        return ABSENT_S if self._absent_looks < _ABSENT_LOOKS else QUIET_S

    def choose(self, pid: int) -> None:
        """Watch this one from now on. May be called from any thread."""
        self._asked = pid
        self._last_full = float("-inf")

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> Sequence[ServersSeen | ServerGone]:
        """One look. Raises ``OSError`` without /proc."""
        out: list[ServersSeen | ServerGone] = []
        if self._chosen is not None and self._ended(self._chosen):
            out.append(ServerGone(self._chosen, now, self._clock.wall()))
            self._was = self._servers.get(self._chosen.pid, self._was)
            self._let_go()
            self._ended_t = now
            self._known = frozenset(each.target for each in self._servers.values())
        self._absent_looks = 0 if self._chosen is not None else self._absent_looks + 1
        if self._listens_now():
            self._last_full = float("-inf")
        settle = self._settles < _SETTLES and self._chosen is not None
        if self._chosen is None or settle or now - self._last_full >= PRESENT_S:
            self._settles += 1
            self._last_full = now
            self._look(now)
            self._choose(now)
            demos = tuple(sorted(self._demos))
            told = (tuple(self._servers.values()), self._chosen, demos)
            if told != self._told:
                self._told = told
                chosen = self._servers.get(self._chosen.pid) if self._chosen else None
                servers = tuple(self._servers.values())
                blind = "" if servers else self._procfs.blind()
                out.append(ServersSeen(servers, chosen, now, self._clock.wall(), blind, demos))
        return out

    def close(self) -> None:
        """Let go of the descriptor."""
        self._let_go()

    def _listens_now(self) -> bool:
        """Whether the watched server has begun to listen: then its load is over."""
        known = self._servers.get(self._chosen.pid) if self._chosen is not None else None
        if known is None or known.listening or "fd" in known.denied:
            return False
        try:
            sockets = self._procfs.own_inodes(known.target.pid)
        except OSError:
            return False
        if sockets == self._sockets:
            return False
        # The table of sockets is dear: it is read where there is a socket that was not there.
        self._sockets = sockets
        return bool(self._procfs.listeners(known.target.pid, sockets))

    def _look(self, now: float) -> None:
        pids = self._procfs.pids()
        first = not self._looks
        for pid in list(self._servers):
            if pid not in pids or not self._refresh(pid):
                del self._servers[pid]
                self._looks.pop(pid, None)
        self._looks = {pid: look for pid, look in self._looks.items() if pid in pids}
        self._demos.intersection_update(pids)
        for pid in pids:
            due, wait_s = self._looks.get(pid, (now, 0.0))
            if due > now:
                continue
            if not wait_s and self._is_kernels(pid):
                self._looks[pid] = (_NEVER, _NEVER)
                continue
            # What runs already when the first look is taken is no fork of this moment.
            wait_s = min(wait_s * _GROWTH or (PRESENT_S if first else FORK_S), PRESENT_S)
            wait_s = self._examine(pid, FORK_S if first else wait_s) or wait_s
            self._looks[pid] = (now + wait_s, wait_s)
        # A pid that was named is of any name only while it is the process that was meant.
        self._named = None

    def _is_kernels(self, pid: int) -> bool:
        stat = self._procfs.stat(pid)
        return stat is not None and stat.kernel_thread

    def _examine(self, pid: int, fork_s: float) -> float | None:
        """Take it if it is a server; seconds until the next look where these are not the usual.

        ``fork_s``: those of a fork that may become another program.
        """
        if pid in self._servers:
            return None
        if pid != self._named:
            if self._name_of(pid) is None:
                return None
            if self._procfs.forked_only(pid):
                return fork_s
        found = self._procfs.server(pid)
        if found is not None and (pid == self._named or self._is_one(found)):
            self._servers[pid] = found
        if found is None or found.demo == self._demo:
            self._demos.discard(pid)
            return None
        if found.demo and pid not in self._servers:
            self._demos.add(pid)
        # All that is read of a server is dear, and a demo's does not become another's.
        return PRESENT_S

    def _name_of(self, pid: int) -> str | None:
        """Its name, if it is one of those looked for; a renamed program's next life has its own."""
        comm = self._procfs.comm(pid)
        return comm if comm in COMMS or (self._was and comm == self._was.target.comm) else None

    def _is_one(self, found: ServerProcess) -> bool:
        """Whether it is a server of this machine's, and its owner's own business."""
        comm = found.target.comm
        if comm not in COMMS and not (
            self._was and (self._was.exe, self._was.model_path) == (found.exe, found.model_path)
        ):
            return False
        if found.demo != self._demo or runs_a_script(comm, found.argv, found.exe):
            return False
        # Another pid namespace is somebody's sandbox, unless docker or podman made it.
        return not found.foreign_namespace or found.owner.kind in ("docker", "podman")

    def _refresh(self, pid: int) -> bool:
        """Whether it is still the same server; what has changed of it is read anew."""
        known = self._servers[pid]
        if self._procfs.target(pid) != known.target:
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

    def _choose(self, now: float) -> None:
        asked = self._asked
        wanted = self._servers.get(asked) if asked is not None else None
        if wanted is not None:
            # It has been found: another process that is given its pid later is not meant.
            self._asked = None if self._asked == asked else self._asked
        elif asked is None and self._chosen is None:
            wanted = self._only(now)
        if wanted is None or wanted.target == self._chosen:
            return
        self._let_go()
        self._servers[wanted.target.pid] = wanted
        try:
            # Opened before the identity is read again: what is held is what was seen.
            self._pidfd = self._hold(wanted.target.pid)
        except OSError as error:
            # Where descriptors are not allowed the identity alone is looked at; see ``_ended``.
            if error.errno == errno.ESRCH:
                return
        if self._procfs.target(wanted.target.pid) != wanted.target:
            self._let_go()
            return
        self._chosen, self._settles, self._sockets = wanted.target, 0, set()

    def _only(self, now: float) -> ServerProcess | None:
        """The one to watch where nobody has said which."""
        candidates = list(self._servers.values())
        if self._was is not None:
            return successor(self._was, candidates, self._known, now - self._ended_t)
        if len(candidates) == 1:
            return candidates[0]
        of_old = [each for each in candidates if self._exe and each.exe == self._exe]
        return of_old[0] if len(of_old) == 1 else None

    def _ended(self, chosen: Target) -> bool:
        if self._pidfd is None:
            return self._procfs.target(chosen.pid) != chosen
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(_WAIT_S * 1000))

    def _let_go(self) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(OSError):
                os.close(self._pidfd)
        if self._chosen is not None and self._ended_pid(self._chosen):
            self._servers.pop(self._chosen.pid, None)
            self._looks.pop(self._chosen.pid, None)
        self._pidfd = self._chosen = None
        self._last_full = float("-inf")

    def _ended_pid(self, target: Target) -> bool:
        return self._procfs.target(target.pid) != target
