"""The source ``kernel log``: the journal's kernel lines as they come, where they may be read.

The first user of a DGX is in the group ``adm`` and may; ``kernel.dmesg_restrict`` does not bind the
journal (systemd#12112). Without rights the source says so once and how to get them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ds4top.core.kernlines import KernelEvent, parse_record
from ds4top.sources.base import SourceFault

COMMAND = ("journalctl", "-k", "-b", "-n", "2000", "-o", "json", "-f", "--no-pager")
_HINTS = ("not seeing messages", "No journal files were opened", "insufficient permissions")
_MEND = "sudo usermod -aG adm $USER, then log in again"
_BLOCK_BYTES = 65_536
_TURN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class KernelLines:
    """Events of the kernel log, oldest first."""

    queued: ClassVar[bool] = True
    events: tuple[KernelEvent, ...]
    t: float


class KernelLog:
    """Reads a child that follows the journal; it has a session of its own and ends with us."""

    name = "kernel log"
    interval_s = 1.0

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def open(self) -> None:
        """Start following. Raises ``SourceFault`` where there is no journal."""
        try:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceFault(
                "unsupported", f"no journal here ({self._command[0]}: {error.strerror})"
            ) from error

    def read(self, now: float) -> Sequence[KernelLines]:
        """What came since the last turn. Raises ``SourceFault`` once the child has ended."""
        assert self._child is not None
        assert self._child.stdout is not None
        data = _available(self._child.stdout.fileno())
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()[-_TURN_BYTES:]
        events = tuple(event for line in lines if (event := parse_record(line)) is not None)
        if not data and self._child.poll() is not None:
            raise self._ended()
        return (KernelLines(events, now),) if events else ()

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()

    def _ended(self) -> SourceFault:
        assert self._child is not None
        assert self._child.stderr is not None
        said = " ".join(_available(self._child.stderr.fileno()).decode("utf-8", "replace").split())
        if any(hint in said for hint in _HINTS):
            return SourceFault(
                "permission", f"the kernel log may not be read: {_MEND}", reopen=True
            )
        status = self._child.returncode
        return SourceFault("error", f"{self._command[0]} ended with {status}: {said}", reopen=True)


def _available(fd: int) -> bytes:
    """What a pipe holds now, without waiting."""
    blocks: list[bytes] = []
    size = 0
    while size < _TURN_BYTES and select.select([fd], [], [], 0)[0]:
        block = os.read(fd, _BLOCK_BYTES)
        if not block:
            break
        blocks.append(block)
        size += len(block)
    return b"".join(blocks)
