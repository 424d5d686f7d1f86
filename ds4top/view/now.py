"""The panel of now: the running request, or what the server is doing instead."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

from ds4top.core.alert_rules import SLOW_RATIO
from ds4top.core.classify import cold_cause, heat_of
from ds4top.core.derive import ServerState, Status
from ds4top.core.events import STAGES
from ds4top.core.model import Model
from ds4top.core.state import End, Phase, Request
from ds4top.core.units import (
    count_of,
    fmt_age,
    fmt_duration,
    fmt_k,
    fmt_pct,
    fmt_ratio,
    fmt_tokens,
    fmt_tps,
)
from ds4top.view.acting import start_row
from ds4top.view.coldstart import start_rows
from ds4top.view.look import Look
from ds4top.view.mend import mend_of, mend_rows, poison_of
from ds4top.view.rates import RateBook
from ds4top.view.requests import CAUSES
from ds4top.view.text import Row, bar, columns, pack, row, row_width

_LABEL = 11
_FIGURE, _TIME, _RATIO = 7, 8, 6
"""Cells of a figure, so that what follows it keeps its place: ``131,072``, ``1 h 05 m``."""


def shown_request(model: Model, look: Look) -> Request | None:
    """The running request, else the last; ``look.history`` steps back from it."""
    log = model.log
    if look.history and len(log.requests) > look.history:
        return log.requests[-1 - look.history]
    return log.running or log.last_request


def context_limit(model: Model) -> int | None:
    """Tokens of the context window, from the start-up line."""
    life = model.log.life
    return life.buffers.ctx_tokens if life is not None and life.buffers is not None else None


def context_share(model: Model) -> float | None:
    """Share of the window that the newest request uses."""
    request = model.log.running or model.log.last_request
    limit = context_limit(model)
    if request is None or not limit:
        return None
    return max(request.context_tokens, request.prompt_tokens) / limit


def labelled(label: str, *parts: object, style: str = "text") -> Row:
    """A line of the panel: its label in a column of its own."""
    return row((f" {label:<{_LABEL - 1}}", "label"), *parts, style=style)  # type: ignore[arg-type]


def title_of(request: Request, status: Status, look: Look) -> str:
    """The request in a few words."""
    words = [request.api]
    if request.tools:
        words.append("tools")
    if request.thinking_now and request.is_open:
        words.append("thinking")
    return ", ".join(words)


def class_words(request: Request, causes: Mapping[str, str] | None = None) -> Row:
    """Hot, cold or short, how much of the prompt was reused, and why a cold one was cold."""
    name = heat_of(request)
    share = request.reuse_ratio
    text = f"{name} {fmt_pct(share, width=5)}" if name != "short" and share else str(name)
    cause = cold_cause(request)
    return row((text, name), f", {(causes or _CAUSES)[cause]}" if cause else "")


_CAUSES = {
    "evicted": "its checkpoint was evicted",
    "first_after_start": "first after a start",
    "partial": "only a part was cached",
    "new_prefix": "new prefix",
    "shortened": "the prompt got shorter",
    "diverged": "the history differs",
}


def now_rows(
    model: Model, status: Status, look: Look, book: RateBook, width: int
) -> tuple[Row, ...]:
    """Up to nine rows; the same figures stand in the same places while a request runs."""
    rows = _now_rows(model, status, look, book, width)
    if look.history:
        return rows
    # Under the title, where it is seen first: nothing else can be done then.
    starts = start_row(model, width)
    first = [*end_rows(model, width), *([starts] if starts else [])]
    return (*rows[:1], *first, *rows[1 : 9 - len(first)]) if first else rows


def end_rows(model: Model, width: int) -> list[Row]:
    """How the last life ended, by the black box; nothing once a server runs again."""
    found = model.machine.autopsy
    if found is None or model.machine.server is not None:
        return []
    headline, *told = found.lines
    known = (f"{found.evidence}; 4 tells more", "dim")
    return [
        pack([row(" ", (headline, "crit")), known], width, gap=2),
        pack([row(" ", told[0]), *told[1:2]], width, gap=2),
    ]


def _now_rows(
    model: Model, status: Status, look: Look, book: RateBook, width: int
) -> tuple[Row, ...]:
    request = shown_request(model, look)
    if status.state is ServerState.LOADING:
        return start_rows(model, status, width, look)
    if status.state is ServerState.FAILED:
        return failed_rows(model, status, width, look)
    if status.state is ServerState.POISONED and not look.history:
        return tuple(mend_rows(poison_of(status.why), width, _LABEL))
    if request is None:
        return _empty_rows(model, status, width)
    rows = [
        _title_row(model, request, status, look, width),
        *_context_rows(model, request, width, look),
    ]
    if request.phase is Phase.PREFILL and request.is_open:
        rows += _prefill_rows(request, status, book, width, look)
    else:
        rows += _decode_rows(model, request, status, book)
        if status.state is ServerState.IDLE and not look.history:
            rows.append(_next_turn(request, book))
    return tuple(rows)


def _next_turn(request: Request, book: RateBook) -> Row:
    """What the next turn of this conversation finds, and what a cold one would cost."""
    held = request.context_tokens
    cold = None if book.prefill is None else book.prefill.integrate(0, held)
    price = f"; cold it would take {fmt_duration(cold)}" if cold is not None else ""
    return labelled("next turn", f"{fmt_k(held)} in memory: hot{price}")


def _title_row(model: Model, request: Request, status: Status, look: Look, width: int) -> Row:
    if look.history:
        word = "HISTORY"
    elif request.is_open and status.last_known:
        word = f"LAST KNOWN: {request.phase.value.upper()}"
    elif request.is_open:
        word = status.state.value.upper() if status.state is not ServerState.LOOKUP else "LOOKUP"
    else:
        word = "LAST TURN"
    left = row((f" {word}", "title"), f"   {title_of(request, status, look)}")
    right = f"turn {request.number:<4}"
    if status.state is ServerState.IDLE and not look.history:
        idle = model.now - status.since if status.since is not None else None
        right = f"idle {fmt_age(idle)}   {right}"
    return columns((left, (right, "dim")), (max(width - len(right) - 2, 8), len(right)), "<>")


def _context_rows(model: Model, request: Request, width: int, look: Look) -> list[Row]:
    limit = context_limit(model)
    used = max(request.context_tokens, request.prompt_tokens)
    if limit is None:
        return [
            labelled("context", (fmt_tokens(used), "value"), " tokens, limit not in the log"),
            labelled(""),
            labelled("prefill", _prompt_words(request, width)),
        ]
    share = used / limit
    style = "bar" if share < 0.8 else "bar-warn" if share < 0.95 else "bar-crit"
    text = f"{fmt_tokens(used, width=_FIGURE)} of {fmt_tokens(limit)} "
    cells = max(width - _LABEL - len(text) - 8, 4)
    left = max(limit - used, 0)
    turns = _turns_left(model, left)
    about = f", about {count_of(turns, 'turn'):>9} like today's" if turns is not None else ""
    return [
        labelled(
            "context",
            (text, "value"),
            bar(min(share, 1.0), cells, look.charset, style),
            f" {fmt_pct(share):>5}",
        ),
        labelled("", f"{fmt_tokens(left, width=_FIGURE)} left{about}"),
        labelled("prompt", _prompt_words(request, width)),
    ]


def _turns_left(model: Model, left: int) -> int | None:
    """How many turns of the usual growth still fit."""
    recent = model.log.requests[-40:]
    growth = sorted(
        r.new_tokens + r.generated_tokens
        for r in recent
        if r.cached_tokens and r.end is End.COMPLETED
    )
    if len(growth) < 3:
        return None
    usual = growth[len(growth) // 2]
    return left // usual if usual else None


def _prompt_words(request: Request, width: int) -> Row:
    counts = row(
        (fmt_tokens(request.new_tokens, width=_FIGURE), "value"),
        " new + ",
        (fmt_tokens(request.cached_tokens, width=_FIGURE), "value"),
        " cached   ",
    )
    words = class_words(request)
    if _LABEL + row_width(counts) + row_width(words) > width:
        words = class_words(request, CAUSES)
    return row(counts, words)


def _prefill_rows(
    request: Request, status: Status, book: RateBook, width: int, look: Look
) -> list[Row]:
    done, total = request.prefill_done_tokens, request.new_tokens
    share = done / total if total else None
    eta = None if status.last_known else book.eta_s(request)
    cells = max(width - _LABEL - 8, 4)
    rate = fmt_tps(request.prefill_tps, unit=True, width=11)
    quiet = row((f"age {fmt_age(status.quiet_s)}", "stale" if status.last_known else "dim"))
    source = "prefill line of this log" if book.prefill is not None else "mean rate so far"
    return [
        labelled(
            "PREFILL",
            (f"{fmt_tokens(done, width=_FIGURE)} of {fmt_tokens(total, width=_FIGURE)}", "now"),
            f" {rate}   ",
            quiet,
        ),
        labelled("", bar(share, cells, look.charset), f" {fmt_pct(share):>5}"),
        labelled(
            "ends in", (fmt_duration(eta, width=_TIME), "now"), (f"   by the {source}", "dim")
        ),
        labelled("so far", fmt_duration(request.prefill_elapsed_s, width=_TIME)),
    ]


def _decode_rows(model: Model, request: Request, status: Status, book: RateBook) -> list[Row]:
    expected = book.expected(max(request.context_tokens, 1))
    live = request.is_open
    age = model.now - request.sample_at if request.sample_at is not None else None
    when = f"age {fmt_age(age)}" if live else _ended(request)
    rate_style = "now" if live and not status.last_known else "value"
    rate = fmt_tps(request.decode_tps, width=_FIGURE)
    ratio = None
    if expected is not None and request.decode_tps:
        ratio = request.decode_tps / expected.tps
    if expected is None:
        want = row(("no reference at this context", "dim"))
    else:
        want = row(
            (fmt_tps(expected.tps, width=_FIGURE), "value"),
            f" at {fmt_k(request.context_tokens, width=4)}   ",
            (expected.source, "dim"),
        )
    return [
        labelled(
            "TTFT",
            (fmt_duration(request.ttft_s, width=_TIME), "value"),
            "   generated ",
            (fmt_tokens(request.generated_tokens, width=_FIGURE), "value"),
            " tok",
        ),
        labelled(
            "decode",
            (rate, rate_style),
            f" tok/s {'now' if live else 'last'}   ",
            (fmt_tps(request.decode_mean_tps, width=5), "value"),
            " mean   ",
            (when, "stale" if status.last_known else "dim"),
        ),
        labelled("expected", want),
        labelled("", verdict(ratio)),
    ]


def _ended(request: Request) -> str:
    word = request.finish if request.end is End.COMPLETED else request.end.value
    return f"{word}, {fmt_duration(request.duration_s)}" if request.duration_s else str(word)


def verdict(ratio: float | None) -> Row:
    """Whether a rate is normal, in words and with the figure."""
    if ratio is None:
        return row(("not judged yet", "dim"))
    if ratio < SLOW_RATIO:
        return row((f"{fmt_ratio(ratio, width=_RATIO)}  slow", "warn"))
    word = "faster than expected" if ratio > 1.25 else "normal"
    return row((f"{fmt_ratio(ratio, width=_RATIO)}  {word}", "ok"))


def failed_rows(model: Model, status: Status, width: int, look: Look) -> tuple[Row, ...]:
    """A start that failed: title first, then why and how far it came."""
    life = model.log.life
    assert life is not None
    rows = [row((f" {status.state.value.upper()}", "title"))]
    rows += [labelled("", (line, "crit")) for line in wrap(status.why, max(width - _LABEL - 1, 20))]
    if life.device:
        rows.append(labelled("device", f"{life.device}  {life.sm or ''}"))
    for stage in life.stages[-5:]:
        words = STAGES.get(stage.stage, stage.stage)
        done = f"{stage.done_gib:.2f} GiB" if stage.done_gib is not None else ""
        total = f" of {stage.total_gib:.2f} GiB" if stage.total_gib is not None else ""
        took = f" in {fmt_duration(stage.elapsed_s)}" if stage.elapsed_s is not None else ""
        rows.append(labelled("", f"{words} {done}{total}{took}"))
        if stage.done_gib is not None and stage.total_gib:
            cells = max(width - _LABEL - 8, 4)
            rows.append(labelled("", bar(stage.done_gib / stage.total_gib, cells, look.charset)))
    return tuple(rows[:9])


def _empty_rows(model: Model, status: Status, width: int) -> tuple[Row, ...]:
    life = model.log.life
    if (missing := mend_of(model)) is not None:
        return tuple(mend_rows(missing, width, _LABEL))
    if life is None:
        return (
            row((" WAITING", "title"), "   no line of ds4-server in this log yet"),
            labelled("log", model.source),
            labelled("lines", fmt_tokens(model.lines)),
        )
    idle = model.now - life.listening_at if life.listening_at is not None else None
    return (
        row((f" {status.state.value.upper()}", "title"), "   no request yet"),
        labelled("since", fmt_duration(idle)),
        labelled("context", f"{fmt_tokens(context_limit(model))} tokens"),
    )
