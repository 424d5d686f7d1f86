"""One ds4top acts at a time: a lock whose holder is named."""

from __future__ import annotations

import fcntl
import getpass
import os
from pathlib import Path

from ds4top.archive.paths import private_folder


class HeldError(Exception):
    """Another ds4top acts; the message names it."""


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"
    return f"pid {os.getpid()}, {user}"


class Turn:
    """The right to act, until it is closed. The kernel gives it back if ds4top dies."""

    def __init__(self, path: Path, intent: str = "") -> None:
        """Raises ``HeldError``, ``OSError``."""
        private_folder(path.parent)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 200, 0).decode("utf-8", "replace").strip()
            os.close(self._fd)
            raise HeldError(holder or "it did not say who it is") from error
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
        Turn(path).close()
    except HeldError as error:
        return str(error)
    except OSError:
        return None
    return None
