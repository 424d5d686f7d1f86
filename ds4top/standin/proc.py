"""What the process does to itself: its name, its end with a parent, its OOM score (Linux only)."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import threading

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
PARENT_ENV = "DS4TOP_STANDIN_PARENT"
COMM = "ds4-server"


def _prctl(option: int, value: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_comm(name: str = COMM) -> None:
    """Name the calling thread; threads started later inherit it. Raises OSError."""
    _prctl(_PR_SET_NAME, name.encode("ascii"))


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends; die at once if it already has.

    The parent's pid may be given in DS4TOP_STANDIN_PARENT, which closes the gap between its fork
    and this call. The kernel means the parent *thread* that forked, so start such a child from a
    thread that lives as long as it should. Raises OSError.
    """
    before = os.getppid()
    wanted = os.environ.get(PARENT_ENV, "")
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    now = os.getppid()
    if now != before or (wanted.isdigit() and now != int(wanted)):
        os.kill(os.getpid(), signal.SIGKILL)


def watch_leash(path: str) -> None:
    """End this process by SIGKILL once nobody holds an exclusive flock on `path` any more.

    A thread sits in flock(), so waiting costs nothing, and whoever started this process does not
    matter: a server restarted by hand keeps the option in its argument vector. Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def wait() -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_SH)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def set_oom_score_adj(value: int) -> bool:
    """Write this process's oom_score_adj (higher dies first); False where it is not allowed."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(value))
    except OSError:
        return False
    return True
