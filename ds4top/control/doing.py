"""A plan run in a thread of its own, with how far it is for whoever looks.

The thread is no obstacle to an end of ds4top: it is told to stop waiting, and what it does not
give up in time goes with the process, while the server and its supervisor go on by themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Protocol

from ds4top.control.act import rolled_back
from ds4top.core.deeds import Deed, deed_of, told
from ds4top.core.plan import Outcome, Plan, Progress


class Acts(Protocol):
    """What runs a plan: a ``Controller``, or a test's own."""

    def run(
        self, plan: Plan, emit: Callable[[Progress], None], *, forced: bool, stop: Event
    ) -> Outcome:
        """Run it to its end."""
        ...

    def back(self, plan: Plan, outcome: Outcome) -> Plan | None:
        """What takes it back."""
        ...


class Doing:
    """One action. ``changed`` is called from its thread whenever a step begins or ends."""

    def __init__(
        self,
        acts: Acts,
        plan: Plan,
        changed: Callable[[], None],
        *,
        forced: bool = False,
        after: Outcome | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``after``: the failure that this one takes back."""
        self._acts = acts
        self._changed = changed
        self._forced = forced
        self._after = after
        self._monotonic = monotonic
        self._stop = Event()
        self._deed = deed_of(plan, monotonic())
        self._thread = threading.Thread(target=self._run, name="acting", daemon=True)

    @property
    def deed(self) -> Deed:
        """How far it is."""
        return replace(self._deed, left=True) if self._stop.is_set() else self._deed

    def start(self) -> Doing:
        """Begin."""
        self._thread.start()
        return self

    def leave(self) -> None:
        """Wait for nothing any more; what was begun is not undone."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended by then."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        plan = self._deed.plan
        back: Plan | None = None
        try:
            outcome = self._acts.run(plan, self._emit, forced=self._forced, stop=self._stop)
            back = None if self._stop.is_set() else self._acts.back(plan, outcome)
        except Exception as error:
            # A fault of ds4top's own must not look as if it went on.
            outcome = Outcome(False, f"{plan.action.value} failed", f"ds4top itself: {error!r}")
        if self._after is not None:
            whole = rolled_back(self._after, outcome)
            outcome = replace(outcome, words=whole.words, reason=whole.reason)
        self._deed = replace(self._deed, outcome=outcome, ended_t=self._monotonic(), back=back)
        self._changed()

    def _emit(self, progress: Progress) -> None:
        before = self._deed
        self._deed = told(before, progress)
        if self._deed is not before:
            self._changed()
