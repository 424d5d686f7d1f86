"""What ds4top does and did to the server, as values that a view can show.

``Deed`` is an action that goes on, or the last one; ``PastDeed`` a line of the journal. Times of a
deed are monotonic seconds, those of the journal wall time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ds4top.core.plan import Action, Outcome, Plan, Progress

StepState = Literal["todo", "begun", "done", "failed"]


@dataclass(frozen=True, slots=True)
class StepSeen:
    """How far a step is. ``begun_t`` and ``ended_t``: ``None`` while that has not happened."""

    words: str
    state: StepState = "todo"
    begun_t: float | None = None
    ended_t: float | None = None


@dataclass(frozen=True, slots=True)
class Deed:
    """``back``: what takes a failed one back. ``left``: it was told to stop waiting."""

    plan: Plan
    steps: tuple[StepSeen, ...]
    begun_t: float
    outcome: Outcome | None = None
    ended_t: float | None = None
    back: Plan | None = None
    left: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return self.outcome is None

    @property
    def at(self) -> int | None:
        """The step that was begun last; ``None`` before the first."""
        begun = [n for n, step in enumerate(self.steps) if step.state != "todo"]
        return begun[-1] if begun else None


def deed_of(plan: Plan, t: float) -> Deed:
    """One that is about to begin."""
    return Deed(plan, tuple(StepSeen(step.words) for step in plan.steps), t)


def told(deed: Deed, progress: Progress) -> Deed:
    """The same after a report of the executor; a step that waits has begun."""
    at, steps = progress.step, list(deed.steps)
    if not 0 <= at < len(steps):
        return deed
    step = steps[at]
    if progress.state == "begun" or progress.state == "waiting":
        if step.state == "begun":
            return deed
        steps[at] = replace(step, state="begun", begun_t=progress.t)
    else:
        begun_t = progress.t if step.begun_t is None else step.begun_t
        steps[at] = replace(step, state=progress.state, begun_t=begun_t, ended_t=progress.t)
    return replace(deed, steps=tuple(steps))


@dataclass(frozen=True, slots=True)
class Startable:
    """What a start would start: the program's name, its owner (as of a plan), mode and port.

    ``wall``: since when the way back is kept. What is empty or ``None`` is not known.
    """

    name: str
    owner: str = ""
    mode: str = ""
    port: int | None = None
    wall: float | None = None
    key: str = ""
    """The label of the key that starts it."""


VERBS = {
    Action.RESTART: "restart",
    Action.STOP: "park",
    Action.START: "start",
    Action.KILL: "kill",
}
"""Actions as the keys call them."""


@dataclass(frozen=True, slots=True)
class PastDeed:
    """One action of the journal. ``done``: ``None`` where its end was never written."""

    wall: float
    who: str
    action: str
    target: str
    before: str
    after: str | None
    done: bool | None
    words: str
    reason: str = ""
    pid: int | None = None
    took_s: float | None = None
