"""What the Launch view has more of where the screen is large: command line, process, every rule."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import datetime
from textwrap import wrap

from ds4top.core.lint import RULES, Finding
from ds4top.core.model import Model
from ds4top.core.process import ServerProcess
from ds4top.core.state import Life
from ds4top.core.units import count_of, fmt_duration, fmt_gib, fmt_tokens
from ds4top.view.launch import MARKS, STYLES, findings_seen
from ds4top.view.text import Row, fit, row

_RULE = 20
_LABEL = 14


def more_rows(model: Model, width: int) -> list[Row]:
    """The process and its command line, the stages of each start, then the rules."""
    server = model.machine.server
    rows = [*_command(server, width), *_process(server, model, width)] if server else []
    return [*rows, *_stages(model, width), *_rules(findings_seen(model), width)]


def _command(server: ServerProcess, width: int) -> list[Row]:
    """Whole, as it could be typed; values that are secret are masked."""
    if not server.argv:
        return []
    lines = wrap(shlex.join(server.argv), max(width - 5, 20), break_on_hyphens=False)
    return [
        row(""),
        row((" COMMAND LINE", "title"), ("   secrets masked", "dim")),
        *(row("  " if not at else "    ", (line, "value")) for at, line in enumerate(lines)),
    ]


def _process(server: ServerProcess, model: Model, width: int) -> list[Row]:
    begun = datetime.fromtimestamp(server.started_wall, model.tz).strftime("%d %b %H:%M:%S")
    above = " < ".join(f"{each.comm} {each.pid}" for each in server.parents)
    listens = ", ".join(f"{host}:{port}" for host, port in server.listening)
    size = f", {fmt_gib(server.model_bytes, 1)} GiB" if server.model_bytes else ""
    budget = server.kv_budget_bytes
    facts = {
        "pid": f"{server.target.pid}, {server.user} ({server.uid}), since {begun}",
        "above it": above,
        "folder": server.cwd,
        "executable": server.exe,
        "model": server.model_path and f"{server.model_path}{size}",
        "listens at": listens,
        "log": server.log.detail,
        "KV directory": server.kv_dir
        and f"{server.kv_dir}{f', budget {fmt_gib(budget, 1)} GiB' if budget else ''}",
        "lock": server.lock_path,
        "oom_score_adj": None if server.oom_score_adj is None else str(server.oom_score_adj),
        "environment": None
        if server.env is None
        else f"{count_of(len(server.env), 'variable')} of the server's, under SET",
    }
    rows = [row(""), row((" PROCESS", "title"))]
    for name, text in facts.items():
        for at, line in enumerate(wrap(text or "–", max(width - _LABEL - 3, 20))):
            rows.append(row((f"  {'' if at else name:<{_LABEL}}", "label"), line))
    return rows


def _stages(model: Model, width: int) -> list[Row]:
    """Of the newest lives of the log: when each began, what it told while it started, its work."""
    rows: list[Row] = []
    for life in reversed(model.log.lives[-3:]):
        rows += [row(""), row((f" LIFE {life.number}", "title"), (_began(life, model), "dim"))]
        rows += [
            row((f"  {name:<{_LABEL}}", "label"), fit(row(text), max(width - _LABEL - 3, 8)))
            for name, text in _told(life, model)
        ]
    return rows


def _began(life: Life, model: Model) -> str:
    at = life.begun_at if life.begun_at is not None else life.engine_at
    if at is None:
        return "   its beginning has no time"
    return f"   from {datetime.fromtimestamp(at, model.tz).strftime('%d %b %H:%M:%S')}"


def _told(life: Life, model: Model) -> Iterable[tuple[str, str]]:
    ready = life.listening_at
    if ready is not None:
        at = datetime.fromtimestamp(ready, model.tz).strftime("%H:%M:%S")
        took = "" if life.load_s is None else f", in {fmt_duration(life.load_s)}"
        yield "listening", f"{life.url or '–'} at {at}{took}"
    if life.buffers is not None:
        yield (
            "context",
            f"{fmt_tokens(life.buffers.ctx_tokens)} tokens, {life.buffers.size_mib:,.0f} MiB,"
            f" {life.buffers.backend}",
        )
    if life.disk is not None:
        yield "disk cache", f"{life.disk.directory}, {life.disk.budget_mib:,} MiB"
    mine = [each for each in model.log.requests if each.life == life.number]
    tokens = sum(each.generated_tokens for each in mine)
    yield "requests", f"{life.requests:,}, {fmt_tokens(tokens)} tokens generated"
    if mine:
        largest = max(each.prompt_tokens for each in mine)
        yield "largest", f"a prompt of {fmt_tokens(largest)} tokens"
    if life.warnings:
        yield "warnings", ", ".join(f"{name} {count}" for name, count in life.warnings.items())


def _rules(found: tuple[Finding, ...], width: int) -> list[Row]:
    """Every rule: what it found, or on what it speaks; and where that is known from."""
    by_rule = {each.rule: each for each in found}
    rows = [
        row(""),
        row(
            (" RULES", "title"),
            (f"   {len(by_rule)} of {len(RULES)} speak, the others see no reason to, or no facts",
             "dim"),
        ),
    ]  # fmt: skip
    # The worst first, as they are found.
    place = {rule: number for number, rule in enumerate(by_rule)}
    told = sorted(RULES, key=lambda rule: place.get(rule.id, len(RULES)))
    for rule in told:
        finding = by_rule.get(rule.id)
        mark = "–" if finding is None else MARKS[finding.severity]
        style = "dim" if finding is None else STYLES[finding.severity]
        said = rule.condition if finding is None else finding.named
        room = max(width - _RULE - 8, 8)
        rows.append(
            row((f"  {mark:<3}", style), (f"{rule.id:<{_RULE}} ", "label"), fit(row(said), room))
        )
        rows.append(row(" " * (_RULE + 6), fit(row((rule.source, "dim")), room)))
    return rows
