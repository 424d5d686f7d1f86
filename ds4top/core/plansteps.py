"""The steps of a plan by supervisor: who stops, who starts, what is waited for between."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from dataclasses import replace

from ds4top.core.plan import (
    Action,
    Env,
    Facts,
    Mode,
    PaneRespawn,
    PaneType,
    Plan,
    RemoveDropIn,
    Run,
    Signal,
    Spawn,
    Spec,
    Step,
    Supervisor,
    WaitAnswer,
    WaitGone,
    WaitMemory,
    WriteDropIn,
)
from ds4top.core.secrets import shown_argv
from ds4top.core.supervision import CONTAINERS, UNITS
from ds4top.core.switch import TAKEN_BACK, Change, NoWayError
from ds4top.core.unitfile import drop_in
from ds4top.core.units import GIB, fmt_gib

SPARE_BYTES = 8 * GIB
"""Kept free beside weights and context before a start: two quick swaps made a Spark unreachable."""
START_S = 900.0
"""Longest start that is waited for; a mapped one takes about seven minutes on a Spark."""
MEMORY_S = 120.0
"""How long the driver may take to give memory back; tens of seconds were seen."""
COMMAND_S = 30.0
SYSTEMD = UNITS - {"transient"}
_MARGIN_S = 60.0


def steps_of(plan: Plan, facts: Facts, change: Change | None, want: Mode | None) -> list[Step]:
    """In order. Raises ``NoWayError`` where a unit's own command cannot be changed."""
    steps: list[Step] = []
    if plan.action is not Action.START:
        steps += _stop(plan, facts, change)
    if plan.action is Action.STOP:
        return steps
    if plan.action is Action.RESTART:
        need = _need(facts)
        words = "wait until its memory is back" + (f": {fmt_gib(need)} GiB" if need else "")
        steps.append(WaitMemory(need, MEMORY_S, words))
    steps += _start(plan, facts, change, want)
    steps.append(WaitAnswer(START_S, "wait until it answers"))
    return [*steps, *_after(facts.supervisor)]


def _after(supervisor: Supervisor) -> list[Step]:
    """Only once it answers: the pane of a start that failed stays, with what it printed."""
    if supervisor.kind != "tmux" or not supervisor.pane_runs_server:
        return []
    words = ("set-option", "-p", "-u", "-t", supervisor.name, "remain-on-exit")
    return [Run((*supervisor.tmux, *words), COMMAND_S, "let the pane close with its command again")]


def _need(facts: Facts) -> int | None:
    if facts.weights_bytes is None or facts.context_bytes is None:
        return None
    return facts.weights_bytes + facts.context_bytes + SPARE_BYTES


def _systemctl(supervisor: Supervisor, *words: str) -> tuple[str, ...]:
    of_user = supervisor.kind == "systemd-user" or (
        supervisor.kind == "transient" and supervisor.user_manager
    )
    user = ("--user",) if of_user else ()
    return ("systemctl", *user, "--no-ask-password", *words)


def _stop(plan: Plan, facts: Facts, change: Change | None) -> list[Step]:
    supervisor = facts.supervisor
    grace = facts.grace_s
    gone = WaitGone(
        grace, f"wait until it has drained and saved its KV cache, {grace:.0f} s at most"
    )
    if supervisor.kind in SYSTEMD:
        steps = _unit_steps(plan, facts, change)
        words = _systemctl(supervisor, "stop", supervisor.name)
        if not facts.flight.shutdown_seen:
            steps.append(Run(words, grace + _MARGIN_S, " ".join(words), stops=True))
        return [*steps, gone]
    if facts.flight.shutdown_seen:
        return [gone]
    if supervisor.kind in CONTAINERS:
        words = (supervisor.kind, "stop", "-t", f"{grace:.0f}", supervisor.name)
        return [Run(words, grace + _MARGIN_S, " ".join(words), stops=True), gone]
    if supervisor.kind == "transient":
        return _stop_transient(supervisor, grace, gone)
    if supervisor.kind == "own" and supervisor.stop_command:
        words = supervisor.stop_command
        said = shlex.join(shown_argv(words))
        return [Run(words, grace + _MARGIN_S, said, stops=True), gone]
    assert facts.target is not None
    term = Signal(
        signal.SIGTERM, f"one SIGTERM to {facts.target.comm} {facts.target.pid}, never a second"
    )
    if supervisor.kind == "tmux" and supervisor.pane_runs_server and plan.action is not Action.STOP:
        pane = ("set-option", "-p", "-t", supervisor.name)
        keep = (*supervisor.tmux, *pane, "remain-on-exit", "on")
        return [Run(keep, COMMAND_S, "keep the pane when its command ends"), term, gone]
    return [term, gone]


def _stop_transient(supervisor: Supervisor, grace: float, gone: WaitGone) -> list[Step]:
    """A unit without a file: time for a drain comes from a drop-in that goes with it."""
    words = _systemctl(supervisor, "stop", supervisor.name)
    steps: list[Step] = []
    after: list[Step] = []
    limit_s, path = supervisor.stop_timeout_s, supervisor.drop_in_path
    if limit_s is not None and limit_s < grace:
        if path is None or supervisor.drop_in_denied:
            why = supervisor.drop_in_denied or "no place for a drop-in"
            raise NoWayError(f"systemd would kill it after {limit_s:.0f} s: {why}")
        text = _with_timeout(supervisor.drop_in_text, grace + _MARGIN_S)
        reload = _systemctl(supervisor, "daemon-reload")
        if text != supervisor.drop_in_text:
            steps += [
                WriteDropIn(path, text, supervisor.drop_in_text, f"write {path}"),
                Run(reload, COMMAND_S, " ".join(reload)),
            ]
        after = [RemoveDropIn(path, text, f"remove {path}")]
    return [*steps, Run(words, grace + _MARGIN_S, " ".join(words), stops=True), gone, *after]


def _unit_steps(plan: Plan, facts: Facts, change: Change | None) -> list[Step]:
    """The drop-in before and after, and the reload that makes it known."""
    supervisor = facts.supervisor
    path, before = supervisor.drop_in_path, supervisor.drop_in_text
    if path is None:
        return []
    text = _drop_in_after(plan, facts, change)
    steps: list[Step] = []
    if text is None and before is not None:
        steps.append(RemoveDropIn(path, before, f"remove {path}"))
    elif text is not None and text != before:
        steps.append(WriteDropIn(path, text, before, f"write {path}"))
    if steps and supervisor.drop_in_denied:
        raise NoWayError(supervisor.drop_in_denied)
    if steps or supervisor.need_reload:
        words = _systemctl(supervisor, "daemon-reload")
        steps.append(Run(words, COMMAND_S, " ".join(words)))
    return steps


def _drop_in_after(plan: Plan, facts: Facts, change: Change | None) -> str | None:
    """What the drop-in must say; a stop time that is too short for a drain is raised by it."""
    supervisor = facts.supervisor
    before = supervisor.drop_in_text
    limit_s = supervisor.stop_timeout_s
    short = limit_s is not None and limit_s < facts.grace_s
    ours = "TimeoutStopSec=" in (before or "")
    stop_s = facts.grace_s + _MARGIN_S if short or ours else None
    if plan.action is not Action.STOP and change is not None:
        if change.how == TAKEN_BACK:
            return drop_in(stop_timeout_s=stop_s)
        if change.how != "nothing":
            return _switched(facts, change, stop_s)
    return _with_timeout(before, facts.grace_s + _MARGIN_S) if short else before


def _with_timeout(text: str | None, stop_s: float) -> str:
    lines = [line for line in (text or "").splitlines() if not line.startswith("TimeoutStopSec=")]
    if "[Service]" not in lines:
        return drop_in(stop_timeout_s=stop_s) or ""
    lines.insert(lines.index("[Service]") + 1, f"TimeoutStopSec={stop_s:.0f}")
    return "\n".join(lines) + "\n"


def _switched(facts: Facts, change: Change, stop_s: float | None) -> str | None:
    assert facts.spec is not None
    argv: Sequence[str] | None = None
    if change.spec.argv != facts.spec.argv:
        if tuple(facts.supervisor.exec_start) != facts.spec.argv:
            raise NoWayError(
                "its unit starts it through another command; change the flag there:"
                f" systemctl edit --full {facts.supervisor.name}"
            )
        # The unit's own command has the executable by its path, which may be a link.
        first = change.spec.argv[0]
        argv = (first if first.startswith("/") else facts.spec.exe, *change.spec.argv[1:])
    return drop_in(
        env_set=change.env_set, env_unset=change.env_unset, argv=argv, stop_timeout_s=stop_s
    )


def _start(plan: Plan, facts: Facts, change: Change | None, want: Mode | None) -> list[Step]:
    supervisor = facts.supervisor
    if supervisor.kind in SYSTEMD:
        steps = _unit_steps(plan, facts, change) if plan.action is Action.START else []
        words = _systemctl(supervisor, "start", supervisor.name)
        return [*steps, Run(words, START_S, " ".join(words), starts=True)]
    if supervisor.kind in CONTAINERS:
        words = (supervisor.kind, "start", supervisor.name)
        return [Run(words, COMMAND_S, " ".join(words), starts=True)]
    if supervisor.kind == "own" and supervisor.start_command:
        mode = want or (Mode(facts.residency) if facts.residency in list(Mode) else None)
        env: Env = (("DS4TOP_MODE", "no-mmap" if mode is Mode.COPY else "mmap"),) if mode else ()
        words = supervisor.start_command
        return [Run(words, START_S, shlex.join(shown_argv(words)), starts=True, env=env)]
    assert change is not None
    spec = change.spec
    if supervisor.kind == "tmux":
        own = {name: value for name, value in supervisor.pane_env if name not in change.env_unset}
        env = tuple((own | dict(change.env_set)).items())
        if supervisor.pane_runs_server:
            return _respawn(supervisor, spec, env, change.env_unset)
        cwd = spec.cwd if supervisor.pane_cwd not in (None, spec.cwd) else None
        line = typed(spec, env, change.env_unset, cwd)
        masked = replace(spec, argv=shown_argv(spec.argv))
        shown = typed(masked, env, change.env_unset, cwd)
        words_typed = f"type into pane {supervisor.name}: {shown}"
        return [PaneType(supervisor.name, line, "", words_typed, supervisor.tmux)]
    return [Spawn(spec, "start it in a session of its own")]


def _respawn(supervisor: Supervisor, spec: Spec, env: Env, unset: tuple[str, ...]) -> list[Step]:
    words = f"respawn pane {supervisor.name}"
    return [PaneRespawn(supervisor.name, spec, words, supervisor.tmux, env, unset)]


def typed(
    spec: Spec, env_set: Env = (), env_unset: Sequence[str] = (), cwd: str | None = None
) -> str:
    """The command as it is typed into a shell, quoted; the shell has its own environment.

    Only the variables that change are named, by ``env``; ``cwd`` where the shell is elsewhere.
    """
    prefix: list[str] = []
    if env_set or env_unset or cwd is not None:
        prefix = ["env", *(("-C", cwd) if cwd is not None else ())]
        prefix += [word for name in env_unset for word in ("-u", name)]
        prefix += [f"{name}={value}" for name, value in env_set]
    line = shlex.join([*prefix, *spec.argv])
    return f"{line} 2>> {shlex.quote(spec.log_path)}" if spec.log_path else line
