"""What ds4top itself costs, what it writes and with which settings it runs, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from ds4top.core.config import OPTIONS, SECTIONS, Config, shown
from ds4top.core.own import OwnCost, OwnFile
from ds4top.core.units import MIB, fmt_duration, fmt_mib, fmt_num, fmt_pct
from ds4top.view.text import Part, Row, columns, pack, row

SOURCE_THREAD = "src-"
_WORDS = {"MainThread": "screen"}
"""Threads by what they do; the main one reads keys, keeps the state and draws."""
_SEEN = 0.0005
_LABEL = 11


def own_rows(own: OwnCost | None, sources: Sequence[str], width: int) -> list[Row]:
    """Processor, memory, bytes. ``sources`` are shown by themselves: their threads are not here."""
    rows = [row(""), row((" DS4TOP", "title"), ("   its own cost", "dim"))]
    if own is None:
        return [*rows, row(("  looked at while this view is shown", "dim"))]
    over = f"over {fmt_num(round(own.span_s) or None, 0, 's')}"
    mean = own.cpu_s / own.up_s if own.up_s else None
    rate = None if own.written_per_min is None else own.written_per_min / 1024
    stored, unit = _bytes(own.stored_bytes)
    items: dict[str, list[Part]] = {
        "cpu": [
            row((fmt_pct(own.cpu_share, 1, width=7), "value"), f" of a core {over}"),
            (f"{fmt_duration(own.cpu_s)} since its start {_ago(own)} ago,"
             f" {fmt_pct(mean, 1)}", "dim"),
        ],
        "threads": _threads(own, sources),
        "memory": [
            row((fmt_mib(own.rss_bytes, 1, width=7), "value"), " MiB resident"),
            (f"at most {fmt_mib(own.rss_peak_bytes, 1)}", "dim"),
        ],
        "terminal": [
            row((fmt_num(rate, 1, width=7), "value"), f" KiB a minute {over}"),
            (f"{' '.join(_bytes(own.written_bytes))} written in all", "dim"),
        ],
        "storage": [row((f"{stored:>7}", "value"), f" {unit} written in all")],
        "open": [
            row((fmt_num(own.open_files, width=7), "value"), " files"),
            row((fmt_num(own.thread_count), "value"), " threads"),
        ],
    }  # fmt: skip
    for label, parts in items.items():
        head = (f"  {label:<{_LABEL - 2}}", "label")
        rows.append(row(head, pack(parts, max(width - _LABEL, 10))))
    return rows


def _ago(own: OwnCost) -> str:
    # By the minute: seconds would be painted anew for nothing.
    if own.up_s is None or own.up_s >= 3_600:
        return fmt_duration(own.up_s)
    return f"{int(own.up_s) // 60 or '<1'} m"


def _threads(own: OwnCost, sources: Sequence[str]) -> list[Part]:
    """The shares of those that are no source in the table, the largest first."""
    if not own.threads:
        return [("      –", "value")]
    hidden = {f"{SOURCE_THREAD}{name}" for name in sources}
    shares = {
        _WORDS.get(name, name.removeprefix(SOURCE_THREAD)): share
        for name, share in own.threads.items()
        if name not in hidden
    }
    told = sorted(shares.items(), key=lambda item: -item[1])
    parts: list[Part] = [
        row((fmt_pct(share, 1, width=7 if not at else 5), "value"), f" {name}")
        for at, (name, share) in enumerate(told)
        if not at or share >= _SEEN
    ]
    return parts


def _bytes(size: int | None) -> tuple[str, str]:
    """A size and its unit: ``48.2``, ``KiB``."""
    if size is None or size < 1024:
        return fmt_num(size), "B"
    return (fmt_num(size / 1024, 1), "KiB") if size < MIB else (fmt_num(size / MIB, 2), "MiB")


def file_rows(own: OwnCost | None, width: int) -> list[Row]:
    """What ds4top keeps, how large it is, and what it holds."""
    if own is None or not own.files:
        return []
    rows = [row(""), row((" WHAT DS4TOP KEEPS", "title"), (f"   in {own.folder}", "dim"))]
    widths = (16, 11, max(width - 31, 8))
    return [*rows, *(row("  ", columns(_file(each), widths, "<><")) for each in own.files)]


def _file(each: OwnFile) -> list[Part]:
    size = ("–", "dim") if each.size_bytes is None else (" ".join(_bytes(each.size_bytes)), "value")
    return [each.name, size, (each.holds, "dim")]


def setting_rows(config: Config, width: int) -> list[Row]:
    """Every setting of ds4top: value and where it came from; what it is, where there is room."""
    rows = [row(""), row((" SETTINGS OF DS4TOP", "title"), (f"   {config.path}", "dim"))]
    docs = {option.key: option.doc for option in OPTIONS}
    value = max((width - 24) // 2, 8)
    widths = (20, value, max(width - 24 - value, 8))
    section = ""
    for key, text, origin in shown(config):
        if key.partition(".")[0] != section:
            section = key.partition(".")[0]
            lines = wrap(SECTIONS[section], max(width - 3, 20))
            rows += [row((f"  {line}", "label")) for line in lines]
        set_here = origin != "default"
        cells: list[Part] = [
            key if section != "keys" else key.removeprefix("keys."),
            (text, "value" if set_here else "text"),
            (origin, "now" if set_here else "dim"),
        ]
        rows.append(row("  ", columns(cells, widths)))
        rows += [
            row((f"    {line}", "dim")) for line in wrap(docs.get(key, ""), max(width - 5, 20))
        ]
    return rows
