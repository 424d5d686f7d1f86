"""Who is at a server's port, at a cost that does not grow with the machine.

The kernel walks its whole table of connections for one read of /proc/net/tcp: half a million empty
places on a machine of 128 GB, several milliseconds of a core. So what is looked at each second are
the server's own descriptors, and the table only after these have changed, or seldom.
"""

from __future__ import annotations

import os

from ds4top.core.process import ServerProcess
from ds4top.core.proctext import CLOSE_WAIT, ESTABLISHED, LISTEN, Socket
from ds4top.core.target import Target
from ds4top.sources.procfs import ProcFs

BUSY_S = 5.0
"""A client that goes changes no descriptor of the server's: the table is read again after this."""
QUIET_S = 15.0
BLIND_S = 10.0
"""Where the server's descriptors may not be read."""
Counts = tuple[int | None, int | None, int | None]
UNKNOWN: Counts = (None, None, None)


class PortWatch:
    """Counts connections taken, queued, and left by their client (CLOSE_WAIT)."""

    def __init__(self, procfs: ProcFs) -> None:
        self._procfs = procfs
        self._of: tuple[Target, tuple[tuple[str, int], ...]] | None = None
        self._inodes: set[int] | None = None
        self._counts: Counts = UNKNOWN
        self._read_t = float("-inf")

    def look(self, server: ServerProcess, now: float) -> Counts:
        """Connections, queued, left; ``None`` where it is not known to listen."""
        if not server.listening:
            self._of = None
            return UNKNOWN
        try:
            inodes: set[int] | None = self._procfs.own_inodes(server.target.pid)
        except OSError:
            inodes = None
        of = (server.target, server.listening)
        if of != self._of or inodes != self._inodes or now - self._read_t >= self._pace_s:
            self._of, self._inodes, self._read_t = of, inodes, now
            self._counts = self._read(server)
        return self._counts

    @property
    def _pace_s(self) -> float:
        if self._inodes is None:
            return BLIND_S
        connections, queued, left = self._counts
        return BUSY_S if connections or queued or left else QUIET_S

    def _read(self, server: ServerProcess) -> Counts:
        ports = {port for _, port in server.listening}
        names = ("tcp", "tcp6") if any(":" in host for host, _ in server.listening) else ("tcp",)
        sockets = self._procfs.sockets(server.target.pid, names)
        here = [socket for socket in sockets if socket.port in ports]
        # A connection that nobody has accepted yet has no inode; the queue counts it.
        taken = [socket for socket in here if socket.inode and socket.state == ESTABLISHED]
        ours = self._ours(sockets) if taken else set()
        return (
            sum((socket.peer_host, socket.peer_port) not in ours for socket in taken),
            sum(socket.queued for socket in here if socket.state == LISTEN),
            sum(bool(socket.inode) and socket.state == CLOSE_WAIT for socket in here),
        )

    def _ours(self, sockets: list[Socket]) -> set[tuple[str, int]]:
        """Where ds4top's own connections come from: it asks, and is no client."""
        try:
            inodes = self._procfs.own_inodes(os.getpid())
        except OSError:
            return set()
        return {(socket.host, socket.port) for socket in sockets if socket.inode in inodes}
