"""Which log is read: one source that can be pointed at another log while it runs.

The server's log is known only once the server is found, and the next life of a server may keep its
log elsewhere. The store behind is told to forget (``ReplayReset``) before another log's lines come.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault
from ds4top.sources.logsource import TAIL_BYTES, LogSource, MakeReader, MakeStore
from ds4top.sources.logtail import LogFollower, StreamFollower
from ds4top.sources.samples import ReplayReset

_UNPOINTED_S = 0.1
_KILL_S = 2.0


@dataclass(frozen=True, slots=True)
class LogAddress:
    """A log that can be read: a file's path, or the command whose output it is.

    ``name`` is what the screen calls it.
    """

    name: str
    path: str | None = None
    command: tuple[str, ...] = ()


class LogReading(Protocol):
    """What the router drives."""

    @property
    def interval_s(self) -> float:
        """Seconds to the next turn."""
        ...

    def open(self) -> None:
        """Before the first turn."""
        ...

    def read(self, now: float) -> Sequence[object]:
        """One turn."""
        ...

    def close(self) -> None:
        """At the end."""
        ...


MakeLog = Callable[[LogAddress], LogReading]


class LogRouter:
    """The source ``log``. ``point`` may be called from any thread."""

    name = "log"

    def __init__(self, make: MakeLog) -> None:
        self._make = make
        self._wanted: LogAddress | None = None
        self._current: LogAddress | None = None
        self._inner: LogReading | None = None
        self._fresh = False
        self.has_read = False
        """Whether the present log has been read once, to its end as it was then."""
        self.on_pointed: Callable[[], None] = lambda: None
        """Told of a new address, so that nobody waits for the next turn."""

    @property
    def address(self) -> LogAddress | None:
        """The log that is wanted now."""
        return self._wanted

    def point(self, address: LogAddress | None) -> None:
        """Read this log from the next turn on; ``None`` reads none and forgets what was read."""
        if address != self._wanted:
            self._wanted = address
            self.on_pointed()

    @property
    def interval_s(self) -> float:
        """The log's own pace; without one, how soon a new address is looked for."""
        if self._fresh or self._wanted != self._current:
            return 0.0
        return self._inner.interval_s if self._inner is not None else _UNPOINTED_S

    def open(self) -> None:
        """Nothing to do before an address is known."""

    def read(self, now: float) -> Sequence[object]:
        """A turn of the present log; the change to another one is a turn of its own."""
        wanted = self._wanted
        self._fresh = wanted != self._current
        if self._fresh:
            self.has_read = False
            return self._change(wanted, now)
        samples = self._inner.read(now) if self._inner is not None else ()
        self.has_read = self._inner is not None
        return samples

    def close(self) -> None:
        """Close the present log; a later turn opens it anew."""
        if self._inner is not None:
            self._inner.close()
        self._inner = None
        self._current = None

    def _change(self, wanted: LogAddress | None, now: float) -> Sequence[object]:
        if self._inner is not None:
            self._inner.close()
            self._inner = None
        had = self._current
        if wanted is not None:
            inner = self._make(wanted)
            # One that cannot be opened is tried again: it is not the present one yet.
            inner.open()
            self._inner = inner
        self._current = wanted
        return (ReplayReset(now),) if had is not None else ()


class CommandLog:
    """A log that a command prints (``journalctl -f``, ``docker logs -f``): its output as a stream.

    The child gets no input, a session of its own and ends with the source; a child that ends by
    itself is a fault with its last words, and is started again.
    """

    def __init__(
        self,
        command: Sequence[str],
        make_reader: MakeReader,
        make_store: MakeStore,
        clock: Clock = SYSTEM_CLOCK,
        stop: Event | None = None,
    ) -> None:
        self._command = tuple(command)
        self._make_reader = make_reader
        self._make_store = make_store
        self._clock = clock
        self._stop = stop
        self._child: subprocess.Popen[bytes] | None = None
        self._source: LogSource | None = None
        self._follower: StreamFollower | None = None

    @property
    def interval_s(self) -> float:
        """The stream's own pace."""
        return self._source.interval_s if self._source is not None else _UNPOINTED_S

    def open(self) -> None:
        """Start the command. Raises ``SourceFault`` where it cannot be started."""
        try:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceFault("not_found", f"{self._command[0]}: {error.strerror}") from error
        assert self._child.stdout is not None
        follower = StreamFollower(
            self._child.stdout.fileno(), " ".join(self._command), self._stop, self._clock.monotonic
        )
        self._follower = follower
        self._source = LogSource(follower, self._make_reader, self._make_store, self._clock)

    def read(self, now: float) -> Sequence[object]:
        """One turn of the stream. Raises ``SourceFault`` once the command has ended."""
        if self._source is None:
            self.open()
        assert self._source is not None
        assert self._follower is not None
        assert self._child is not None
        samples = self._source.read(now)
        if not samples and self._follower.ended:
            status = _reaped(self._child)
            self.close()
            raise SourceFault("error", f"{' '.join(self._command)} ended with {status}")
        return samples

    def close(self) -> None:
        """End the command."""
        if self._source is not None:
            self._source.close()
            self._source = None
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGTERM)
        _reaped(child)
        if child.stdout is not None:
            child.stdout.close()


def _reaped(child: subprocess.Popen[bytes]) -> int:
    """Exit status of a child that is about to end; one that does not is killed."""
    try:
        return child.wait(_KILL_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def opener(
    make_reader: MakeReader,
    make_store: MakeStore,
    clock: Clock = SYSTEM_CLOCK,
    stop: Event | None = None,
    stdin_fd: int = 0,
) -> MakeLog:
    """How the router opens what it is pointed at; the path ``-`` is the pipe on ``stdin_fd``."""

    def make(address: LogAddress) -> LogReading:
        if address.path is None:
            return CommandLog(address.command, make_reader, make_store, clock, stop)
        if address.path == "-":
            pipe = StreamFollower(stdin_fd, stop=stop, monotonic=clock.monotonic)
            return LogSource(pipe, make_reader, make_store, clock)
        follower = LogFollower(address.path, TAIL_BYTES, clock.monotonic)
        return LogSource(follower, make_reader, make_store, clock)

    return make
