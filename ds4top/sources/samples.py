"""What the log, the replay and the supervisor hand to the store: frozen values.

``t`` is monotonic seconds, ``wall`` seconds since the epoch. A class with ``queued = True`` is
never overwritten in the mailbox; every other sample is a gauge of which the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from ds4top.core.events import Event

ErrorKind = Literal[
    "not_found", "refused", "timeout", "parse", "permission", "unsupported", "error"
]
BreakReason = Literal["rotated", "truncated", "missing", "appeared", "ended"]
HistoryState = Literal["reading", "done", "abandoned"]

_CLOSING: frozenset[str] = frozenset(("rotated", "truncated", "ended"))


class Reader(Protocol):
    """Bytes of one log in, events out; any split of the bytes gives the same events."""

    @property
    def lines(self) -> int:
        """Physical lines so far."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """Events of the lines that these bytes complete."""
        ...

    def close(self) -> list[Event]:
        """The end of a stretch: what a torn last line becomes. ``feed`` may follow."""
        ...


class Store(Protocol):
    """Whatever reduces events to a state; it is handed over whole."""

    def apply(self, events: Iterable[Event], heard_at: float | None = None) -> None:
        """Take events in order; ``heard_at`` is when they arrived, ``None`` for history."""
        ...


@dataclass(frozen=True, slots=True)
class SourceError:
    """A source failed at ``t``; it is tried again by itself."""

    name: str
    kind: ErrorKind
    message: str
    t: float


@dataclass(frozen=True, slots=True)
class SourceOk:
    """A source works again, or for the first time, since ``t``."""

    name: str
    t: float


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of the log from ``offset`` on; ``generation`` counts the files they came from."""

    data: bytes
    offset: int
    generation: int
    t: float


@dataclass(frozen=True, slots=True)
class LogBreak:
    """The log is not what it was. ``generation`` is the one that holds from here on."""

    queued: ClassVar[bool] = True
    reason: BreakReason
    generation: int
    t: float
    path: str
    detail: str = ""

    @property
    def closes(self) -> bool:
        """Whether a line that is still open will never be finished: close the reader first."""
        return self.reason in _CLOSING


@dataclass(frozen=True, slots=True)
class LogEvents:
    """Events of one stretch of the log, ``lines`` physical lines ended in it.

    ``live`` is false for what the file held before it was opened or was skipped to. ``data``
    is the stretch itself, for the log view and the recording; it is dropped with the sample.
    """

    queued: ClassVar[bool] = True
    events: tuple[Event, ...]
    lines: int
    t: float
    wall: float
    generation: int
    live: bool = True
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class HistoryProgress:
    """How far the beginning of a big log has been read. ``note`` says why it was abandoned."""

    done_bytes: int
    total_bytes: int
    state: HistoryState
    t: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class HistorySwap:
    """The whole log up to ``offset`` of ``generation``: ``store`` replaces the live one.

    Every ``LogEvents`` before this sample is in ``store`` already, none after it is.
    """

    queued: ClassVar[bool] = True
    store: Store
    lines: int
    offset: int
    generation: int
    t: float
    wall: float


@dataclass(frozen=True, slots=True)
class ReplayReset:
    """The replay went back: forget everything; what follows begins at the start again."""

    queued: ClassVar[bool] = True
    t: float


@dataclass(frozen=True, slots=True)
class ReplayPosition:
    """Where a replay stands, for the header. Seconds of the recorded time."""

    position_s: float
    total_s: float
    wall: float
    speed: float
    paused: bool
    ended: bool
    t: float
