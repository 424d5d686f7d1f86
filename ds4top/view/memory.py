"""Memory and GPU as rows: the stacked bar, headroom, what fits, who holds what over time."""

from __future__ import annotations

from ds4top.core.derive import ServerState, Status
from ds4top.core.memory import GIB, Parts
from ds4top.core.memtrack import MemoryTrack
from ds4top.core.model import Model
from ds4top.core.units import fmt_gib
from ds4top.view.gpu import gpu_beside, gpu_row
from ds4top.view.look import Look
from ds4top.view.now import context_limit
from ds4top.view.text import (
    Row,
    Share,
    pack,
    row,
    stacked_bar,
)

_HOUR_S = 3600
NEXT_TOKENS = 64_000
"""The prefill that a headroom is held against on the Live view."""

PARTS: tuple[tuple[str, str, str, str], ...] = (
    ("server_weights", "weights", "w", "mem-weights"),
    ("server_working", "work", "wk", "mem-working"),
    ("other_gpu", "other GPU", "gpu", "mem-other-gpu"),
    ("other_processes", "others", "oth", "mem-other"),
    ("cache", "cache", "c", "mem-cache"),
    ("kernel", "kernel", "k", "mem-kernel"),
    ("unaccounted", "unaccounted", "?", "mem-unaccounted"),
    ("free", "free", "f", "mem-free"),
)
"""Field of the account, its label, short label and style, in the order of the bar."""

WORDS: dict[str, str] = {
    "server_weights": "the model's weights: a copy in CUDA memory, or its file in page cache",
    "server_working": "the server's own: KV cache, buffers, arenas, heap",
    "other_gpu": "CUDA memory of other processes",
    "other_processes": "anonymous and shared memory of other processes",
    "cache": "page cache that can be given back, without mapped weights",
    "kernel": "what the kernel keeps: slabs, stacks, page tables, huge pages",
    "unaccounted": "in no counter: driver buffers, memory that NVML does not tell",
    "free": "MemFree: what CUDA gets without any reclaim",
}
LEVELS: dict[str, str] = {"ok": "ok", "warning": "warn", "critical": "crit", "unknown": "dim"}


def parts_bar(parts: Parts, width: int, look: Look) -> Row:
    """One bar in GiB that adds up to the machine."""
    amounts = parts.as_dict()
    shares = [
        Share(
            f"{label} {fmt_gib(amounts[name])}",
            float(max(amounts[name], 0)),
            style,
            short if amounts[name] < GIB else fmt_gib(amounts[name], 0),
        )
        for name, label, short, style in PARTS
        if amounts[name] > 0
    ]
    return stacked_bar(shares, width, look.charset)


def trend(track: MemoryTrack) -> str:
    """Whether headroom gets better or worse, by its slope; a slow one over ten minutes."""
    slope = track.slope()
    if slope is None:
        return ""
    # Per unit: its seconds, decimals and cells.
    unit, form = "s", (1, 2, 5)
    if abs(slope) < 0.05 * GIB:
        slope = track.slope(600.0)
        if slope is None or abs(slope) * _HOUR_S < 0.05 * GIB:
            return "steady"
        unit, form = ("min", (60, 1, 4)) if abs(slope) > GIB / 60 else ("h", (_HOUR_S, 1, 5))
    per_s, digits, cells = form
    word = "falling" if slope < 0 else "rising"
    return f"{word} {fmt_gib(abs(slope) * per_s, digits, width=cells)} GiB/{unit}"


def headroom_row(model: Model, status: Status, label: str = "headroom ") -> Row:
    """Headroom, the projected one while loading, or why there is none.

    ``label`` stands before it; empty where a title says it already.
    """
    track = model.machine.memory
    style = LEVELS[track.level]
    if track.sample is None:
        return row((f"{label}{why_no_memory(model)}", "dim"))
    if status.state is ServerState.LOADING and track.projected is not None:
        return row(
            f"{label}projected ",
            (fmt_gib(track.projected, unit=True, width=8), style if style != "ok" else "now"),
            f", now {fmt_gib(track.headroom, width=5)}",
        )
    if track.headroom is None:
        available = fmt_gib(track.sample.available_bytes, unit=True)
        return row(
            label,
            ("–", "dim"),
            f"   available {available}",
            ("; how the weights are held is not known", "dim"),
        )
    return row(
        label,
        (fmt_gib(track.headroom, unit=True, width=8), style if style != "ok" else "now"),
    )


def why_no_memory(model: Model) -> str:
    """Why there is no figure."""
    if model.replay is not None:
        return "–  not in what is replayed"
    health = next((each for each in model.health if each.name == "memory"), None)
    return f"–  {health.detail if health else 'not known'}"


def next_words(model: Model, tokens: int = NEXT_TOKENS) -> Row:
    """What the next big prefill takes, and the verdict."""
    if model.machine.memory.headroom is None:
        return ()
    limit = context_limit(model)
    found = model.machine.next_prefill(min(tokens, limit) if limit else tokens)
    style = {"fits": "ok", "tight": "warn", "does not fit": "crit"}.get(found.verdict, "dim")
    need = "nothing more" if not found.need_bytes else f"{fmt_gib(found.need_bytes)} GiB"
    return row(
        f"prefill of {found.tokens // 1000}K needs {need} ({found.origin}): ",
        (found.verdict, style),
    )


def largest_other(model: Model) -> str:
    """The co-tenant that holds most GPU memory."""
    for process in model.machine.others():
        if process.used_bytes:
            return f"{process.comm or process.pid} {fmt_gib(process.used_bytes)}"
    return ""


def memory_rows(model: Model, status: Status, width: int, look: Look) -> tuple[Row, ...]:
    """Three rows of the Live view: the bar, headroom with what it means, the GPU."""
    machine = model.machine
    parts = machine.parts(model.log)
    label = 10
    if parts is None:
        first = row((" MEMORY", "title"), (f"  headroom {why_no_memory(model)}", "dim"))
        second = row((" by the log ", "label"), by_log(model))
        return (first, second, gpu_row(model, width))
    first = row((f" {'MEMORY':<{label - 1}}", "title"), parts_bar(parts, width - label - 1, look))
    items: list[Row] = [headroom_row(model, status)]
    if words := trend(machine.memory):
        items.append(row((words, "text" if words == "steady" else "value")))
    if found := next_words(model):
        items.append(found)
    if other := largest_other(model):
        items.append(row("largest other: ", (other, "value")))
    if parts.other_processes > 0:
        items.append(row("other processes ", (fmt_gib(parts.other_processes), "value")))
    free = machine.memory.sample
    if free is not None:
        items.append(row(f"MemFree {fmt_gib(free.free_bytes)}"))
    return (first, row(" ", pack(items, width - 2)), gpu_row(model, width))


def memory_line(model: Model, status: Status, width: int) -> Row:
    """Headroom and the GPU in one row."""
    label = "" if status.state is ServerState.LOADING else "headroom "
    items: list[Row] = [headroom_row(model, status, label)]
    if words := trend(model.machine.memory):
        items.append(row(words))
    items += gpu_beside(model)
    return row((" MEM ", "title"), pack(items, width - 6, gap=2))


def compact_memory(model: Model, status: Status, width: int) -> tuple[Row, Row]:
    """Headroom, its trend and the verdict; the GPU: two rows of a small terminal."""
    items = [headroom_row(model, status)]
    if words := trend(model.machine.memory):
        items.append(row(words))
    if found := next_words(model):
        items.append(row(f"prefill {found[0].text.split()[2]} ", found[-1]))
    return row(" ", pack(items, width - 1, gap=2)), gpu_row(model, width)


def by_log(model: Model) -> str:
    """What the start-up lines tell of memory."""
    life = model.log.life
    if life is None:
        return "nothing in the log"
    said = []
    if life.buffers is not None:
        said.append(f"context buffers {life.buffers.size_mib:,.0f} MiB")
    if "planned_gib" in life.plan:
        weights = life.plan.get("model_gib", "–")
        said.append(f"planned {life.plan['planned_gib']} GiB with weights {weights}")
    if life.oom_score_adj is not None:
        said.append(f"oom_score_adj {life.oom_score_adj}")
    return ", ".join(said) or "nothing in the log"
