"""What a source is, the clock it is given, and how it says what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ds4top.sources.samples import ErrorKind


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as callables, all in seconds, so that tests and replays can bring their own.

    ``cpu`` is the processor time of the calling thread: what a source costs, waiting aside.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    cpu: Callable[[], float] = time.thread_time


SYSTEM_CLOCK = Clock()


class Source(Protocol):
    """Something that is read again and again in a thread of its own.

    ``read`` may block and may raise: an exception becomes a ``SourceError`` sample and the
    source is tried again later. ``interval_s`` is asked after each turn; 0 means "at once".
    """

    @property
    def name(self) -> str:
        """The source's name on the screen and in recordings."""
        ...

    @property
    def interval_s(self) -> float:
        """Seconds from the start of one turn to the next."""
        ...

    def open(self) -> None:
        """Called before the first turn and after a fault that asked for it."""
        ...

    def read(self, now: float) -> Sequence[object]:
        """One turn at monotonic ``now``; samples, oldest first."""
        ...

    def close(self) -> None:
        """Called once at the end, and before a new ``open``."""
        ...


class SourceFault(Exception):
    """Raised by a source for what it understands: a kind, and a message that says how to mend it.

    ``reopen``: close and open the source before the next turn.
    """

    def __init__(self, kind: ErrorKind, message: str, *, reopen: bool = False) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
        self.reopen = reopen


_KINDS: tuple[tuple[type[Exception], ErrorKind], ...] = (
    (PermissionError, "permission"),
    (FileNotFoundError, "not_found"),
    (ProcessLookupError, "not_found"),
    (ConnectionError, "refused"),
    (TimeoutError, "timeout"),
    (ValueError, "parse"),
    (NotImplementedError, "unsupported"),
)


def kind_of(error: Exception) -> ErrorKind:
    """The kind of an exception that a source let through."""
    if isinstance(error, SourceFault):
        return error.kind
    return next((kind for of, kind in _KINDS if isinstance(error, of)), "error")
