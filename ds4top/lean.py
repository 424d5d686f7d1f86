"""Leaves out what Python's own modules would load and a dashboard does not want.

asyncio and hashlib load OpenSSL wherever it is there: 3 MiB of resident memory and 10 ms, for TLS
that only an https URL needs. Both do without it where it cannot be imported.
"""

from __future__ import annotations

import contextlib
import sys

_OPENSSL = ("ssl", "_hashlib")
_ARENA_MAX = -8
"""``M_ARENA_MAX`` of mallopt(3)."""


def without_openssl() -> None:
    """Keep OpenSSL from being loaded from now on; before asyncio and hashlib are imported."""
    for name in _OPENSSL:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def with_openssl() -> None:
    """Let it be loaded again: by whom TLS is wanted."""
    for name in _OPENSSL:
        if sys.modules.get(name, sys) is None:
            del sys.modules[name]


def one_heap() -> None:
    """Let threads that start from now on share one heap: glibc gives each its own, a dozen small
    sources then hold 1 MiB that is free. Another C library has nothing of the kind.
    """
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Give the system the pages that are free inside the heap: glibc does so at its end alone, and
    what is made and let go for days leaves holes. Takes a millisecond; see malloc_trim(3).
    """
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
