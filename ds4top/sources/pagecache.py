"""How much of a file is in page cache: cachestat(2), Linux 6.5 and newer.

It tells the truth to the file's owner and to those who may write it; others get an error, which is
"not known" here. (mincore(2) would call everything resident for them instead.)
"""

from __future__ import annotations

import ctypes
import os
import resource

_NR_CACHESTAT = 451
"""The same number on every architecture (include/uapi/asm-generic/unistd.h)."""


class _Range(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Stat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")
    )


def cached_bytes(fd: int) -> int:
    """Bytes of an open file in page cache.

    Raises ``OSError``: ENOSYS on older kernels, EPERM where the file is not ours.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    span, stat = _Range(0, 0), _Stat()
    done = libc.syscall(_NR_CACHESTAT, fd, ctypes.byref(span), ctypes.byref(stat), 0)
    if done != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(stat.cache) * resource.getpagesize()
