"""The table of alerts: when each comes and goes, its figure, and what to do.

Limits of memory and of the low-power fault as GB10 owners measured them; each with its source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ds4top.core.alert_facts import CLEAR, AlertFacts, AlertRule, Level, Said
from ds4top.core.units import GIB, fmt_age, fmt_duration, fmt_gib, fmt_pct, fmt_tokens, fmt_tps

MemoryLevel = Literal["ok", "warning", "critical", "unknown"]
LEAVE_BYTES = GIB
_TOLD_BYTES_PER_S = 0.05 * GIB
"""A slower fall would read as one of 0.0."""
CRITICAL_S = 10.0
CONTEXT_SHARE, CONTEXT_LEAVE = 0.8, 0.78
SLOW_RATIO, SLOW_LEAVE, SLOW_SAMPLES = 0.8, 0.85, 3
LOW_UTILISATION_PCT = 90.0
LOW_CLOCK_MHZ, LOW_CLOCK_LEAVE_MHZ = 1400.0, 1600.0
"""Healthy is about 2400 MHz, the fault 500 to 900 (hasso5703/dgx-spark-qwen38#8)."""
LOW_TEMPERATURE_C = 80.0
SWAP_BYTES_PER_S, SWAP_LEAVE_BYTES_PER_S = 1e6, 0.2e6
REFAULT_BYTES_PER_S, REFAULT_LEAVE_BYTES_PER_S = 50e6, 10e6
"""ds4top's own choice: at a few GB/s from the disk this is about 2 % of the time."""
RECENT_S = 600.0
FIRMWARE_XIDS = frozenset({79, 109, 119, 120, 154})
POISON_XIDS = frozenset({43, 45})
_HARMFUL = ("thermal", "slowdown", "brake")


def _alert(level: Level, what: str, figure: str, fix: str) -> Said:
    return Said(level, what, figure, fix)


def _failed(f: AlertFacts, slack: bool) -> Said | None:
    if f.state is None:
        return None
    if f.state != "failed":
        return CLEAR
    keys = f.keys
    fix = f"see the log ({keys['view.log']}), then start it again ({keys['server.start']})"
    return _alert("critical", "the last start failed", f.state_why or "no reason logged", fix)


def _poisoned(f: AlertFacts, slack: bool) -> Said | None:
    ours = [xid for xid in f.xids or () if xid.ours and xid.number in POISON_XIDS]
    told = f.poisoned or (f.state_why if f.state == "poisoned" else "")
    if told or ours:
        figure = told or f"Xid {ours[-1].number} names this server"
        what = "GPU error, every request fails until a restart"
        return _alert("critical", what, figure, "ds4top restart")
    return None if f.state is None and f.xids is None else CLEAR


def _gone(f: AlertFacts, slack: bool) -> Said | None:
    if f.gone is None:
        return None
    if not f.gone or f.gone_clean:
        return CLEAR
    figure = f.gone_why or "no reason found"
    return _alert("critical", "the server is gone", figure, "ds4top start")


def _oom(f: AlertFacts, slack: bool) -> Said | None:
    if f.oom_kills is None:
        return None
    if f.oom_kills <= 0 or (f.oom_age_s is not None and f.oom_age_s > RECENT_S):
        return CLEAR
    age = f", {fmt_age(f.oom_age_s)} ago" if f.oom_age_s is not None else ""
    victim = f" of {f.oom_victim}" if f.oom_victim else ""
    figure = f"{f.oom_kills} OOM kill{'s' if f.oom_kills > 1 else ''}{victim}{age}"
    fix = "close what shares the memory, or a smaller --ctx"
    return _alert("critical", "the kernel ran out of memory", figure, fix)


def _headroom(f: AlertFacts, slack: bool) -> Said | None:
    judged = f.projected_bytes if f.loading else f.headroom_bytes
    level = f.memory_level
    if level is None:
        level = _level(f, judged, slack)
    if level == "unknown" or level is None:
        return None
    if level == "ok":
        return CLEAR
    what = "headroom after this load" if f.loading else "headroom"
    figure = f"{fmt_gib(judged)} GiB"
    slope = f.slope_bytes_per_s
    if slope is not None and slope < -_TOLD_BYTES_PER_S and not f.loading:
        figure += f", falling {fmt_gib(-slope)} GiB/s"
        if f.to_zero_s is not None:
            figure += f", gone in {fmt_duration(f.to_zero_s)}"
    else:
        limit = f.critical_bytes if level == "critical" else f.warning_bytes
        # A level is held for a while after the figure is better.
        was = "was " if judged is not None and judged >= limit else ""
        figure += f", {was}below {fmt_gib(limit)} GiB"
    fix = f"close {f.co_tenant or _sharers(f)}"
    fix += ", or ds4top restart --mmap" if f.residency == "copy" else ", or a smaller --ctx"
    return _alert(level, what, figure, fix)


def _sharers(f: AlertFacts) -> str:
    return f"what shares the memory ({f.keys['view.memory']})"


def _level(f: AlertFacts, judged: int | None, slack: bool) -> MemoryLevel | None:
    if judged is None:
        return None
    rise = LEAVE_BYTES if slack else 0
    # A normal load takes 3 to 4 GiB/s: its slope says nothing while its end is known to fit.
    trend = f.to_zero_s is not None and (not f.loading or judged < f.warning_bytes)
    soon = trend and f.to_zero_s is not None and f.to_zero_s < CRITICAL_S
    if judged < f.critical_bytes + rise or soon:
        return "critical"
    return "warning" if judged < f.warning_bytes + rise else "ok"


def _driver(f: AlertFacts, slack: bool) -> Said | None:
    if f.driver_no_memory is None:
        return None
    if f.driver_no_memory == "info":
        return CLEAR
    count = f.driver_no_memory_count
    figure = f"{count} NV_ERR_NO_MEMORY lines" if count else "10 or more lines in 10 s"
    if f.free_bytes is not None:
        figure += f", {fmt_gib(f.free_bytes)} GiB free"
    fix = f"close {_sharers(f)}"
    return _alert(f.driver_no_memory, "the GPU driver gets no memory", figure, fix)


def _xid(f: AlertFacts, slack: bool) -> Said | None:
    if f.xids is None:
        return None
    recent = [xid for xid in f.xids if xid.age_s is None or xid.age_s <= RECENT_S]
    if not recent:
        return CLEAR
    worst = next((xid for xid in reversed(recent) if xid.number in FIRMWARE_XIDS), recent[-1])
    age = f", {fmt_age(worst.age_s)} ago" if worst.age_s is not None else ""
    figure = f"Xid {worst.number}{age}"
    if worst.number in FIRMWARE_XIDS:
        fix = "a restart of the server may not help: reboot"
        return _alert("critical", "GPU or firmware error", figure, fix)
    return _alert("warning", "GPU error", figure, "ds4top restart if requests fail")


def _context(f: AlertFacts, slack: bool) -> Said | None:
    used, limit = f.context_tokens, f.context_limit_tokens
    if used is None or not limit:
        return None
    share = used / limit
    if share < (CONTEXT_LEAVE if slack else CONTEXT_SHARE):
        return CLEAR
    figure = f"{fmt_pct(share)} used, {fmt_tokens(used)} of {fmt_tokens(limit)}"
    fix = "past the limit the client gets a 400: compact the conversation"
    return _alert("warning", "context", figure, fix)


def _low(f: AlertFacts, slack: bool) -> bool | None:
    """Whether the GPU sits in the low-power fault; ``None`` where an idle one cannot tell."""
    if f.utilisation_pct is None or f.sm_clock_mhz is None:
        return None
    if f.low_power is False:
        return False
    if f.utilisation_pct < LOW_UTILISATION_PCT:
        # Idle it looks well; the figures of then prove nothing.
        return None
    if f.low_power:
        return True
    hot = f.temperature_c is not None and f.temperature_c >= LOW_TEMPERATURE_C
    limit = LOW_CLOCK_LEAVE_MHZ if slack else LOW_CLOCK_MHZ
    return f.sm_clock_mhz < limit and not hot and not f.clock_locked and not _harmful(f)


def _low_power(f: AlertFacts, slack: bool) -> Said | None:
    low = _low(f, slack)
    if low is None:
        return None
    if not low:
        return CLEAR
    watts = f" / {f.power_w:.0f} W" if f.power_w is not None else ""
    figure = f"{f.sm_clock_mhz:.0f} MHz{watts} at {f.utilisation_pct:.0f} %, healthy is about 2,400"
    fix = "known workaround: unplug the supply from wall and device for 60 s"
    return _alert("warning", "GPU in its low-power state", figure, fix)


def _harmful(f: AlertFacts) -> list[str]:
    return [
        reason for reason in f.throttle or () if any(word in reason.lower() for word in _HARMFUL)
    ]


def _throttle(f: AlertFacts, slack: bool) -> Said | None:
    if f.throttle is None:
        return None
    found = _harmful(f)
    if not found:
        return CLEAR
    figure = ", ".join(found)
    if f.sm_clock_mhz is not None:
        figure += f" at {f.sm_clock_mhz:.0f} MHz"
    if f.temperature_c is not None:
        figure += f", {f.temperature_c:.0f} °C"
    if f.margin_c is not None:
        figure += f", {f.margin_c:.0f} °C to the limit"
    if f.throttle_ms_per_s is not None:
        figure += f", {f.throttle_ms_per_s:.0f} ms of each s"
    fix = "clear its air vents, or cap it: sudo nvidia-smi -lgc 0,2100"
    return _alert("warning", "the GPU is slowed down", figure, fix)


def slow_cause(f: AlertFacts) -> str:
    """The likeliest cause of a slow decode, the surest first; what it is and by which figure."""
    judged = f.headroom_bytes
    causes: tuple[tuple[bool, str], ...] = (
        (_low(f, False) is True, f"low-power state at {f.sm_clock_mhz or 0:.0f} MHz"),
        (bool(_harmful(f)), ", ".join(_harmful(f))),
        (
            _over(f.refault_bytes_per_s, REFAULT_BYTES_PER_S) and f.residency != "copy",
            f"weights are read again, {(f.refault_bytes_per_s or 0) / 1e6:.0f} MB/s",
        ),
        (
            judged is not None and judged < f.critical_bytes,
            f"memory pressure, {fmt_gib(judged)} GiB of headroom",
        ),
        (bool(f.co_tenant), f"{f.co_tenant} on the same GPU"),
        (f.power_pct is not None and f.power_pct < 100, f"--power {f.power_pct}"),
        (bool(f.slow_core), "it runs on a small core"),
    )
    return next((words for holds, words in causes if holds), "no cause found")


def _over(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def _slow(f: AlertFacts, slack: bool) -> Said | None:
    if not f.decode_tps or not f.expected_tps:
        return None
    ratio = f.decode_tps / f.expected_tps
    if slack:
        if ratio >= SLOW_LEAVE:
            return CLEAR
    elif f.slow_samples is None:
        return None
    elif f.slow_samples < SLOW_SAMPLES or ratio >= SLOW_RATIO:
        return CLEAR
    named = f" ({f.expected_from})" if f.expected_from else ""
    figure = (
        f"{fmt_tps(f.decode_tps, unit=True)}, {ratio:.2f} x of the {fmt_tps(f.expected_tps)}"
        f" expected at this context{named}"
    )
    return _alert("warning", "decode is slow", figure, f"likely cause: {slow_cause(f)}")


def _silent(f: AlertFacts, slack: bool) -> Said | None:
    if f.last_known is None:
        return None
    if not f.last_known or f.quiet_s is None:
        return CLEAR
    doing = f" in {f.state}" if f.state else ""
    figure = f"no line for {fmt_duration(f.quiet_s)}{doing}"
    process, log = f.keys["view.launch"], f.keys["view.log"]
    fix = f"is it alive? see its process ({process}) and its log ({log})"
    return _alert("warning", "the log is silent", figure, fix)


def _kv_disk(f: AlertFacts, slack: bool) -> Said | None:
    free, used, budget = f.kv_free_bytes, f.kv_used_bytes, f.kv_budget_bytes
    if free is None or used is None or budget is None:
        return None
    wanted = max(budget - used, 0)
    if free >= wanted + (LEAVE_BYTES if slack and wanted else 0):
        return CLEAR
    figure = f"{fmt_gib(free)} GiB free, {fmt_gib(wanted)} GiB of the budget still to fill"
    fix = f"free some, or --kv-disk-space-mb {max(int((used + free) * 0.9) >> 20, 1)}"
    return _alert("warning", "KV disk too small for its budget", figure, fix)


def _kv_store(f: AlertFacts, slack: bool) -> Said | None:
    if f.state is None and f.store_failed is None:
        return None
    if not f.store_failed:
        return CLEAR
    fix = "check space and rights of the KV directory"
    return _alert("warning", "the last KV checkpoint was not saved", f.store_failed, fix)


def _swap(f: AlertFacts, slack: bool) -> Said | None:
    rate = f.swap_in_bytes_per_s
    if rate is None:
        return None
    if rate <= (SWAP_LEAVE_BYTES_PER_S if slack else SWAP_BYTES_PER_S):
        return CLEAR
    figure = f"{rate / 1e6:.1f} MB/s read back"
    fix = "close what shares the memory; sudo swapoff -a once there is room"
    return _alert("warning", "the machine is swapping", figure, fix)


def _refaults(f: AlertFacts, slack: bool) -> Said | None:
    rate = f.refault_bytes_per_s
    if rate is None or f.residency is None or f.residency == "unknown":
        return None
    if f.loading or f.residency == "copy":
        return CLEAR
    if rate <= (REFAULT_LEAVE_BYTES_PER_S if slack else REFAULT_BYTES_PER_S):
        return CLEAR
    who = f" beside {f.co_tenant}" if f.co_tenant else ""
    figure = f"{rate / 1e6:.0f} MB/s of weights{who}"
    fix = f"close {f.co_tenant or _sharers(f)}, or ds4top restart --no-mmap"
    return _alert("warning", "weights are read again from disk", figure, fix)


def _blocks(f: AlertFacts, slack: bool) -> Said | None:
    if f.big_blocks is None:
        return None
    if f.big_blocks > (16 if slack else 0):
        return CLEAR
    huge = f", {f.huge_blocks} of 16 MiB and more" if f.huge_blocks is not None else ""
    figure = f"{f.big_blocks} free blocks of 2 MiB and more{huge}"
    fix = "stop it, then as root: sync; echo 3 > /proc/sys/vm/drop_caches; else reboot"
    return _alert("warning", "memory is in small pieces, the next start may fail", figure, fix)


def _divergence(f: AlertFacts, slack: bool) -> Said | None:
    if f.state is None:
        return None
    if f.divergence is None:
        return CLEAR
    tokens, times = f.divergence
    figure = f"near token {fmt_tokens(tokens)}, {times} times"
    fix = "something early differs each turn (a date, a tool list?): keep it the same"
    return _alert("warning", "the prompt keeps changing", figure, fix)


def _clients(f: AlertFacts, slack: bool) -> Said | None:
    if f.clients_gone is None or f.busy is None:
        return None
    if f.clients_gone <= 0 or not f.busy:
        return CLEAR
    figure = f"{f.clients_gone} connection{'s' if f.clients_gone > 1 else ''} closed by the client"
    return _alert("warning", "work goes on for nobody", figure, "ds4top restart, if it is long")


_WARNINGS: dict[str, tuple[str, str]] = {
    "kv-dir-failed": (
        "the KV cache directory cannot be made",
        "it serves without a disk cache: mend rights or --kv-disk-dir",
    ),
    "arena-failed": ("no memory for weights: it runs from the mapping, slower", "free memory"),
    "temp-failed": ("a CUDA allocation failed", "lower --ctx or free memory"),
    "tensor-failed": ("a CUDA allocation failed", "lower --ctx or free memory"),
    "managed-kv": (
        "KV cache in managed memory: it grows with use and NVML does not see it",
        "--ctx 131072",
    ),
    "q8-failed": (
        "no memory for expanded copies of weights",
        "harmless alone, but memory is tight: DS4_CUDA_NO_Q8_F16_CACHE=1",
    ),
}


def _logged(name: str) -> Callable[[AlertFacts, bool], Said | None]:
    what, fix = _WARNINGS[name]

    def check(f: AlertFacts, slack: bool) -> Said | None:
        if f.state is None and not f.log_warnings:
            return None
        count = f.log_warnings.get(name, 0)
        return _alert("warning", what, f"{count} x in the log", fix) if count else CLEAR

    return check


RULES: tuple[AlertRule, ...] = (
    AlertRule("poisoned", _poisoned, leave_s=0),
    AlertRule("server-gone", _gone, leave_s=0),
    AlertRule("start-failed", _failed, leave_s=0),
    AlertRule("headroom", _headroom, enter_looks=2),
    AlertRule("oom-kill", _oom, leave_s=0),
    AlertRule("xid", _xid, leave_s=0),
    AlertRule("driver-no-memory", _driver, leave_s=30),
    AlertRule("low-power", _low_power, enter_looks=2, enter_s=5, leave_s=10),
    AlertRule("throttle", _throttle, enter_looks=2, enter_s=3, leave_s=10),
    AlertRule("slow-decode", _slow, leave_s=10),
    AlertRule("refaults", _refaults, enter_looks=2, enter_s=3, leave_s=10),
    AlertRule("swap-in", _swap, enter_looks=2, enter_s=2, leave_s=10),
    AlertRule("log-silent", _silent, leave_s=0),
    AlertRule("context", _context, leave_s=0),
    AlertRule("kv-disk", _kv_disk),
    AlertRule("kv-store", _kv_store, leave_s=0),
    AlertRule("big-blocks", _blocks, enter_looks=2, enter_s=5, leave_s=30),
    AlertRule("client-gone", _clients, enter_looks=2, enter_s=5),
    AlertRule("divergence", _divergence, leave_s=0),
    *(AlertRule(name, _logged(name), leave_s=0) for name in _WARNINGS),
)
"""In the order in which alerts of one level are shown."""
