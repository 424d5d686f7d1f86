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
from ds4top.sources.http import OWN_ENDS
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
            if self._counts[1]:
                # A question of ours may have been taken while the table was read, which begins
                # with the queues: what waits for the server waits longer than that.
                again = self._read(server)
                self._counts = again[0], _least(self._counts[1], again[1]), again[2]
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
        made = [socket for socket in here if socket.state == ESTABLISHED]
        taken = [socket for socket in made if socket.inode]
        ours = self._ours(sockets) if taken else set()
        # One of our own questions may be in the queue at this very moment.
        asked = sum((one.peer_host, one.peer_port) in OWN_ENDS for one in made if not one.inode)
        return (
            sum((socket.peer_host, socket.peer_port) not in ours for socket in taken),
            max(sum(socket.queued for socket in here if socket.state == LISTEN) - asked, 0),
            sum(bool(socket.inode) and socket.state == CLOSE_WAIT for socket in here),
        )

    def _ours(self, sockets: list[Socket]) -> set[tuple[str, int]]:
        """Where ds4top's own connections come from: it asks, and is no client."""
        try:
            inodes = self._procfs.own_inodes(os.getpid())
        except OSError:
            inodes = set()
        # A short GET may be over before its descriptor is looked for: its end is remembered.
        return set(OWN_ENDS) | {(one.host, one.port) for one in sockets if one.inode in inodes}


def _least(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else min(one, other)
