"""The source ``/metrics``: Prometheus text, or JSON where a build answers that, once a second.

No stock ds4-server has it. A build without it is asked again every five minutes; until then the
source says so and sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from ds4top.core.jsonfields import described, parse_json
from ds4top.core.serverinfo import Metric, MetricsSample, numbers_of
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault
from ds4top.sources.http import Answer, HttpGetter, said, unsupported

RETRY_S = 300.0
FAMILIES = ("ds4_", "llamacpp:")
MOST_METRICS = 5_000


class MetricsSource:
    """Reads ``/metrics`` of one server. ``retry`` may be called from any thread."""

    name = "/metrics"
    interval_s = 1.0

    def __init__(self, getter: HttpGetter, clock: Clock = SYSTEM_CLOCK) -> None:
        self._getter = getter
        self._clock = clock
        self._absent = ""
        self._retry_t = float("-inf")

    def open(self) -> None:
        """Make the client."""
        self._getter.open()
        self.retry()

    def close(self) -> None:
        """Let the client go."""
        self._getter.close()

    def retry(self) -> None:
        """Another server may be there now: ask again at the next turn."""
        self._absent = ""

    def read(self, now: float) -> Sequence[MetricsSample]:
        """One scrape. Raises ``SourceFault``: unsupported, parse, and those of the getter."""
        if self._absent and now < self._retry_t:
            raise SourceFault("unsupported", self._absent)
        answer = self._getter.get("/metrics")
        if unsupported(answer):
            self._retry_t = now + RETRY_S
            self._absent = f"this build has none ({said(answer)}); asked again every 5 min"
            raise SourceFault("unsupported", self._absent)
        self._absent = ""
        if answer.status != 200:
            raise SourceFault("error", f"{self._getter.url}/metrics answers {said(answer)}")
        try:
            return (parse_metrics(answer, t=now, wall=self._clock.wall()),)
        except ValueError as error:
            raise SourceFault("parse", f"{self._getter.url}/metrics: {error}") from error


def parse_metrics(answer: Answer, *, t: float, wall: float) -> MetricsSample:
    """The figures of an answer, by its content type and its first character.

    Raises ``ValueError`` that says what came instead.
    """
    text = answer.body.decode("utf-8", "replace").lstrip("\N{ZERO WIDTH NO-BREAK SPACE}\r\n\t ")
    if answer.kind == "application/json" or text.startswith(("{", "[")):
        body = parse_json(answer.body)
        metrics = tuple(numbers_of(body))
        if not metrics or (isinstance(body, dict) and "error" in body):
            raise ValueError(f"JSON without a figure: {described(text)}")
        return MetricsSample(t, wall, "json", answer.latency_s, metrics)
    try:
        found = list(prometheus(text))
    except ValueError as error:
        raise ValueError(f"no metrics but {described(text)} ({error})") from error
    if not found:
        raise ValueError(f"no metrics but {described(text)}")
    ours = tuple(one for one in found if one.name.startswith(FAMILIES))[:MOST_METRICS]
    return MetricsSample(t, wall, "prometheus", answer.latency_s, ours, len(found) - len(ours))


def prometheus(text: str) -> Iterator[Metric]:
    """Every finite figure of a Prometheus text. Raises ``ValueError`` for what is none."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                if isfinite(one.value):
                    labels = tuple(sorted(one.labels.items()))
                    yield Metric(one.name, float(one.value), labels, family.type)
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        # The parser indexes into lines that it takes for well formed.
        raise ValueError(f"{type(error).__name__} in the text") from error
