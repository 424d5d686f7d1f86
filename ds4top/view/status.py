"""The machine-readable status and its one-line form: the same figures as the screen's.

Pure: a model and a time in, plain values out. ``ds4top.status/1``; unknown is ``None``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ds4top.core.alerts import Alert
from ds4top.core.classify import heat_of
from ds4top.core.coldstart import WORDS, cold_start
from ds4top.core.derive import ServerState, Status
from ds4top.core.kvaccount import budget_of
from ds4top.core.model import Model
from ds4top.core.process import ServerProcess
from ds4top.core.state import Request
from ds4top.core.units import fmt_duration, fmt_gib, fmt_k, fmt_tps
from ds4top.view.memory import NEXT_TOKENS
from ds4top.view.now import context_limit
from ds4top.view.rates import RateBook
from ds4top.view.text import clean, take, width_of
from ds4top.view.today import Today

SCHEMA = "ds4top.status/1"
LEVELS = ("ok", "warning", "critical", "unknown")
LINE_CELLS = 40
_WHY_CELLS = 24
_SHORT = {
    "loading": "load", "idle": "idle", "lookup": "look", "prefill": "pre", "decode": "dec",
    "draining": "drain", "stopped": "down", "failed": "fail", "poisoned": "POIS",
    "absent": "none", "unknown": "?",
}  # fmt: skip


def state_of(model: Model, status: Status) -> str:
    """The state, with what the process tells: a server that is gone is stopped, one that was never
    seen absent.
    """
    machine = model.machine
    if machine.version and machine.server is None:
        if status.state in (ServerState.FAILED, ServerState.STOPPED):
            return str(status.state)
        if machine.gone is not None or model.log.life is not None:
            return "stopped"
        return "absent"
    if status.last_known:
        return "unknown" if machine.server is None else str(status.state)
    return str(status.state)


def level_of(state: str, model: Model, alerts: tuple[Alert, ...]) -> tuple[str, list[str]]:
    """Level and reasons, by the contract's table."""
    reasons = [alert.text for alert in alerts]
    if state in ("absent", "unknown"):
        return "unknown", reasons
    if state in ("failed", "poisoned"):
        return "critical", reasons
    if state == "stopped":
        life = model.log.life
        clean = life is not None and life.shutdown
        return ("ok" if clean else "critical"), reasons
    worst = {alert.level for alert in alerts}
    level = "critical" if "critical" in worst else "warning" if "warning" in worst else "ok"
    return level, reasons


def _when(wall: float | None, model: Model) -> str | None:
    if wall is None:
        return None
    moment = datetime.fromtimestamp(wall, model.tz or UTC)
    return (moment if model.tz else moment.astimezone()).isoformat(timespec="seconds")


def _server(model: Model, state: str, status: Status) -> dict[str, Any] | None:
    machine, log = model.machine, model.log
    server = machine.server
    life = log.life
    if server is None and life is None:
        return None
    residency, why = machine.residency(log)
    found: ServerProcess | None = server
    return {
        "state": state,
        "pid": found.target.pid if found else None,
        "start_time": _when(found.started_wall if found else None, model),
        "uptime_s": round(model.now - found.started_wall, 1) if found else None,
        "comm": found.target.comm if found else None,
        "exe": found.exe if found else None,
        "argv": list(found.argv) if found and found.argv is not None else None,
        "cwd": found.cwd if found else None,
        "supervisor": {"kind": found.owner.kind, "name": found.owner.name} if found else None,
        "started_by": found.started_by if found else None,
        "flavour": found.flavour if found else None,
        "build": None,
        "model": found.model_path if found else None,
        "model_bytes": found.model_bytes if found else None,
        "residency": str(residency),
        "residency_detail": why,
        "context_limit_tokens": context_limit(model),
        "url": found.url if found else (life.url if life else None),
        "log": model.source or None,
        "queued": machine.waiting(log),
        "load": _load(model, status),
    }


def _load(model: Model, status: Status) -> dict[str, Any] | None:
    """A start that goes on, in the figures of the screen's."""
    start = cold_start(model, status)
    if start is None:
        return None
    rate, eta, elapsed = start.bytes_per_s, start.eta_s, start.elapsed_s
    return {
        "stage": start.stage,
        "loaded_bytes": start.done_bytes,
        "total_bytes": start.total_bytes,
        "loaded_from": start.source or None,
        "bytes_per_s": None if rate is None else round(rate),
        "rate_from": None if rate is None else "mean so far" if start.is_mean else "of late",
        "eta_s": None if eta is None else round(eta, 1),
        "eta_from": start.eta_from or None,
        "elapsed_s": None if elapsed is None else round(elapsed, 1),
    }


def _request(model: Model, request: Request, book: RateBook) -> dict[str, Any]:
    expected = book.expected(max(request.context_tokens, 1))
    prefill = request.phase.value == "prefill"
    return {
        "api": request.api,
        "phase": request.phase.value,
        "prompt_tokens": request.prompt_tokens,
        "cached_tokens": request.cached_tokens,
        "context_tokens": request.context_tokens or request.prompt_tokens,
        "generated_tokens": request.generated_tokens,
        "prefill_done_tokens": request.prefill_done_tokens,
        "prefill_tps": request.prefill_tps,
        "decode_tps": request.decode_tps,
        "decode_tps_mean": request.decode_mean_tps,
        "expected_decode_tps": round(expected.tps, 2) if expected else None,
        "expected_from": expected.source if expected else None,
        "ttft_s": request.ttft_s,
        "started": _when(request.started_at, model),
        "eta_s": book.eta_s(request) if prefill else None,
    }


def _kv(model: Model, today: Today) -> dict[str, Any] | None:
    log = model.log
    life = log.life
    server = model.machine.server
    directory = server.kv_dir if server else None
    if directory is None and life is not None and life.disk is not None:
        directory = life.disk.directory
    if directory is None and not log.requests:
        return None
    hit = log.disk_hits[-1] if log.disk_hits else None
    cache, found = today.cache, model.machine.kv
    budget = budget_of(found, log, server.kv_budget_bytes if server else None)
    return {
        "directory": directory,
        "entries": len(found.entries) if found else None,
        "used_bytes": found.used_bytes if found else None,
        "foreign_bytes": found.foreign_bytes if found else None,
        "budget_bytes": budget,
        "disk_free_bytes": found.disk_free_bytes if found else None,
        "disk_hits": cache.disk_hits,
        "live_hits": cache.live_hits,
        "misses": cache.misses,
        "stores": cache.stores,
        "evictions": cache.evictions,
        "last_load_ms": hit.load_ms if hit else None,
        "tokens_reused": today.reused_tokens,
        "seconds_saved": cache.seconds_saved,
    }


def _memory(model: Model) -> dict[str, Any] | None:
    machine = model.machine
    track = machine.memory
    sample, parts = track.sample, machine.parts(model.log)
    if sample is None or parts is None:
        return None
    limit = context_limit(model)
    tokens = min(NEXT_TOKENS, limit) if limit else NEXT_TOKENS
    slope = track.slope()
    return {
        "total_bytes": sample.total_bytes,
        "available_bytes": sample.available_bytes,
        "headroom_bytes": track.headroom,
        "parts": parts.as_dict(),
        "next_prefill_bytes": machine.next_prefill(tokens).need_bytes,
        "slope_bytes_per_s": None if slope is None else round(slope),
        "oom_kills": sample.oom_kills,
        "level": track.level,
    }


def _gpu(model: Model) -> dict[str, Any] | None:
    gpu = model.machine.gpu
    if gpu is None:
        return None
    return {
        "name": gpu.name,
        "unified": gpu.unified,
        "memory_total_bytes": gpu.memory_total_bytes,
        "memory_used_bytes": gpu.memory_used_bytes,
        "utilisation_pct": gpu.utilisation_pct,
        "sm_clock_mhz": gpu.sm_clock_mhz,
        "power_w": gpu.power_w,
        "temperature_c": gpu.temperature_c,
        "throttle_reasons": list(gpu.throttle),
        "processes": [
            {"pid": each.pid, "comm": each.comm or None, "used_bytes": each.used_bytes}
            for each in gpu.processes or ()
        ],
    }


def document(
    model: Model,
    status: Status,
    book: RateBook,
    today: Today,
    alerts: tuple[Alert, ...],
    *,
    settings: list[dict[str, Any]] | None = None,
    buckets: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The whole status. ``buckets``: decode rates by context, ``settings``: the judged launch."""
    state = state_of(model, status)
    level, reasons = level_of(state, model, alerts)
    running = model.log.running
    return {
        "schema": SCHEMA,
        "time": _when(model.now, model),
        "level": level,
        "reasons": reasons,
        "server": _server(model, state, status),
        "request": _request(model, running, book) if running is not None else None,
        "decode": {"by_context": buckets or []},
        "kv_cache": _kv(model, today),
        "memory": _memory(model),
        "gpu": _gpu(model),
        "launch": {"settings": settings} if settings is not None else None,
        "sources": [
            {
                "name": each.name,
                "state": each.state,
                "detail": each.detail,
                "age_s": None if each.age_s is None else round(each.age_s, 1),
            }
            for each in model.health
        ],
    }


def _load_words(model: Model, status: Status) -> list[str]:
    """How far a start is, when it ends, and which kind of one it is."""
    start = cold_start(model, status)
    if start is None:
        return []
    share = "" if start.share is None else f"{start.share:.0%}"
    end = "" if start.eta_s is None else fmt_duration(start.eta_s).replace(" ", "")
    return [share, end, WORDS.get(start.residency, "")]


def line(model: Model, status: Status, book: RateBook, alerts: tuple[Alert, ...]) -> str:
    """At most 40 cells for a prompt or a status bar; the most telling first, the level last.

    Where there is no room whole words go, from the back; state and level always stay.
    """
    state = state_of(model, status)
    level, _ = level_of(state, model, alerts)
    words = [word for word in _telling(model, status, state, book) if word]
    last = {"warning": "warn", "critical": "CRIT"}.get(level, level)
    room = LINE_CELLS - len(_SHORT[state]) - len(last) - 1
    while words and sum(width_of(word) + 1 for word in words) > room:
        words.pop()
    return " ".join([_SHORT[state], *words, last])


def _telling(model: Model, status: Status, state: str, book: RateBook) -> list[str]:
    running = model.log.running
    limit = context_limit(model)
    headroom = model.machine.memory.headroom
    if state == "loading":
        projected = model.machine.memory.projected
        headroom = projected if projected is not None else headroom
    left = f"{fmt_gib(headroom)}G" if headroom is not None else ""
    if running is not None and state == "decode":
        used = fmt_k(running.context_tokens)
        window = f"{used}/{fmt_k(limit)}" if limit else used
        return [f"{fmt_tps(running.decode_tps)}t/s", window, _heat(running), left]
    if running is not None and state == "prefill":
        done, total = running.prefill_done_tokens, running.new_tokens
        eta = book.eta_s(running)
        share = f"{done / total:.0%}" if total else ""
        soon = fmt_duration(eta).replace(" ", "") if eta is not None else ""
        return [share, soon, f"{fmt_k(done)}/{fmt_k(total)}", _heat(running), left]
    if state in ("stopped", "failed"):
        why = clean(" ".join((status.why or "").split()))
        return [take(why, _WHY_CELLS).rstrip(), left]
    if state == "loading":
        return [*_load_words(model, status), left]
    if state == "absent" and model.machine.servers:
        return [f"of {len(model.machine.servers)} chosen", left]
    if state == "absent" and model.machine.demos:
        return [f"but demo {model.machine.demos[0]}", left]
    return [left]


def _heat(request: Request) -> str:
    return str(heat_of(request))
