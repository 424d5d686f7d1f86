"""How each source is: present, missing and why, its age and what it costs. For the Sources view."""

from __future__ import annotations

from collections.abc import Mapping

from ds4top.core.keymap import DEFAULT_KEYS, Keys
from ds4top.core.launch_units import UnitSeen
from ds4top.core.logplace import COPY_PANE
from ds4top.core.machine import Machine
from ds4top.core.model import SourceHealth
from ds4top.core.units import count_of, fmt_duration
from ds4top.sources.samples import SourceError
from ds4top.sources.supervisor import Beat

STUCK_S = 5.0
_STATES = {"not_found": "missing", "permission": "denied", "unsupported": "missing"}
REPLAYED = ("process", "memory", "GPU (NVML)", "KV directory", "/v1/models", "/metrics")


def log_health(
    error: SourceError | None,
    broken: str,
    name: str,
    age_s: float | None,
    machine: Machine,
    keys: Keys = DEFAULT_KEYS,
) -> SourceHealth:
    """Of the log: what is wrong with it, else where it is read, else why there is none."""
    if error is not None:
        return SourceHealth("log", _STATES.get(error.kind, "error"), error.message, age_s)
    if broken:
        return SourceHealth("log", "missing", broken, age_s)
    if name:
        return SourceHealth("log", "ok", name, age_s)
    server = machine.server
    if server is None:
        return SourceHealth("log", "missing", no_server(machine, keys))
    place = server.log
    press = f"press {keys['log.copy_pane']}: " if place.mend == COPY_PANE else ""
    mend = f"; {press}{place.mend}" if place.mend else ""
    return SourceHealth("log", "missing", f"{place.detail}{mend}")


def no_server(machine: Machine, keys: Keys = DEFAULT_KEYS) -> str:
    """Why no server is watched, and what to do about it."""
    if machine.absent_pid is not None:
        return f"process {machine.absent_pid} is not there; without --pid ds4top finds the server"
    if machine.servers:
        pids = ", ".join(str(each.target.pid) for each in machine.servers)
        run = "server runs" if len(machine.servers) == 1 else "servers run"
        found = f"{len(machine.servers)} {run} ({pids})"
        return f"{found} and none is chosen: press {keys['server.choose']}, or --pid"
    if machine.blind:
        return f"no server is seen: {machine.blind}"
    if machine.demos:
        return f"no server is running but {demos_of(machine)}"
    return "no server is running, so no log is read"


def demos_of(machine: Machine) -> str:
    """Servers of a demo, and how to look at one: by itself ds4top watches none of them."""
    pids = ", ".join(map(str, machine.demos))
    return f"a demo's ({pids}): --pid {machine.demos[0]} looks at it"


_ABSENT = {
    "KV directory": "no --kv-disk-dir is known",
    "/v1/models": "no address is known yet",
    "/metrics": "no address is known yet",
}
_NOT_SHOWN = frozenset({"log", "vitals"})


def paced(beat: Beat | None) -> tuple[float | None, float | None]:
    """Milliseconds that its turns took of late, and seconds from one to the next."""
    if beat is None or not beat.turns:
        return None, None
    return beat.mean_cost_s * 1000, beat.interval_s


def others(
    errors: Mapping[str, SourceError],
    beats: Mapping[str, Beat],
    details: Mapping[str, str],
    now: float,
) -> list[SourceHealth]:
    """Of every source but the log; ``now`` is monotonic. A source that hangs is stuck, not gone."""
    found: list[SourceHealth] = []
    for name in [*beats, *(name for name in _ABSENT if name not in beats)]:
        if name in _NOT_SHOWN:
            continue
        beat, error = beats.get(name), errors.get(name)
        cost_ms, every_s = paced(beat)
        age_s = None
        if beat is not None and beat.last_ok_t is not None:
            age_s = max(now - beat.last_ok_t, 0.0)
        if error is not None:
            state = _STATES.get(error.kind, "error")
            found.append(SourceHealth(name, state, error.message, age_s, cost_ms, every_s))
        elif beat is not None and beat.state == "reading" and now - beat.t > STUCK_S:
            words = f"no answer for {now - beat.t:.0f} s; everything else goes on"
            found.append(SourceHealth(name, "stale", words, age_s, cost_ms, every_s))
        elif beat is None:
            found.append(SourceHealth(name, "missing", _ABSENT[name]))
        elif beat.last_ok_t is None:
            found.append(SourceHealth(name, "missing", "not read yet", age_s, cost_ms, every_s))
        else:
            found.append(SourceHealth(name, "ok", details.get(name, ""), age_s, cost_ms, every_s))
    return found


def not_kept(why: str) -> SourceHealth:
    """Of a session without a history."""
    return SourceHealth("history", "missing", why)


def replayed(machine: Machine) -> list[SourceHealth]:
    """Of a replay: a recording has what was seen of the machine, a log nothing else in it."""
    details = details_of(machine)
    if not machine.servers:
        del details["process"]
    return [
        SourceHealth(name, "ok", f"recorded: {details[name]}")
        if name in details
        else SourceHealth(name, "missing", "not in what is replayed")
        for name in REPLAYED
    ]


def _unit_words(unit: UnitSeen | None) -> str:
    """What the supervisor told."""
    if unit is None:
        return ""
    if unit.why:
        return f"; {unit.why}"
    limit = unit.stop_limit_s
    words = "" if limit is None else f"; a stop may take {fmt_duration(limit)}"
    if unit.stop_unlimited:
        words = "; a stop has no limit"
    return f"; {count_of(len(unit.files), 'unit file')}{words}" if unit.files else words


def details_of(machine: Machine, keys: Keys = DEFAULT_KEYS) -> dict[str, str]:
    """What each source has, in a few words."""
    details: dict[str, str] = {}
    server, vitals = machine.server, machine.vitals
    if server is not None:
        denied = f"; not readable: {', '.join(server.denied)}" if server.denied else ""
        details["process"] = f"{server.target.comm} {server.target.pid}{denied}"
    elif machine.servers or machine.absent_pid is not None or machine.blind or machine.demos:
        details["process"] = no_server(machine, keys)
    else:
        details["process"] = "no ds4-server or llama-server runs here"
    if vitals is not None:
        details["vitals"] = f"pid {vitals.pid}, {count_of(vitals.threads, 'thread')}"
    sample = machine.memory.sample
    if sample is not None:
        details["memory"] = f"{sample.total_bytes / (1 << 30):.1f} GiB in all"
    gpus = machine.samples()
    if gpus:
        kind = "unified memory" if machine.unified else "memory of its own"
        details["GPU (NVML)"] = f"{gpus[0].name or 'GPU'}, {kind}"
    if server is not None:
        known = (
            "its --help is not known"
            if machine.flags is None
            else count_of(len(machine.flags), "flag")
        )
        details["launch"] = known + _unit_words(machine.unit)
    kv, models, metrics = machine.kv, machine.models, machine.metrics
    if kv is not None:
        details["KV directory"] = (
            f"{count_of(len(kv.entries), 'entry', 'entries')},"
            f" {count_of(kv.headers_read, 'header')} read"
        )
    if models is not None:
        ready = "" if models.ready else f", not ready: {models.message}"
        details["/v1/models"] = f"answers in {models.latency_s * 1000:.1f} ms{ready}"
    if metrics is not None:
        details["/metrics"] = f"{metrics.form}, {len(metrics.metrics)} series"
    kernel = machine.kernel
    details["kernel log"] = (
        f"{count_of(len(kernel.kills), 'OOM kill')}, {len(kernel.xids)} Xid,"
        f" {kernel.no_memory} NV_ERR_NO_MEMORY"
    )
    if machine.kernel_route:
        details["kernel log"] += f"; by {machine.kernel_route}"
    return details
