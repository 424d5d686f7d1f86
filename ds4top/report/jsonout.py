"""The machine-readable report: ``"schema": "ds4top.report/1"``.

Scripts stand on these names: fields may be added, none renamed or redefined. Unknown is ``null``,
with the reason in ``sources``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, tzinfo
from math import floor
from typing import Any

from ds4top.core.figures import Bucket, Report, percentile
from ds4top.core.state import End

SCHEMA = "ds4top.report/1"


def rfc3339(at: float | None, tz: tzinfo | None = None) -> str | None:
    """A time in RFC 3339 with its offset; fractions only where it has them."""
    if at is None:
        return None
    when = datetime.fromtimestamp(at, tz) if tz else datetime.fromtimestamp(at).astimezone()
    return when.isoformat(timespec="seconds" if at == floor(at) else "milliseconds")


def buckets_json(buckets: Iterable[Bucket]) -> list[dict[str, Any]]:
    """Rates by context as plain values."""
    names = ("from_tokens", "to_tokens", "samples", "median_tps", "p10_tps", "p90_tps")
    return [{name: getattr(bucket, name) for name in names} for bucket in buckets]


def as_json(report: Report) -> dict[str, Any]:
    """A report as plain values, by the schema ``ds4top.report/1``."""
    counts, server, cache = report.requests, report.tally.server, report.cache
    decode, prefill = report.tally.decode, report.tally.prefill
    speed: dict[str, Any] = {
        str(heat): {name: getattr(found, name) for name in ("count", "median_s", "min_s", "max_s")}
        for heat, found in report.speed.items()
    }
    kv_names = (
        "disk_hits", "live_hits", "misses", "live_misses", "stores", "evictions", "miss_reasons",
        "store_reasons", "hit_tokens_median", "load_ms_median", "load_ms_max", "stored_bytes",
        "seconds_saved", "seconds_saved_live",
    )  # fmt: skip
    server_names = ("starts", "failed_starts", "clean_stops", "unclean_stops")
    bin_names = ("from_s", "to_s", "count", "share")
    return {
        "schema": SCHEMA,
        "source": {
            "paths": list(report.source.paths),
            "lines": report.source.lines,
            "unrecognised_lines": report.source.unrecognised_lines,
            "first": rfc3339(report.first_at, report.tz),
            "last": rfc3339(report.last_at, report.tz),
        },
        "sources": [
            {"name": note.name, "state": note.state, "detail": note.detail}
            for note in report.sources
        ],
        "server": {name: getattr(server, name) for name in server_names},
        "requests": {
            "total": counts.total,
            **{str(end): counts.ends[end] for end in
               (End.COMPLETED, End.ABORTED, End.INTERRUPTED, End.FAILED, End.RUNNING)},
            "by_api": dict(counts.apis),
            "with_tools": counts.with_tools,
            "with_thinking": counts.with_thinking,
            "finish": dict(counts.finish),
            "tool_completions": counts.finish["tool_calls"],
            "tool_calls": counts.tool_calls,
        },
        "context": {
            "prompt_tokens_mean": report.prompt_tokens_mean,
            "prompt_tokens_max": counts.prompt_max,
            "cached_tokens": counts.cached_tokens,
            "prefilled_tokens": counts.prefilled_tokens,
            "reuse_ratio": report.reuse_ratio,
        },
        "durations": {
            "median_s": percentile(report.durations_s, 0.5),
            "p90_s": percentile(report.durations_s, 0.9),
            "bins": [{name: getattr(b, name) for name in bin_names} for b in report.bins],
        },
        "speed": {**speed, "cold_causes": dict(counts.cold_causes)},
        "kv_cache": {name: getattr(cache, name) for name in kv_names},
        "decode": {"samples": len(decode.tps), "by_context": buckets_json(report.decode)},
        "prefill": {"chunks": len(prefill.tps), "by_context": buckets_json(report.prefill)},
    }  # fmt: skip


def render(report: Report) -> str:
    """The report as JSON text."""
    return json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n"
