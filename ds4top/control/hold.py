"""A process held by a descriptor and verified: the only way a signal leaves ds4top.

The descriptor is opened first and the identity read after, so what was verified is what is held; a
pid that is used again belongs to another descriptor (pidfd_open(2)).
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from ds4top.core.proctext import parse_stat
from ds4top.core.target import Target

_ZOMBIE = "Z"


class NotTheTargetError(Exception):
    """The process is not, or no longer, the one that was meant."""


def identity_of(pid: int, proc: Path = Path("/proc")) -> tuple[Target, str]:
    """Identity and state letter of a process. Raises ``OSError`` or ``ValueError``."""
    text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    stat = parse_stat(text)
    boot_id = (proc / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    return Target(pid, stat.start_ticks, boot_id, stat.comm), stat.state


class Hold:
    """A verified process. Close it, or use it as a context manager."""

    def __init__(self, target: Target, proc: Path = Path("/proc")) -> None:
        """Raises ``NotTheTargetError`` where the pid is gone, reused or another program now."""
        self.target = target
        self._proc = proc
        try:
            self._fd = os.pidfd_open(target.pid)
        except (OSError, OverflowError, ValueError) as error:
            raise NotTheTargetError(f"there is no process {target.pid} any more") from error
        try:
            self.verify()
        except BaseException:
            os.close(self._fd)
            raise

    def verify(self) -> None:
        """Raises ``NotTheTargetError`` unless the held process is the target, and alive."""
        pid = self.target.pid
        try:
            found, state = identity_of(pid, self._proc)
        except (OSError, ValueError) as error:
            raise NotTheTargetError(f"process {pid} cannot be read any more") from error
        if found != self.target:
            raise NotTheTargetError(
                f"process {pid} is {found.comm} started at {found.start_ticks} now, not"
                f" {self.target.comm} started at {self.target.start_ticks}"
            )
        if state == _ZOMBIE:
            raise NotTheTargetError(f"process {pid} has ended")

    def send(self, number: signal.Signals | int) -> None:
        """Send a signal to the held process, verified once more.

        Raises ``NotTheTargetError``, ``PermissionError``.
        """
        self.verify()
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError as error:
            raise NotTheTargetError(f"process {self.target.pid} has ended") from error

    def gone(self, wait_s: float = 0.0) -> bool:
        """Whether it has ended, waiting for that at most ``wait_s``."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
