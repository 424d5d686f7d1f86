"""How much of a file is in page cache: cachestat(2), Linux 6.5 and newer, else mincore(2).

Both tell the truth to the file's owner and to those who may write it. To others cachestat gives an
error and mincore calls everything resident, so that these are not asked: "not known" is said.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from functools import cache
from typing import Any

_NR_CACHESTAT = 451
"""The same number on every architecture (include/uapi/asm-generic/unistd.h)."""
_WINDOWS = 512
_WINDOW_BYTES = 1 << 20
"""mincore wants a byte for each page and as long as a walk over all of them: a file of 80 GiB is
looked at in so many windows, spread evenly, and counted by their share."""


class _Range(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Stat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")
    )


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
        ctypes.c_int64,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    return libc


def _failed() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def cached_bytes(fd: int) -> int:
    """Bytes of an open file in page cache; of a large one an estimate where cachestat is missing.

    Raises ``OSError``: EPERM where the file is not ours.
    """
    try:
        return by_cachestat(fd)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM) or not _ours(fd):
            raise
    # An older kernel, or a container whose filter does not know the call.
    return by_mincore(fd)


def by_cachestat(fd: int) -> int:
    """Counted by the kernel. Raises ``OSError``: ENOSYS before 6.5, EPERM for another's file."""
    span, stat = _Range(0, 0), _Stat()
    if _libc().syscall(_NR_CACHESTAT, fd, ctypes.byref(span), ctypes.byref(stat), 0) != 0:
        raise _failed()
    return int(stat.cache) * mmap.PAGESIZE


def by_mincore(fd: int, windows: int = _WINDOWS, window_bytes: int = _WINDOW_BYTES) -> int:
    """Counted over the whole file up to ``windows`` windows, else over so many, evenly spread.

    Raises ``OSError`` where the file cannot be mapped.
    """
    size = os.fstat(fd).st_size
    total = -(-size // window_bytes)
    looked = resident = 0
    for number in range(min(total, windows)):
        begin = number * total // min(total, windows) * window_bytes
        length = min(window_bytes, size - begin)
        looked += length
        resident += min(_resident_pages(fd, begin, length) * mmap.PAGESIZE, length)
    return resident if looked == size else round(resident * size / max(looked, 1))


def _resident_pages(fd: int, begin: int, length: int) -> int:
    libc = _libc()
    address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, begin)
    if address == ctypes.c_void_p(-1).value:
        raise _failed()
    try:
        flags = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        if libc.mincore(address, length, flags) != 0:
            raise _failed()
        return sum(byte & 1 for byte in flags.raw)
    finally:
        libc.munmap(address, length)


def _ours(fd: int, uid: Callable[[], int] = os.geteuid) -> bool:
    """Whether mincore would tell the truth: the file's owner, root, or one who may write it."""
    info = os.fstat(fd)
    if uid() in (0, info.st_uid):
        return True
    try:
        return os.access(f"/proc/self/fd/{fd}", os.W_OK)
    except OSError:
        return False
