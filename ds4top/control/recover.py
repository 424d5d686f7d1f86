"""What became of an action whose ds4top was ended in the middle of it, told from the journal and
from what is true now. Nothing is acted on; asking twice tells the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ds4top.control.capture import capture
from ds4top.control.hold import identity_of
from ds4top.control.journal import Entry, Journal
from ds4top.control.past import starts_of
from ds4top.control.wayback import WayBack
from ds4top.core.plan import Action, Outcome, Plan, Supervisor, Target
from ds4top.core.process import ServerProcess, life_of
from ds4top.sources.procfs import ProcFs


@dataclass(frozen=True, slots=True)
class Recovered:
    """``settled``: nothing of it goes on. ``can``: what can be done now, as a command."""

    action: str
    wall: float
    who: str
    step: int | None
    steps: tuple[str, ...]
    words: str
    settled: bool
    can: str = ""
    pid: int | None = None


def _target(entry: Entry) -> Target | None:
    data = entry.data.get("target")
    try:
        pid, ticks, boot, comm = list(data or ())
        return Target(int(pid), int(ticks), str(boot), str(comm))
    except (TypeError, ValueError):
        return None


def alive(target: Target, procfs: ProcFs) -> bool:
    """Whether this very process still runs."""
    return procfs.target(target.pid) == target


def found(
    journal: Journal, way_back: WayBack, servers: Sequence[ServerProcess], procfs: ProcFs
) -> Recovered | None:
    """The truth about an action without an outcome; ``None`` where there is none.

    ``servers``: those that run now. To be asked while nobody has the turn.
    """
    entries = journal.unfinished()
    if not entries or entries[0].kind != "begun":
        return None
    first = entries[0]
    steps = tuple(str(words) for words in first.data.get("steps", ()))
    stops = set(first.data.get("stops", ()))
    told = [(int(e.data["step"]), str(e.data["state"])) for e in entries if e.kind == "step"]
    at = told[-1] if told else None
    number = at[0] if at is not None else None
    action = str(first.data.get("action", "an action"))
    where = "before its first step"
    if at is not None and at[0] < len(steps):
        how = {"begun": "in", "done": "after", "failed": "at"}.get(at[1], "at")
        where = f"{how} step {at[0] + 1} of {len(steps)}, “{steps[at[0]]}”"
    head = f"ds4top was ended during {action}, {where}."
    target = _target(first)
    stop_begun = any(step in stops and state != "failed" for step, state in told)
    spawned = _spawned(entries, procfs)
    if spawned is not None and not any(server.target.pid == spawned for server in servers):
        words = f"{head} The process {spawned} that it started runs, and is no server yet."
        who = str(first.data.get("who", ""))
        return Recovered(action, first.wall, who, number, steps, words, False, "", spawned)
    words, settled, can, pid = _now(
        target, target is not None and alive(target, procfs), stop_begun, servers, way_back
    )
    return Recovered(
        action, first.wall, str(first.data.get("who", "")), number, steps, f"{head} {words}",
        settled, can, pid,
    )  # fmt: skip


def _spawned(entries: Sequence[Entry], procfs: ProcFs) -> int | None:
    """The process that was started, while it is alive; it may have another name by now."""
    for entry in entries:
        found = entry.data.get("started")
        if entry.kind == "step" and isinstance(found, list) and len(found) == 4:
            now = procfs.target(int(found[0]))
            if now is not None and [now.pid, now.start_ticks, now.boot_id] == found[:3]:
                return now.pid
    return None


def _now(
    target: Target | None,
    there: bool,
    stop_begun: bool,
    servers: Sequence[ServerProcess],
    way_back: WayBack,
) -> tuple[str, bool, str, int | None]:
    others = [server for server in servers if server.target != target]
    if target is not None and there:
        name = f"{target.comm} {target.pid}"
        if stop_begun:
            words = f"{name} was told to stop, or may have been, and is still there: it drains."
            return f"{words} No second signal is sent.", False, "", target.pid
        return f"{name} was not told to stop and runs on.", True, "", target.pid
    if others:
        new = others[0]
        return f"{new.target.comm} {new.target.pid} runs now.", True, "", new.target.pid
    if way_back.parked() is not None:
        words = "Nothing runs; how it was started is kept."
        return words, True, "ds4top start", None
    return "Nothing runs, and no way back was kept.", True, "", None


def settle(
    journal: Journal,
    way_back: WayBack,
    servers: Sequence[ServerProcess],
    procfs: ProcFs,
    wall: float,
) -> Recovered | None:
    """Tell it, and close it in the journal once nothing of it goes on.

    A server that came up meanwhile is taken as what the action made: the way back is as after it.
    Raises ``OSError``.
    """
    told = found(journal, way_back, servers, procfs)
    if told is None or not told.settled:
        return told
    first = journal.unfinished()[0]
    up = told.pid is not None and _target(first) != procfs.target(told.pid)
    started = identity_of(told.pid, procfs.root)[0] if up and told.pid is not None else None
    if up and told.pid is not None:
        _came_up(told, way_back, procfs)
    why = None if up else "ds4top was ended in the middle of it"
    outcome = Outcome(up, told.words, why, pid=told.pid, started=started)
    journal.outcome(first.action, outcome, wall)
    return told


def _came_up(told: Recovered, way_back: WayBack, procfs: ProcFs) -> None:
    """As the end of the action would have left it: the switch kept, the launch forgotten."""
    parked = way_back.parked()
    assert told.pid is not None
    if parked is not None and parked.spec is not None:
        try:
            after = capture(told.pid, procfs.root)
        except (OSError, ValueError):
            return
        old, new = dict(parked.spec.env), dict(after.env)
        way_back.switched(
            Plan(
                Action.RESTART,
                None,
                Supervisor("none"),
                env_set=tuple((k, v) for k, v in after.env if old.get(k) != v),
                env_unset=tuple(k for k in old if k not in new),
                before=parked.spec,
                after=after,
            )
        )
    way_back.started()


def started_by_us(journal: Journal, target: Target) -> str:
    """Which action of ds4top's started this very process, who gave it and when; empty for none."""
    return starts_of(journal.entries()).get(life_of(target), "")
