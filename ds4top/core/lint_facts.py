"""What the rules over a launch look at, and what a rule says.

Every field may be ``None``: unknown. A rule that lacks a fact it needs says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["good", "note", "warning", "bad"]
LogKind = Literal["file", "deleted", "journal", "container", "pipe", "tmux", "tty", "null"]
SEVERITIES: tuple[Severity, ...] = ("bad", "warning", "note", "good")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class GpuServer:
    """A model server on the GPU; ``used_bytes`` as NVML tells it."""

    pid: int
    comm: str
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LintFacts:
    """Facts about one launch and the machine under it.

    ``headroom_bytes``: with the server idle. ``prefill_need_bytes``: what the largest prefill seen
    took, or is expected to take (``prefill_need_from``). ``start_s`` and ``load_bytes_per_s`` are
    of the last start, ``load_from_disk`` whether its bytes came from the disk, not the page cache.
    ``first_prompts_tokens``: prompts that found nothing in any cache. ``drain_s``: the longest
    prefill and save seen, which a stop may have to wait for. ``variables``: of its environment;
    ``known_variables``: those whose names stand in the executable; ``flags``: names in its help.
    """

    flavour: Literal["ds4", "llama.cpp"] | None = None
    flags: frozenset[str] | None = None
    pid: int | None = None
    model: str | None = None
    model_bytes: int | None = None
    total_bytes: int | None = None
    ctx_tokens: int | None = None
    prefill_chunk: int | None = None
    kv_disk: bool | None = None
    kv_dir: str | None = None
    kv_budget_bytes: int | None = None
    kv_used_bytes: int | None = None
    kv_disk_free_bytes: int | None = None
    kv_fs_type: str | None = None
    mean_context_tokens: float | None = None
    evicted_turns: int | None = None
    cold_max_tokens: int | None = None
    first_prompts_tokens: tuple[int, ...] | None = None
    power_pct: int | None = None
    batch_size: int | None = None
    batched_sessions: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    residency: Literal["mmap", "copy", "mixed", "unknown"] | None = None
    headroom_bytes: int | None = None
    prefill_need_bytes: int | None = None
    prefill_need_tokens: int | None = None
    prefill_need_from: Literal["measured", "estimated"] | None = None
    start_s: float | None = None
    load_bytes_per_s: float | None = None
    load_from_disk: bool | None = None
    model_fs_type: str | None = None
    swap_total_bytes: int | None = None
    oom_score_adj: int | None = None
    hosts: tuple[str, ...] | None = None
    api_key: bool | None = None
    log_kind: LogKind | None = None
    log_path: str | None = None
    supervisor: str | None = None
    unit: str | None = None
    stop_timeout_s: float | None = None
    drain_s: float | None = None
    gpu_servers: tuple[GpuServer, ...] | None = None
    managed_kv: bool | None = None
    q8_failed: int | None = None
    exe_replaced: bool | None = None
    variables: Mapping[str, str] | None = None
    known_variables: frozenset[str] | None = None
    ssd_streaming: bool | None = None
    dspark: bool | None = None
    trace: str | None = None
    several_gpus: tuple[str, ...] | None = None
    simulated_memory: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule found: the figure that proves it, why it matters, and what mends it.

    ``setting`` names the one that is judged where that differs from the rule's own; ``fix`` is
    empty only where nothing is to be mended.
    """

    severity: Severity
    figure: str
    why: str
    fix: str = ""
    setting: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: when it speaks, on which setting, and where its facts come from."""

    id: str
    setting: str | None
    condition: str
    check: Callable[[LintFacts], Said | None]
    source: str


def good(figure: str, why: str, setting: str | None = None) -> Said:
    """The setting is as it should be."""
    return Said("good", figure, why, "", setting)
