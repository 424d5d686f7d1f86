"""A plan, its progress and its outcome in words: for the confirmation, for commands, as JSON.

Field names of ``plan_json`` are those of ``ds4top.plan/1``. Secrets are masked here as well: a plan
holds the whole environment, and nothing of that leaves it but what changes.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Literal

from ds4top.core.plan import (
    Action,
    Outcome,
    Plan,
    Progress,
    WaitAnswer,
    WaitGone,
    WriteDropIn,
)
from ds4top.core.planback import back_of
from ds4top.core.secrets import MASK, is_secret, shown, shown_argv
from ds4top.core.units import fmt_duration, fmt_gib
from ds4top.view.owners import MODES, owner_words
from ds4top.view.text import UNICODE, Charset, Row, Span, clean, fit

Kind = Literal[
    "title", "refused", "label", "step", "same", "minus", "plus", "lost", "note", "cost", "confirm"
]
_STYLES: Mapping[str, str] = {
    "title": "title",
    "refused": "crit",
    "label": "label",
    "same": "dim",
    "minus": "remove",
    "plus": "add",
    "lost": "warn",
    "confirm": "warn",
}
_SIGNS: Mapping[str, str] = {"minus": "- ", "plus": "+ ", "same": "  ", "lost": "! "}
_VERBS: Mapping[Action, str] = {
    Action.RESTART: "Restart",
    Action.STOP: "Park (stop, and keep the way back)",
    Action.START: "Start",
    Action.KILL: "Kill",
}


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One line, without an end. ``kind`` says what it is, so that it can be styled."""

    kind: Kind
    text: str


def _mode(residency: str | None) -> str:
    return MODES.get(residency or "", residency or "unknown")


def _time(wall: float | None, tz: tzinfo | None) -> str | None:
    if wall is None:
        return None
    return datetime.fromtimestamp(wall, tz).astimezone(tz).isoformat(timespec="seconds")


def plan_json(
    plan: Plan, *, started_wall: float | None = None, tz: tzinfo | None = None
) -> dict[str, Any]:
    """``ds4top.plan/1``. ``started_wall``: when the target started (epoch seconds)."""
    target = plan.target
    return {
        "schema": "ds4top.plan/1",
        "action": plan.action.value,
        "target": None
        if target is None
        else {
            "pid": target.pid,
            "start_time": _time(started_wall, tz),
            "start_ticks": target.start_ticks,
            "boot_id": target.boot_id,
            "comm": target.comm,
        },
        "supervisor": {"kind": plan.supervisor.kind, "name": plan.supervisor.name},
        "steps": [step.words for step in plan.steps],
        "argv_before": _argv(plan.argv_before),
        "argv_after": _argv(plan.argv_after),
        "env_set": {name: shown(name, value) for name, value in plan.env_set},
        "env_unset": list(plan.env_unset),
        "residency_before": plan.residency_before,
        "residency_after": plan.residency_after,
        "lost": list(plan.lost),
        "notes": list(plan.notes),
        "start_s_estimate": plan.start_s_estimate,
        "start_s_origin": plan.start_s_origin,
        "headroom_after_bytes": plan.headroom_after_bytes,
        "confirm": plan.confirm,
        "refused": plan.refused,
    }


def _argv(argv: Sequence[str] | None) -> list[str] | None:
    return None if argv is None else list(shown_argv(argv))


def title(plan: Plan) -> str:
    """What is done to whom, in a line."""
    target, supervisor = plan.target, plan.supervisor
    who = f"{target.comm} {target.pid}" if target is not None else "the server"
    if target is None and (argv := plan.argv_after or plan.argv_before):
        who = argv[0].rsplit("/", 1)[-1]
    owner = owner_words(supervisor)
    switch = ""
    if plan.residency_after not in (None, plan.residency_before, "unknown"):
        switch = f", {_mode(plan.residency_before)} → {_mode(plan.residency_after)}"
    return f"{_VERBS[plan.action]}: {who} ({owner}){switch}"


def plan_lines(plan: Plan) -> list[PlanLine]:
    """All of a plan, in the order in which it is read."""
    return [*_lines(plan)]


def _lines(plan: Plan) -> Iterator[PlanLine]:
    yield PlanLine("title", title(plan))
    if plan.refused is not None:
        yield PlanLine("refused", f"Refused: {plan.refused}")
        return
    for what in plan.lost:
        yield PlanLine("lost", f"lost: {what}")
    yield from _costs(plan)
    for note in plan.notes:
        yield PlanLine("note", note)
    for fear in fears(plan):
        yield PlanLine("note", fear)
    yield PlanLine("label", "Steps")
    for number, step in enumerate(plan.steps, 1):
        yield PlanLine("step", f"{number}. {step.words}")
    yield from diff_lines(plan)
    for step in plan.steps:
        if isinstance(step, WriteDropIn):
            yield PlanLine("label", step.path)
            for line in step.text.splitlines():
                yield PlanLine("plus", _quiet(line))
    if plan.confirm is not None:
        how = "type KILL" if plan.confirm == "KILL" else f"type {plan.confirm}, or give --force"
        yield PlanLine("confirm", f"to go on: {how}")


def _quiet(line: str) -> str:
    """A line of a drop-in with its secrets masked."""
    found = re.match(r'Environment="([^=]+)=', line)
    if found is not None and is_secret(found[1]):
        return f'Environment="{found[1]}={MASK}"'
    if line.startswith("ExecStart=") and len(line) > len("ExecStart="):
        try:
            return "ExecStart=" + shlex.join(shown_argv(shlex.split(line[len("ExecStart=") :])))
        except ValueError:
            return "ExecStart=…"
    return line


def diff_lines(plan: Plan) -> Iterator[PlanLine]:
    """Command line and environment, before and after: only what differs."""
    before, after = _argv(plan.argv_before), _argv(plan.argv_after)
    if after is None:
        return
    if before is None or before == after:
        yield PlanLine("label", "Command line" + (", unchanged" if before == after else ""))
        yield PlanLine("same", shlex.join(after))
    else:
        yield PlanLine("label", "Command line")
        for kind, words in _changed(before, after):
            yield PlanLine(kind, shlex.join(words))
    if plan.env_set or plan.env_unset:
        yield PlanLine("label", "Environment")
        for name in plan.env_unset:
            yield PlanLine("minus", name)
        for name, value in plan.env_set:
            yield PlanLine("plus", f"{name}={shown(name, value)}")


def _changed(before: list[str], after: list[str]) -> Iterator[tuple[Kind, list[str]]]:
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            yield "same", before[a:b]
            continue
        if b > a:
            yield "minus", before[a:b]
        if d > c:
            yield "plus", after[c:d]


def _costs(plan: Plan) -> Iterator[PlanLine]:
    if plan.start_s_estimate is not None:
        how = f" ({plan.start_s_origin})" if plan.start_s_origin else ""
        yield PlanLine("cost", f"start-up: about {fmt_duration(plan.start_s_estimate)}{how}")
    if plan.headroom_after_bytes is not None:
        left = fmt_gib(plan.headroom_after_bytes, unit=True)
        yield PlanLine("cost", f"headroom after: about {left}")


def fears(plan: Plan) -> Iterator[str]:
    """What happens where it fails, in the order in which it may."""
    if plan.action is Action.KILL:
        return
    for number, step in enumerate(plan.steps):
        if isinstance(step, WaitGone):
            yield f"if it is not gone after {fmt_duration(step.grace_s)}: it is left so, not killed"
        elif isinstance(step, WaitAnswer):
            yield f"if it does not come up: {_way_back(plan, number)}"


def _way_back(plan: Plan, number: int) -> str:
    back = back_of(plan, number)
    if back is None:
        return "it stays down; how it was started is kept"
    mode = MODES.get(back.residency_after or "")
    usual = back.start_s_estimate
    took = f", about {fmt_duration(usual)}" if usual is not None else ""
    return "back to the last settings that worked" + (f": {mode}" if mode else "") + took


def line_text(line: PlanLine) -> str:
    """A line for standard output."""
    indent = "" if line.kind in ("title", "refused", "label", "confirm") else "  "
    return clean(f"{indent}{_SIGNS.get(line.kind, '')}{line.text}")


def plan_text(plan: Plan) -> str:
    """All of a plan for standard output."""
    return "\n".join(line_text(line) for line in plan_lines(plan))


def plan_rows(plan: Plan, width: int, charset: Charset = UNICODE) -> list[Row]:
    """All of a plan for the screen; a line that is too long goes on below, none is cut."""
    rows: list[Row] = []
    for line in plan_lines(plan):
        if line.kind == "confirm":
            # A screen asks in words of its own.
            continue
        text, style = line_text(line), _STYLES.get(line.kind, "text")
        for piece in _wrapped(text, max(width, 8)):
            rows.append(fit((Span(piece, style),), width, charset=charset))
    return rows


def _wrapped(text: str, width: int) -> Iterator[str]:
    indent = " " * min(len(text) - len(text.lstrip()) + 2, width // 2)
    while len(text) > width:
        at = text.rfind(" ", len(indent) + 1, width + 1)
        at = at if at > 0 else width
        yield text[:at].rstrip()
        text = indent + text[at:].lstrip()
    yield text


def progress_text(plan: Plan, progress: Progress, elapsed_s: float) -> str:
    """One line of progress; ``elapsed_s`` since its step was begun."""
    head = f"[{progress.step + 1}/{len(plan.steps)}] {progress.words}"
    tails = {
        "begun": "",
        "waiting": f" … {fmt_duration(elapsed_s)}",
        "done": " – done" + (f" in {fmt_duration(elapsed_s)}" if elapsed_s >= 1 else ""),
        "failed": " – failed",
    }
    return clean(head + tails[progress.state])


def outcome_lines(outcome: Outcome) -> list[PlanLine]:
    """How it ended: the reason and the last lines of the log where it failed."""
    pid = f" (pid {outcome.pid})" if outcome.pid is not None and outcome.done else ""
    lines = [PlanLine("title" if outcome.done else "refused", f"{outcome.words}{pid}")]
    if outcome.reason:
        lines.append(PlanLine("note", outcome.reason))
    if outcome.last_lines:
        lines.append(PlanLine("label", "Last lines of its log"))
        lines += [PlanLine("same", text) for text in outcome.last_lines]
    return lines


def outcome_text(outcome: Outcome) -> str:
    """The same for standard output."""
    return "\n".join(line_text(line) for line in outcome_lines(outcome))
