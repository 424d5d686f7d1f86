"""One ds4top acts at a time: a lock whose holder is named."""

from __future__ import annotations

import fcntl
import getpass
import os
import time
from pathlib import Path

from ds4top.archive.paths import private_folder

_MOMENT_S, _AGAIN_S = 0.3, 0.02


class HeldError(Exception):
    """Another ds4top acts; the message names it."""


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"
    return f"pid {os.getpid()}, {user}"


def _locked(fd: int, how: int) -> str | None:
    """Lock the file, or say who has it. Who only looks has it for a moment: that is waited for."""
    end = time.monotonic() + _MOMENT_S
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(_AGAIN_S)  # a lock tells nobody when it is free, but by blocking
                continue
            name = os.pread(fd, 200, 0).decode("utf-8", "replace").strip()
            return name or "it did not say who it is"
        return None


class Turn:
    """The right to act, until it is closed. The kernel gives it back if ds4top dies."""

    def __init__(self, path: Path, intent: str = "") -> None:
        """Raises ``HeldError``, ``OSError``."""
        private_folder(path.parent)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if (other := _locked(self._fd, fcntl.LOCK_EX)) is not None:
            os.close(self._fd)
            raise HeldError(other)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{_who()}{f', {intent}' if intent else ''}\n".encode(), 0)

    def close(self) -> None:
        """Give it back."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def holder(path: Path) -> str | None:
    """Who acts now, without taking the turn; ``None`` where nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared: those who look do not meet each other, only one who acts.
        return _locked(fd, fcntl.LOCK_SH)
    except OSError:
        return None
    finally:
        os.close(fd)
