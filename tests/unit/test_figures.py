from __future__ import annotations

import statistics
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core import figures
from ds4top.core.classify import Heat
from ds4top.core.figures import Divergence, SourceFacts, build, cache_figures, percentile
from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.core.tally import CacheTally, DayTally, Tally
from ds4top.report.jsonout import as_json, rfc3339

SIM = Path(__file__).parent.parent / "data" / "ds4" / "sim-short" / "server.log"
NOW = datetime(2026, 11, 24, 19, tzinfo=UTC).timestamp()


def at(clock: str) -> float:
    return datetime.fromisoformat(f"2026-11-24T{clock}+00:00").timestamp()


def state_of(text: bytes) -> LogState:
    state, reader = LogState(), LogReader(StampClock(NOW, UTC))
    reducer = Reducer(state)
    reducer.apply(reader.feed(text))
    reducer.apply(reader.close())
    return state


def log(*messages: str) -> LogState:
    return state_of("".join(f"1124 18:00:00 ds4-server: {m}\n" for m in messages).encode())


READY = (
    "context buffers 1.00 MiB (ctx=4096, backend=cpu, prefill_chunk=0, raw_kv_rows=1,"
    " compressed_kv_rows=1)",
    "listening on http://127.0.0.1:1",
)


def turn(cached: int, prompt: int, seconds: float = 1.0, kind: str = "chat") -> tuple[str, ...]:
    span = f"{kind} ctx={cached}..{prompt}:{prompt - cached}"
    return f"{span} prompt start", f"{span} gen=5 finish=stop {seconds:.3f}s"


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.9, 7.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 0.9, 4.6),
        ([1.0, 2.0, 3.0], 1.0, 3.0),
        ([1.0, 2.0, 3.0], 0.0, 1.0),
    ],
)
def test_percentile(values: list[float], q: float, expected: float | None) -> None:
    found = percentile(values, q)
    assert found == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_middle_percentile_is_the_median(values: list[float]) -> None:
    assert percentile(sorted(values), 0.5) == pytest.approx(statistics.median(values), abs=1e-6)


@pytest.mark.parametrize(
    ("context", "bucket"),
    [
        (0, (0, 1_024)),
        (1_023, (0, 1_024)),
        (1_024, (1_024, 2_048)),
        (2_047, (1_024, 2_048)),
        (2_048, (2_048, 4_096)),
        (131_072, (131_072, 262_144)),
    ],
)
def test_buckets_are_powers_of_two(context: int, bucket: tuple[int, int]) -> None:
    assert figures.bucket_of(context) == bucket
    found = figures.by_context([context], [10.0])
    assert [(b.from_tokens, b.to_tokens, b.samples) for b in found] == [(*bucket, 1)]


def test_an_empty_log_knows_nothing_and_says_so() -> None:
    report = build(LogState())
    json = as_json(report)
    assert json["context"] == {
        "prompt_tokens_mean": None, "prompt_tokens_max": None, "cached_tokens": 0,
        "prefilled_tokens": 0, "reuse_ratio": None,
    }  # fmt: skip
    assert json["durations"]["median_s"] is None
    assert [b["share"] for b in json["durations"]["bins"]] == [0, 0, 0, 0, 0]
    assert json["kv_cache"]["seconds_saved"] is None
    assert json["requests"]["by_api"] == {}
    assert json["source"]["first"] is None
    missing = {note["name"]: note["detail"] for note in json["sources"]}
    assert set(missing) == {"times", "seconds_saved", "requests", "refused_requests"}
    assert missing["seconds_saved"] == "needs 20 prefill samples, the log has 0"


def test_sources_say_when_the_start_is_not_in_the_log() -> None:
    names = [note.name for note in build(log(*turn(0, 5_000))).sources]
    assert "start" in names
    assert "start" not in [note.name for note in build(log(*READY, *turn(0, 5_000))).sources]
    facts = SourceFacts(unrecognised_lines=3)
    details = [
        n.detail for n in build(log(*READY), source=facts).sources if n.name == "unrecognised"
    ]
    assert details == ["pieces of the log of no known form: 3"]


def test_each_duration_falls_into_one_bin() -> None:
    times = (0.0, 4.999, 5.0, 14.999, 15.0, 59.999, 60.0, 159.999, 160.0, 900.0)
    report = build(log(*READY, *(line for s in times for line in turn(0, 5_000, s))))
    assert [(b.from_s, b.to_s, b.count) for b in report.bins] == [
        (0, 5, 2), (5, 15, 2), (15, 60, 2), (60, 160, 2), (160, None, 2),
    ]  # fmt: skip
    assert all(b.share == 0.2 for b in report.bins)
    assert report.speed[Heat.COLD].min_s == 0
    assert report.speed[Heat.COLD].max_s == 900
    assert report.speed[Heat.HOT].median_s is None


@given(st.lists(st.integers(0, 99_999_999), max_size=40))
def test_stored_bytes_are_rounded_once(hundredths: list[int]) -> None:
    tally = CacheTally()
    for size in hundredths:
        tally.stored_micro_mib += round(float(f"{size / 100:.2f}") * 1_000_000)
    whole, rest = divmod(sum(hundredths) * 1_048_576, 100)
    assert tally.stored_bytes == whole + (rest >= 50)


def test_seconds_saved_price_the_hit_by_the_logs_own_prefill() -> None:
    # 1 ms a token at any context: 25 chunks of 1,000 tokens, spread over contexts.
    span = "chat ctx=0..26000:26000"
    chunks = [f"{span} prefill chunk 0/26000 (0.0%) chunk=0.00 t/s avg=0.00 t/s 0.000s"]
    chunks += [
        f"{span} prefill chunk {n}000/26000 (1.0%) chunk=1000.00 t/s avg=1000.00 t/s {n}.000s"
        for n in range(1, 26)
    ]
    hit = "kv cache hit text tokens=4000 text=9 quant=2 key=token-text load=250.0 ms file=/a.kv"
    miss = "live kv cache miss live=26005 prompt=5000 common=1 reason=token-mismatch"
    state = log(
        *READY, f"{span} prompt start", *chunks, f"{span} gen=5 finish=stop 26.000s",
        miss, hit, *turn(4_000, 5_000), *turn(5_005, 6_000),
    )  # fmt: skip
    cache = build(state).cache
    assert (cache.disk_hits, cache.live_hits, cache.misses) == (1, 1, 1)
    assert cache.seconds_saved == pytest.approx(4.0 - 0.25)
    assert cache.seconds_saved_live == pytest.approx(5.005)
    assert (cache.reused_tokens_disk, cache.reused_tokens_live) == (4_000, 5_005)


def test_a_hit_of_a_rebuild_is_no_disk_hit() -> None:
    hit = "kv cache hit text tokens=4000 text=9 quant=2 key=token-text load=250.0 ms file=/a.kv"
    start, finish = turn(0, 5_000)
    cache = build(log(*READY, start, hit, finish, *turn(5_005, 6_000))).cache
    assert (cache.disk_hits, cache.live_hits) == (0, 1)
    assert cache.load_ms_max is None


def test_since_and_until_choose_requests_by_their_start() -> None:
    state = state_of(SIM.read_bytes())
    early = as_json(build(state, until=at("18:27:00"), tz=UTC))
    late = as_json(build(state, since=at("18:27:00"), tz=UTC))
    whole = as_json(build(state, tz=UTC))
    assert whole["requests"]["total"] == 29
    assert (early["requests"]["total"], late["requests"]["total"]) == (19, 10)
    for section, name in (
        ("server", "starts"), ("server", "clean_stops"), ("server", "unclean_stops"),
        ("kv_cache", "stores"), ("kv_cache", "disk_hits"), ("kv_cache", "evictions"),
        ("kv_cache", "live_misses"), ("decode", "samples"), ("prefill", "chunks"),
        ("requests", "tool_calls"), ("kv_cache", "stored_bytes"), ("context", "cached_tokens"),
    ):  # fmt: skip
        assert early[section][name] + late[section][name] == pytest.approx(
            whole[section][name], abs=1
        ), name
    assert early["server"]["starts"] == 1
    assert early["source"] == whole["source"]


def test_draining_in_any_step_gives_the_same_figures() -> None:
    data = SIM.read_bytes()
    whole = as_json(build(state_of(data)))
    for size in (333, 5_000):
        state, reader, tally = LogState(), LogReader(StampClock(NOW, UTC)), Tally()
        reducer = Reducer(state)
        for begin in range(0, len(data), size):
            reducer.apply(reader.feed(data[begin : begin + size]))
            tally.drain(state)
        assert len(state.requests) <= 1
        tally.finish(state)
        assert as_json(figures.assemble(tally, state, SourceFacts())) == whole


def day(state: LogState, since: float) -> DayTally:
    tally = DayTally(since)
    tally.take(state)
    return tally


def test_live_figures_since_a_time() -> None:
    state = state_of(SIM.read_bytes())
    everything = cache_figures(day(state, 0.0).cache, None)
    assert (everything.disk_hits, everything.live_hits, everything.misses) == (5, 13, 11)
    assert everything.seconds_saved is None
    line = build(state).prefill_fit
    assert line is not None
    priced = cache_figures(day(state, 0.0).cache, line)
    assert priced.seconds_saved == pytest.approx(77.026, abs=0.001)
    since = cache_figures(day(state, at("18:27:57")).cache, None)
    assert (since.disk_hits, since.live_hits, since.misses, since.stores) == (1, 0, 0, 1)
    latest = day(state, at("18:27:28"))
    requests = [r for r in state.requests if (r.started_at or 0.0) >= at("18:27:28")]
    assert len(requests) == 5
    assert latest.prompt_tokens == sum(r.prompt_tokens for r in requests) > 0
    assert latest.cached_tokens == sum(r.cached_tokens for r in requests) > 0
    assert latest.missed == 1
    assert day(state, NOW).prompt_tokens == 0


def test_figures_of_a_day_are_those_of_its_report_however_they_came() -> None:
    data = SIM.read_bytes()
    state, reader = LogState(limit=1_000), LogReader(StampClock(NOW, UTC))
    reducer, tally = Reducer(state), DayTally(0.0)
    for line in data.splitlines(keepends=True):
        reducer.apply(reader.feed(line))
        tally.take(state)
        # What was counted may go.
        state.stores.clear()
        state.disk_hits.clear()
    whole = build(state_of(data))
    assert cache_figures(tally.cache, whole.prefill_fit) == whole.cache
    assert tally.prompt_tokens == whole.requests.prompt_tokens
    assert tally.cached_tokens == whole.requests.cached_tokens
    assert tally.missed == 1


def test_divergences_within_a_few_tokens_are_one_place() -> None:
    found = figures.divergences({1_204: 3, 1_230: 2, 1_295: 1, 40_000: 7})
    assert found == [
        Divergence(40_000, 40_000, 7), Divergence(1_204, 1_230, 5), Divergence(1_295, 1_295, 1),
    ]  # fmt: skip


def test_jumps_are_named_largest_first() -> None:
    state = log(
        *READY, *turn(0, 5_000), *turn(5_005, 25_000), *turn(25_005, 26_000), *turn(26_005, 60_000)
    )
    report = build(state)
    assert [(j.added_tokens, j.prompt_tokens) for j in report.jumps] == [
        (33_995, 60_000), (19_995, 25_000),
    ]  # fmt: skip
    assert report.requests.jump_count == 2


def test_times_carry_their_offset() -> None:
    assert rfc3339(at("18:25:29"), UTC) == "2026-11-24T18:25:29+00:00"
    assert rfc3339(at("18:25:29") + 0.25, UTC) == "2026-11-24T18:25:29.250+00:00"
    assert rfc3339(None) is None


def test_thinking_on_any_line_of_a_request_counts() -> None:
    span = "chat ctx=0..5000:5000"
    state = log(*READY, f"{span} prompt start", f"{span} THINKING prompt done 1.000s")
    assert build(state).requests.with_thinking == 1


def test_a_failed_start_after_the_tail_of_a_life_counts() -> None:
    evicted = "kv cache evicted reason=disk-cache-full tokens=1 hits=0 size=1.00 MiB file=/a.kv"
    server = build(log(evicted, "unknown option: --x", *READY)).tally.server
    assert (server.failed_starts, server.starts, server.unclean_stops) == (1, 1, 0)
