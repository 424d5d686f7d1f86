"""What the rules over a launch want to know of the machine, the requests and the starts.

From what is seen now, from the log, and from what earlier runs kept where that is more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ds4top.core.classify import Cause, cold_cause
from ds4top.core.kept import start_s
from ds4top.core.lint_facts import GpuServer, LintFacts, LogKind
from ds4top.core.model import Model
from ds4top.core.process import COMMS
from ds4top.core.state import Life

_NEWEST = 200
_FROM_DISK = 0.5
"""A start that read less than this share of the file found the rest in the page cache."""


_LOG_KINDS: Mapping[str, LogKind] = {
    "file": "file", "deleted": "deleted", "journald": "journal", "container": "container",
    "tee": "file", "pipe": "pipe", "tmux": "tmux", "terminal": "tty", "null": "null",
}  # fmt: skip
"""Where a log goes, as the rule knows it; of what may not be looked at it says nothing."""


def machine_facts(model: Model) -> LintFacts:
    """What process, memory, GPU, KV directory and supervisor tell of the watched server."""
    machine = model.machine
    server, life = machine.server, model.log.life
    warnings = life.warnings if life is not None else {}
    facts = LintFacts(
        managed_kv="managed-kv" in warnings if life is not None and life.buffers else None,
        q8_failed=warnings.get("q8-failed"),
    )
    if server is None:
        return facts
    sample, kv, unit = machine.memory.sample, machine.kv, machine.unit
    return replace(
        facts,
        pid=server.target.pid,
        model_bytes=server.model_bytes,
        model_fs_type=server.model_fs_type,
        total_bytes=sample.total_bytes if sample else None,
        kv_used_bytes=kv.used_bytes if kv else None,
        kv_disk_free_bytes=kv.disk_free_bytes if kv else None,
        kv_fs_type=kv.filesystem.type if kv and kv.filesystem else None,
        residency=machine.residency(model.log)[0].value,
        headroom_bytes=machine.memory.headroom if not model.log.open else None,
        swap_total_bytes=sample.swap_total_bytes if sample else None,
        oom_score_adj=server.oom_score_adj,
        hosts=tuple(host for host, _ in server.listening) or None,
        supervisor=server.owner.kind,
        unit=server.owner.name or None,
        stop_timeout_s=unit.stop_limit_s if unit is not None else None,
        log_kind=_LOG_KINDS.get(server.log.kind),
        log_path=server.log.path,
        gpu_servers=_gpu_servers(model),
        exe_replaced=server.exe_replaced,
        known_variables=machine.variables,
    )


def _gpu_servers(model: Model) -> tuple[GpuServer, ...] | None:
    """The model servers on the GPU of the watched one; ``None`` where NVML does not list that."""
    server = model.machine.server
    for sample in model.machine.samples():
        there = sample.processes or ()
        if server is not None and server.target.pid in {process.pid for process in there}:
            return tuple(GpuServer(p.pid, p.comm, p.used_bytes) for p in there if p.comm in COMMS)
    return None


def with_seen(facts: LintFacts, model: Model) -> LintFacts:
    """The facts with mean context, largest prefill, evicted turns, and how long a start takes."""
    return _with_start(_with_requests(facts, model), model)


def _with_requests(facts: LintFacts, model: Model) -> LintFacts:
    requests, kept = model.log.requests[-_NEWEST:], model.kept.prompts
    prompts = [request.prompt_tokens for request in requests]
    mean = sum(prompts) / len(prompts) if prompts else None
    evicted = sum(1 for request in requests if cold_cause(request) is Cause.EVICTED)
    largest = max((request.new_tokens for request in requests), default=0)
    if kept is not None:
        if kept.count > len(prompts):
            mean = kept.mean_tokens
        evicted, largest = max(evicted, kept.evicted), max(largest, kept.most_new_tokens)
    facts = replace(
        facts,
        mean_context_tokens=mean,
        evicted_turns=evicted if requests or kept is not None else None,
        first_prompts_tokens=tuple(r.prompt_tokens for r in requests if not r.cached_tokens),
        drain_s=max((r.prompt_s for r in requests if r.prompt_s is not None), default=None),
    )
    if not largest:
        return facts
    need = model.machine.next_prefill(largest)
    return replace(
        facts,
        prefill_need_tokens=largest,
        prefill_need_bytes=need.need_bytes,
        prefill_need_from=need.origin,
    )


def _with_start(facts: LintFacts, model: Model) -> LintFacts:
    server, vitals, life = model.machine.server, model.machine.vitals, model.log.life
    took = start_s(life, server.started_wall if server is not None else None)
    if took is None:
        took = model.past_starts_s.get(facts.residency or "")
    size, loading = facts.model_bytes, _loading_s(life)
    read = vitals.read_bytes if vitals is not None else None
    return replace(
        facts,
        start_s=took,
        load_bytes_per_s=size / loading if size and loading else None,
        load_from_disk=None if read is None or not size else read >= _FROM_DISK * size,
    )


def _loading_s(life: Life | None) -> float | None:
    """Seconds that the weights alone took, by the line that ends them."""
    for stage in life.stages if life is not None else ():
        if stage.stage in ("prepared", "copy") and stage.elapsed_s:
            return stage.elapsed_s
    return None
