"""On which filesystem a path lies, also one that another process sees (``/proc/PID/root/…``)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ds4top.core.kvfile import Filesystem, filesystem_of


def mount_of(path: str | None, proc: Path = Path("/proc")) -> Filesystem | None:
    """The mount that the path is on; ``None`` where that is not known, or there is no such path.

    Inside another process's root its own table of mounts holds (proc_mounts(5)); links there are
    not followed, for they are links of another root.
    """
    if path is None or not os.path.exists(path):
        return None
    found = re.fullmatch(rf"{re.escape(str(proc))}/(\d+)/root(/.*)", path)
    pid, inner = found.groups() if found else ("self", os.path.realpath(path))
    try:
        return filesystem_of((proc / pid / "mounts").read_text("utf-8", "replace"), inner)
    except OSError:
        return None
