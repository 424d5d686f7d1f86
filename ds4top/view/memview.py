"""The Memory view: headroom, what fits, who holds what over ten minutes, what was killed."""

from __future__ import annotations

from datetime import datetime

from ds4top.core.derive import Status
from ds4top.core.kernlines import OomKill
from ds4top.core.memory import GIB, Parts, fits_bytes
from ds4top.core.memtrack import RECENT_S
from ds4top.core.model import Model
from ds4top.core.units import count_of, fmt_age, fmt_gib, fmt_k
from ds4top.view.alertpast import MEMORY_RULES, past_alert_rows
from ds4top.view.coldstart import start_section
from ds4top.view.compose import column_width, page
from ds4top.view.look import Look
from ds4top.view.memlog import log_rows
from ds4top.view.memory import (
    NEXT_TOKENS,
    PARTS,
    WORDS,
    by_log,
    headroom_row,
    parts_bar,
    trend,
    why_no_memory,
)
from ds4top.view.now import context_limit
from ds4top.view.text import Part, Row, Share, bar, columns, pack, row, sparkline, stacked_bar

IMAGE_GIB: tuple[int, ...] = (12, 17, 24)
"""Sizes of image models as co-tenants; 17 GiB is a large one in eight bits."""
_STYLES = {"fits": "ok", "tight": "warn", "does not fit": "crit"}
_MINUTE_S = 60.0
_STEPS = int(RECENT_S / _MINUTE_S) + 1
_KILLS = 8
_XIDS = 3
_ALERTS = 6
_DEFAULT_LIMIT = 131_072


def memory_view(
    model: Model, status: Status, width: int, look: Look, *, charted: bool = False
) -> tuple[Row, ...]:
    """All of it, what decides first; ``charted``: the last ten minutes are drawn elsewhere."""
    machine = model.machine
    parts = machine.parts(model.log)
    if parts is None or machine.memory.sample is None:
        unseen: list[Row] = [
            row((" MEMORY", "title")),
            row((f"  headroom {why_no_memory(model)}", "dim")),
            row(("  by the log  ", "label"), by_log(model)),
            *_kills(model),
        ]
        past = _memory_alerts(model, column_width(width))
        return page([*unseen, *log_rows(model), *past], width, look.charset)
    residency, why = machine.residency(model.log)
    head: list[Row] = [
        row((" MEMORY", "title"), f"   {fmt_gib(parts.total, unit=True)}   ", (residency, "value"),
            (f"   {why}", "dim")),
        row(" ", parts_bar(parts, width - 2, look)),
    ]  # fmt: skip
    width, whole = column_width(width), width
    rows: list[Row] = list(start_section(model, status, width, look))
    rows += _headroom_rows(model, status, width, look, charted)
    rows += _fit_rows(model, width)
    if machine.autopsy is not None:
        rows += [row(""), row((" THE LAST END", "title"))]
        rows += [row((f"  {line}", "warn")) for line in machine.autopsy.lines]
    rows += _parts_rows(parts, width, look)
    rows += over_time(model, width, look)
    rows += _tenants(model)
    rows += _kills(model)
    rows += _memory_alerts(model, width)
    below = page(rows, whole, look.charset)
    return (*head, *([()] if below and below[0] else []), *below)


def _parts_rows(parts: Parts, width: int, look: Look) -> list[Row]:
    total, amounts = parts.total, parts.as_dict()
    wordy = width >= 96
    cells = max(min(width - (90 if wordy else 26), 60), 6)
    rows = [row(""), row((" WHO HOLDS IT", "title"), ("   GiB", "dim"))]
    for name, label, _, style in PARTS:
        value = amounts[name]
        rows.append(
            row(
                (f"  {label:<12}", "label"),
                (fmt_gib(value, width=7), "value"),
                "  ",
                bar(value / total if total else 0, cells, look.charset, style),
                (f"  {WORDS[name]}" if wordy else "", "dim"),
            )
        )
    return rows


def over_time(model: Model, width: int, look: Look) -> list[Row]:
    """The account of each of the last ten minutes as a bar, one under the other: what grew is seen
    by where its edge has moved.
    """
    points = model.machine.memory.parts_recent.points()
    if len(points) < 2:
        return []
    room = max(width - 13, 8)
    total = points[-1][1].total
    cell = total / room / GIB
    rows = [
        row(""),
        row((" LAST TEN MINUTES", "title"), (f"   a cell is {cell:.1f} GiB", "dim")),
    ]
    end = points[-1][0]
    for step in range(_STEPS):
        at = end - step * _MINUTE_S
        # The last account of that minute; a minute without one stays empty.
        found = next((parts for wall, parts in reversed(points) if wall <= at), None)
        seen = any(at - _MINUTE_S < wall <= at for wall, _ in points)
        if found is None:
            break
        label = "now" if not step else f"{step} m ago"
        if seen:
            drawn: Row = _plain_bar(found, room, look) if step else parts_bar(found, room, look)
        else:
            drawn = row(("no figures", "dim"))
        rows.append(row((f"  {label:<9} ", "label"), drawn))
    return rows


def _plain_bar(parts: Parts, width: int, look: Look) -> Row:
    amounts = parts.as_dict()
    shares = [
        Share("", float(amounts[name]), style) for name, _, _, style in PARTS if amounts[name] > 0
    ]
    return stacked_bar(shares, width, look.charset)


def _headroom_rows(
    model: Model, status: Status, width: int, look: Look, charted: bool
) -> list[Row]:
    track = model.machine.memory
    rows = [
        row(""),
        row((" HEADROOM  ", "title"), headroom_row(model, status, ""), f"   {trend(track)}"),
    ]
    room = max(width - 26, 10)
    recent = track.recent
    if len(recent.t) and not charted:
        begin = recent.t[-1] - RECENT_S
        steps: list[float | None] = [None] * room
        for t, value in recent.since(begin):
            at = min(int((t - begin) / RECENT_S * room), room - 1)
            known = steps[at]
            steps[at] = value / GIB if known is None else min(known, value / GIB)
        rows.append(_spark("last 10 min", steps, room, look))
    minutes = track.by_minute()
    if len(minutes) > RECENT_S / _MINUTE_S:
        per = max(len(minutes) // room, 1)
        lows: list[float | None] = []
        for at in range(0, len(minutes), per):
            known_minutes = [m for m in minutes[at : at + per] if m is not None]
            lows.append(min(known_minutes) / GIB if known_minutes else None)
        rows.append(_spark(f"last {_span(len(minutes))}", lows, room, look))
    sample = track.sample
    assert sample is not None
    said: list[Part] = [
        f"lowest in 24 h {fmt_gib(track.lowest(), unit=True)}",
        f"MemFree {fmt_gib(sample.free_bytes)}",
        f"MemAvailable {fmt_gib(sample.available_bytes)}",
    ]
    if sample.blocks is not None:
        huge = sample.blocks.huge_known
        more = "" if huge is None else f", of 16 MiB {huge:,}"
        said.append(f"free blocks of 2 MiB {sample.blocks.big:,}{more}")
    rows.append(row("  ", pack(said, width - 3)))
    return rows


def _span(minutes: int) -> str:
    return f"{minutes} min" if minutes < 120 else f"{round(minutes / 60)} h"


def _spark(label: str, steps: list[float | None], room: int, look: Look) -> Row:
    top = max(max((step for step in steps if step is not None), default=1.0), 1.0)
    return row(
        (f"  {label:<13}", "label"),
        sparkline(steps, room, look.charset, low=0.0, high=top),
        f" {top:.0f} GiB",
    )


def _fit_rows(model: Model, width: int) -> list[Row]:
    """What a prefill and an image model would find, alone and beside each other."""
    machine = model.machine
    fits = fits_bytes(machine.memory.headroom)
    if fits is None:
        return []
    limit = context_limit(model) or _DEFAULT_LIMIT
    sizes = sorted({min(16_000, limit), min(NEXT_TOKENS, limit), limit})
    first = machine.next_prefill(limit)
    origin = f"a prefill of {fmt_k(limit)} needs {_need(first.need_bytes)} ({first.origin})"
    rows = [
        row(""),
        row((" WHAT FITS", "title"), "   ",
            pack([f"{fmt_gib(fits, unit=True)} with 2.5 GiB kept back", (origin, "dim")],
                 width - 14)),
    ]  # fmt: skip
    wide = 26 if width >= 78 else 18
    widths = [wide, 7, *(13 for _ in sizes), 9]
    while sum(widths) + len(widths) > width - 2 and len(widths) > 3:
        # The largest one tells most; of the sizes the small ones go first.
        widths.pop(2)
        sizes = sizes[1:]
    heads: list[Part] = [
        ("", "header"),
        ("LEFT", "header"),
        *((f"{fmt_k(size)} PREFILL", "header") for size in sizes),
        ("LARGEST", "header"),
    ]
    aligns = "<>" + "<" * len(sizes) + ">"
    rows.append(row("  ", columns(heads, widths, aligns)))
    for label, less in (
        ("as it is", 0),
        *((f"+ image model of {size} GiB", size * GIB) for size in IMAGE_GIB),
    ):
        rows.append(
            row("  ", columns(_fit_cells(model, label, less, sizes, limit), widths, aligns))
        )
    return rows


def _fit_cells(model: Model, label: str, less: int, sizes: list[int], limit: int) -> list[Part]:
    machine = model.machine
    headroom = machine.memory.headroom
    assert headroom is not None
    left = headroom - less
    if less and fits_bytes(headroom) < less:  # type: ignore[operator]
        return [label, (fmt_gib(left), "crit"), *(("does not fit", "crit") for _ in sizes),
                ("none", "crit")]  # fmt: skip
    cells: list[Part] = [label, (fmt_gib(left), "value")]
    for size in sizes:
        verdict = machine.next_prefill(size, less).verdict
        cells.append((verdict, _STYLES.get(verdict, "dim")))
    found = machine.largest_prefill(limit, less)
    if found is None or not found.tokens:
        cells.append(("none", "crit"))
    else:
        cells.append((fmt_k(found.tokens), "value" if found.tokens >= limit else "warn"))
    return cells


def _need(need_bytes: int) -> str:
    return f"{fmt_gib(need_bytes)} GiB" if need_bytes else "nothing more"


def _tenants(model: Model) -> list[Row]:
    machine = model.machine
    server = machine.server
    found = [(f"{p.comm or '?'} {p.pid}", p.used_bytes) for p in machine.others()[:6]]
    if server is not None:
        found.insert(0, (f"{server.target.comm} {server.target.pid}", machine.held_bytes))
    if not found:
        return []
    return [
        row(""),
        row((" ON THE GPU", "title")),
        *(
            row("  ", columns([name, fmt_gib(used, unit=True)], (28, 12), "<>"))
            for name, used in found
        ),
    ]


def _kills(model: Model) -> list[Row]:
    """What was killed for want of memory, newest first, and what the driver said."""
    machine = model.machine
    track, kernel = machine.memory, machine.kernel
    kills, sample = track.oom_kills.count, track.sample
    boot = sample.oom_kills if sample is not None else None
    counted = "kills are not counted here"
    if kills is not None:
        counted = f"{count_of(kills, 'kill')} since ds4top runs, {boot or 0} since the boot"
    rows = [row(""), row((" OOM", "title"), f"   {counted}")]
    if track.oom_seen_wall is not None:
        rows[-1] += row((f", the last {fmt_age(model.now - track.oom_seen_wall)} ago", "crit"))
    rows += [_kill_row(kill, model) for kill in list(kernel.kills)[: -_KILLS - 1 : -1]]
    rows += _kept_kills(model)
    if kernel.no_memory:
        times = count_of(kernel.no_memory, "time")
        rows.append(row(f"  NV_ERR_NO_MEMORY {times}; one alone means nothing"))
    for xid in list(kernel.xids)[: -_XIDS - 1 : -1]:
        pid = "" if xid.pid is None else f" of pid {xid.pid}"
        rows.append(row(f"  {_when(xid.wall, model)}", (f"Xid {xid.number}{pid}", "warn")))
    return rows


def _kept_kills(model: Model) -> list[Row]:
    """Kills of earlier days, which the kernel's log may have forgotten."""
    since = min((kill.wall for kill in model.machine.kernel.kills if kill.wall), default=model.now)
    past = [each for each in model.kept.events if each.kind == "oom" and each.at < since - 300]
    return [
        row(f"  {_when(each.at, model)}", each.text, ("   kept", "dim"))
        for each in reversed(past[-4:])
    ]


def _memory_alerts(model: Model, width: int) -> list[Row]:
    return past_alert_rows(model, width, rules=MEMORY_RULES, most=_ALERTS)


def _kill_row(kill: OomKill, model: Model) -> Row:
    pid = "" if kill.pid is None else f" {kill.pid}"
    said: list[str] = [f"by {kill.by}"]
    if kill.asked_by:
        said.append(f"{kill.asked_by} asked{', in the NVIDIA driver' if kill.by_driver else ''}")
    elif kill.by_driver:
        said.append("in the NVIDIA driver")
    if kill.anon_bytes is not None:
        said.append(f"anonymous {fmt_gib(kill.anon_bytes)} GiB")
    if kill.total_vm_bytes is not None:
        said.append(f"total-vm {fmt_gib(kill.total_vm_bytes, 0)} GiB")
    if kill.cgroup:
        said.append(kill.cgroup)
    return row(
        f"  {_when(kill.wall, model)}", (f"{kill.comm}{pid}", "crit"), f"  {', '.join(said)}"
    )


def _when(wall: float | None, model: Model) -> str:
    if wall is None:
        return ""
    return datetime.fromtimestamp(wall, model.tz).strftime("%d %b %H:%M:%S") + "  "
