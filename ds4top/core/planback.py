"""The way back after a plan that failed: a plan too, computed from how far the first one came."""

from __future__ import annotations

from dataclasses import replace

from ds4top.core.plan import (
    Action,
    PaneRespawn,
    PaneType,
    Plan,
    RemoveDropIn,
    Run,
    Signal,
    Spawn,
    Step,
    WaitAnswer,
    WriteDropIn,
)
from ds4top.core.plansteps import COMMAND_S, START_S, typed
from ds4top.core.secrets import shown_argv

_REMAIN = "remain-on-exit"


def _starts(step: Step) -> bool:
    return isinstance(step, Spawn | PaneRespawn | PaneType) or (
        isinstance(step, Run) and step.starts
    )


def _stops(step: Step) -> bool:
    return isinstance(step, Signal) or (isinstance(step, Run) and step.stops)


def back_of(plan: Plan, failed_step: int | None, *, undone: bool = False) -> Plan | None:
    """What takes a failed plan back; ``None`` where nothing was changed or nothing can be done.

    ``undone``: the step that failed left nothing done.

    Before the stop: a drop-in that was written goes again. While it stops: nothing, for a stop that
    runs keeps the time it was given. After a start that failed: the last launch that worked, where
    it was another one. Nothing is ever stopped or killed on the way back.
    """
    if failed_step is None or plan.refused is not None:
        return None
    stop_at = next((n for n, step in enumerate(plan.steps) if _stops(step)), None)
    start_at = next((n for n, step in enumerate(plan.steps) if _starts(step)), None)
    if stop_at is not None and (failed_step < stop_at or (undone and failed_step == stop_at)):
        return _undone(plan, failed_step)
    if start_at is None or failed_step < start_at:
        # Of a start the drop-in comes first, and nothing was stopped.
        return _undone(plan, failed_step) if stop_at is None else None
    if plan.before is None or plan.after is None:
        return None
    if (plan.before.argv, plan.before.env) == (plan.after.argv, plan.after.env):
        return None
    answer = WaitAnswer(START_S, "wait until it answers")
    after = [step for step in plan.steps if isinstance(step, Run) and step.argv[-1] == _REMAIN]
    # What kept a pane is set already; what lets it go again comes last.
    after = [step for step in after if "-u" in step.argv]
    return _shown(plan, [*_drop_ins(plan, failed_step), *_started(plan), answer, *after])


def _shown(plan: Plan, steps: list[Step]) -> Plan:
    old = dict(plan.before.env) if plan.before is not None else {}
    return replace(
        plan,
        action=Action.START,
        target=None,
        steps=tuple(steps),
        argv_before=plan.argv_after,
        argv_after=plan.argv_before,
        env_set=tuple((name, old[name]) for name in _names(plan) if name in old),
        env_unset=tuple(name for name in _names(plan) if name not in old),
        residency_before=plan.residency_after or "unknown",
        residency_after=plan.residency_before,
        lost=(),
        start_s_estimate=plan.start_before[0],
        start_s_origin=plan.start_before[1],
        headroom_after_bytes=None,
        notes=("the last settings that worked",),
        confirm=None,
        before=None,
        after=plan.before,
    )


def _names(plan: Plan) -> list[str]:
    return [*(name for name, _ in plan.env_set), *plan.env_unset]


def _undone(plan: Plan, failed_step: int) -> Plan | None:
    steps = _drop_ins(plan, failed_step)
    return _shown(plan, steps) if steps else None


def _drop_ins(plan: Plan, failed_step: int) -> list[Step]:
    """Each drop-in that was written or removed as it was, and the reload."""
    steps: list[Step] = []
    for step in plan.steps[:failed_step]:
        if isinstance(step, WriteDropIn):
            if step.before is None:
                steps.append(RemoveDropIn(step.path, step.text, f"remove {step.path}"))
            else:
                steps.append(WriteDropIn(step.path, step.before, step.text, f"restore {step.path}"))
        elif isinstance(step, RemoveDropIn):
            steps.append(WriteDropIn(step.path, step.before, None, f"restore {step.path}"))
    if steps:
        steps += [
            step for step in plan.steps if isinstance(step, Run) and "daemon-reload" in step.argv
        ][:1]
    return steps


def _started(plan: Plan) -> list[Step]:
    supervisor, before = plan.supervisor, plan.before
    assert before is not None
    started: list[Step] = []
    old = dict(before.env)
    for step in plan.steps:
        match step:
            case Spawn():
                started.append(Spawn(before, "start it as it was"))
            case PaneRespawn():
                env = {name: old[name] for name, _ in step.env if name in old}
                env |= {name: old[name] for name in plan.env_unset if name in old}
                added = tuple(name for name, _ in plan.env_set if name not in old)
                started.append(replace(step, spec=before, env=tuple(env.items()), unset=added))
            case PaneType():
                cwd = before.cwd if supervisor.pane_cwd not in (None, before.cwd) else None
                line = typed(before, supervisor.pane_env, (), cwd)
                masked = replace(before, argv=shown_argv(before.argv))
                shown = typed(masked, supervisor.pane_env, (), cwd)
                words = f"type into pane {step.pane}: {shown}"
                started.append(replace(step, line=line, words=words))
            case Run() if step.starts:
                if supervisor.kind in ("systemd-system", "systemd-user"):
                    # One that waits to be restarted by systemd itself is ended first.
                    stop = tuple("stop" if word == "start" else word for word in step.argv)
                    started.append(Run(stop, COMMAND_S, " ".join(stop)))
                started.append(step)
            case _:
                pass
    return started
