"""The effective launch config: each setting, where it was set, and what the rules say of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap
from typing import Any

from ds4top.core.launch import LaunchSpec, Setting, settings, start_facts
from ds4top.core.lint import Finding, Judged, facts_of, judge, lint
from ds4top.core.lint_seen import machine_facts, with_seen
from ds4top.core.model import Model
from ds4top.core.state import Life
from ds4top.core.units import fmt_duration
from ds4top.view.past import past_rows
from ds4top.view.text import Part, Row, columns, row

STYLES = {"bad": "crit", "warning": "warn", "note": "text", "good": "ok"}
MARKS = {"bad": "!!", "warning": "!", "note": "·", "good": "✓"}


def effective(model: Model) -> tuple[Setting, ...]:
    """Every setting that is known of the running server."""
    machine = model.machine
    server = machine.server
    life = model.log.life
    if server is None:
        return settings(LaunchSpec(), None, start_facts(life))
    spec = LaunchSpec(server.argv, server.env, server.cwd, server.exe)
    files = machine.unit.files if machine.unit is not None else ()
    return settings(spec, machine.flags, start_facts(life), files)


def findings(model: Model, found: tuple[Setting, ...]) -> tuple[Finding, ...]:
    """What the rules say, the worst first; nothing where no process is seen."""
    return _findings(model, found) if model.machine.server is not None else ()


def findings_seen(model: Model) -> tuple[Finding, ...]:
    """The same where only a log is seen: a rule that has no facts says nothing."""
    return _findings(model, effective(model))


def _findings(model: Model, found: tuple[Setting, ...]) -> tuple[Finding, ...]:
    server = model.machine.server
    spec = LaunchSpec()
    if server is not None:
        spec = LaunchSpec(server.argv, server.env, server.cwd, server.exe)
    llama = server is not None and server.flavour == "llama.cpp"
    return lint(facts_of(found, spec, with_seen(machine_facts(model), model), llama=llama))


def judged(model: Model) -> tuple[tuple[Judged, ...], tuple[Finding, ...]]:
    """Settings with their verdicts, and every finding."""
    found = effective(model)
    said = findings(model, found)
    return tuple(judge(found, said)), said


def settings_json(model: Model) -> list[dict[str, Any]]:
    """The settings as the machine-readable status has them."""
    rows, _ = judged(model)
    return [
        {
            "name": each.setting.name,
            "value": each.setting.value,
            "default": each.setting.default,
            "origin": each.setting.origin,
            "verdict": each.verdict or "good",
            "why": each.why,
            "fix": each.fix,
        }
        for each in rows
    ]


def launch_rows(model: Model, width: int) -> list[Row]:
    """Findings first, then what was set, then the rest at its default."""
    machine = model.machine
    server = machine.server
    if server is None:
        return [row(("  no server is watched: its command line is not known", "dim"))]
    rows_of, said = judged(model)
    out: list[Row] = [
        row(("  started by ", "label"), server.started_by, ("   exe ", "label"), server.exe or "–")
    ]
    if model.read_only:
        out.append(row((f"  {model.read_only}", "warn")))
    unit = machine.unit
    lacking = {"unit": unit.why} if unit is not None and unit.why else {}
    for name, why in sorted({**server.denied, **lacking}.items()):
        out += [
            row(("  not known  " if not index else " " * 13, "label"), (line, "warn"))
            for index, line in enumerate(wrap(f"{name}: {why}", max(width - 14, 20)))
        ]
    out += [row((f"  changed: {line}", "now")) for line in machine.changed]
    worth = [each for each in said if each.severity != "good"]
    out += [row(""), row((" VERDICT", "title"), f"   {len(worth)} to look at")]
    for each in worth:
        mark = (f"  {MARKS[each.severity]:<3}", STYLES[each.severity])
        if len(each.named) + len(each.why) + 7 <= width:
            out.append(row(mark, each.named, (f": {each.why}", "dim")))
        else:
            out.append(row(mark, each.named, ":"))
            out += [row("     ", (line, "dim")) for line in wrap(each.why, max(width - 6, 20))]
        if each.fix:
            out.append(row("     ", (each.fix, "key")))
    out += past_rows(model, width, 5)
    given = [each for each in rows_of if each.setting.given]
    rest = [each for each in rows_of if not each.setting.given and each.setting.section]
    widths = _widths([each.setting.name for each in (*given, *rest)], width - 2)
    for title, group in (("SET", given), ("DEFAULTS AND START-UP", rest)):
        out += [row(""), row((f" {title}", "title"))]
        out += [_setting(each, widths) for each in group]
        if not group:
            out.append(row(("  none is known", "dim")))
    if machine.flags is None:
        out.append(row(("  its --help could not be read: only what was given is listed", "dim")))
    return out


def _widths(names: Sequence[str], room: int) -> tuple[int, ...]:
    """Name, value, origin, detail; where there is no room the last ones go first."""
    name = min(max(map(len, names), default=0), max(room * 2 // 5, 15))
    origin = _ORIGIN if room >= 50 else 0
    left = room - name - (origin + 1 if origin else 0) - 1
    detail = left // 2 if left >= _VALUE + _DETAIL else 0
    return name, left - (detail + 1 if detail else 0), origin, detail


_ORIGIN, _VALUE, _DETAIL = 13, 22, 18
"""Cells of an origin (``start-up line``), and what value and detail need at least."""


def _setting(each: Judged, widths: tuple[int, ...]) -> Row:
    setting = each.setting
    style = STYLES.get(each.verdict or "", "value")
    default = f"default {setting.default}" if setting.default is not None else ""
    cells: list[Part] = [
        setting.name,
        (setting.value if setting.value is not None else "–", style),
        (setting.origin, "dim"),
        # Of a default its value says all: there is room for what it is.
        (setting.detail or (default if setting.given else setting.help or default), "dim"),
    ]
    return row("  ", columns(cells, widths))


def _end_of(each: Life, last: Life | None) -> str:
    if each.fatal is not None:
        return each.fatal.text
    clean = each.shutdown and not each.open_at_end
    return "clean stop" if clean else "now" if each is last else "died"


def starts_json(model: Model) -> list[dict[str, Any]]:
    """The lives in this log as plain values."""
    return [
        {
            "life": each.number,
            "requests": each.requests,
            "load_s": each.load_s,
            "end": _end_of(each, model.log.life),
        }
        for each in model.log.lives
    ]


def starts_rows(model: Model) -> list[Row]:
    """The lives in this log and how each ended."""
    life = model.log.life
    out = [row(""), row((" STARTS", "title"), (f"   in this log: {len(model.log.lives)}", "dim"))]
    for each in reversed(model.log.lives[-6:]):
        out.append(
            row(
                f"  life {each.number:<4} requests {each.requests:<6}"
                f" ready in {fmt_duration(each.load_s):<10} {_end_of(each, life)}"
            )
        )
    return out + _kept_starts(model)


def _kept_starts(model: Model) -> list[Row]:
    """Starts with this model that earlier runs have seen come up, and the log does not hold."""
    own = [life.listening_at for life in model.log.lives]
    past = [start for start in model.kept.starts if start.at not in own][:6]
    if not past:
        return []
    out = [row((" EARLIER", "title"), ("   kept on this machine, the same model", "dim"))]
    for each in past:
        when = datetime.fromtimestamp(each.at, model.tz).strftime("%d %b %H:%M")
        out.append(row(f"  {when}   {each.residency:<8} ready in {fmt_duration(each.load_s)}"))
    return out


def launch_view(model: Model, width: int) -> tuple[Row, ...]:
    """The whole page."""
    first, *rest = launch_rows(model, width)
    return (row((" LAUNCH", "title"), " ", first), *rest, *starts_rows(model))
