"""Lines through rates: prefill and decode time per token against context, and what to expect.

Time per token is close to a straight line in the context that was really fed in, on every machine
measured so far, so lines are fitted in time per token and never in tokens per second.
"""

from __future__ import annotations

import csv
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from itertools import compress
from math import fsum
from typing import NamedTuple, TypeVar

Number = TypeVar("Number", int, float)

MIN_SAMPLES = 20
"""Fewer samples make no line."""
MIN_SPAN = 4.0
"""Largest over smallest context that a decode line needs."""
FROM_TOKENS = 1_024
"""Decode lines are fitted and judged from this context up."""
MAX_POINTS = 128
_MAX_SCANNED = 4_096

DAILY_AGENT = "spark-daily-agent"
STOCK_MAY = "ds4-gb10-spark-2026-05-18"
STOCK_SEPTEMBER = "ds4-pr-952-baseline-2026-09-11"
REFERENCE_NAMES: Mapping[str, str] = {
    DAILY_AGENT: "daily-agent table (DGX Spark)",
    STOCK_MAY: "stock ds4, DGX Spark, May 2026",
    STOCK_SEPTEMBER: "stock ds4, DGX Spark, September 2026",
}
"""What each reference curve is called where it is shown."""
_STOCK_DATES = {STOCK_MAY: date(2026, 5, 18), STOCK_SEPTEMBER: date(2026, 9, 11)}
_AGENT_FLAGS = frozenset({"--no-mmap", "--max-batch-size"})


def ols(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float] | None:
    """Least squares ``y = a + b * x`` as ``(a, b)``; ``None`` where no line is determined."""
    n = len(xs)
    if n < 2:
        return None
    x_mean, y_mean = fsum(xs) / n, fsum(ys) / n
    spread = fsum((x - x_mean) ** 2 for x in xs)
    if spread <= 0:
        return None
    b = fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    return y_mean - b * x_mean, b


class PrefillLine(NamedTuple):
    """Seconds per prompt token against context: ``a_s + b_s * tokens``."""

    a_s: float
    b_s: float
    samples: int

    def integrate(self, start_tokens: float, end_tokens: float) -> float:
        """Seconds that prefilling from one context to another takes."""
        span = end_tokens - start_tokens
        return self.a_s * span + self.b_s * span * (end_tokens + start_tokens) / 2


def prefill_line(contexts: Sequence[int], rates_tps: Sequence[float]) -> PrefillLine | None:
    """The prefill line of these samples; ``None`` below 20 samples or where they fix no line."""
    if len(contexts) < MIN_SAMPLES:
        return None
    found = ols(contexts, array("d", (1 / rate for rate in rates_tps)))
    return PrefillLine(*found, len(contexts)) if found else None


def prefill_eta_s(line: PrefillLine | None, context: int, prompt_tokens: int) -> float | None:
    """Seconds from ``context`` to the end of the prompt, as of when that context was reached.

    Later chunks are slower: the line is integrated, the present rate is not extrapolated.
    """
    if line is None:
        return None
    return max(0.0, line.integrate(min(context, prompt_tokens), prompt_tokens))


class DecodeLine(NamedTuple):
    """Milliseconds per token against context: ``a_ms + b_ms * tokens``, from 1,024 tokens up."""

    a_ms: float
    b_ms: float
    samples: int
    to_tokens: int

    def tps(self, context: float) -> float | None:
        """Tokens per second at a context; ``None`` below 1,024 tokens."""
        if context < FROM_TOKENS:
            return None
        time_ms = self.a_ms + self.b_ms * context
        return 1000 / time_ms if time_ms > 0 else None


def _thin(count: int, limit: int) -> Iterable[int]:
    """At most ``limit`` indices, evenly spread, first and last among them."""
    if count <= limit:
        return range(count)
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)]


def middle(values: Sequence[float]) -> float:
    """The median; that of ``statistics`` brings fractions and decimals, 0.6 MiB and 5 ms."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def decode_line(contexts: Sequence[int], rates_tps: Sequence[float]) -> DecodeLine | None:
    """A robust line (Theil and Sen) through decode samples.

    ``None`` below 20 samples from 1,024 tokens up, or where they span less than a factor of four
    in context. Of many samples an even choice is used, so that it costs a few milliseconds.
    """
    scanned = _thin(len(contexts), _MAX_SCANNED)
    points = sorted(
        (contexts[i], 1000 / rates_tps[i])
        for i in scanned
        if contexts[i] >= FROM_TOKENS and rates_tps[i] > 0
    )
    if len(points) < MIN_SAMPLES or points[-1][0] < MIN_SPAN * points[0][0]:
        return None
    count, to_tokens = len(points), points[-1][0]
    points = [points[i] for i in _thin(count, MAX_POINTS)]
    slopes: list[float] = []
    for index, (x, y) in enumerate(points):
        slopes += [(v - y) / (u - x) for u, v in points[index + 1 :] if u != x]
    b = middle(slopes)
    return DecodeLine(middle([y - b * x for x, y in points]), b, count, to_tokens)


def without(
    requests: Sequence[int], left_out: Collection[int], column: array[Number]
) -> array[Number]:
    """A column of samples less those of some requests (the first one after a start)."""
    return array(column.typecode, compress(column, (n not in left_out for n in requests)))


class ReferenceCurve(NamedTuple):
    """Published rates of one machine and build: contexts and ms per token, both rising order."""

    source_id: str
    contexts: tuple[int, ...]
    decode_ms: tuple[float, ...]

    def tps(self, context: float) -> float | None:
        """Tokens per second; linear in ms per token between points, ``None`` outside them."""
        xs = self.contexts
        if not xs or context < xs[0] or context > xs[-1]:
            return None
        right = bisect_left(xs, context)
        if xs[right] == context:
            return 1000 / self.decode_ms[right]
        share = (context - xs[right - 1]) / (xs[right] - xs[right - 1])
        before, after = self.decode_ms[right - 1 : right + 1]
        return 1000 / (before + share * (after - before))


def parse_reference(text: str) -> dict[str, ReferenceCurve]:
    """Reference curves by source id, from CSV text with the columns ``source_id``, ``ctx_tokens``
    and ``decode_tps``. Raises ``ValueError`` or ``KeyError`` where the text is no such table.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for record in csv.DictReader(text.splitlines()):
        if record["decode_tps"]:
            rate_ms = 1000 / float(record["decode_tps"])
            points.setdefault(record["source_id"], []).append((int(record["ctx_tokens"]), rate_ms))
    return {
        name: ReferenceCurve(name, *zip(*sorted(rows), strict=True))
        for name, rows in points.items()
    }


class ExpectedRate(NamedTuple):
    """The decode rate to expect, and where that comes from, in words for the screen."""

    tps: float
    source: str


def reference_for(flags: Collection[str], built_on: date | None) -> str:
    """The source id of the curve that fits a build.

    ``flags`` are the options that its help lists. Builds with ``--no-mmap`` or
    ``--max-batch-size`` are measured by the daily-agent table, others by the stock curve of the
    nearer date; of an unknown date the slower one is taken, so that it raises no false alarm.
    """
    if _AGENT_FLAGS & set(flags):
        return DAILY_AGENT
    if built_on is None:
        return STOCK_MAY
    return min(_STOCK_DATES, key=lambda name: abs((built_on - _STOCK_DATES[name]).days))


def expected_decode(
    context: float,
    own: DecodeLine | None,
    curves: Mapping[str, ReferenceCurve],
    flags: Collection[str] = (),
    built_on: date | None = None,
) -> ExpectedRate | None:
    """The decode rate to expect at a context: by this server's own line, else by its reference.

    ``None`` where neither covers the context.
    """
    if own is not None:
        rate = own.tps(context)
        return ExpectedRate(rate, f"own samples ({own.samples})") if rate else None
    name = reference_for(flags, built_on)
    curve = curves.get(name)
    rate = curve.tps(context) if curve else None
    return ExpectedRate(rate, REFERENCE_NAMES.get(name, name)) if rate else None
