"""Where ds4top keeps what it keeps: one folder of its own, for its owner alone.

``$XDG_STATE_HOME/ds4top``, else ``~/.local/state/ds4top`` (XDG Base Directory Specification).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

BLACK_BOX = "blackbox.ring"
CHOICE = "choice.json"
EXPORTS = "exports"
HISTORY = "history.sqlite"
JOURNAL = "journal.jsonl"
PARKED = "parked.json"
HELPS = "help"
KEPT: tuple[tuple[str, str], ...] = (
    (HISTORY, "requests, samples, starts, headroom: 90 days"),
    (BLACK_BOX, "the last ten minutes, for a death without a word"),
    (JOURNAL, "what was done to the server"),
    (PARKED, "the way back to what was parked"),
    (CHOICE, "the server that was chosen last"),
    (HELPS, "the --help of each build that was seen"),
    ("logs", "of servers that ds4top started"),
    ("panes", "copies of tmux panes"),
    (EXPORTS, "views that were exported, pictures"),
)
"""What lies in the folder, and what it holds."""


def state_dir(environment: Mapping[str, str]) -> Path | None:
    """The folder, which need not be there; ``None`` for a user without a home.

    A relative ``XDG_STATE_HOME`` is to be ignored, says the specification.
    """
    base = environment.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "ds4top"
    home = environment.get("HOME", "")
    if home.startswith("/"):
        return Path(home) / ".local" / "state" / "ds4top"
    try:
        return Path("~/.local/state/ds4top").expanduser()
    except RuntimeError:
        return None


def private_folder(path: Path) -> Path:
    """The folder, made (0700, those above it too) where it is not there. Raises ``OSError``."""
    if not path.parent.exists():
        private_folder(path.parent)
    path.mkdir(exist_ok=True, mode=0o700)
    return path


def sync_folder(path: Path) -> None:
    """Make the names in a folder last; a file system that cannot do that is fine."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def reason_of(error: OSError) -> str:
    """The kernel's word for an error."""
    return os.strerror(error.errno) if error.errno else str(error)


def machine_key(root: Path = Path("/")) -> str:
    """A name of this machine that outlives its host name: of a home that several machines share.

    Not the machine-id itself, which is to be kept to oneself (machine-id(5)), but its digest.
    """
    # Dear to load, and asked for once.
    import hashlib
    import platform

    try:
        text = (root / "etc" / "machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if text else platform.node()
