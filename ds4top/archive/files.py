"""Files of ds4top's own: written whole and privately, or appended to and flushed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ds4top.archive.paths import private_folder, sync_folder


def write_private(path: Path, text: str) -> None:
    """Replace a file at once and for good: after a crash it holds the old or the new text."""
    private_folder(path.parent)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file for good; one that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)
