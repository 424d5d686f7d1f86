"""The report for people: what an owner would post about a day of his server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from math import log2
from typing import NamedTuple

from ds4top.core.classify import CAUSE_WORDS, Cause, Heat
from ds4top.core.figures import Bin, Bucket, Report, divergences, percentile
from ds4top.core.state import End
from ds4top.core.units import (
    count_of,
    fmt_duration,
    fmt_gib,
    fmt_k,
    fmt_ms,
    fmt_pct,
    fmt_seconds,
    fmt_tokens,
    fmt_tps,
)
from ds4top.view.axes import token_ticks, value_ticks
from ds4top.view.text import ASCII, UNICODE, Charset, bar, clean, row_text

_BAR_CELLS = 24
_SCATTER_POINTS = 400
_FRAME_ROWS, _GUTTER = 4, 8
"""Of a chart, what is not plot: its frame, ticks and names; its left side."""
CHART_ROWS = 16
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
Table = Sequence[Sequence[str]]


class Section(NamedTuple):
    """A heading, sentences, and a table whose first row is its head (it may be empty)."""

    title: str
    sentences: tuple[str, ...]
    table: Table = ()


def when(at: float | None, tz: tzinfo | None) -> str:
    """A time for people: ``Tue 24 Nov 2026 18:25``."""
    if at is None:
        return "unknown"
    moment = datetime.fromtimestamp(at, tz) if tz else datetime.fromtimestamp(at).astimezone()
    return moment.strftime("%a %d %b %Y %H:%M")


def _seconds(found: Bin) -> str:
    if found.to_s is None:
        return f"over {found.from_s:g} s"
    return f"{found.from_s:g}–{found.to_s:g} s"


def headline(report: Report) -> tuple[str, ...]:
    """The day in three sentences."""
    counts = report.requests
    if not counts.total:
        return ("No request begins in this log.",)
    ends = [count_of(counts.ends[end], str(end), str(end)) for end in End if counts.ends[end]]
    done = len(report.durations_s)
    reuse = fmt_pct(report.reuse_ratio)
    lines = [
        f"{count_of(counts.total, 'request')}: {', '.join(ends)}; "
        f"{count_of(counts.finish['tool_calls'], 'tool completion')}, "
        f"{count_of(counts.tool_calls, 'tool call')}.",
        f"Mean context {fmt_tokens(report.prompt_tokens_mean)} tokens, largest "
        f"{fmt_tokens(counts.prompt_max)}; {reuse} of all prompt tokens came from a cache.",
    ]
    if done:
        most = max(report.bins, key=lambda b: b.count)
        middle, p90 = (fmt_duration(percentile(report.durations_s, q)) for q in (0.5, 0.9))
        lines.append(
            f"A turn took {middle} in the middle and {p90} at the 90th percentile; "
            f"{fmt_pct(most.share)} took {_seconds(most)}."
        )
    return tuple(lines)


def _bar(share: float, charset: Charset) -> str:
    # Blank beyond the bar: a table is read by lengths, a track would only be noise.
    drawn = row_text(bar(share, _BAR_CELLS, charset))
    return drawn.replace(charset.track, " ").rstrip()


def _rates(buckets: Sequence[Bucket], charset: Charset) -> Table:
    top = max((b.median_tps for b in buckets), default=1.0) or 1.0
    head = ("context", "samples", "p10", "median tok/s", "p90", "")
    return (
        head,
        *(
            (
                f"{b.from_tokens:,}–{b.to_tokens:,}",
                f"{b.samples:,}",
                fmt_tps(b.p10_tps),
                fmt_tps(b.median_tps),
                fmt_tps(b.p90_tps),
                _bar(b.median_tps / top, charset),
            )
            for b in buckets
        ),
    )


def _counted(found: Mapping[str, int], words: Mapping[str, str] | None = None) -> str:
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{(words or {}).get(name, name)} {count:,}" for name, count in ordered)


def _decode(report: Report, charset: Charset) -> Section:
    sentences = []
    if (fit := report.decode_fit) is not None:
        rates = (
            f"{fmt_tps(fit.tps(context))} at {context // 1024}K"
            for context in (4_096, 16_384, 65_536, 131_072)
            if context <= 2 * fit.to_tokens
        )
        sentences.append(
            f"A line through {count_of(fit.samples, 'sample')}: {fit.a_ms:.1f} ms + "
            f"{fit.b_ms * 1000:.3f} ms per 1,000 tokens of context, so {', '.join(rates)} tok/s."
        )
    return Section("Decode against context", tuple(sentences), _rates(report.decode, charset))


def _durations(report: Report, charset: Charset) -> Section:
    top = max((b.share for b in report.bins), default=0.0) or 1.0
    rows = [
        (
            _seconds(b),
            f"{b.count:,}",
            fmt_pct(b.share),
            _bar(b.share / top, charset),
        )
        for b in report.bins
    ]
    note = "Of the completed ones; without the wait in the queue, evict saves and disk loads."
    return Section("How long turns took", (note,), (("took", "turns", "share", ""), *rows))


_HEAT_WORDS = {
    Heat.HOT: "hot (half of the prompt or more from a cache)",
    Heat.COLD: "cold",
    Heat.SHORT: "short (below 2,048 tokens)",
}


def _speed(report: Report) -> Section:
    rows = [
        (
            _HEAT_WORDS[heat],
            f"{found.count:,}",
            fmt_seconds(found.median_s),
            fmt_seconds(found.min_s),
            fmt_seconds(found.max_s),
        )
        for heat, found in report.speed.items()
    ]
    causes = report.requests.cold_causes
    words = {str(cause): CAUSE_WORDS[cause] for cause in Cause}
    why = sorted(causes.items(), key=lambda item: -item[1])
    sentences = tuple(f"Cold {count:,} x: {words.get(name, name)}." for name, count in why)
    head = ("", "turns", "median", "fastest", "slowest")
    return Section("Hot against cold", sentences, (head, *rows))


def _cache(report: Report) -> Section:
    cache, counts = report.cache, report.requests
    lines = [
        f"Prompts found in memory {cache.live_hits:,}, on disk {cache.disk_hits:,}, nowhere "
        f"{cache.misses:,}: {fmt_k(counts.cached_tokens)} tokens reused, "
        f"{fmt_k(counts.prefilled_tokens)} computed.",
    ]
    if cache.seconds_saved is not None:
        lines.append(
            f"By this log's own prefill rates the disk saved {fmt_duration(cache.seconds_saved)}"
            f" and memory {fmt_duration(cache.seconds_saved_live)}."
        )
    if cache.disk_hits:
        lines.append(
            f"A disk hit brought {fmt_tokens(cache.hit_tokens_median)} tokens in "
            f"{fmt_ms(cache.load_ms_median)} (medians; slowest {fmt_ms(cache.load_ms_max)})."
        )
    if cache.stores or cache.evictions:
        lines.append(
            f"Stored {cache.stores:,} ({_counted(cache.store_reasons)}), "
            f"{fmt_gib(cache.stored_bytes, 2, unit=True)} written; evicted {cache.evictions:,}."
        )
    if cache.live_misses:
        lines.append(f"Memory did not fit {cache.live_misses:,} x: {_counted(cache.miss_reasons)}.")
    return Section("What the KV cache saved", tuple(lines))


def _turns(report: Report) -> Iterable[Section]:
    places = divergences(report.requests.diverged_at)
    if places:
        lines = []
        for place in places[:5]:
            span = fmt_tokens(place.from_tokens)
            if place.to_tokens != place.from_tokens:
                span += f"–{fmt_tokens(place.to_tokens)}"
            lines.append(f"{place.count:,} x after token {span}")
        if places[0].count >= 3:
            lines.append("The same place again and again: the client changes its prompt there.")
        yield Section("Where histories diverged", tuple(lines))
    if report.jumps:
        said = "Turns that added more than 16,384 tokens (a tool's output?): "
        rows = [
            (when(j.at, report.tz), fmt_tokens(j.added_tokens), fmt_tokens(j.prompt_tokens))
            for j in report.jumps
        ]
        head = ("began", "added", "prompt")
        yield Section("Jumps", (f"{said}{report.requests.jump_count:,}.",), (head, *rows))


def _server(report: Report) -> Section:
    server = report.tally.server
    lines = [
        f"{count_of(server.starts, 'start')}, {count_of(server.failed_starts, 'failed start')}, "
        f"{count_of(server.clean_stops, 'clean stop')}, "
        f"{count_of(server.unclean_stops, 'unclean stop')}."
    ]
    lines += [f"Failed start, {count:,} x: {why}" for why, count in server.failures.most_common(8)]
    lines += [f"While serving, {count:,} x: {why}" for why, count in server.deaths.most_common(8)]
    lines += [
        f"Failed request, {count:,} x: {why}"
        for why, count in report.requests.failures.most_common(8)
    ]
    return Section("Server", tuple(lines))


def sections(report: Report, charset: Charset = UNICODE) -> list[Section]:
    """Everything but the headline, in the order in which it is read."""
    found = []
    if report.decode:
        found.append(_decode(report, charset))
    if report.durations_s:
        found += [_durations(report, charset), _speed(report)]
    if report.requests.total:
        found.append(_cache(report))
    found += _turns(report)
    if report.prefill:
        table = _rates(report.prefill, charset)
        found.append(Section("Prefill against context", (), table))
    found.append(_server(report))
    unknown = [f"{n.name}: {n.detail}" for n in report.sources if n.state != "ok"]
    source = report.source
    lines = f"{count_of(source.lines, 'line')} read, {source.unrecognised_lines:,} not known."
    found.append(Section("What could not be known", (lines, *unknown)))
    return found


def title(report: Report) -> str:
    """The first line: the stretch of time and how long it is."""
    if report.first_at is None or report.last_at is None:
        return "ds4-server"
    span = f"{when(report.first_at, report.tz)} – {when(report.last_at, report.tz)}"
    return f"ds4-server, {span} ({fmt_duration(report.last_at - report.first_at)})"


def chart(
    report: Report, width: int, charset: Charset = UNICODE, height: int = CHART_ROWS
) -> list[str]:
    """Decode samples against context as a scatter plot; nothing where there are too few."""
    contexts, rates = report.tally.decode.context, report.tally.decode.tps
    if len(rates) < 2 or len(set(report.decode)) < 2:
        return []
    try:
        import plotext as plt
    except ImportError:
        return []
    step = max(1, len(rates) // _SCATTER_POINTS)
    plt.clear_figure()
    plt.theme("clear")
    # Else it is cut to the terminal's size, or to 24 rows where there is none.
    plt.limitsize(False, False)
    across = min(width, 100)
    plt.plotsize(across, height)
    marker = "braille" if charset.braille else "x"
    plt.scatter([log2(max(c, 1)) for c in contexts[::step]], list(rates[::step]), marker=marker)
    # Its own ticks are the ends and even parts between, of no round number.
    low, high, values = value_ticks(0.0, max(rates), height - _FRAME_ROWS)
    plt.ylim(low, high)
    plt.yticks([tick.value for tick in values], [tick.label for tick in values])
    least, most = max(min(contexts), 1), max(*contexts, 2)
    tokens = token_ticks(least, most, across - _GUTTER, is_log=True)
    plt.xticks([log2(tick.value) for tick in tokens], [tick.label for tick in tokens])
    plt.xlabel("context, tokens")
    plt.ylabel("decode tok/s")
    drawn = [line.rstrip() for line in plt.uncolorize(plt.build()).splitlines()]
    plt.clear_figure()
    return [clean(line, charset) for line in drawn]


def aligned(table: Table) -> list[str]:
    """A table as lines, its numbers under each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    numbers = range(1, len(widths))
    lines = []
    for cells in table:
        parts = [cells[0].ljust(widths[0])]
        for index in numbers:
            is_bar = index == len(widths) - 1 and not table[0][index]
            parts.append(cells[index] if is_bar else cells[index].rjust(widths[index]))
        lines.append("  ".join(parts).rstrip())
    return lines


def render(
    report: Report, *, colour: bool = False, width: int = 80, ascii_only: bool = False
) -> str:
    """The report as text, ``colour`` with bold headings for a terminal."""
    charset = ASCII if ascii_only else UNICODE
    bold, dim, plain = (_BOLD, _DIM, _PLAIN) if colour else ("", "", "")
    out = [f"{bold}{clean(title(report), charset)}{plain}"]
    out += [f"{dim}{clean(path, charset)}{plain}" for path in report.source.paths]
    out += ["", *(clean(line, charset) for line in headline(report))]
    for index, section in enumerate(sections(report, charset)):
        out += ["", f"{bold}{section.title}{plain}"]
        out += [f"  {clean(line, charset)}" for line in section.sentences]
        out += [f"  {clean(line, charset)}" for line in aligned(section.table) if section.table]
        if index == 0 and report.decode:
            out += [f"  {line}" for line in chart(report, width - 2, charset)]
    return "\n".join(out) + "\n"
