"""How the last life ended, from the records of the black box and what is known afterwards. Pure.

A machine that dies of memory may leave no line at all (open-gpu-kernel-modules#1358,
dgx-spark-playbooks#97), so what was read (a kill in the kernel log, a supervisor's word) is told
apart from what is only inferred (the counter of kills has grown, the boot is another one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Literal

from ds4top.core.boxrecord import BoxRecord, Past, boot_of
from ds4top.core.kernlines import OomKill
from ds4top.core.memory import CRITICAL_S, GIB, OK_BYTES, slope_bytes_per_s, time_to_zero_s
from ds4top.core.units import (
    fmt_duration,
    fmt_gib,
    fmt_num,
    fmt_tokens,
    fmt_tps,
)

Evidence = Literal["read", "inferred"]
FALL_S = 10.0
FROM_S = 60.0
STALE_S = 5.0
NEAR_S = 120.0
"""A kill in the kernel log belongs to the last record if it lies this close to it."""
HOT_C = 88
"""The unit of open-gpu-kernel-modules#1358 read 91 to 92 °C before each stop."""
BIG_TENANT_BYTES = 4 * GIB
_SERVERS = ("ds4-server", "llama-server")
_SMALLEST_CTX = 16_384


@dataclass(frozen=True, slots=True)
class EndFacts:
    """What is known now. ``None`` is unknown.

    ``oom_kills``: the kernel's counter now; ``kills``: its log lines of this boot and the last.
    ``server_alive``: the very process of the last record runs. ``clean_stop``: its log, or a
    journal of ds4top's own acts, says that it was stopped. ``exit``: a supervisor's word
    (``Result=oom-kill``). ``shutdown_seen``: the last boot's journal ends with a shutdown.
    ``boot_wall``: when this boot began.
    """

    boot_id: str
    oom_kills: int | None = None
    kills: tuple[OomKill, ...] = ()
    server_alive: bool | None = None
    clean_stop: bool | None = None
    exit: str = ""
    shutdown_seen: bool | None = None
    boot_wall: float | None = None


@dataclass(frozen=True, slots=True)
class Autopsy:
    """The end of a life. ``victim`` is ``None`` where nobody is known to have been killed.

    ``lines``: the whole of it in words, the first a headline; ``advice`` the one thing to change.
    """

    when_wall: float
    phase: str
    context_tokens: int | None
    prompt_tokens: int | None
    headroom_bytes: int | None
    slope_bytes_per_s: float | None
    victim: str | None
    evidence: Evidence
    machine_died: bool
    advice: str
    lines: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Case:
    """The last moments, as the rules of advice look at them."""

    last: BoxRecord
    slope: float | None
    facts: EndFacts
    machine_died: bool

    @property
    def short(self) -> bool:
        """Whether memory was short: below what is healthy, or soon gone."""
        headroom = self.last.headroom_bytes
        soon = time_to_zero_s(headroom, self.slope)
        low = headroom is not None and headroom < OK_BYTES
        return low or (soon is not None and soon < CRITICAL_S)


def autopsy(past: Past, facts: EndFacts, tz: tzinfo | None = None) -> Autopsy | None:
    """What happened; ``None`` where nothing did, or nothing can be told.

    A ring that was closed while its server ran or had stopped cleanly tells of no end.
    """
    if not past.records:
        return None
    last, alive = past.records[-1], _last_alive(past)
    other_boot = past.boot_id != str(boot_of(facts.boot_id))
    machine_died = other_boot and not past.closed and facts.shutdown_seen is not True
    moment = last if machine_died or alive is None else alive
    victim, evidence, known_by = _victim(past, moment, facts, machine_died)
    if not machine_died and (
        alive is None or not _server_ended(past, facts, other_boot, victim is not None)
    ):
        return None
    slope = _slope(past.records, moment)
    case = _Case(moment, slope, facts, machine_died)
    advice = next(words for fits, words in _ADVICE if fits(case))(case)
    lines = (
        _headline(moment, facts, machine_died, victim or "", tz),
        _doing(moment),
        _memory(past.records, moment, slope),
        _gpu(moment),
        known_by,
        advice,
    )
    return Autopsy(
        moment.wall, moment.phase, moment.context_tokens, moment.prompt_tokens,
        moment.headroom_bytes, slope, victim, evidence, machine_died, advice,
        tuple(line for line in lines if line),
    )  # fmt: skip


def _server_ended(past: Past, facts: EndFacts, other_boot: bool, killed: bool) -> bool:
    """Whether the server's life ended in a way that is worth telling."""
    last = past.records[-1]
    if last.ended == "clean" or facts.clean_stop is True:
        return False
    if last.pid is not None and (past.closed or (facts.server_alive is True and not other_boot)):
        return False
    if killed or last.ended == "died" or facts.exit:
        return True
    # An orderly reboot stops the server too, and what is not known to be gone may well run.
    return last.pid is not None and not other_boot and facts.server_alive is False


def _last_alive(past: Past) -> BoxRecord | None:
    """The last record in which a server ran."""
    return next((each for each in reversed(past.records) if each.pid is not None), None)


def _slope(records: tuple[BoxRecord, ...], moment: BoxRecord) -> float | None:
    """Of MemAvailable, bytes per second over the last ten seconds, else as the record has it."""
    points = [
        (each.t, each.available_bytes)
        for each in records
        if each.available_bytes is not None and moment.t - FALL_S <= each.t <= moment.t
    ]
    found = slope_bytes_per_s(points, FALL_S)
    return moment.slope_bytes_per_s if found is None else found


def _victim(
    past: Past, moment: BoxRecord, facts: EndFacts, machine_died: bool
) -> tuple[str | None, Evidence, str]:
    """Who was killed, whether that was read, and the sentence that says how it is known."""
    server = f"the server (pid {moment.pid})"
    if (kill := _near(facts.kills, moment)) is not None:
        who = kill.comm if kill.pid is None else f"{kill.comm} (pid {kill.pid})"
        by = {"kernel": "the kernel", "cgroup": "the kernel, for its cgroup"}.get(kill.by, kill.by)
        return who, "read", f"read: {by} killed {who} for want of memory"
    if facts.exit:
        named = server if "oom" in facts.exit.lower() else None
        return named, "read", f"read: its supervisor says {facts.exit}"
    if machine_died:
        sure = "" if facts.shutdown_seen is False else ", nor could its journal's end be read"
        text = f"inferred: another boot, the records were never closed, no kill was found{sure}"
        return None, "inferred", text
    if grown := _grown(past, moment, facts):
        times = "one process" if grown == 1 else f"{grown} processes"
        text = f"inferred: the kernel killed {times} for want of memory since then, and it is gone"
        return server, "inferred", text
    if past.records[-1].ended == "died":
        text = "inferred: its log ends without a shutdown, and no kill was found"
        return None, "inferred", text
    return None, "inferred", "inferred: it is gone, and nobody saw how"


def _near(kills: tuple[OomKill, ...], moment: BoxRecord) -> OomKill | None:
    """The kill that goes with the last moment: of the very server, else the nearest in time."""
    near = [
        kill for kill in kills if kill.wall is not None and abs(kill.wall - moment.wall) <= NEAR_S
    ]
    own = [kill for kill in near if kill.pid is not None and kill.pid == moment.pid]
    named = own or [kill for kill in near if kill.comm in _SERVERS] or near
    return min(named, key=lambda kill: abs((kill.wall or 0.0) - moment.wall), default=None)


def _grown(past: Past, moment: BoxRecord, facts: EndFacts) -> int:
    """OOM kills from before the last moment to just after it; of a closed ring by its records."""
    counts = [each.oom_kills for each in past.records if each.oom_kills is not None]
    same_boot = past.boot_id == str(boot_of(facts.boot_id))
    if not past.closed and same_boot and facts.oom_kills is not None:
        counts.append(facts.oom_kills)
    before = [
        each.oom_kills
        for each in past.records
        if each.oom_kills is not None and each.t <= moment.t - FALL_S
    ]
    first = before[-1] if before else counts[0] if counts else 0
    return max(counts[-1] - first, 0) if counts else 0


# words ----------------------------------------------------------------------------------------


def _clock(wall: float, tz: tzinfo | None) -> str:
    return datetime.fromtimestamp(wall, tz).strftime("%Y-%m-%d %H:%M:%S")


def _headline(
    last: BoxRecord, facts: EndFacts, machine_died: bool, victim: str, tz: tzinfo | None
) -> str:
    at = _clock(last.wall, tz)
    if machine_died:
        back_s = (facts.boot_wall or 0.0) - last.wall
        again = f", up again {fmt_duration(back_s)} later" if back_s > 0 else ""
        return f"the machine stopped uncleanly, last heard of at {at}{again}"
    killed = victim.startswith(_SERVERS) or f"(pid {last.pid})" in victim
    return f"the server {'was killed' if killed else 'ended'} at {at}"


def _doing(last: BoxRecord) -> str:
    text = f"phase {last.phase}"
    if last.prompt_tokens is not None and last.context_tokens is not None:
        text += f", at {fmt_tokens(last.context_tokens)} tokens of context"
        text += f" (prompt {fmt_tokens(last.prompt_tokens)})"
        if last.phase == "decode" and last.decode_tps is not None:
            text += f", {fmt_tps(last.decode_tps, unit=True)}"
    if last.told_wall is not None and (age := last.wall - last.told_wall) > STALE_S:
        text += f", as of {fmt_duration(age)} before"
    return text


def _memory(records: tuple[BoxRecord, ...], last: BoxRecord, slope: float | None) -> str:
    if last.headroom_bytes is None:
        return "headroom was not known"
    text = f"headroom {fmt_gib(last.headroom_bytes, unit=True)}"
    if slope is not None:
        pace = fmt_gib(abs(slope), 2)
        word = "falling" if slope < 0 else "rising"
        text += f", {word} {pace} GiB/s" if float(pace) else ", steady"
    near = [
        (each.t, each.headroom_bytes)
        for each in records
        if each.headroom_bytes is not None and 0 <= last.t - each.t <= FROM_S
    ]
    most = max(headroom for _, headroom in near)
    if most - last.headroom_bytes > GIB:
        # The end of the level, not its highest wave.
        t, top = [point for point in near if point[1] >= most - GIB // 4][-1]
        text += f" (from {fmt_gib(top)} GiB in {fmt_num(last.t - t)} s)"
    if last.free_bytes is not None:
        text += f", {fmt_gib(last.free_bytes)} GiB free"
    if last.gpu_held_bytes is not None:
        text += f", {fmt_gib(last.gpu_held_bytes)} GiB held on the GPU"
    return text


def _gpu(last: BoxRecord) -> str:
    parts = (
        (last.power_w, "W"), (last.sm_clock_mhz, "MHz"),
        (last.temperature_c, "°C"), (last.utilisation_pct, "%"),
    )  # fmt: skip
    told = [fmt_num(value, unit=unit) for value, unit in parts if value is not None]
    return f"GPU {', '.join(told)}" if told else ""


# advice ---------------------------------------------------------------------------------------


def _close_tenant(case: _Case) -> str:
    last = case.last
    who = last.other_comm or "the other process"
    return f"close {who} (pid {last.other_pid}): it held {fmt_gib(last.other_bytes)} GiB on the GPU"


def _has_tenant(case: _Case) -> bool:
    return case.short and (case.last.other_bytes or 0) >= BIG_TENANT_BYTES


def _smaller_ctx(case: _Case) -> str:
    limit = case.last.context_limit_tokens
    if limit is None or limit <= _SMALLEST_CTX:
        return "a smaller --ctx"
    return f"--ctx {max(1 << ((limit - 1).bit_length() - 1), _SMALLEST_CTX)}, it was {limit}"


def _wide_ctx(case: _Case) -> bool:
    return case.short and (case.last.context_limit_tokens or 0) > 131_072


def _journal(case: _Case) -> str:
    boot = "-1" if case.machine_died else "0"
    return "memory was not short, no setting stands out: look at journalctl -k -n 50 -b " + boot


_ADVICE: tuple[tuple[Callable[[_Case], bool], Callable[[_Case], str]], ...] = (
    (_has_tenant, _close_tenant),
    (_wide_ctx, _smaller_ctx),
    (
        lambda case: case.short and case.last.residency == "copy",
        lambda case: "ds4top restart --mmap: mapped weights can be given back, a copy cannot",
    ),
    (lambda case: case.short, _smaller_ctx),
    (
        lambda case: case.machine_died and (case.last.temperature_c or 0) >= HOT_C,
        lambda case: (
            f"it was {case.last.temperature_c} °C: cap the clock with nvidia-smi -lgc 0,2100"
            " (it ended such stops on another unit)"
        ),
    ),
    (lambda case: True, _journal),
)
"""The first that fits is the one setting to change."""
