"""A start that goes on, as rows: stage, bytes, rate, its end, and what the last ones took here."""

from __future__ import annotations

from ds4top.core.coldstart import REFERENCE_S, WORDS, ColdStart, cold_start
from ds4top.core.derive import Status
from ds4top.core.events import STAGES
from ds4top.core.memory import GIB
from ds4top.core.model import Model
from ds4top.core.units import DASH, fmt_age, fmt_duration, fmt_gib, fmt_num, fmt_pct
from ds4top.view.look import Look
from ds4top.view.text import Row, bar, columns, pack, row

_LABEL = 11
_FEW_CELLS = 4


def _labelled(label: str, *parts: object) -> Row:
    return row((f" {label:<{_LABEL - 1}}", "label"), *parts)  # type: ignore[arg-type]


def _amount(start: ColdStart) -> str:
    """How much of how much."""
    of = fmt_gib(start.total_bytes, unit=True)
    return of if start.done_bytes is None else f"{fmt_gib(start.done_bytes, width=4)} of {of}"


def _weights(start: ColdStart, width: int, look: Look) -> Row:
    if start.done_bytes is None:
        return row((_amount(start), "value"), ("   how much is loaded is not told", "dim"))
    text = f"{_amount(start)} "
    cells = max(width - len(text) - 8, _FEW_CELLS)
    share = start.share
    return row((text, "value"), bar(share, cells, look.charset), f" {fmt_pct(share):>5}")


def _rate(start: ColdStart) -> Row:
    if start.bytes_per_s is None:
        return row((DASH, "dim"), (f"   by {start.source}" if start.source else "", "dim"))
    rate = fmt_num(start.bytes_per_s / GIB, 2, "GiB/s")
    mean = ", the mean so far" if start.is_mean else ""
    return row((rate, "value"), (f"   by {start.source}{mean}", "dim"))


def _end(start: ColdStart) -> Row:
    words = f"   {start.eta_from}" if start.eta_from else ""
    return row((fmt_duration(start.eta_s), "now"), (words, "dim"))


def last_words(start: ColdStart, model: Model) -> str:
    """Both ways of starting: what the last took on this machine, else what a Spark takes."""
    known = [WORDS[residency] for residency in WORDS if residency in start.last]
    said = []
    for residency, name in WORDS.items():
        past = start.last.get(residency)
        took_s = past.load_s if past is not None else REFERENCE_S[residency] / model.speed
        mark = " (a Spark's)" if past is None and known else ""
        said.append(f"{name} {fmt_duration(took_s)}{mark}")
    return ", ".join(said) + ("" if known else ", a Spark's")


def _done(model: Model) -> str:
    """Stages that are over and said how long they took."""
    life = model.log.life
    return ", ".join(
        f"{STAGES.get(stage.stage, stage.stage)} {fmt_duration(stage.elapsed_s)}"
        for stage in (life.stages if life else ())
        if stage.finished and stage.elapsed_s is not None
    )


def _quiet(model: Model) -> str:
    life = model.log.life
    if life is None or life.stage_heard_at is None:
        return ""
    return f"   no line for {fmt_age(max(model.now - life.stage_heard_at, 0.0))}"


def start_rows(model: Model, status: Status, width: int, look: Look) -> tuple[Row, ...]:
    """The panel of now while a server loads; nothing of one that does not."""
    start = cold_start(model, status)
    if start is None:
        return ()
    life = model.log.life
    right = WORDS.get(start.residency, start.residency)
    title = columns(
        (row((" COLD START", "title"), f"   {start.stage}"), (right, "value")),
        (max(width - len(right) - 2, 8), len(right)),
        "<>",
    )
    rows = [
        title,
        _labelled("weights", _weights(start, width - _LABEL, look)),
        _labelled("rate", _rate(start)),
        _labelled("ends in", _end(start)),
        _labelled("so far", (fmt_duration(start.elapsed_s), "value"), (_quiet(model), "dim")),
        _labelled("last", last_words(start, model)),
    ]
    if done := _done(model):
        rows.append(_labelled("done", (done, "dim")))
    if life is not None and life.device:
        rows.append(_labelled("device", f"{life.device}  {life.sm or ''}"))
    return tuple(rows)


def compact_start(model: Model, status: Status, width: int, look: Look) -> tuple[Row, ...]:
    """The same in four rows of a small terminal."""
    start = cold_start(model, status)
    if start is None:
        return ()
    end = row("ends in ", _end(start)[0])
    so_far = row("so far ", (fmt_duration(start.elapsed_s), "value"))
    return (
        row(f" {start.stage}   ", (WORDS.get(start.residency, start.residency), "value")),
        row(" ", _weights(start, width - 1, look)),
        row(" ", pack([_rate(start)[0], end, so_far], width - 1)),
        row(" last ", last_words(start, model)),
    )


def start_section(model: Model, status: Status, width: int, look: Look) -> list[Row]:
    """What the Memory and Launch views have of it, below an empty row."""
    rows = start_rows(model, status, min(width, 100), look)
    return [row(""), *rows] if rows else []
