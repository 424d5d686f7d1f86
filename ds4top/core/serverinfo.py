"""What a server says of itself over HTTP: frozen samples, and pure parsers of its JSON.

Shapes: ds4_server.c ``send_models``; llama.cpp's server (README of ``tools/server``). A field that
is absent is ``None``; one of another type is ``None`` too and named in ``odd``; only what the
answer cannot do without raises ``ValueError``, with the key. Text is the server's own: strip
control characters before it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TypeGuard

from ds4top.core.jsonfields import (
    MOST_COUNT,
    MOST_ITEMS,
    Fields,
    parse_json,
    type_of,
    writable,
)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of ``/v1/models``; ds4 lists aliases of the one loaded model too."""

    id: str
    owned_by: str | None = None
    name: str | None = None
    context_tokens: int | None = None
    max_completion_tokens: int | None = None
    trained_context_tokens: int | None = None
    parameters: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModelsAnswer:
    """The answer of ``/v1/models`` at monotonic ``t`` (``wall``: epoch seconds).

    ``status`` 503 is a server that is there and not ready (llama-server while loading, ds4 while
    draining): then there are no models and ``message`` has its words.
    """

    t: float
    wall: float
    url: str
    status: int
    latency_s: float
    models: tuple[ModelEntry, ...] = ()
    message: str = ""
    odd: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it serves a model."""
        return bool(self.models)

    @property
    def model_name(self) -> str | None:
        """What is loaded, in the server's words: ds4 puts it in ``name``, behind every alias."""
        return (self.models[0].name or self.models[0].id) if self.models else None

    @property
    def context_limit_tokens(self) -> int | None:
        """The context that was allocated at start."""
        return self.models[0].context_tokens if self.models else None

    @property
    def flavour(self) -> str | None:
        """``ds4`` or ``llama.cpp`` by ``owned_by``; ``None`` for another server."""
        owner = (self.models[0].owned_by or "") if self.models else ""
        if owner.startswith("ds4"):
            return "ds4"
        return "llama.cpp" if owner in ("llamacpp", "llama.cpp") else None


@dataclass(frozen=True, slots=True)
class PropsSample:
    """llama-server's ``/props``: the build and what it was started with. ``reason``: why not."""

    t: float
    build: str | None = None
    model_path: str | None = None
    model_type: str | None = None
    slots: int | None = None
    context_tokens: int | None = None
    serves_slots: bool | None = None
    serves_metrics: bool | None = None
    sleeping: bool | None = None
    reason: str = ""
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """One of llama-server's slots; tokens of its last or running request.

    ``processed_tokens``: of the prompt, computed so far; ``cached_tokens``: reused.
    """

    id: int
    busy: bool
    context_tokens: int | None = None
    task: int | None = None
    prompt_tokens: int | None = None
    processed_tokens: int | None = None
    cached_tokens: int | None = None
    decoded_tokens: int | None = None
    remaining_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class SlotsSample:
    """llama-server's ``/slots``; ``slots`` is ``None`` where it gave none, with the ``reason``."""

    t: float
    wall: float
    slots: tuple[Slot, ...] | None
    reason: str = ""
    odd: tuple[str, ...] = ()

    @property
    def busy(self) -> int | None:
        """Requests that run."""
        return None if self.slots is None else sum(slot.busy for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of ``/metrics``. ``kind``: counter, gauge, histogram, … as the server says."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    kind: str = "unknown"


@dataclass(frozen=True, slots=True)
class MetricsSample:
    """``/metrics`` at monotonic ``t``. ``form``: ``prometheus`` or ``json``.

    ``others``: figures of other families, left out.
    """

    t: float
    wall: float
    form: str
    scrape_s: float
    metrics: tuple[Metric, ...]
    others: int = 0

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of a series over every label that is not named; ``None`` if it is not there."""
        wanted = set(labels.items())
        found = [m.value for m in self.metrics if m.name == name and wanted.issubset(m.labels)]
        return sum(found) if found else None


@dataclass(frozen=True, slots=True)
class Figures:
    """The same figure under one name, whichever build gave it. Counters grow since its start.

    ``decode_tps`` and ``prefill_tps`` are the server's own gauges: means over a minute or more,
    which stay up after the work has ended. A rate of now is ``Rates``, from two samples.
    ``context_tokens`` is that of the fullest slot.
    """

    decoded_tokens: float | None = None
    prefilled_tokens: float | None = None
    cached_tokens: float | None = None
    prompt_tokens: float | None = None
    requests: float | None = None
    running: float | None = None
    waiting: float | None = None
    decode_tps: float | None = None
    prefill_tps: float | None = None
    context_tokens: float | None = None
    context_limit_tokens: float | None = None
    uptime_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second between two samples; ``None`` where a counter is missing or fell."""

    decode_tps: float | None
    prefill_tps: float | None
    span_s: float


_Place = tuple[str, Mapping[str, str]]
_ANY: Mapping[str, str] = {}
_PLACES: Mapping[str, tuple[_Place, ...]] = {
    # In each line: ds4-on-spark, antirez/ds4 PRs 857 and 1086, llama.cpp, JSON dashboard.
    "decoded_tokens": (
        ("ds4_tokens_decoded_total", _ANY),
        ("ds4_generated_tokens_total", _ANY),
        ("llamacpp:tokens_predicted_total", _ANY),
        ("total_completion_tokens", _ANY),
    ),
    "prefilled_tokens": (
        ("ds4_tokens_prefilled_total", {"kind": "computed"}),
        ("llamacpp:prompt_tokens_total", _ANY),
    ),
    "cached_tokens": (
        ("ds4_tokens_prefilled_total", {"kind": "cached"}),
        ("llamacpp:prompt_tokens_cached_total", _ANY),
        ("total_cache_hit_tokens", _ANY),
    ),
    "prompt_tokens": (("ds4_prompt_tokens_total", _ANY), ("total_prompt_tokens", _ANY)),
    "requests": (("ds4_requests_total", _ANY), ("total_requests", _ANY)),
    "running": (
        ("ds4_requests_inflight", _ANY),
        ("ds4_active_requests", _ANY),
        ("llamacpp:requests_processing", _ANY),
    ),
    "waiting": (("ds4_queue_depth", _ANY), ("llamacpp:requests_deferred", _ANY)),
    "decode_tps": (
        ("ds4_decode_tok_s", _ANY),
        ("ds4_decode_tps", _ANY),
        ("llamacpp:predicted_tokens_seconds", _ANY),
        ("last_gen_tps", _ANY),
    ),
    "prefill_tps": (
        ("ds4_prefill_tok_s", _ANY),
        ("ds4_prefill_tps", _ANY),
        ("llamacpp:prompt_tokens_seconds", _ANY),
        ("last_prefill_tps", _ANY),
    ),
    "context_limit_tokens": (("ds4_context_limit_tokens", _ANY),),
    "uptime_s": (("ds4_uptime_seconds", _ANY), ("uptime_s", _ANY)),
}


def figures(sample: MetricsSample) -> Figures:
    """The figures that this build gives, under their common names."""
    found: dict[str, float | None] = {}
    for field, places in _PLACES.items():
        values = (sample.value(name, **labels) for name, labels in places)
        found[field] = next((value for value in values if value is not None), None)
    # One series a slot: they are no sum.
    contexts = [one.value for one in sample.metrics if one.name == "ds4_context_tokens"]
    return Figures(**found, context_tokens=max(contexts, default=None))


def rates(older: MetricsSample, newer: MetricsSample) -> Rates:
    """Rates over the time between two samples; counters that fell are another life's."""
    span_s = newer.t - older.t
    before, after = figures(older), figures(newer)

    def rate(low: float | None, high: float | None) -> float | None:
        if low is None or high is None or high < low or span_s <= 0:
            return None
        return (high - low) / span_s

    return Rates(
        rate(before.decoded_tokens, after.decoded_tokens),
        rate(before.prefilled_tokens, after.prefilled_tokens),
        span_s,
    )


def error_message(body: bytes) -> str:
    """The server's own words in an error: OpenAI's shape, or a plain text; else nothing."""
    try:
        answer = json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return ""
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return writable(" ".join(message.split())) if isinstance(message, str) else ""


def parse_models(
    body: bytes, *, t: float, wall: float, url: str, status: int, latency_s: float
) -> ModelsAnswer:
    """The answer of ``/v1/models``. Raises ``ValueError`` naming the key that is wrong."""
    fields = Fields.of(parse_json(body), "the answer")
    models: list[ModelEntry] = []
    for item in fields.need_items("data"):
        model = item.need_text("id")
        meta, top = item.inner("meta"), item.inner("top_provider")
        context = item.count("context_length")
        models.append(
            ModelEntry(
                id=model,
                owned_by=item.text("owned_by"),
                name=item.text("name"),
                context_tokens=context if context is not None else meta.count("n_ctx"),
                max_completion_tokens=top.count("max_completion_tokens"),
                trained_context_tokens=meta.count("n_ctx_train"),
                parameters=meta.count("n_params"),
                size_bytes=meta.count("size"),
            )
        )
    if not models:
        raise ValueError("data lists no model")
    return ModelsAnswer(t, wall, url, status, latency_s, tuple(models), odd=tuple(fields.odd))


def parse_props(body: bytes, *, t: float) -> PropsSample:
    """llama-server's ``/props``. Raises ``ValueError`` naming the key that is wrong."""
    fields = Fields.of(parse_json(body), "the answer")
    return PropsSample(
        t=t,
        build=fields.text("build_info"),
        model_path=fields.text("model_path"),
        model_type=fields.text("model_ftype"),
        slots=fields.count("total_slots"),
        context_tokens=fields.inner("default_generation_settings").count("n_ctx"),
        serves_slots=fields.flag("endpoint_slots"),
        serves_metrics=fields.flag("endpoint_metrics"),
        sleeping=fields.flag("is_sleeping"),
        odd=tuple(fields.odd),
    )


def parse_slots(body: bytes, *, t: float, wall: float) -> SlotsSample:
    """llama-server's ``/slots``; prompts in it are not kept. Raises ``ValueError``."""
    answer = parse_json(body)
    if not isinstance(answer, list):
        raise ValueError(f"the answer is {type_of(answer)}, not a list of slots")
    odd: list[str] = []
    slots: list[Slot] = []
    for index, item in enumerate(answer[:MOST_ITEMS]):
        fields = Fields.of(item, f"[{index}]", odd)
        # A list of one since 2025; an object before.
        token = next(iter(fields.items("next_token")), None) or fields.inner("next_token")
        slots.append(
            Slot(
                id=fields.need_count("id"),
                busy=bool(fields.flag("is_processing")),
                context_tokens=fields.count("n_ctx"),
                task=_or_none(fields.count("id_task", least=-1)),
                prompt_tokens=fields.count("n_prompt_tokens"),
                processed_tokens=fields.count("n_prompt_tokens_processed"),
                cached_tokens=fields.count("n_prompt_tokens_cache"),
                decoded_tokens=token.count("n_decoded"),
                remaining_tokens=_or_none(token.count("n_remain", least=-1)),
            )
        )
    return SlotsSample(t, wall, tuple(slots), odd=tuple(odd))


def _or_none(count: int | None) -> int | None:
    """llama.cpp says -1 for none, or for no limit."""
    return None if count == -1 else count


def numbers_of(answer: object, most: int = 2_000) -> Iterator[Metric]:
    """The numbers of a JSON answer, at most ``most``; a key inside another is ``outer.inner``."""
    pending: list[tuple[str, object]] = [("", answer)]
    while pending and most > 0:
        name, value = pending.pop()
        if isinstance(value, dict):
            inner = [(f"{name}.{key}" if name else key, one) for key, one in value.items()]
            pending.extend(reversed(inner[:most]))
        elif name and _is_figure(value):
            yield Metric(writable(name), float(value))
            most -= 1


def _is_figure(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < MOST_COUNT and isfinite(value)
