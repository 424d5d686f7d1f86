"""What was done to the server: who, when, before, after, outcome. A line of JSON each.

A line is written and flushed before its step is begun and after it is done, so that the next
ds4top can tell where one that was killed stood. No environment stands in it: names of variables
that are set or unset, and values only of those that say how weights are held.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds4top.archive.paths import private_folder
from ds4top.core.plan import Outcome, Plan, Run, Signal, Step, Target

_MOST_BYTES = 1 << 20
_OPEN_VALUES = "DS4_CUDA_"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. ``kind``: begun, step, done, outcome; ``data`` its fields as they were written."""

    action: str
    kind: str
    wall: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StopTold:
    """Whether a stop was ``sent``, and when (``at``); ``maybe_at``: when one was begun whose end
    nobody saw.
    """

    sent: bool
    maybe_at: float | None
    at: float | None = None


def shown_env(plan: Plan) -> dict[str, str]:
    """The variables that a plan sets, as they may be shown."""
    return {name: value if name.startswith(_OPEN_VALUES) else "***" for name, value in plan.env_set}


def identity(target: Target) -> list[int | str]:
    """The four that are a process."""
    return [target.pid, target.start_ticks, target.boot_id, target.comm]


def stops(step: Step) -> bool:
    """Whether a step tells the server to stop."""
    return isinstance(step, Signal) or (isinstance(step, Run) and step.stops)


class Journal:
    """The file. Writing raises ``OSError``: what cannot be recorded is not done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _write(self, entry: dict[str, Any]) -> None:
        private_folder(self.path.parent)
        line = json.dumps(entry, ensure_ascii=True) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        fd = os.open(self.path, flags, 0o600)
        try:
            if os.fstat(fd).st_size > _MOST_BYTES:
                os.replace(self.path, self.path.with_suffix(".old"))
                os.close(fd)
                fd = os.open(self.path, flags, 0o600)
            # One write: a line is there whole or not at all, and a torn one is passed over.
            os.write(fd, line.encode())
            os.fsync(fd)
        finally:
            os.close(fd)

    def begun(self, action_id: str, plan: Plan, wall: float) -> None:
        """A plan is about to be run."""
        target = plan.target
        self._write(
            {
                "id": action_id,
                "kind": "begun",
                "wall": wall,
                "who": _user(),
                "action": plan.action.value,
                "target": identity(target) if target else None,
                "supervisor": [plan.supervisor.kind, plan.supervisor.name],
                "steps": [step.words for step in plan.steps],
                "stops": [n for n, step in enumerate(plan.steps) if stops(step)],
                "before": plan.residency_before,
                "after": plan.residency_after,
                "argv_changed": plan.argv_after is not None and plan.argv_after != plan.argv_before,
                "env_set": shown_env(plan),
                "env_unset": list(plan.env_unset),
                "lost": list(plan.lost),
            }
        )

    def step(
        self,
        action_id: str,
        number: int,
        state: str,
        words: str,
        wall: float,
        started: Target | None = None,
    ) -> None:
        """A step is begun, done (and ``started`` a process), or failed and left nothing done."""
        self._write(
            {
                "id": action_id, "kind": "step", "wall": wall,
                "step": number, "state": state, "words": words,
                **({"started": identity(started)} if started is not None else {}),
            }
        )  # fmt: skip

    def outcome(self, action_id: str, outcome: Outcome, wall: float) -> None:
        """How it ended."""
        self._write(
            {
                "id": action_id,
                "kind": "outcome",
                "wall": wall,
                "done": outcome.done,
                "words": outcome.words,
                "reason": outcome.reason,
                "pid": outcome.pid,
                "started": identity(outcome.started) if outcome.started else None,
                "rolled_back": outcome.rolled_back,
            }
        )

    def entries(self) -> Iterator[Entry]:
        """All lines that can be read, oldest first."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        for line in text.splitlines():
            try:
                found = json.loads(line)
                yield Entry(str(found["id"]), str(found["kind"]), float(found["wall"]), found)
            except (ValueError, KeyError, TypeError):
                continue

    def stop_told(self, target: Target) -> StopTold:
        """Whether this very process was told to stop before."""
        stops: dict[str, list[int]] = {}
        begun: dict[tuple[str, int], float] = {}
        sent_at: float | None = None
        for entry in self.entries():
            if entry.kind == "begun" and entry.data.get("target") == identity(target):
                stops[entry.action] = list(entry.data.get("stops", ()))
            elif entry.kind == "step" and entry.data.get("step") in stops.get(entry.action, ()):
                key = (entry.action, int(entry.data["step"]))
                state = entry.data.get("state")
                if state == "done" and sent_at is None:
                    sent_at = entry.wall
                if state == "begun":
                    begun[key] = entry.wall
                else:
                    begun.pop(key, None)
        return StopTold(sent_at is not None, max(begun.values(), default=None), sent_at)

    def unfinished(self) -> list[Entry]:
        """The lines of the last action, where it has no outcome."""
        found = list(self.entries())
        if not found or found[-1].kind == "outcome":
            return []
        last = found[-1].action
        return [entry for entry in found if entry.action == last]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
