"""Runs each source in a daemon thread: cadence, faults, backoff, heartbeats, an end.

Plain threads, not the screen toolkit's workers: a source that raises must neither end the
dashboard nor live and die with a screen.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import Literal

from ds4top.sources.base import SYSTEM_CLOCK, Clock, Source, SourceFault, kind_of
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.samples import SourceError, SourceOk

BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 30.0
COST_FACTOR = 10.0
"""A source may use at most a tenth of a core: the pause is at least this times its own cost."""
MEAN_TURNS = 20
JOIN_S = 0.5
_ROOM_WAIT_S = 0.1
_MESSAGE_CHARS = 400

BeatState = Literal["starting", "reading", "blocked", "waiting", "failing", "stopped"]
Route = Callable[[str, object], str | None]


@dataclass(frozen=True, slots=True)
class Beat:
    """A source's pulse. ``t``: since when it is in ``state``; ``blocked``: the mailbox is full.

    ``failures`` counts in a row; ``cost_s`` is the processor time of the last turn,
    ``mean_cost_s`` of one over the last ``MEAN_TURNS``; ``interval_s`` the pace it has now.
    """

    name: str
    state: BeatState
    t: float
    last_ok_t: float | None = None
    turns: int = 0
    failures: int = 0
    cost_s: float = 0.0
    interval_s: float | None = None
    mean_cost_s: float = 0.0


def default_route(source: str, sample: object) -> str | None:
    """The gauge key of a sample; ``None`` sends it to the queue.

    A class says ``queued = True`` for the queue; ``gauge_key`` tells apart several samples of
    one class.
    """
    if getattr(sample, "queued", False):
        return None
    return f"{source}/{getattr(sample, 'gauge_key', type(sample).__name__)}"


class Runner:
    """One source and its turns; ``turn`` is what the thread calls between its pauses."""

    def __init__(
        self,
        source: Source,
        mailbox: Mailbox,
        stop: Event,
        clock: Clock,
        rng: random.Random,
        route: Route,
    ) -> None:
        self.source = source
        self.beat = Beat(source.name, "starting", clock.monotonic())
        self.stop = stop
        self._woken = Event()
        self._mailbox = mailbox
        self._clock = clock
        self._rng = rng
        self._route = route
        self._open = False
        self._told_ok = False

    def turn(self) -> float:
        """Read once; the seconds to wait before the next turn. Never raises ``Exception``."""
        start = self._clock.monotonic()
        cpu = self._clock.cpu()
        self._beat("reading", start)
        try:
            if not self._open:
                self.source.open()
                self._open = True
            samples = self.source.read(start)
        except Exception as error:
            return self._failed(error)
        cost_s = self._clock.cpu() - cpu
        now = self._clock.monotonic()
        if not self._told_ok:
            self._told_ok = True
            self._mailbox.set(f"{self.source.name}/health", SourceOk(self.source.name, now))
        for sample in samples:
            if not self._deliver(sample):
                break
        now = self._clock.monotonic()
        interval_s = self.source.interval_s
        turns = self.beat.turns + 1
        # The first turn opens things; one alone says little of the next.
        mean_s = self.beat.mean_cost_s
        mean_s += (cost_s - mean_s) / min(turns, MEAN_TURNS)
        self.beat = Beat(
            self.source.name, "waiting", now, now, turns, 0, cost_s, interval_s, mean_s
        )
        if interval_s <= 0:
            return 0.0
        return max(0.0, max(interval_s, COST_FACTOR * cost_s) - (now - start))

    def run(self) -> None:
        """Turn after turn until told to stop; then close the source."""
        while not self.stop.is_set():
            delay_s = self.turn()
            self._woken.wait(delay_s)
            self._woken.clear()
        self._close()
        self._beat("stopped", self._clock.monotonic())

    def wake(self) -> None:
        """The next turn now, or the end if it was told to stop; from any thread."""
        self._woken.set()

    def end(self) -> None:
        """Stop after the turn that goes on."""
        self.stop.set()
        self.wake()

    def _deliver(self, sample: object) -> bool:
        key = self._route(self.source.name, sample)
        if key is not None:
            self._mailbox.set(key, sample)
            return True
        if self._mailbox.put(sample):
            return True
        self._beat("blocked", self._clock.monotonic())
        while not self.stop.is_set():
            if self._mailbox.put(sample, _ROOM_WAIT_S):
                return True
        return False

    def _failed(self, error: Exception) -> float:
        now = self._clock.monotonic()
        name = self.source.name
        message = " ".join(str(error).split())[:_MESSAGE_CHARS] or type(error).__name__
        self._told_ok = False
        self._mailbox.set(f"{name}/health", SourceError(name, kind_of(error), message, now))
        if isinstance(error, SourceFault) and error.reopen:
            self._close()
        failures = self.beat.failures + 1
        self.beat = replace(
            self.beat, state="failing", t=now, failures=failures, turns=self.beat.turns + 1
        )
        # Half of the pause is random, so that sources that failed together do not return together.
        most_s = getattr(self.source, "backoff_most_s", BACKOFF_MOST_S)
        pause_s = min(most_s, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))
        return pause_s * (0.5 + 0.5 * self._rng.random())

    def _close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(Exception):
                self.source.close()

    def _beat(self, state: BeatState, t: float) -> None:
        self.beat = replace(self.beat, state=state, t=t)


class Supervisor:
    """All sources of one dashboard. ``start`` once, ``stop`` once; ``add`` before ``stop``.

    ``stopping`` is for what waits inside a source; each runner has a ``stop`` of its own.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        route: Route = default_route,
    ) -> None:
        self._mailbox = mailbox
        self._clock = clock
        self._rng = rng or random.Random()
        self._route = route
        self._runners: dict[str, Runner] = {}
        self._threads: dict[str, Thread] = {}
        self._running = False
        self.stopping = Event()

    def add(self, source: Source) -> Runner:
        """Take a source on; raises ``ValueError`` for a name that is taken."""
        if source.name in self._runners:
            raise ValueError(f"there is a source named {source.name} already")
        runner = Runner(source, self._mailbox, Event(), self._clock, self._rng, self._route)
        self._runners[source.name] = runner
        if self._running:
            self._launch(runner)
        return runner

    def start(self) -> None:
        """Start a daemon thread for each source."""
        self._running = True
        for runner in list(self._runners.values()):
            self._launch(runner)

    def stop(self, join_s: float = JOIN_S, names: Collection[str] | None = None) -> tuple[str, ...]:
        """End all sources; the names of those that did not end within ``join_s`` each.

        ``names``: only these are waited for.
        """
        self.stopping.set()
        for runner in self._runners.values():
            runner.end()
        threads = {n: t for n, t in self._threads.items() if names is None or n in names}
        for thread in threads.values():
            thread.join(join_s)
        return tuple(name for name, thread in threads.items() if thread.is_alive())

    def remove(self, name: str) -> None:
        """Let a source go; its thread closes it after the turn it is in. Unknown names are fine."""
        runner = self._runners.pop(name, None)
        if runner is not None:
            runner.end()
            self._threads.pop(name, None)

    def wake(self, name: str) -> None:
        """Let a source take its turn now: what it waits for is there. Unknown names are fine."""
        runner = self._runners.get(name)
        if runner is not None:
            runner.wake()

    def beats(self) -> dict[str, Beat]:
        """The pulse of each source by name."""
        return {name: runner.beat for name, runner in list(self._runners.items())}

    def _launch(self, runner: Runner) -> None:
        name = runner.source.name
        thread = Thread(target=runner.run, name=f"src-{name}", daemon=True)
        self._threads[name] = thread
        thread.start()
