"""The history of a live session: what happens goes into the store, and what it holds comes back.

A source like the others: its thread opens the store, asks it and tells its state, so that the
event loop waits for no disk. SQLite is imported there too, after the first picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ds4top.archive.history_feed import UNKNOWN, Feed
from ds4top.archive.history_schema import AlertRow, EventRow, Subject
from ds4top.archive.paths import HISTORY, machine_key, state_dir
from ds4top.core.alertlog import AlertLog, past_alerts
from ds4top.core.derive import ServerState, Status
from ds4top.core.kept import Kept, PastEvent
from ds4top.core.model import Model
from ds4top.core.process import ServerProcess
from ds4top.core.units import MIB, fmt_mib, fmt_tokens
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault

if TYPE_CHECKING:
    from ds4top.archive.history import History

FIRST_S = 1.0
"""SQLite is not loaded before: the first picture comes first."""
LOOK_S = 1.0
TURN_S = 2.0
DAY_S = 86_400.0
EVENTS_S, PROMPTS_S = 90 * DAY_S, 7 * DAY_S
_SETTLED_S = 10.0
"""Why a process ended may be told a little later, by the kernel's log."""
_SAME_S: Mapping[str, float] = {"oom": 300.0, "xid": 300.0, "gone": 300.0}
"""What has no stamp of its own: the same event seen again lies this near."""
_FLUSH_S = 1.0
_ALERT_EVENTS = 200
_LIVES = 3
_SIDES = ("", "-wal")


def model_name(server: ServerProcess) -> str:
    """The model file as the history calls it: another size under the same name is another one."""
    name = os.path.basename(server.model_path or "") or UNKNOWN
    return name if server.model_bytes is None else f"{name} {server.model_bytes}"


def build_name(server: ServerProcess) -> str:
    """The build: the program, and when its file was made where that may be read."""
    name = server.target.comm
    return name if server.exe_key is None else f"{name} {server.exe_key[2] // 1_000_000_000}"


def subject_of(model: Model, machine: str) -> Subject | None:
    """What the samples of now belong to; ``None`` without a server, or where the log's newest life
    is not the one that runs.
    """
    server, life = model.machine.server, model.log.life
    if server is None or server.model_path is None:
        return None
    if life is not None and (life.shutdown or life.died):
        listened = life.listening_at
        if listened is not None and listened < server.started_wall - 2:
            return None
    residency = model.machine.residency(model.log)[0]
    return Subject(machine, build_name(server), model_name(server), residency.value)


def kept_of(history: History, machine: str, subject: Subject | None, now: float) -> Kept:
    """What the store holds, in the calling thread; what cannot be read is missing."""
    return Kept(
        tuple(history.past_starts(machine, subject.model)) if subject else (),
        tuple(history.decode_points(subject)) if subject else (),
        tuple(history.minima(machine, now - DAY_S)),
        tuple(history.events(machine, now - EVENTS_S)),
        history.prompts(machine, now - PROMPTS_S),
        tuple(history.alerts(machine, now - EVENTS_S)),
    )


class Keep:
    """Source of ``Kept``. ``look`` feeds the store from the thread that owns the model."""

    name = "history"

    def __init__(self, path: Path, machine: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = path
        self._machine = machine
        self._clock = clock
        self._begun: float | None = None
        self._history: History | None = None
        self._feed: Feed | None = None
        self._looked: float | None = None
        self._wanted: tuple[Subject | None, int] = (None, 0)
        self._answered: tuple[Subject | None, int] | None = None
        self._known: list[PastEvent] | None = None
        self._minima: tuple[tuple[float, int], ...] = ()
        self._alerts = AlertLog()
        self._alert_events: list[PastEvent] = []
        self._size_bytes = 0

    # the source, in its own thread ----------------------------------------------------------

    @property
    def interval_s(self) -> float:
        """Seldom, once what was asked is answered."""
        return TURN_S if self._answered == self._wanted else FIRST_S

    def open(self) -> None:
        """Nothing yet."""

    def read(self, now: float) -> Sequence[Kept]:
        """Open the store, once; what it holds of a server that is new. Raises ``SourceFault``."""
        if self._begun is None:
            self._begun = now
        if now - self._begun < FIRST_S:
            return ()
        if self._history is None:
            from ds4top.archive.history import History

            self._history = History(self.path, self._clock).start()
            return ()
        history, wanted = self._history, self._wanted
        self._size_bytes = sum(_size(f"{self.path}{side}") for side in _SIDES)
        if history.problem:
            raise SourceFault("error", history.problem)
        if self._answered == wanted:
            return ()
        # A start that has only just been handed over is in it, unless the disk is busy.
        history.flush(_FLUSH_S)
        self._answered = wanted
        return (kept_of(history, self._machine, wanted[0], self._clock.wall()),)

    def close(self) -> None:
        """Write the rest."""
        if self._history is not None:
            self._history.close()

    # the thread of the model ----------------------------------------------------------------

    def detail(self) -> str:
        """How the store is, for the Sources view."""
        history = self._history
        if history is None:
            return "not opened yet"
        lost = f", {fmt_tokens(history.dropped)} dropped" if history.dropped else ""
        size = fmt_mib(self._size_bytes, unit=True) if self._size_bytes >= MIB else "under 1 MiB"
        return f"rows written {fmt_tokens(history.written)}{lost}; {size} in {self.path}"

    def take(self, sample: object, model: Model) -> bool:
        """Hand what was kept to the model; ``False`` for any other sample."""
        if not isinstance(sample, Kept):
            return False
        if self._known is None:
            self._known = list(sample.events)
            self._minima = sample.minima
            self._alert_events = list(sample.alerts)
            model.past_alerts = past_alerts(sample.alerts)
            self._alerts.recall(model.past_alerts)
        model.kept = replace(sample, minima=(), alerts=())
        return True

    def look(self, model: Model, status: Status) -> None:
        """Feed what is new, at most once a second."""
        history, now = self._history, self._clock.monotonic()
        if history is None or (self._looked is not None and now - self._looked < LOOK_S):
            return
        self._looked = now
        if self._feed is None:
            self._feed = Feed(history, self._machine)
        subject = subject_of(model, self._machine)
        server = model.machine.server
        started = server.started_wall if server is not None else None
        self._feed.take(model.log, subject, model.machine.memory, started)
        self._wanted = (subject or self._wanted[0], self._feed.starts)
        if self._minima and model.machine.memory.minutes_from is not None:
            model.machine.memory.recall(self._minima)
            self._minima = ()
        if self._known is not None:
            self._events(model, status, self._known)
            self._note_alerts(model, history)

    def finish(self) -> None:
        """Hand over what had only just ended; ``close`` comes after."""
        if self._feed is not None:
            self._feed.close()

    def _events(self, model: Model, status: Status, known: list[PastEvent]) -> None:
        new = [event for event in happened(model, status) if not _in(event, known)]
        if new and self._history is not None:
            known += new
            self._history.add(EventRow(self._machine, e.at, e.kind, e.text) for e in new)

    def _note_alerts(self, model: Model, history: History) -> None:
        new = self._alerts.look(model.alerts, model.now)
        if new:
            history.add(AlertRow(self._machine, e.at, e.kind, e.text) for e in new)
            self._alert_events = [*self._alert_events, *new][-_ALERT_EVENTS:]
            model.past_alerts = past_alerts(self._alert_events)


def happened(model: Model, status: Status) -> Iterable[PastEvent]:
    """What is worth remembering of this run: ends, kills, and errors of the driver."""
    machine, life = model.machine, model.log.life
    for each in model.log.lives[-_LIVES:]:
        if each.shutdown_at is not None:
            yield PastEvent(each.shutdown_at, "stop", "shutdown requested")
    gone = machine.gone_wall
    died = status.state is ServerState.STOPPED and not (life is not None and life.shutdown)
    if gone is not None and machine.server is None and died and model.now - gone >= _SETTLED_S:
        yield PastEvent(gone, "gone", status.why)
    for kill in machine.kernel.kills:
        if kill.wall is not None:
            pid = "" if kill.pid is None else f" {kill.pid}"
            yield PastEvent(kill.wall, "oom", f"{kill.comm}{pid} by {kill.by}")
    for xid in machine.kernel.xids:
        if xid.wall is not None:
            pid = "" if xid.pid is None else f", pid {xid.pid}"
            yield PastEvent(xid.wall, "xid", f"Xid {xid.number}{pid}")


def _in(event: PastEvent, known: Iterable[PastEvent]) -> bool:
    near_s = _SAME_S.get(event.kind, 0.0)
    return any(
        (event.kind, event.text) == (old.kind, old.text) and abs(event.at - old.at) <= near_s
        for old in known
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def keep_of(environment: Mapping[str, str]) -> Keep | None:
    """The history in the user's state folder; ``None`` without a home."""
    folder = state_dir(environment)
    return None if folder is None else Keep(folder / HISTORY, machine_key())


def recalled(model: Model, environment: Mapping[str, str]) -> Kept:
    """What was kept of the server that is watched, for a command: read at once, nothing written."""
    from ds4top.archive.history import History

    folder, machine = state_dir(environment), machine_key()
    if folder is None or not (folder / HISTORY).exists():
        return model.kept
    history = History(folder / HISTORY)
    return kept_of(history, machine, subject_of(model, machine), model.now)
