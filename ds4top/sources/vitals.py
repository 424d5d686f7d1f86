"""The source ``vitals``: what the watched server uses, and who waits at its port."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ds4top.core.process import ServerProcess
from ds4top.core.proctext import parse_status, status_bytes
from ds4top.core.vitals import Vitals
from ds4top.sources.base import SourceFault
from ds4top.sources.pagecache import cached_bytes
from ds4top.sources.portwatch import PortWatch
from ds4top.sources.procfs import ProcFs

_TICKS = os.sysconf("SC_CLK_TCK")
_CACHE_EVERY = 5
_SOON_S, _SOON_LOOKS = 0.1, 15
"""At the start the server is about to be found: its first figures need not wait a whole second."""


class VitalSigns:
    """Source of ``Vitals`` of whatever server is watched at the moment."""

    name = "vitals"

    def __init__(
        self,
        watched: Callable[[], ServerProcess | None],
        wall: Callable[[], float],
        procfs: ProcFs | None = None,
        cached: Callable[[str], int | None] | None = None,
    ) -> None:
        """``cached`` stands in for how much of the model file is in page cache (a demo's)."""
        self._stands_in = cached
        self._watched = watched
        self._wall = wall
        self._procfs = procfs or ProcFs(Path("/proc"))
        self._port = PortWatch(self._procfs)
        self._turn = 0
        self._looks = 0
        self._model_fd: int | None = None
        self._model = ""
        self._cached: int | None = None

    @property
    def interval_s(self) -> float:
        """Once a second; at first soon."""
        return 1.0 if self._turn or self._looks > _SOON_LOOKS else _SOON_S

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> Sequence[Vitals]:
        """One look; nothing without a server. Raises ``SourceFault`` where it has ended."""
        self._looks += 1
        server = self._watched()
        if server is None:
            self._turn = 0
            return ()
        pid = server.target.pid
        stat = self._procfs.stat(pid)
        if stat is None or stat.start_ticks != server.target.start_ticks:
            raise SourceFault("not_found", f"process {pid} has ended")
        status = parse_status(self._text(pid, "status"))
        connections, queued, left = self._port.look(server, now)
        self._turn += 1
        adj = self._text(pid, "oom_score_adj").strip()
        return (
            Vitals(
                pid=pid,
                t=now,
                wall=self._wall(),
                state=stat.state,
                rss_bytes=status_bytes(status, "VmRSS"),
                anon_bytes=status_bytes(status, "RssAnon"),
                file_bytes=status_bytes(status, "RssFile"),
                shmem_bytes=status_bytes(status, "RssShmem"),
                swap_bytes=status_bytes(status, "VmSwap"),
                cpu_s=stat.cpu_ticks / _TICKS,
                threads=stat.threads,
                major_faults=stat.major_faults,
                read_bytes=self._read_bytes(pid),
                connections=connections,
                queued=queued,
                left=left,
                model_cached_bytes=self._model_cached(server.model_path),
                oom_score_adj=int(adj) if adj.lstrip("-").isdecimal() else None,
                minor_faults=stat.minor_faults,
                fds=self._descriptors(pid),
            ),
        )

    def close(self) -> None:
        """Let go of the model file."""
        if self._model_fd is not None:
            os.close(self._model_fd)
            self._model_fd = None

    def _text(self, pid: int, name: str) -> str:
        try:
            return (self._procfs.root / str(pid) / name).read_text(errors="replace")
        except OSError:
            return ""

    def _read_bytes(self, pid: int) -> int | None:
        for line in self._text(pid, "io").splitlines():
            if line.startswith("read_bytes:"):
                return int(line.split()[1])
        return None

    def _descriptors(self, pid: int) -> int | None:
        try:
            return len(os.listdir(self._procfs.root / str(pid) / "fd"))
        except OSError:
            return None

    def _model_cached(self, path: str | None) -> int | None:
        """Bytes of the model in page cache, looked at now and then."""
        if path is None:
            return None
        if self._stands_in is not None:
            return self._stands_in(path)
        if path != self._model:
            self.close()
            self._model, self._cached = path, None
        elif self._turn % _CACHE_EVERY:
            return self._cached
        try:
            if self._model_fd is None:
                self._model_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._cached = cached_bytes(self._model_fd)
        except OSError:
            self._cached = None
        return self._cached
