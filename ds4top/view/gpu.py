"""The GPU and pressure on memory as a row: what is not supported is not there."""

from __future__ import annotations

from ds4top.core.gpu import GpuSample, GpuTrack
from ds4top.core.model import Model
from ds4top.core.units import fmt_age, fmt_gib, fmt_num
from ds4top.view.mend import gpu_mend
from ds4top.view.text import Row, pack, row, row_text
from ds4top.view.today import midnight


def gpu_items(model: Model) -> list[Row]:
    """The GPU's figures, then swap, refaults, pressure and OOM kills, as far as they are known."""
    machine = model.machine
    gpu = machine.gpu
    items: list[Row] = []
    if gpu is not None:
        track = machine.gpus[gpu.index]
        figures = _of(gpu, track, track.low_power_words(model.now, midnight(model)))
        if gpu.stale(model.now):
            age = fmt_age(max(model.now - gpu.wall, 0.0))
            figures = [row((row_text(each), "stale")) for each in figures]
            figures.insert(0, row((f"age {age}", "stale")))
        items += figures
    sample = machine.memory.sample
    if sample is not None:
        memory = machine.memory
        if sample.swap_total_bytes:
            items.append(row(f"swap {fmt_gib(sample.swap_used_bytes)}"))
        rate = memory.refaults.per_s(sample.t)
        if rate is not None:
            items.append(row("refaults ", (f"{rate:>3,.0f}/s", "warn" if rate > 200 else "text")))
        if sample.psi_full_pct is not None:
            style = "warn" if sample.psi_full_pct > 5 else "text"
            items.append(row("PSI ", (fmt_num(sample.psi_full_pct, 1, width=4), style)))
        kills = memory.oom_kills.count
        if kills is not None:
            items.append(row("OOM kills ", (str(kills), "crit" if kills else "text")))
    return items


def gpu_beside(model: Model) -> list[Row]:
    """The first of them for a row of other things: whose they are stands before them."""
    items = gpu_items(model)[:4]
    if model.machine.gpu is None or not items:
        return items
    return [row(("GPU ", "label"), (row_text(items[0]).strip(), "value")), *items[1:]]


def _of(gpu: GpuSample, track: GpuTrack, low: str | None) -> list[Row]:
    figures: list[Row] = []
    if gpu.utilisation_pct is not None:
        figures.append(row((f"{gpu.utilisation_pct:>3} %", "value")))
    if gpu.sm_clock_mhz is not None:
        figures.append(row(f"{gpu.sm_clock_mhz:>5,} MHz"))
    if gpu.power_w is not None:
        figures.append(row(f"{gpu.power_w:>3.0f} W"))
    if gpu.temperature_c is not None:
        margin = f" ({gpu.margin_c} to limit)" if gpu.margin_c is not None else ""
        figures.append(row(f"{gpu.temperature_c:>3} °C{margin}"))
    if low is not None:
        figures.append(row((low, "warn")))
    elif gpu.reasons is not None:
        words = gpu.throttle
        figures.append(row((", ".join(words), "warn") if words else ("no throttle", "dim")))
    if not gpu.unified and gpu.memory_total_bytes and gpu.memory_used_bytes is not None:
        used, total = fmt_gib(gpu.memory_used_bytes), fmt_gib(gpu.memory_total_bytes)
        figures.append(row(f"VRAM {used} of {total} GiB"))
    joules = track.joules_per_token()
    if joules is not None:
        figures.append(row(f"{joules:>4.1f} J/tok"))
    return figures


def _why_none(model: Model) -> Row:
    found = gpu_mend(model)
    if found is None:
        return row(("–  not in what is replayed" if model.replay else "–  not known", "dim"))
    does = f" {found.does}" if found.does else ""
    return row((f"–  {found.why}; ", "dim"), (found.command, "key"), (does, "dim"))


def gpu_row(model: Model, width: int) -> Row:
    """The GPU's figures, and pressure on memory; what is not supported is not there."""
    if model.machine.gpu is None:
        rest = gpu_items(model)
        return row((" GPU ", "title"), pack([_why_none(model), *rest], width - 6))
    return row((" GPU ", "title"), pack(gpu_items(model), width - 6))
