"""The report as CSV: a row a request."""

from __future__ import annotations

import csv
import io
from datetime import tzinfo

from ds4top.core.classify import cold_cause, heat_of
from ds4top.core.state import Request
from ds4top.report.jsonout import rfc3339

COLUMNS = (
    "started", "api", "end", "finish", "class", "cause", "prompt_tokens", "cached_tokens",
    "generated_tokens", "ttft_s", "prefill_s", "decode_tps", "duration_s", "tool_calls",
    "disk_hit_tokens", "load_ms",
)  # fmt: skip
"""Column names; a column may be added at the end, none renamed."""


def cells(request: Request, tz: tzinfo | None = None) -> tuple[str | int | float | None, ...]:
    """The values of one request, by ``COLUMNS``; ``None`` where unknown."""
    ttft = request.ttft_s
    hit = request.hit
    return (
        rfc3339(request.started_at, tz),
        request.api,
        str(request.end),
        request.finish,
        str(heat_of(request)),
        cold_cause(request),
        request.prompt_tokens,
        request.cached_tokens,
        request.generated_tokens,
        None if ttft is None else round(ttft, 4),
        request.prompt_s,
        request.decode_mean_tps,
        request.duration_s,
        request.tool_calls,
        hit.tokens if hit else None,
        hit.load_ms if hit else None,
    )


class CsvRows:
    """Collects rows; ``take`` is the sink of a reading, ``text`` what to print."""

    def __init__(self, tz: tzinfo | None = None) -> None:
        self._tz = tz
        self._out = io.StringIO()
        self._writer = csv.writer(self._out, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def take(self, request: Request) -> None:
        """Add one request."""
        self._writer.writerow(cells(request, self._tz))

    @property
    def text(self) -> str:
        """Header and rows."""
        return self._out.getvalue()
