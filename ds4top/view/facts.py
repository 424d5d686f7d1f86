"""What the alerts look at, put together from the log, the machine and the expected rates."""

from __future__ import annotations

from dataclasses import replace

from ds4top.core.alert_facts import AlertFacts, XidSeen
from ds4top.core.alert_rules import SLOW_RATIO
from ds4top.core.alerts import facts_of_log
from ds4top.core.derive import Status
from ds4top.core.gpu import USER_CLOCKS
from ds4top.core.model import Model
from ds4top.core.process import flag_value
from ds4top.view.rates import RateBook

_SAMPLES = 3
_RECENT_S = 600.0


def slow_samples(model: Model, book: RateBook) -> int | None:
    """How many of the newest decode samples of the running request in a row were slow."""
    log = model.log
    running = log.running
    if running is None or running.decode_samples == 0:
        return None
    count = 0
    for index in range(len(log.decode) - 1, max(len(log.decode) - 1 - 20, -1), -1):
        if log.decode.request[index] != running.number:
            break
        expected = book.expected(log.decode.context[index])
        if expected is None:
            return None
        if log.decode.tps[index] >= SLOW_RATIO * expected.tps:
            break
        count += 1
    return count


def alert_facts(model: Model, status: Status, book: RateBook) -> AlertFacts:
    """One moment of everything."""
    log, machine = model.log, model.machine
    facts = replace(facts_of_log(log, status), keys=model.keys)
    running = log.running
    if running is not None and running.decode_tps and not status.last_known:
        expected = book.expected(max(running.context_tokens, 1))
        facts = replace(
            facts,
            decode_tps=running.decode_tps,
            expected_tps=expected.tps if expected is not None else None,
            expected_from=expected.source if expected is not None else "",
            slow_samples=slow_samples(model, book),
        )
    return (
        _with_gpu(_with_memory(_with_process(facts, model), model), model)
        if (machine.version)
        else facts
    )


def _with_process(facts: AlertFacts, model: Model) -> AlertFacts:
    machine = model.machine
    server, vitals = machine.server, machine.vitals
    power = flag_value(server.argv or (), "--power") if server is not None else None
    gone = machine.gone is not None and machine.server is None
    return replace(
        facts,
        power_pct=int(power) if power and power.isdecimal() else None,
        clients_gone=vitals.left if vitals is not None else None,
        gone=gone or bool(facts.gone),
        gone_clean=gone and model.log.life is not None and model.log.life.shutdown,
        gone_why=facts.gone_why or ("its process ended" if gone else ""),
    )


def _with_memory(facts: AlertFacts, model: Model) -> AlertFacts:
    machine = model.machine
    track = machine.memory
    sample = track.sample
    if sample is None:
        return facts
    swap = track.swap_in.per_s(sample.t)
    refaults = track.refaults.per_s(sample.t)
    kill = machine.kernel.kills[-1] if machine.kernel.kills else None
    age = None if track.oom_seen_wall is None else model.now - track.oom_seen_wall
    others = machine.others()
    tenant = others[0] if others else None
    residency, _ = machine.residency(model.log)
    return replace(
        facts,
        memory_level=track.level,
        headroom_bytes=track.headroom,
        projected_bytes=track.projected,
        available_bytes=sample.available_bytes,
        free_bytes=sample.free_bytes,
        slope_bytes_per_s=track.slope(2.0),
        to_zero_s=track.to_zero_s,
        warning_bytes=machine.ok_bytes,
        critical_bytes=machine.critical_bytes,
        residency=str(residency),
        swap_in_bytes_per_s=None if swap is None else swap * sample.page_bytes,
        refault_bytes_per_s=None if refaults is None else refaults * sample.page_bytes,
        big_blocks=sample.blocks.big if sample.blocks is not None else None,
        huge_blocks=sample.blocks.huge_known if sample.blocks is not None else None,
        oom_kills=track.oom_kills.count,
        oom_victim=f"{kill.comm} {kill.pid or ''}".strip() if kill is not None else "",
        oom_age_s=age,
        co_tenant=(tenant.comm or str(tenant.pid)) if tenant is not None else "",
        driver_no_memory=machine.kernel.driver_level(
            model.now, sample.free_bytes, falling=track.falling
        ),
        driver_no_memory_count=machine.kernel.no_memory,
        xids=tuple(
            XidSeen(
                xid.number,
                machine.server is not None and xid.pid == machine.server.target.pid,
                None if xid.wall is None else model.now - xid.wall,
            )
            for xid in machine.kernel.xids
            if xid.wall is None or model.now - xid.wall < _RECENT_S
        ),
    )


def _with_gpu(facts: AlertFacts, model: Model) -> AlertFacts:
    machine = model.machine
    gpu = machine.gpu
    if gpu is None:
        return facts
    track = machine.gpus[gpu.index]
    return replace(
        facts,
        utilisation_pct=gpu.utilisation_pct,
        sm_clock_mhz=gpu.sm_clock_mhz,
        power_w=gpu.power_w,
        temperature_c=gpu.temperature_c,
        margin_c=gpu.margin_c,
        low_power=track.low_power.there,
        clock_locked=None if gpu.reasons is None else bool(gpu.reasons & USER_CLOCKS),
        throttle=gpu.throttle if gpu.reasons is not None else None,
        throttle_ms_per_s=1000 * max(track.slowed.values()) if track.slowed else None,
    )
