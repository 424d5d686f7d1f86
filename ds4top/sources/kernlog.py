"""The source ``kernel log``: OOM kills and the driver's errors as they come, where one may read it.

Three ways, the first that is open: the journal, ``/dev/kmsg``, ``/var/log/kern.log``. The first
user of a DGX is in the group ``adm`` and may read the journal; ``kernel.dmesg_restrict``, which
shuts the second, does not bind it (systemd#12112). Without rights the source says so once and how
to get them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Protocol

from ds4top.core.kernlines import KernelEvent, KernelReader, record_text
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault
from ds4top.sources.logtail import LogFollower
from ds4top.sources.samples import LogChunk

COMMAND = (
    *("journalctl", "-b", "-n", "2000", "-o", "json", "-f", "--no-pager"),
    "--output-fields=MESSAGE",
    # The killers of user space log beside the kernel, not through it: -k alone would miss them.
    *("_TRANSPORT=kernel", "+", "_SYSTEMD_UNIT=systemd-oomd.service"),
    *("+", "_SYSTEMD_UNIT=earlyoom.service"),
)
JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
MEND = "sudo usermod -aG adm $USER, then log in again"
_HINTS = ("not seeing messages", "No journal files were opened", "insufficient permissions")
_BLOCK_BYTES = 65_536
_TURN_BYTES = 1 << 20
_TAIL_BYTES = 65_536
_END_S = 2.0

Line = tuple[str, float | None]
"""A message and its wall time, where that is told."""


@dataclass(frozen=True, slots=True)
class KernelLines:
    """Events of the kernel log, oldest first."""

    queued: ClassVar[bool] = True
    events: tuple[KernelEvent, ...]
    t: float


def readable(path: Path) -> bool:
    """Whether this user may read a file, by owner, group or access list."""
    return os.access(path, os.R_OK)


class KernelLog:
    """Source of ``KernelLines``. ``route`` tells which way is open, empty while none is."""

    name = "kernel log"
    interval_s = 1.0

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        journals: Sequence[Path] = JOURNALS,
        kmsg: Path = Path("/dev/kmsg"),
        kern_log: Path = Path("/var/log/kern.log"),
        clock: Clock = SYSTEM_CLOCK,
        may_read: Callable[[Path], bool] = readable,
    ) -> None:
        """``may_read`` stands in for the rights of the user."""
        self._command = tuple(command)
        self._journals = tuple(journals)
        self._kmsg, self._kern_log = kmsg, kern_log
        self._clock = clock
        self._may_read = may_read
        self._way: _Way | None = None
        self._reader = KernelReader()
        self._refused = False

    @property
    def route(self) -> str:
        """Where the lines come from."""
        return self._way.name if self._way is not None else ""

    def open(self) -> None:
        """Take the first way that is open. Raises ``SourceFault`` where none is."""
        self._reader = KernelReader()
        ways: tuple[Callable[[], _Way], ...] = (
            self._journal,
            lambda: _Kmsg(self._kmsg, self._clock),
            lambda: _File(self._kern_log, self._clock),
        )
        denied: list[str] = []
        absent: list[str] = []
        for make in ways:
            try:
                self._way = make()
            except PermissionError as error:
                denied.append(str(error.filename))
            except OSError as error:
                absent.append(str(error.filename))
            else:
                return
        if denied:
            raise SourceFault(
                "permission", f"the kernel log may not be read ({', '.join(denied)}): {MEND}"
            )
        raise SourceFault("unsupported", f"there is no kernel log here: no {', no '.join(absent)}")

    def read(self, now: float) -> Sequence[KernelLines]:
        """What came since the last turn. Raises ``SourceFault`` once the way is shut."""
        assert self._way is not None
        try:
            lines = self._way.read()
        except SourceFault as fault:
            self._refused = self._refused or fault.kind == "permission"
            raise
        found = (self._reader.feed(text, wall) for text, wall in lines)
        events = tuple(event for event in found if event is not None)
        return (KernelLines(events, now),) if events else ()

    def close(self) -> None:
        """Let go of it."""
        if self._way is not None:
            self._way.close()
            self._way = None

    def _journal(self) -> _Way:
        """Raises ``PermissionError`` where its files are shut: journalctl then follows nothing,
        says a hint and does not end."""
        files = [file for folder in self._journals for file in folder.glob("*/system*.journal")]
        if not files:
            raise FileNotFoundError(2, "no journal", "journal")
        if self._refused or not any(self._may_read(file) for file in files):
            raise PermissionError(13, "no rights", "journal")
        return _Journal(self._command)


class _Way(Protocol):
    @property
    def name(self) -> str: ...

    def read(self) -> list[Line]: ...

    def close(self) -> None: ...


class _Journal:
    """A child that follows the journal; it has a session of its own and ends with us."""

    name = "journal"

    def __init__(self, command: Sequence[str]) -> None:
        self._program = command[0]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._rest = b""
        self._said = b""

    def read(self) -> list[Line]:
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        ended = self._child.poll()
        data = _available(self._child.stdout.fileno())
        self._said = (self._said + _available(self._child.stderr.fileno()))[-_BLOCK_BYTES:]
        said = " ".join(self._said.decode("utf-8", "replace").split())
        if any(hint in said for hint in _HINTS):
            raise SourceFault("permission", f"the journal may not be read: {MEND}", reopen=True)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()[-_TURN_BYTES:]
        if ended is not None and not data:
            raise SourceFault("error", f"{self._program} ended with {ended}: {said}", reopen=True)
        return [found for line in lines if (found := record_text(line)) is not None]

    def close(self) -> None:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)
                break
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()


class _Kmsg:
    """The kernel's own buffer, a record a read (Documentation/ABI/testing/dev-kmsg)."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.name = str(path)
        self._clock = clock
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self) -> list[Line]:
        found: list[Line] = []
        size = 0
        while size < _TURN_BYTES:
            try:
                record = os.read(self._fd, _BLOCK_BYTES)
            except BrokenPipeError:
                # What was to come next has been overwritten; the one after it is there.
                continue
            except BlockingIOError:
                break
            if not record:
                break
            size += len(record)
            if (line := self._line(record.decode("utf-8", "replace"))) is not None:
                found.append(line)
        return found

    def close(self) -> None:
        os.close(self._fd)

    def _line(self, record: str) -> Line | None:
        head, found, rest = record.partition(";")
        fields = head.split(",")
        if not found or len(fields) < 3 or not all(f.isdecimal() for f in fields[:3]):
            return None
        if int(fields[0]) >> 3:
            # A facility other than 0: some program wrote this, not the kernel.
            return None
        age_s = self._clock.monotonic() - int(fields[2]) / 1e6
        return rest.partition("\n")[0], self._clock.wall() - max(age_s, 0.0)


class _File:
    """What syslog writes. Of what it held before, only lines with a whole date are told."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.name = str(path)
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self._follower = LogFollower(self.name, _TAIL_BYTES, clock.monotonic)
        self._clock = clock
        self._rest = b""
        self._old = True

    def read(self) -> list[Line]:
        found: list[Line] = []
        for item in self._follower.read():
            if not isinstance(item, LogChunk):
                self._rest = b""
                continue
            lines = (self._rest + item.data).split(b"\n")
            self._rest = lines.pop()[-_TURN_BYTES:]
            for line in lines:
                text = line.decode("utf-8", "replace")
                wall = _stamp(text)
                if wall is not None or not self._old:
                    found.append((text, self._clock.wall() if wall is None else wall))
        self._old = self._old and self._follower.more
        return found

    def close(self) -> None:
        self._follower.close()


def _stamp(text: str) -> float | None:
    """The wall time of a line that begins with a date of ISO 8601 and its zone."""
    try:
        found = datetime.fromisoformat(text.partition(" ")[0])
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo is not None else None


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
