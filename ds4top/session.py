"""The sources, the mailbox and the state of one run, without a screen.

``tick`` moves what the sources have put into the mailbox into the state; it is all that the screen
calls. Nothing in here knows Textual, so that ``status`` and tests can use it alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path
from threading import Event as StopEvent
from typing import TYPE_CHECKING, TypeAlias, cast

from ds4top import __version__, health
from ds4top.core.events import KvHit
from ds4top.core.logread import LogReader
from ds4top.core.machine import Machine
from ds4top.core.model import History, Model, Replay, SourceHealth
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import DAY_S, StampClock
from ds4top.core.standing import standing
from ds4top.core.state import LogState
from ds4top.lean import one_heap
from ds4top.sources.base import SYSTEM_CLOCK, Clock
from ds4top.sources.inside import container
from ds4top.sources.logroute import LogAddress, LogRouter, opener
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.samples import (
    HistoryProgress,
    HistorySwap,
    LogBreak,
    LogEvents,
    ReplayPosition,
    ReplayReset,
    SourceError,
    SourceOk,
)
from ds4top.sources.supervisor import Supervisor
from ds4top.wanted import ActingPlace as ActingPlace
from ds4top.wanted import Wanted as Wanted

if TYPE_CHECKING:
    from ds4top.archive.record import Recorder
    from ds4top.control.panecopy import PaneCopies
    from ds4top.flight import FlightRecorder
    from ds4top.keep import Keep
    from ds4top.sources.replay import ReplayClock, ReplaySource
    from ds4top.sources.tracks import Track
    from ds4top.watch import Watch

MakeWatch: TypeAlias = "Callable[[Wanted, LogRouter, Callable[[], LogState], Clock], Watch]"

LIVE_LIMIT = 5_000
"""Requests and cache events that a live state keeps; samples ten times as many."""
_DRAIN = 64
_BREAKS = {
    "missing": "the log file is not there (yet): waiting for it",
    "rotated": "",
    "truncated": "",
    "appeared": "",
    "ended": "the log's input has ended",
}


class Session:
    """One run: live from a log, or a replay. ``close`` it; it owns threads."""

    def __init__(
        self,
        make_source: Callable[[StopEvent], LogRouter | ReplaySource],
        name: str,
        clock: Clock,
        *,
        tz: tzinfo | None = None,
        recorder: Recorder | None = None,
        replay_clock: ReplayClock | None = None,
        watch: Callable[[object, Callable[[], LogState]], Watch] | None = None,
        flight: Callable[[], FlightRecorder | None] = lambda: None,
        keep: Callable[[], Keep | None] = lambda: None,
        not_kept: str = "",
    ) -> None:
        """``watch`` makes the machine's store; its sources run only beside a live log.

        ``flight`` and ``keep`` make the black box and the history, once the machine is looked at;
        ``not_kept`` says why there is none.
        """
        self.clock = clock
        self.mailbox = Mailbox()
        self.supervisor = Supervisor(self.mailbox)
        self.source = make_source(self.supervisor.stopping)
        self._make_watch = watch
        self._watch: Watch | None = None
        self.replay_clock = replay_clock
        self._recorder = recorder
        self._reducer = Reducer(LogState(limit=LIVE_LIMIT))
        self._errors: dict[str, SourceError] = {}
        self._breaks = ""
        self._make_flight, self._make_keep, self._not_kept = flight, keep, not_kept
        self._flight: FlightRecorder | None = None
        self._keep: Keep | None = None
        self._panes: PaneCopies | None = None
        self.model = Model(self._reducer.state, clock.wall(), Machine(), name, tz)
        self.acting_place: ActingPlace | None = None
        """Where its server can be acted on; ``None`` for a replay."""
        self.driven: Mapping[str, Callable[[], None]] = {}
        """Of a demo: by name, what brings its machine into a state that an alert is about."""
        self.on_log: Callable[[bytes], None] | None = None
        self.on_reset: Callable[[], None] | None = None

    @property
    def watch(self) -> Watch | None:
        """The machine's store and its sources: made, and loaded, for the first who asks."""
        if self._watch is None and self._make_watch is not None:
            self._watch = self._make_watch(self.source, lambda: self.model.log)
            self.model.machine = self._watch.machine
        return self._watch

    def start(self) -> None:
        """Start all source threads."""
        self.start_log()
        self.start_machine()

    def start_log(self) -> None:
        """Start the thread that reads the log, or plays it."""
        self.supervisor.add(self.source)
        self.supervisor.start()

    def start_machine(self) -> None:
        """Start those that look at the machine; the screen does so once it was painted."""
        one_heap()
        self._flight, self._keep = self._make_flight(), self._make_keep()
        watch = self.watch
        live = watch is not None and isinstance(self.source, LogRouter)
        for source in watch.sources() if watch is not None and live else ():
            recorded = self._flight is not None and source.name == "memory"
            self.supervisor.add(self._flight.tapped(source) if recorded else source)  # type: ignore[union-attr]
        if self._flight is not None:
            self.supervisor.add(self._flight.pump)
        if self._keep is not None:
            self.supervisor.add(self._keep)
        if watch is not None:
            watch.attach, watch.detach = self.supervisor.add, self.supervisor.remove
            watch.wake = self.supervisor.wake
        if isinstance(self.source, LogRouter):
            self.source.on_pointed = lambda: self.supervisor.wake(self.source.name)

    def panes(self) -> PaneCopies:
        """The tmux panes that are copied for as long as this runs."""
        from ds4top.control.panecopy import PaneCopies

        if self._panes is None:
            self._panes = PaneCopies()
        return self._panes

    def close(self) -> None:
        """Stop the threads; recording and history are written out, copies of panes end."""
        if self._panes is not None:
            self._panes.close()
        if self._keep is not None:
            self._keep.finish()
        self.supervisor.stop()
        if self._recorder is not None:
            self._recorder.close()

    def pump(self, samples: Sequence[object]) -> None:
        """Take samples that did not come through the mailbox (a fixed clock in tests)."""
        for sample in samples:
            self._take(sample)
        self._stand()

    def tick(self) -> Model:
        """Move what has arrived into the state; gives the model as of now."""
        samples = self.mailbox.drain(_DRAIN)
        while samples:
            for sample in samples:
                self._take(sample)
            if not self.mailbox.waiting:
                break
            samples = self.mailbox.drain(_DRAIN)
        if self._recorder is not None and (error := self._recorder.flush()) is not None:
            self._errors[error.name] = error
        self._stand()
        if self._flight is not None:
            self._flight.look(self.model, standing(self.model))
            found = self._flight.judge(self.model, self.supervisor.beats(), self.model.tz)
            self.model.machine.autopsy = found or self.model.machine.autopsy
        if self._keep is not None:
            self._keep.look(self.model, standing(self.model))
        return self.model

    def _take(self, sample: object) -> None:
        model = self.model
        if self._flight is not None and self._flight.take(sample):
            return
        if self._keep is not None and self._keep.take(sample, model):
            return
        if self._watch is not None and self._watch.take(sample):
            if self._recorder is not None:
                self._recorder.record("machine", sample)
            return
        match sample:
            case LogEvents():
                self._reducer.apply(sample.events, sample.wall if sample.live else None)
                model.lines += sample.lines
                if self._recorder is not None and sample.data:
                    self._recorder.log(sample.data, sample.wall, live=sample.live)
                if self.on_log is not None and sample.data:
                    self.on_log(sample.data)
                if self._watch is not None:
                    for event in sample.events:
                        if isinstance(event, KvHit) and event.file:
                            self._watch.note_hit(event.file)
                self._breaks = ""
            case HistorySwap():
                assert isinstance(sample.store, Reducer)
                self._reducer = sample.store
                self._reducer.state.version += 1_000_000
                model.log = self._reducer.state
                model.lines = sample.lines
                model.history = None
            case HistoryProgress():
                reading = sample.state == "reading"
                model.history = History(sample.done_bytes, sample.total_bytes) if reading else None
                if sample.note:
                    model.details["history"] = sample.note
            case ReplayReset():
                self._reducer = Reducer(LogState(limit=LIVE_LIMIT))
                model.log = self._reducer.state
                model.lines = 0
                if self.on_reset is not None:
                    self.on_reset()
            case ReplayPosition():
                model.replay = Replay(
                    sample.position_s, sample.total_s, sample.speed, sample.paused, sample.ended
                )
            case LogBreak():
                said = _BREAKS.get(sample.reason, "")
                self._breaks = f"{said}: {sample.path}" if said and sample.path else said
                if self._recorder is not None:
                    self._recorder.log_break(sample)
            case SourceError():
                self._errors[sample.name] = sample
            case SourceOk():
                self._errors.pop(sample.name, None)
            case _:
                pass

    def _stand(self) -> None:
        model = self.model
        model.now = self.clock.wall()
        model.note = self._breaks
        model.health = self._health()

    def _health(self) -> tuple[SourceHealth, ...]:
        model = self.model
        heard = model.log.heard_at
        age = max(0.0, model.now - heard) if heard is not None else None
        error = self._errors.get("log") or self._errors.get("replay")
        if isinstance(self.source, LogRouter):
            address = self.source.address
            model.source = address.name if address is not None else ""
        if self._watch is not None:
            model.machine.kernel_route = self._watch.kernel_route
        found = [
            health.log_health(error, self._breaks, model.source, age, model.machine, model.keys)
        ]
        beats = self.supervisor.beats()
        if not isinstance(self.source, LogRouter):
            return (*found, *health.replayed(model.machine))
        cost_ms, every_s = health.paced(beats.get(self.source.name))
        found[0] = replace(found[0], cost_ms=cost_ms, every_s=every_s)
        details = health.details_of(model.machine, model.keys)
        if self._keep is not None:
            details[self._keep.name] = self._keep.detail()
        found += health.others(self._errors, beats, details, self.clock.monotonic())
        if self._not_kept:
            found.append(health.not_kept(self._not_kept))
        return tuple(found)


def _store() -> Reducer:
    return Reducer(LogState(limit=LIVE_LIMIT))


def _reader(tz: tzinfo | None, year: int | None) -> Callable[[float], LogReader]:
    return lambda mtime: LogReader(StampClock(mtime + DAY_S, tz, year))


def live(
    wanted: Wanted,
    *,
    tz: tzinfo | None = None,
    year: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
    record: str | None = None,
    stdin_fd: int = 0,
    watch: MakeWatch | None = None,
    flight: Callable[[], FlightRecorder | None] = lambda: None,
    keep: Callable[[], Keep | None] = lambda: None,
    not_kept: str = "",
) -> Session:
    """A session over the server that is found, or that ``wanted`` names; a log ``-`` is a pipe.

    Raises ``OSError`` or ``RecordingExistsError`` where the recording cannot be made.
    """

    def make_source(stop: StopEvent) -> LogRouter:
        router = LogRouter(opener(_reader(tz, year), _store, clock, stop, stdin_fd))
        if wanted.log is not None:
            router.point(LogAddress(wanted.log, wanted.log))
        return router

    def make_watch(source: object, log: Callable[[], LogState]) -> Watch:
        from ds4top.watch import Watch

        return (watch or Watch)(wanted, cast(LogRouter, source), log, clock)

    recorder = None
    if record is not None:
        import platform

        from ds4top.archive.record import Recorder
        from ds4top.core.secrets import masked

        host = {"name": platform.node()}
        recorder = Recorder(record, host, __version__, masked, clock)
    session = Session(
        make_source,
        "",
        clock,
        tz=tz,
        recorder=recorder,
        watch=make_watch,
        flight=flight,
        keep=keep,
        not_kept=not_kept,
    )
    session.model.inside = container(os.environ)
    return session


def replay(
    path: str,
    *,
    speed: float = 1.0,
    tz: tzinfo | None = None,
    year: int | None = None,
    fixed: bool = False,
) -> Session:
    """A session that plays a recording, or a raw server log by its own stamps.

    ``fixed`` stops its clock, for tests and pictures: time moves by ``advance`` only. Raises
    ``RecordingError`` for a recording that cannot be read, ``OSError`` for a missing file.
    """
    from ds4top.sources.replay import ReplayClock, ReplaySource
    from ds4top.watch import Watch, recorded_sample

    monotonic = None if fixed else SYSTEM_CLOCK.monotonic
    clock = ReplayClock(speed, monotonic)
    track = _track(path, tz, year)

    def store(source: object, log: Callable[[], LogState]) -> Watch:
        return Watch(Wanted(), LogRouter(opener(_reader(tz, year), _store)), log, clock.clock())

    session = Session(
        lambda stop: ReplaySource(track, clock, _reader(tz, year), recorded_sample),
        os.path.abspath(path),
        clock.clock(),
        tz=tz,
        replay_clock=clock,
        watch=store,
    )
    assert session.watch is not None
    return session


def _track(path: str, tz: tzinfo | None, year: int | None) -> Track:
    from ds4top.archive.record import read_recording
    from ds4top.sources.tracks import LogTrack, RecordTrack

    with Path(path).open("rb") as file:
        head = file.read(64)
    if head.lstrip().startswith(b'{"schema"'):
        return RecordTrack(read_recording(path))
    return LogTrack(path, lambda mtime: StampClock(mtime + DAY_S, tz, year).at)


__all__ = ["LIVE_LIMIT", "Session", "Wanted", "live", "replay"]
