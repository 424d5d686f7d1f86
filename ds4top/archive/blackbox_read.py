"""Reading a black box that nobody has to own: for a report, or while another ds4top keeps it."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ds4top.archive.paths import reason_of
from ds4top.core.boxrecord import RING_BYTES, HeaderState, Past, header_state, parse_ring


@dataclass(frozen=True, slots=True)
class Box:
    """A ring file as it is now. ``owned``: a ds4top that runs is writing it, so no life has ended.

    ``problem``: why nothing could be read, empty where something was or there is nothing yet.
    """

    past: Past = field(default_factory=Past)
    owned: bool = False
    problem: str = ""


PROBLEMS: dict[HeaderState, str] = {
    "foreign": "is not a black box of ds4top, and is left as it is",
    "damaged": "has a damaged header",
    "version": "was written by another version of ds4top",
}


def read_fd(fd: int) -> bytes:
    """All of a ring, and no more than a ring. Raises ``OSError``."""
    parts: list[bytes] = []
    size = 0
    while size < RING_BYTES and (part := os.pread(fd, RING_BYTES - size, size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def read_box(path: Path) -> Box:
    """The last run in a black box. Never raises ``OSError``, changes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Box()
    except OSError as error:
        return Box(problem=f"{path}: {reason_of(error)}")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return Box(problem=f"{path} is no file")
        owned = not _free(fd)
        data = read_fd(fd)
    except OSError as error:
        return Box(problem=f"{path}: {reason_of(error)}")
    finally:
        os.close(fd)
    state = header_state(data)
    if state in PROBLEMS:
        return Box(owned=owned, problem=f"{path} {PROBLEMS[state]}")
    return Box(parse_ring(data), owned)


def _free(fd: int) -> bool:
    """Whether nobody writes it. The lock is taken for a moment only, and shared."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
