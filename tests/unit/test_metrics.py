"""/metrics: real llama-server texts, the families of ds4 builds, JSON, and what is neither."""

from __future__ import annotations

import contextlib
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.serverinfo import Figures, Metric, MetricsSample, figures, numbers_of, rates
from ds4top.sources.base import Clock, SourceFault
from ds4top.sources.http import Answer
from ds4top.sources.metrics import RETRY_S, MetricsSource, parse_metrics, prometheus
from tests.unit.http_tools import LLAMA, answering, mocked, patient, plain, serving

CLOCK = Clock(wall=lambda: 1_000.0)
TEXT = "text/plain"

ON_SPARK = """\
# TYPE ds4_uptime_seconds gauge
ds4_uptime_seconds 3600.5
ds4_requests_total{outcome="completed"} 40
ds4_requests_total{outcome="failed"} 2
ds4_requests_inflight 1
ds4_queue_depth 3
# TYPE ds4_tokens_prefilled_total counter
ds4_tokens_prefilled_total{kind="computed"} 52000
ds4_tokens_prefilled_total{kind="cached"} 910000
ds4_tokens_decoded_total 8123
ds4_decode_tok_s 11.4
ds4_prefill_tok_s NaN
process_resident_memory_bytes 1e9
"""
PROPOSAL = """\
ds4_requests_total{endpoint="chat",status="200"} 7
ds4_generated_tokens_total{phase="thinking"} 100
ds4_generated_tokens_total{phase="answer"} 50
ds4_prompt_tokens_total 9000
ds4_active_requests 2
ds4_decode_tps 13.9
ds4_context_tokens{slot="0"} 1200
ds4_context_tokens{slot="1"} 48000
ds4_context_limit_tokens 131072
# TYPE ds4_request_duration_seconds histogram
ds4_request_duration_seconds_bucket{le="1"} 3
ds4_request_duration_seconds_bucket{le="+Inf"} 7
ds4_request_duration_seconds_sum 31.5
ds4_request_duration_seconds_count 7
"""


def parsed(body: str | bytes, kind: str = TEXT, t: float = 1.0) -> MetricsSample:
    data = body.encode() if isinstance(body, str) else body
    return parse_metrics(Answer(200, kind, data, 0.01), t=t, wall=2.0)


def recorded(name: str, t: float = 1.0) -> MetricsSample:
    return parsed((LLAMA / f"metrics-{name}.txt").read_bytes(), t=t)


def fault(source: MetricsSource, now: float = 0.0) -> SourceFault:
    with pytest.raises(SourceFault) as caught:
        source.read(now)
    return caught.value


def test_metrics_of_a_real_llama_server() -> None:
    sample = recorded("busy")
    assert (sample.form, sample.scrape_s, sample.others, len(sample.metrics)) == (
        "prometheus",
        0.01,
        0,
        15,
    )
    assert Metric("llamacpp:prompt_seconds_total", 4.99053, (), "counter") in sample.metrics
    assert figures(sample) == Figures(
        decoded_tokens=340.0,
        prefilled_tokens=1_605.0,
        cached_tokens=4_557.0,
        running=1.0,
        waiting=0.0,
        decode_tps=24.3939,
        prefill_tps=321.609,
    )


def test_rates_between_two_real_scrapes() -> None:
    busy, end = recorded("busy", 10.0), recorded("end", 20.0)
    before, after = figures(busy), figures(end)
    assert (before.decoded_tokens, after.decoded_tokens) == (340.0, 728.0)
    found = rates(busy, end)
    assert found.span_s == 10.0
    assert found.decode_tps == pytest.approx(38.8)
    assert found.prefill_tps == pytest.approx(444.5)
    # The counters of another life are lower: no rate, and never a negative one.
    assert rates(end, recorded("busy", 30.0)).decode_tps is None
    assert rates(busy, busy).decode_tps is None


def test_the_families_of_ds4_on_spark_constructed() -> None:
    sample = parsed(ON_SPARK)
    assert figures(sample) == Figures(
        decoded_tokens=8_123.0,
        prefilled_tokens=52_000.0,
        cached_tokens=910_000.0,
        requests=42.0,
        running=1.0,
        waiting=3.0,
        decode_tps=11.4,
        prefill_tps=None,
        uptime_s=3_600.5,
    )
    assert sample.others == 1
    assert sample.value("ds4_requests_total", outcome="failed") == 2.0
    assert sample.value("ds4_requests_total", outcome="none") is None


def test_the_families_of_the_proposals_constructed() -> None:
    sample = parsed(PROPOSAL)
    assert figures(sample) == Figures(
        decoded_tokens=150.0,
        prompt_tokens=9_000.0,
        requests=7.0,
        running=2.0,
        decode_tps=13.9,
        context_tokens=48_000.0,
        context_limit_tokens=131_072.0,
    )
    assert sample.value("ds4_request_duration_seconds_bucket", le="1") == 3.0


def test_a_json_dashboard_is_recognised_as_such_constructed() -> None:
    body = {
        "total_prompt_tokens": 5_000,
        "total_completion_tokens": 700,
        "total_cache_hit_tokens": 4_000,
        "total_requests": 9,
        "last_prefill_tps": 301.5,
        "last_gen_tps": 12.25,
        "enabled": True,
        "state": "idle",
        "cache": {"hits": 3, "list": [1, 2]},
    }
    for kind in ("application/json", TEXT):
        sample = parsed(json.dumps(body), kind)
        assert sample.form == "json"
        assert figures(sample) == Figures(
            decoded_tokens=700.0,
            cached_tokens=4_000.0,
            prompt_tokens=5_000.0,
            requests=9.0,
            decode_tps=12.25,
            prefill_tps=301.5,
        )
        assert sample.value("cache.hits") == 3.0
        assert sample.value("enabled") is None


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("", TEXT, "no metrics but an empty answer"),
        ("# only a comment\n", TEXT, "no metrics but '# only a comment'"),
        ("<html><body>ds4</body></html>", "text/html", "no metrics but an HTML page ('<html>"),
        ("hello world", TEXT, "no metrics but 'hello world' ("),
        ("ds4_x{a=", TEXT, "no metrics but 'ds4_x{a='"),
        ("ds4_x NaN\n", TEXT, "no metrics but 'ds4_x NaN'"),
        ("{}", "application/json", "JSON without a figure: '{}'"),
        ('{"error": {"code": 404}}', TEXT, "JSON without a figure"),
        ("{torn", "application/json", "no JSON but '{torn'"),
        (b"\xff\x00\xff", "application/octet-stream", "no metrics but "),
    ],
)
def test_what_came_instead_is_named(body: str | bytes, kind: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parsed(body, kind)
    assert str(caught.value).startswith(message)


@given(
    st.text() | st.text(alphabet='ds4_{}="\\ \n#TYPEe1.', max_size=60), st.sampled_from([TEXT, ""])
)
def test_any_text_is_parsed_or_refused(text: str, kind: str) -> None:
    with contextlib.suppress(ValueError):
        repr(parsed(text.encode("utf-8", "replace"), kind)).encode()


@given(
    st.dictionaries(
        st.from_regex(r"ds4_[a-z]{1,12}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
    )
)
def test_what_is_written_is_read(values: dict[str, float]) -> None:
    text = "".join(f"{name} {value!r}\n" for name, value in values.items())
    assert {one.name: one.value for one in prometheus(text)} == values


def test_numbers_of_json_are_bounded() -> None:
    many = {f"k{number}": number for number in range(5_000)}
    assert len(list(numbers_of(many, 100))) == 100
    deep: object = 1
    for _ in range(500):
        deep = {"a": deep}
    (one,) = numbers_of(deep)
    assert len(one.name) == 512
    assert list(numbers_of([1, 2])) == []
    assert list(numbers_of({"a": 1e400, "b": 10**400, "c": True})) == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, '{"error":{"message":"unknown endpoint"}}', "404 unknown endpoint"),
        (405, "", "405"),
        (
            501,
            '{"error":{"code":501,"message":"This server does not support metrics endpoint."}}',
            "501 This server does not support metrics endpoint.",
        ),
    ],
)
def test_a_build_without_metrics_is_asked_every_five_minutes(
    status: int, body: str, said: str
) -> None:
    asked: list[float] = []
    now = [0.0]

    def handler(_: httpx.Request) -> httpx.Response:
        asked.append(now[0])
        if now[0] >= 2 * RETRY_S:
            return httpx.Response(200, text="ds4_queue_depth 1\n")
        return httpx.Response(status, text=body)

    source = MetricsSource(mocked(handler), CLOCK)
    source.open()
    for now[0] in (0.0, 1.0, 30.0, RETRY_S - 0.1, RETRY_S, RETRY_S + 1.0):
        error = fault(source, now[0])
        assert error.kind == "unsupported"
        assert error.message == f"this build has none ({said}); asked again every 5 min"
    assert asked == [0.0, RETRY_S]
    now[0] = 2 * RETRY_S
    (sample,) = source.read(now[0])
    assert (sample.t, sample.wall, sample.value("ds4_queue_depth")) == (2 * RETRY_S, 1_000.0, 1.0)
    assert source.read(2 * RETRY_S + 1.0)
    assert len(asked) == 4


def test_another_server_is_asked_at_once() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(404)

    source = MetricsSource(mocked(handler), CLOCK)
    for _ in range(3):
        fault(source, 1.0)
    source.retry()
    fault(source, 2.0)
    assert asked == ["/metrics", "/metrics"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (500, '{"error":"cuda"}', "error", "http://spark:8000/metrics answers 500 cuda"),
        (503, "", "error", "http://spark:8000/metrics answers 503"),
        (401, "", "permission", "http://spark:8000 wants an API key (401): set DS4TOP_API_KEY"),
        (200, "<html></html>", "parse", "http://spark:8000/metrics: no JSON but an HTML page"),
    ],
)
def test_answers_that_are_faults(
    monkeypatch: pytest.MonkeyPatch, status: int, body: str, kind: str, message: str
) -> None:
    monkeypatch.delenv("DS4TOP_API_KEY", raising=False)
    error = fault(MetricsSource(answering(status, body), CLOCK))
    assert error.kind == kind
    assert error.message.startswith(message)


def test_a_real_connection() -> None:
    body = (LLAMA / "metrics-idle.txt").read_bytes()
    with serving(plain(body, kind="text/plain; version=0.0.4")) as server:
        (sample,) = MetricsSource(patient(server), CLOCK).read(3.0)
        assert server.requests[0].startswith("GET /metrics HTTP/1.1\r\n")
    assert sample.t == 3.0
    assert sample.scrape_s > 0
    assert figures(sample).decoded_tokens == 0.0
