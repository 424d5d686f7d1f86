"""What a server uses, and who waits at its port: one frozen sample."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at a server. Sizes in bytes; ``None`` where it may not be read.

    ``connections``: accepted ones at its port, ds4top's own aside; ``queued``: not accepted yet;
    ``left``: the client has closed and the server has not (CLOSE_WAIT): its work runs on for
    nobody. ``fds``: open descriptors.
    """

    pid: int
    t: float
    wall: float
    state: str
    rss_bytes: int | None
    anon_bytes: int | None
    file_bytes: int | None
    shmem_bytes: int | None
    swap_bytes: int | None
    cpu_s: float
    threads: int
    major_faults: int
    read_bytes: int | None
    connections: int | None
    queued: int | None
    left: int | None
    model_cached_bytes: int | None
    oom_score_adj: int | None
    minor_faults: int | None = None
    fds: int | None = None

    def waiting(self, running: int) -> int | None:
        """Requests that wait: at the port, beside the ``running`` ones; one connection each."""
        if self.connections is None or self.queued is None:
            return None
        return max(self.connections + self.queued - running, 0)
