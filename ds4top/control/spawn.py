"""Starting a server so that it outlives ds4top, its terminal and the SSH session.

Its own session, no input, standard error appended to its log; limits, umask, folder and environment
as they were captured. Nothing of ds4top's is inherited.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from pathlib import Path

from ds4top.core.plan import Spec

KEPT_LOGS = 5

_LIMITS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max core file size": resource.RLIMIT_CORE,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max pending signals": resource.RLIMIT_SIGPENDING,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
}


def _number(word: str) -> int:
    return resource.RLIM_INFINITY if word == "unlimited" else int(word)


def spawn(spec: Spec, log_path: Path) -> subprocess.Popen[bytes]:
    """Start it. The caller may wait for it, and need not.

    Raises ``OSError`` where the folder, the log or the executable is not to be had.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    log = os.open(log_path, flags, 0o600)
    try:
        child = subprocess.Popen(
            spec.argv,
            executable=spec.exe or None,
            env=dict(spec.env),
            cwd=spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=-1 if spec.umask is None else spec.umask,
        )
    finally:
        os.close(log)
    for name, soft, hard in spec.limits:
        if (kind := _LIMITS.get(name)) is not None:
            # A limit above the present hard one is root's to set; what was lower is still kept.
            with contextlib.suppress(OSError, ValueError):
                resource.prlimit(child.pid, kind, (_number(soft), _number(hard)))
    return child


def rotate(log_path: Path, keep: int = KEPT_LOGS) -> None:
    """Move older logs on by one before a start, so that ``keep`` stay, the new one with them."""
    for number in range(keep - 1, 0, -1):
        older = log_path if number == 1 else log_path.with_name(f"{log_path.name}.{number - 1}")
        if older.exists():
            os.replace(older, log_path.with_name(f"{log_path.name}.{number}"))
