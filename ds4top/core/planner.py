"""From facts to a plan: refusals, what is lost, what it costs, and the steps by supervisor.

The rules are few. Who owns the server stops it, given the time that a drain takes; else one
SIGTERM, never a second. Nothing starts before the memory is back, and only if weights, context and
8 GiB fit. What is passed on is the old launch, changed in nothing but what the plan says.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from ds4top.core.plan import Action, Facts, Mode, Plan, Signal, Spec, WaitGone
from ds4top.core.plansteps import COMMAND_S, SPARE_BYTES, SYSTEMD, steps_of
from ds4top.core.process import COMMS
from ds4top.core.supervision import CONTAINERS
from ds4top.core.switch import Change, NoWayError, change_mode
from ds4top.core.units import fmt_duration, fmt_gib

MAPPED_COST = "mapped weights decode about 11 % slower"


def make_plan(
    action: Action, facts: Facts, want: Mode | None = None, *, previous: Spec | None = None
) -> Plan:
    """The plan of an action. ``want`` switches the mode as it restarts or starts.

    A refusal is a plan too: ``refused`` says why, and it has no steps. ``previous``: what ran
    before the last switch.
    """
    plan = Plan(
        action,
        facts.target,
        facts.supervisor,
        argv_before=facts.spec.argv if facts.spec else None,
        residency_before=facts.residency,
        before=facts.spec,
    )
    if (why := _refusal(action, facts)) is not None:
        return replace(plan, refused=why)
    if action is Action.KILL:
        return _kill(plan, facts)
    change: Change | None = None
    if facts.spec is not None:
        change = Change(facts.spec, (), (), "nothing")
        if want is not None and not facts.supervisor.start_command:
            try:
                change = _change(facts, want, previous)
            except NoWayError as error:
                return replace(plan, refused=str(error))
    elif want is not None and not facts.supervisor.start_command:
        return replace(plan, refused="its command line and environment cannot be read: no switch")
    plan = _described(plan, facts, change, want)
    try:
        return replace(plan, steps=tuple(steps_of(plan, facts, change, want)))
    except NoWayError as error:
        return replace(plan, refused=str(error))


def _change(facts: Facts, want: Mode, previous: Spec | None) -> Change:
    assert facts.spec is not None
    if facts.supervisor.kind in CONTAINERS:
        raise NoWayError(
            "a container keeps the command it was made with; recreate it: "
            + (facts.supervisor.recreate or "its own run command, with the mode changed")
        )
    return change_mode(
        facts.spec,
        facts.build,
        want,
        previous=previous,
        mapped_without_switch=facts.mapped_without_switch,
    )


def _refusal(action: Action, facts: Facts) -> str | None:
    if facts.read_only:
        return "read-only: ds4top was started with --read-only, or the config says so"
    if facts.lock_holder:
        return f"another ds4top is acting on this machine: {facts.lock_holder}"
    if action is Action.START:
        if facts.target is not None:
            return f"it runs already: {facts.target.comm} {facts.target.pid}"
        if facts.spec is None and not _starts_alone(facts):
            return "nothing to start: no way back was kept"
        return facts.supervisor.refusal or facts.supervisor.no_restart
    if facts.target is None:
        return "no server is running"
    if facts.target.comm not in COMMS:
        # Whatever its argv says: one that is named by its pid can be looked at, no more.
        names = " or ".join(COMMS)
        return f"{facts.target.pid} is {facts.target.comm}, no {names}: nothing else is acted on"
    if not facts.may_signal and (action is Action.KILL or not _stops_alone(facts)):
        word = "stop" if action in (Action.STOP, Action.KILL) else "restart"
        return f"it belongs to {facts.owner}; as that user: sudo -u {facts.owner} ds4top {word}"
    if facts.supervisor.refusal:
        return facts.supervisor.refusal
    flight = facts.flight
    if action is Action.KILL:
        if flight.poisoned or flight.memory_critical:
            return None
        if flight.shutdown_seen:
            left = 0.0 if flight.stopping_s is None else facts.grace_s - flight.stopping_s
            if left <= 0:
                return None
            return f"it was told to stop and has its time for that: KILL in {fmt_duration(left)}"
        return "KILL loses the KV cache: only after a stop has had its time, or on a lost server"
    if flight.shutdown_seen and action is Action.STOP:
        return "it is stopping already; a second signal would end it with nothing saved"
    if action is Action.RESTART and facts.spec is None and not _starts_alone(facts):
        return (
            "its command line, environment or folder cannot be read: it could not be started again"
        )
    return facts.supervisor.no_restart if action is Action.RESTART else None


def _starts_alone(facts: Facts) -> bool:
    """Whether its supervisor knows how to start it."""
    kind = facts.supervisor.kind
    return kind in SYSTEMD or kind in CONTAINERS or bool(facts.supervisor.start_command)


def _stops_alone(facts: Facts) -> bool:
    """Whether its supervisor stops it, so that ds4top needs no right to signal it."""
    supervisor = facts.supervisor
    return supervisor.kind in (*SYSTEMD, *CONTAINERS, "transient") or bool(supervisor.stop_command)


def _kill(plan: Plan, facts: Facts) -> Plan:
    assert facts.target is not None
    words = f"SIGKILL to {facts.target.comm} {facts.target.pid}: nothing is saved"
    steps = (
        Signal(signal.SIGKILL, words),
        WaitGone(COMMAND_S, "wait until it is gone"),
    )
    return replace(plan, steps=steps, lost=_lost(facts, killed=True), confirm="KILL")


def _described(plan: Plan, facts: Facts, change: Change | None, want: Mode | None) -> Plan:
    starts = plan.action is not Action.STOP
    notes: list[str] = []
    if facts.flight.prefill_left_s is not None and plan.action is not Action.START:
        left = fmt_duration(facts.flight.prefill_left_s)
        notes.append(f"a prefill is running: it ends first, in about {left}")
    if facts.flight.shutdown_seen:
        notes.append("a stop is under way already; no second signal is sent")
    if facts.build.exe_replaced and starts:
        notes.append("its executable was replaced since it started: the new build will run")
    if facts.supervisor.need_reload:
        notes.append("its unit file was changed since it was loaded: daemon-reload comes first")
    if facts.supervisor.kind == "systemd-user" and facts.supervisor.linger is False:
        notes.append("without linger a user unit ends when you log out: loginctl enable-linger")
    if facts.supervisor.kind == "transient" and plan.action is not Action.START:
        notes.append("its transient unit ends with it; ds4top's own copy brings it back, unitless")
    notes += facts.supervisor.notes
    if change is not None:
        notes += change.notes
        if want is not None and change.how == "nothing":
            notes.append("nothing in its launch changes: it is told this mode already")
    after = change.spec if change is not None and starts else None
    mode = want.value if want is not None else None
    residency = None if not starts else mode or facts.residency
    estimate, origin = _start_estimate(facts, residency)
    if want is Mode.MMAP:
        notes.append(MAPPED_COST)
    headroom = _headroom_after(facts, plan.action)
    confirm, short = _room(facts, starts)
    notes += short
    return replace(
        plan,
        argv_after=after.argv if after is not None else None,
        env_set=change.env_set if change is not None and starts else (),
        env_unset=change.env_unset if change is not None and starts else (),
        residency_after=residency,
        lost=_lost(facts) if plan.action is not Action.START else (),
        notes=tuple(notes),
        start_s_estimate=estimate if starts else None,
        start_s_origin=origin if starts else None,
        start_before=_start_estimate(facts, facts.residency),
        headroom_after_bytes=headroom,
        confirm=confirm,
        after=after,
    )


def _lost(facts: Facts, *, killed: bool = False) -> tuple[str, ...]:
    flight = facts.flight
    lost: list[str] = []
    if flight.phase is not None:
        size = f" of {flight.prompt_tokens:,} tokens" if flight.prompt_tokens else ""
        done = f", {flight.generated_tokens:,} generated" if flight.generated_tokens else ""
        lost.append(f"the request in flight ({flight.phase}{size}{done})")
    if flight.waiting:
        lost.append(f"{flight.waiting} waiting request{'s' if flight.waiting > 1 else ''}")
    if killed or facts.kv_disk is False:
        why = "nothing is saved" if killed else "it has no KV disk cache"
        lost.append(f"the live KV cache: {why}")
    return tuple(lost)


def _start_estimate(facts: Facts, residency: str | None) -> tuple[float | None, str | None]:
    if residency is None:
        return None, None
    if residency in facts.starts_s:
        return facts.starts_s[residency], "the last such start on this machine"
    if residency in facts.reference_s:
        return facts.reference_s[residency], "a Spark's, as reference"
    return None, None


def _freed(facts: Facts) -> int | None:
    if facts.target is None:
        return 0
    return facts.held_bytes


def _headroom_after(facts: Facts, action: Action) -> int | None:
    """Headroom once it is done: of the freed memory less what the new one takes."""
    freed = _freed(facts)
    if facts.available_bytes is None or freed is None:
        return None
    if action is Action.STOP:
        return facts.available_bytes + freed
    if facts.weights_bytes is None or facts.context_bytes is None:
        return None
    return facts.available_bytes + freed - facts.weights_bytes - facts.context_bytes


def _never_fits(facts: Facts) -> str | None:
    """Why it cannot fit however much its stop gives back; ``None`` where it may, or for unknown."""
    weights, context, total = facts.weights_bytes, facts.context_bytes, facts.total_bytes
    if weights is None or context is None or total is None:
        return None
    need = weights + context + SPARE_BYTES
    if need <= total:
        return None
    return (
        f"weights, context and {fmt_gib(SPARE_BYTES, 0)} GiB to spare are {fmt_gib(need)} GiB,"
        f" and the machine has {fmt_gib(total)} GiB"
    )


def _room(facts: Facts, starts: bool) -> tuple[str | None, list[str]]:
    if not starts:
        return None, []
    left = _headroom_after(facts, Action.RESTART)
    if left is None and (short := _never_fits(facts)) is not None:
        return "START", [short]
    if left is None:
        return None, ["whether it will fit is not known: memory or its size could not be read"]
    if left >= SPARE_BYTES:
        return None, []
    return "START", [
        f"it would leave {fmt_gib(left)} GiB; weights, context and"
        f" {fmt_gib(SPARE_BYTES, 0)} GiB to spare do not fit"
    ]
