"""What the Live view derives from samples: lines, expected rates, the points of the plot.

Fits cost milliseconds, so they are kept until enough new samples came (``RateBook``); everything
else is cheap. Rates are tokens per second.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from ds4top.core.fit import (
    FROM_TOKENS,
    DecodeLine,
    ExpectedRate,
    PrefillLine,
    ReferenceCurve,
    decode_line,
    expected_decode,
    parse_reference,
    prefill_eta_s,
    prefill_line,
    reference_for,
    without,
)
from ds4top.core.kept import NOTHING_KEPT, Kept
from ds4top.core.machine import log_residency
from ds4top.core.memory import Residency
from ds4top.core.model import Model
from ds4top.core.state import LogState, Request
from ds4top.core.units import fmt_tokens
from ds4top.data import reference_text
from ds4top.view.look import Look

if TYPE_CHECKING:
    from ds4top.view.plot import Curve, PlotSpec

BOUND_TPS = 21.0
"""Plain decode bound of a GB10: 231-234 GB/s read over about 11 GB of q2 weights per token."""
_PLOT_POINTS = 2_000
_MAY, _AUGUST = date(2026, 5, 21), date(2026, 8, 5)


@cache
def curves() -> Mapping[str, ReferenceCurve]:
    """The reference curves that come with the program, by their source."""
    return parse_reference(reference_text())


def built_on(log: LogState) -> date | None:
    """About when the server's build was made, by lines that came with later builds."""
    life = log.life
    if life is None or life.buffers is None:
        return None
    if life.oom_score_adj is not None or life.plan or life.buffers.prefill_chunk >= 4096:
        return _AUGUST
    return _MAY


@dataclass(slots=True)
class RateBook:
    """Fits of the present samples; made anew when their number grew by a twentieth."""

    decode: DecodeLine | None = None
    prefill: PrefillLine | None = None
    flags: frozenset[str] = frozenset()
    """Options that the server's help lists, where known: they tell the build."""
    scale: float = 1.0
    """How many times faster than the clock a demonstration runs; the reference goes with it."""
    recalled: int = 0
    """Samples of earlier runs that are in the decode line, from 1,024 tokens up."""
    _built_on: date | None = None
    _decode_samples: int = -1
    _prefill_samples: int = -1
    _kept: Kept = NOTHING_KEPT

    def update(self, log: LogState, kept: Kept = NOTHING_KEPT) -> None:
        """Fit again if there is enough that is new."""
        self._built_on = built_on(log)
        count = len(log.decode) + log.decode.dropped
        grown = count < self._decode_samples or count > self._decode_samples * 1.05
        if grown or kept is not self._kept:
            self._decode_samples, self._kept = count, kept
            self._fit_decode(log, kept)
        count = len(log.prefill) + log.prefill.dropped
        if count < self._prefill_samples or count > self._prefill_samples * 1.05:
            self._prefill_samples = count
            self.prefill = prefill_line(log.prefill.context, log.prefill.tps)

    def _fit_decode(self, log: LogState, kept: Kept) -> None:
        """The line of this server's own samples: those of the log, and older ones that were kept.

        A life that held its weights otherwise was another one, and so are the first requests.
        """
        samples, told = log.decode, log_residency(log.life)
        others = {
            life.number
            for life in log.lives
            if Residency.UNKNOWN not in (told, log_residency(life)) and log_residency(life) != told
        }
        left_out = {r.number for r in log.requests if r.first_of_life or r.life in others}
        since = samples.at[0] if len(samples) else float("inf")
        older = [point for point in kept.decode if point[0] < since]
        self.recalled = sum(1 for _, context, _ in older if context >= FROM_TOKENS)
        # Arrays: as objects tens of thousands of samples would be a megabyte for a moment.
        contexts = array("q", (context for _, context, _ in older))
        rates = array("d", (tps for _, _, tps in older))
        contexts += without(samples.request, left_out, samples.context)
        rates += without(samples.request, left_out, samples.tps)
        self.decode = decode_line(contexts, rates)

    def expected(self, context_tokens: int) -> ExpectedRate | None:
        """The decode rate to expect at a context, and from where."""
        found = expected_decode(context_tokens, self.decode, curves(), self.flags, self._built_on)
        if found is not None and self.decode is not None and self.recalled:
            words = f"{found.source[:-1]}, {fmt_tokens(self.recalled)} of earlier runs)"
            return ExpectedRate(found.tps, words)
        if found is None or self.decode is not None or self.scale == 1.0:
            return found
        return ExpectedRate(found.tps * self.scale, f"{found.source} ×{self.scale:g}")

    def reference(self) -> ReferenceCurve | None:
        """The curve of the build, for the plot."""
        return curves().get(reference_for(self.flags, self._built_on))

    def eta_s(self, request: Request) -> float | None:
        """Seconds until this prefill ends: the prefill line over what remains.

        Without a line of this log the mean rate so far stands in, as little as it knows.
        """
        left = request.new_tokens - request.prefill_done_tokens
        if left <= 0:
            return 0.0
        begin = request.cached_tokens + request.prefill_done_tokens
        if self.prefill is not None:
            return prefill_eta_s(self.prefill, begin, request.prompt_tokens)
        return left / request.prefill_tps if request.prefill_tps else None


def plot_spec(model: Model, look: Look, book: RateBook, cursor: float | None = None) -> PlotSpec:
    """Decode rate against context: samples, own line, reference, bound, and the point of now."""
    # What has no plot does without its module.
    from ds4top.view.plot import Bound, Curve, PlotSpec, Points, trace

    log = model.log
    since = model.now - look.window_s

    def as_shown(tps: float) -> float:
        return 1000.0 / tps if look.ms_per_token else tps

    samples = log.decode
    first = max(0, len(samples) - _PLOT_POINTS)
    points = tuple(
        (float(samples.context[i]), as_shown(samples.tps[i]))
        for i in range(first, len(samples))
        if samples.at[i] >= since and samples.tps[i] > 0
    )
    lines: list[Curve] = []
    reference = book.reference()
    if reference is not None:
        low, high = float(reference.contexts[0]), float(reference.contexts[-1])
        dense = trace(lambda x: as_shown((reference.tps(x) or BOUND_TPS) * book.scale), low, high)
        lines.append(Curve("reference", dense, "plot-ref", "dashed", "="))
    own = book.decode
    if own is not None:
        dense = trace(lambda x: as_shown(own.tps(x) or BOUND_TPS), 1_024.0, float(own.to_tokens))
        lines.append(Curve("own line", dense, "plot-own"))
    running = log.running
    live = None
    if running is not None and running.decode_tps:
        live = (float(running.context_tokens), as_shown(running.decode_tps))
    bound = None
    if not look.ms_per_token and model.speed == 1.0:
        bound = Bound(BOUND_TPS, "plain decode bound")
    return PlotSpec(
        title="DECODE",
        unit="ms/token" if look.ms_per_token else "tok/s",
        points=(Points("samples", points),),
        curves=tuple(lines),
        bound=bound,
        live=live,
        live_label="now",
        notes=(look.window_name,),
        is_log=look.is_log,
        cursor_tokens=cursor,
    )
