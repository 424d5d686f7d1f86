"""A view as a file to keep: CSV where it is a table, JSON where it is not; secrets masked.

Live is the document of ``ds4top status --json``, Day that of ``ds4top report --json``, Requests the
rows of ``ds4top report --csv``; the rest are parts of these with what only the view has.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ds4top.core.alerts import Alert
from ds4top.core.derive import Status
from ds4top.core.figures import by_context
from ds4top.core.model import Model
from ds4top.core.secrets import masked
from ds4top.core.state import Request
from ds4top.report.csvout import CsvRows
from ds4top.report.day import day_report
from ds4top.report.jsonout import as_json, buckets_json, rfc3339
from ds4top.view.launch import settings_json, starts_json
from ds4top.view.rates import RateBook
from ds4top.view.status import document
from ds4top.view.today import Today

SCHEMA = "ds4top.view/1"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a view has. ``requests`` and ``lines``: those in its table, in its order."""

    model: Model
    status: Status
    book: RateBook
    today: Today
    alerts: tuple[Alert, ...] = ()
    requests: Sequence[Request] = ()
    lines: Sequence[tuple[int, str]] = ()


class Exported(NamedTuple):
    """A file's suffix, its text, and what is in it in a word or two."""

    suffix: str
    text: str
    what: str


def export(view: str, shown: Shown) -> Exported:
    """The view of this name as a file."""
    return _FORMS[view](shown)


def _status(shown: Shown) -> dict[str, Any]:
    samples = shown.model.log.decode
    return document(
        shown.model,
        shown.status,
        shown.book,
        shown.today,
        shown.alerts,
        settings=settings_json(shown.model),
        buckets=buckets_json(by_context(samples.context, samples.tps)),
    )


def _clean(value: Any) -> Any:
    match value:
        case str():
            return masked(value)
        case dict():
            return {key: _clean(each) for key, each in value.items()}
        case list() | tuple():
            return [_clean(each) for each in value]
        case _:
            return value


def _json(data: dict[str, Any], what: str) -> Exported:
    return Exported("json", json.dumps(_clean(data), indent=1, ensure_ascii=False) + "\n", what)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]], what: str) -> Exported:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(_clean(row) for row in rows)
    return Exported("csv", out.getvalue(), what)


def _part(shown: Shown, view: str, names: Sequence[str], **more: object) -> dict[str, Any]:
    whole = _status(shown)
    parts = {name: whole[name] for name in names}
    return {"schema": SCHEMA, "view": view, "time": whole["time"], **parts, **more}


def _live(shown: Shown) -> Exported:
    return _json(_status(shown), "status")


def _requests(shown: Shown) -> Exported:
    rows = CsvRows(shown.model.tz)
    for request in shown.requests:
        rows.take(request)
    return Exported("csv", rows.text, _count(len(shown.requests), "request"))


def _kv(shown: Shown) -> Exported:
    model = shown.model
    found = model.machine.kv
    entries = [asdict(each) for each in found.entries] if found is not None else None
    misses = [
        {
            "at": rfc3339(miss.at, model.tz),
            "prompt_tokens": miss.prompt_tokens,
            "common_tokens": miss.common_tokens,
            "reason": miss.reason,
        }
        for miss in model.log.misses
    ]
    return _json(_part(shown, "kv", ("kv_cache",), entries=entries, misses=misses), "KV cache")


def _memory(shown: Shown) -> Exported:
    return _json(_part(shown, "memory", ("memory", "gpu")), "memory")


def _launch(shown: Shown) -> Exported:
    starts = starts_json(shown.model)
    return _json(_part(shown, "launch", ("server", "launch"), starts=starts), "launch config")


def _log(shown: Shown) -> Exported:
    return _csv(("line", "text"), shown.lines, _count(len(shown.lines), "line"))


def _day(shown: Shown) -> Exported:
    return _json(as_json(day_report(shown.model)), "report of today")


def _sources(shown: Shown) -> Exported:
    rows = [
        (
            each.name,
            each.state,
            None if each.age_s is None else round(each.age_s, 1),
            None if each.cost_ms is None else round(each.cost_ms, 2),
            each.detail,
        )
        for each in shown.model.health
    ]
    head = ("name", "state", "age_s", "cost_ms", "detail")
    return _csv(head, rows, _count(len(rows), "source"))


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


_FORMS: dict[str, Callable[[Shown], Exported]] = {
    "live": _live,
    "requests": _requests,
    "kv": _kv,
    "memory": _memory,
    "launch": _launch,
    "log": _log,
    "day": _day,
    "sources": _sources,
}
