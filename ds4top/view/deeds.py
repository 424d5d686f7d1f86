"""An action while it goes on and how it ended: rows for the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap

from ds4top.core.deeds import VERBS, Deed, StepSeen
from ds4top.core.events import STAGES
from ds4top.core.keymap import Keys
from ds4top.core.model import Model
from ds4top.core.plan import (
    Action,
    PaneRespawn,
    PaneType,
    Plan,
    Run,
    Signal,
    Spawn,
    Step,
    WaitAnswer,
    WaitGone,
    WaitMemory,
)
from ds4top.core.state import Life, Phase
from ds4top.core.units import fmt_age, fmt_duration, fmt_gib, fmt_ms, fmt_tokens
from ds4top.view.owners import MODES
from ds4top.view.past import seconds_text
from ds4top.view.planview import outcome_lines, title
from ds4top.view.rates import RateBook
from ds4top.view.text import Row, bar, columns, row

_MARKS: Mapping[str, tuple[str, str]] = {
    "todo": ("·", "dim"),
    "begun": ("→", "now"),
    "done": ("✓", "ok"),
    "failed": ("✗", "crit"),
}
_STAMP_S = 1.0
"""A log's stamps are whole seconds."""
_BAR = 24
_STORES = 200
_ROOMY = 80
"""Columns from which on the keys are told in full."""


def _stops(step: Step) -> bool:
    return isinstance(step, Signal | WaitGone) or (isinstance(step, Run) and step.stops)


def _starts(step: Step) -> bool:
    kinds = Spawn | PaneRespawn | PaneType | WaitAnswer
    return isinstance(step, kinds) or (isinstance(step, Run) and step.starts)


def progress_rows(deed: Deed, model: Model, book: RateBook, now_t: float, width: int) -> list[Row]:
    """All of an action: its steps, what the log tells meanwhile, how it ended."""
    rows = [row((f" {line}", "title")) for line in wrap(title(deed.plan), max(width - 2, 10))]
    end_t = now_t if deed.ended_t is None else deed.ended_t
    rows += [_standing(deed, end_t), row("")]
    if deed.outcome is not None:
        rows += [*_ended(deed, width), row("")]
    for step, seen in zip(deed.plan.steps, deed.steps, strict=True):
        rows += _step(seen, now_t, width)
        rows += _meanwhile(deed, step, seen, model, book, now_t)
    return rows


def _standing(deed: Deed, end_t: float) -> Row:
    """How far it is and for how long, always in the same place."""
    at, of = (deed.at or 0) + 1, len(deed.steps)
    words = (f" step {at} of {of}", "now") if deed.outcome is None else f" step {at} of {of}"
    left = ("   ds4top waits for nothing any more", "warn") if deed.left else ""
    took = seconds_text(end_t - deed.begun_t)
    return row(words, ("   elapsed ", "label"), took, left if deed.outcome is None else "")


def _step(seen: StepSeen, now_t: float, width: int) -> Iterator[Row]:
    mark, style = _MARKS[seen.state]
    took = ""
    if seen.begun_t is not None:
        took_s = (now_t if seen.ended_t is None else seen.ended_t) - seen.begun_t
        took = seconds_text(took_s) if took_s >= 1 else ""
    room = max(width - 16, 10)
    text = "text" if seen.state in ("todo", "done") else style
    for number, line in enumerate(wrap(seen.words, room) or [""]):
        head = (f"  {mark} ", style) if number == 0 else ("    ", "text")
        tail = took if number == 0 else ""
        yield columns((row(head, (line, text)), (tail, "dim")), (width - 11, 9), "<>")


def _meanwhile(
    deed: Deed, step: Step, seen: StepSeen, model: Model, book: RateBook, now_t: float
) -> Iterator[Row]:
    """What is known of a step that goes on; of a drain also what it has saved."""
    begun = model.now - (now_t - deed.begun_t)
    if isinstance(step, WaitGone) and seen.state == "done":
        yield from _saved(model, begun)
    if seen.state != "begun" or deed.outcome is not None:
        return
    if _stops(step):
        yield from _drain(model, book, begun)
    elif isinstance(step, WaitMemory):
        sample = model.machine.memory.sample
        need = f" of {fmt_gib(step.need_bytes)} GiB" if step.need_bytes is not None else ""
        if sample is not None:
            yield _under(f"{fmt_gib(sample.available_bytes)}{need} available")
    elif _starts(step):
        yield from _rise(deed, model, now_t, begun)


def _under(*parts: object) -> Row:
    return row("      ", *parts)  # type: ignore[arg-type]


def _saved(model: Model, begun: float) -> Iterator[Row]:
    stores = [s for s in model.log.stores[-_STORES:] if s.reason == "shutdown"]
    for store in stores:
        if store.at is not None and store.at >= begun - _STAMP_S:
            size, took = f"{store.size_mib:,.1f} MiB", fmt_ms(store.save_ms)
            yield _under((f"saved {fmt_tokens(store.tokens)} tokens, {size}, in {took}", "ok"))


def _drain(model: Model, book: RateBook, begun: float) -> Iterator[Row]:
    log = model.log
    life, request = log.life, log.running
    if request is not None and request.phase is Phase.PREFILL:
        done, total = fmt_tokens(request.prefill_done_tokens), fmt_tokens(request.new_tokens)
        left = fmt_duration(book.eta_s(request))
        yield _under(f"a prefill is running, {done} of {total} tokens")
        yield _under((left, "now"), " left; it ends first")
    elif request is not None:
        generated = fmt_tokens(request.generated_tokens)
        yield _under(f"a request is in flight: {request.phase.value}, {generated} generated")
    if life is not None and life.persist_open:
        yield _under(("saving its KV cache", "now"))
    yield from _saved(model, begun)
    heard = log.heard_at
    if heard is not None:
        yield _under((f"last line of its log {fmt_age(max(model.now - heard, 0.0))} ago", "dim"))


def _rise(deed: Deed, model: Model, now_t: float, begun: float) -> Iterator[Row]:
    life = model.log.life
    starts = [s for p, s in zip(deed.plan.steps, deed.steps, strict=True) if _starts(p)]
    since = next((s.begun_t for s in starts if s.begun_t is not None), now_t)
    usual = deed.plan.start_s_estimate
    if life is not None and _is_new(life, begun):
        yield from _stage(life)
    if usual is not None:
        left, origin = usual - (now_t - since), deed.plan.start_s_origin or "an estimate"
        if left > 0:
            yield _under(("about ", "text"), (seconds_text(max(left, 1.0)), "now"), " left",
                         (f"   of {fmt_duration(usual)}: {origin}", "dim"))  # fmt: skip
        else:
            yield _under((f"longer than the {fmt_duration(usual)} of {origin}", "warn"))


def _is_new(life: Life, begun: float) -> bool:
    """Whether a life began after the action did."""
    at = life.engine_at if life.engine_at is not None else life.begun_at
    return not life.shutdown and at is not None and at >= begun - _STAMP_S


def _stage(life: Life) -> Iterator[Row]:
    if life.listened:
        yield _under(("listening", "ok"))
    elif life.stages:
        stage = life.stages[-1]
        words = STAGES.get(stage.stage, stage.stage)
        if stage.done_gib is None or not stage.total_gib:
            yield _under(words)
            return
        size = f"{stage.done_gib:.1f} of {stage.total_gib:.1f} GiB "
        yield _under(f"{words}  {size}", bar(stage.done_gib / stage.total_gib, _BAR))


def _ended(deed: Deed, width: int) -> Iterator[Row]:
    outcome = deed.outcome
    assert outcome is not None
    styles = {"title": "ok", "refused": "crit", "note": "text", "label": "label", "same": "dim"}
    for line in outcome_lines(outcome):
        indent = "   " if line.kind == "same" else " "
        for piece in wrap(line.text, max(width - 4, 10)) or [""]:
            yield row(indent, (piece, styles[line.kind]))
    if deed.back is not None:
        yield row((" Back to the last settings that worked", "title"), _back_mode(deed.back))
        yield from _back_steps(deed.back, width)


def _back_mode(back: Plan) -> Row:
    """What the way back brings, and how long that takes."""
    mode, usual = MODES.get(back.residency_after or ""), back.start_s_estimate
    took = f"about {fmt_duration(usual)}" if usual is not None else ""
    said = ", ".join(words for words in (mode, took) if words)
    return row((f": {said}" if said else "", "text"))


def _back_steps(plan: Plan, width: int) -> Iterator[Row]:
    for number, step in enumerate(plan.steps, 1):
        for at, piece in enumerate(wrap(step.words, max(width - 8, 10)) or [""]):
            yield row(f"  {number}. " if at == 0 else "     ", piece)


def keys_row(deed: Deed, width: int, keys: Keys, *, startable: bool) -> Row:
    """What can be done now, for the last line."""
    if deed.goes_on:
        return row(" ", (keys["app.cancel"], "key"), " hides this; it goes on")
    parts: list[Row] = []
    if deed.back is not None:
        where = " to the last settings that worked" if width >= _ROOMY else ""
        parts.append(row(("b", "key"), f" goes back{where}"))
    elif not deed.outcome.done and startable:  # type: ignore[union-attr]
        parts.append(row((keys["server.start"], "key"), " starts it again"))
    if still_there(deed):
        parts.append(row((keys["server.signal"], "key"), " signals"))
    parts.append(row((keys["app.cancel"], "key"), " closes"))
    out = row(" ")
    for part in parts:
        out = row(out, part, "   ")
    return out


def still_there(deed: Deed) -> bool:
    """Whether it failed because the server did not end."""
    at = deed.outcome.failed_step if deed.outcome is not None else None
    return at is not None and _stops(deed.plan.steps[at])


def left_words(deed: Deed, keys: Keys) -> str:
    """What becomes of an action that ds4top leaves now."""
    plan, at = deed.plan, deed.at
    begun = plan.steps[: (at or 0) + 1] if at is not None else ()
    if any(_starts(step) for step in begun):
        return "The start goes on by itself; the next ds4top tells how it ended."
    if any(_stops(step) for step in begun):
        words = "The server was told to stop: it drains, saves its KV cache and ends by itself."
        if plan.action is Action.RESTART:
            start = keys["server.start"]
            words += (
                f" Nobody starts it again then: ds4top start does, or {start} on the next screen."
            )
        return words
    return "Nothing was done to the server yet."


def leave_rows(deed: Deed, width: int, keys: Keys, *, demo: bool = False) -> list[Row]:
    """The question when ds4top is to end while it acts. ``demo``: its server ends too."""
    at = (deed.at or 0) + 1
    verb = VERBS[deed.plan.action]
    words = f"{verb} is in step {at} of {len(deed.steps)}: {deed.steps[at - 1].words}."
    rows = [row((f" {verb.upper()} GOES ON", "title")), row("")]
    end = "The demo's server ends with it." if demo else left_words(deed, keys)
    for text in (words, "If ds4top ends now: " + end):
        rows += [row(" ", piece) for piece in wrap(text, max(width - 2, 10))]
        rows.append(row(""))
    return rows
