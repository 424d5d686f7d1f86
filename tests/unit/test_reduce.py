"""Lines into lives, requests and their ends."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import End, LogState, Phase, Request

DATA = Path(__file__).parents[1] / "data" / "ds4"
LATEST = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
BASE = datetime(2026, 5, 21, 10, tzinfo=UTC).timestamp()
BUFFERS = (
    "context buffers 1.00 MiB (ctx=100000, backend=cuda, prefill_chunk=4096, raw_kv_rows=1,"
    " compressed_kv_rows=2)"
)
LISTENING = "listening on http://127.0.0.1:8000"
STOP = "shutdown requested, draining requests"
OOM_SCORE = "ds4: Linux cuda backend set oom_score_adj=1000"
CUDA = "ds4: CUDA backend initialized on NVIDIA GB10 (sm_121) dev=0"
ENGINE = "ds4: cuda backend initialized for graph diagnostics"
START = "chat ctx=0..9:9 TOOLS prompt start"
DONE = "chat ctx=0..9:9 TOOLS prompt done 1.000s"
FINISH = "chat ctx=0..9:9 gen=20 TOOLS finish=stop 3.000s"
ERROR = 'chat ctx=0..9:9 gen=5 finish=error error="{}" 3.000s'
MISS = "live kv cache miss live=29 prompt=12 common=3 reason=token-mismatch"
STORED = "kv cache stored tokens={} trimmed=0 reason={} key=token-text size=1.00 MiB save=50.0 ms"
HIT = "kv cache hit text tokens={} text=9 quant=2 key=token-text load=20.0 ms file=/c/a.kv"


def run(*lines: str, limit: int | None = None) -> LogState:
    """Each line a second later than the one before; engine lines have no stamp."""
    text = "".join(
        f"{line}\n"
        if line.startswith("ds4")
        else f"0521 10:{second // 60:02}:{second % 60:02} ds4-server: {line}\n"
        for second, line in enumerate(lines)
    )
    state = LogState(limit=limit)
    reader = LogReader(StampClock(LATEST, UTC))
    Reducer(state).apply([*reader.feed(text.encode()), *reader.close()])
    assert reader.unrecognised == 0
    return state


def only(state: LogState) -> Request:
    (request,) = state.requests
    return request


def ends(state: LogState) -> list[End]:
    return [request.end for request in state.requests]


def decoding(start: int, stop: int, gen: int, words: str = "", rate: float = 14.0) -> str:
    return (
        f"chat ctx={start}..{stop}:{stop - start} gen={gen} {words}decoding chunk={rate:.2f} t/s"
        f" avg=13.50 t/s 2.000s"
    )


def prefill(done: int, total: int, rate: float, span: str = "0..9000:9000") -> str:
    return (
        f"chat ctx={span} prefill chunk {done}/{total} (1.0%) chunk={rate:.2f} t/s avg=800.00 t/s"
        f" 5.000s"
    )


def test_a_request_from_start_to_finish() -> None:
    request = only(run(START, DONE, decoding(9, 29, 20, "TOOLS THINKING "), FINISH))
    assert (request.end, request.phase, request.finish) == (End.COMPLETED, Phase.OVER, "stop")
    assert (request.kind, request.tools, request.thinking) == ("chat", True, True)
    assert (request.cached_tokens, request.prompt_tokens, request.new_tokens) == (0, 9, 9)
    assert (request.prompt_s, request.duration_s, request.generated_tokens) == (1.0, 3.0, 20)
    assert (request.decode_tps, request.decode_mean_tps) == (14.0, 13.5)
    assert (request.started_at, request.ended_at) == (BASE, BASE + 3)
    assert request.context_tokens == 29


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        ((), End.RUNNING),
        ((FINISH,), End.COMPLETED),
        ((ERROR.format("unterminated tool call"),), End.FAILED),
        ((ERROR.format("client stream write failed"),), End.ABORTED),
        ((ERROR.format("client disconnected"),), End.ABORTED),
        (("chat ctx=0..9:9 TOOLS stream closed during prefill",), End.ABORTED),
        (("chat ctx=0..9:9 sse headers failed",), End.ABORTED),
        (("chat ctx=0..9:9 anthropic stream start failed",), End.ABORTED),
        (("chat ctx=0..9:9 openai role chunk failed",), End.ABORTED),
        (("chat ctx=0..9:9 responses created event failed",), End.ABORTED),
        (("chat ctx=0..9:9 client disconnected",), End.ABORTED),
        (("chat ctx=0..9:9 client disconnected", ERROR.format("cuda oops")), End.ABORTED),
        (("chat ctx=0..9:9 final stream failed",), End.RUNNING),
        (("chat ctx=0..9:9 final stream failed", ERROR.format("cuda oops")), End.ABORTED),
        (("chat ctx=0..9:9 final stream failed", FINISH), End.COMPLETED),
        ((MISS,), End.FAILED),
        (("thinking live continuation match=visible-prefix cached=9 prompt=12",), End.FAILED),
        (("persisting current KV cache before shutdown tokens=9",), End.FAILED),
        ((STOP, FINISH), End.COMPLETED),
        ((STOP, ERROR.format("shutdown requested")), End.INTERRUPTED),
        ((STOP, ERROR.format("client stream write failed")), End.INTERRUPTED),
        ((STOP, "chat ctx=0..9:9 TOOLS stream closed during prefill"), End.INTERRUPTED),
        ((STOP, "chat ctx=0..9:9 client disconnected"), End.INTERRUPTED),
        ((STOP, "persisting current KV cache before shutdown tokens=9"), End.INTERRUPTED),
        ((STOP,), End.RUNNING),
        ((OOM_SCORE,), End.INTERRUPTED),
        ((BUFFERS,), End.INTERRUPTED),
        ((CUDA,), End.INTERRUPTED),
        ((ENGINE,), End.RUNNING),
    ],
)
def test_a_request_has_the_first_end_that_fits(lines: tuple[str, ...], end: End) -> None:
    state = run(BUFFERS, LISTENING, START, DONE, *lines)
    assert only(state).end is end
    assert (only(state) in state.open) is (end is End.RUNNING)


def test_another_prompt_start_ends_the_one_before() -> None:
    state = run(START, DONE, "chat ctx=9..20:11 prompt start")
    assert ends(state) == [End.FAILED, End.RUNNING]
    assert state.running is state.requests[1]


def test_a_finish_of_another_span_ends_nothing() -> None:
    state = run(START, FINISH.replace("0..9:9", "0..8:8"))
    assert ends(state) == [End.RUNNING]


def test_what_happened_to_a_stream_during_a_shutdown_is_not_the_client() -> None:
    state = run(
        BUFFERS, LISTENING, START, DONE, STOP,
        "chat ctx=0..9:9 TOOLS final stream failed", ERROR.format("shutdown requested"),
    )  # fmt: skip
    assert ends(state) == [End.INTERRUPTED]


def test_generation_that_restarts_stays_one_request() -> None:
    state = run(
        START, DONE, decoding(9, 59, 50), "tool-error continuation appended 81 tokens",
        decoding(140, 190, 50), FINISH.replace("gen=20", "gen=50"),
    )  # fmt: skip
    assert only(state).end is End.COMPLETED
    assert (only(state).generated_tokens, only(state).decode_samples) == (50, 2)


def test_a_rebuild_after_decoding_is_finishing_and_no_prefill_sample() -> None:
    rebuild = prefill(4_096, 9_000, 700.0).replace("prefill chunk", "tool checkpoint rebuild chunk")
    state = run(START, DONE, decoding(9, 59, 50), rebuild)
    assert only(state).phase is Phase.FINISHING
    assert len(state.prefill) == 0
    assert ends(run(START, DONE, decoding(9, 59, 50), rebuild, FINISH)) == [End.COMPLETED]


def test_a_hit_of_a_lookup_is_a_disk_hit_with_its_costs() -> None:
    state = run(
        MISS, STORED.format(29, "evict"), HIT.format(600), "chat ctx=600..640:40 prompt start",
        "chat ctx=600..640:40 prompt done 0.600s",
    )  # fmt: skip
    request = only(state)
    assert request.hit is not None
    assert [hit.tokens for hit in state.disk_hits] == [600]
    assert request.miss is not None
    assert request.miss.common_tokens == 3
    assert request.ttft_s == pytest.approx(0.6 + 0.05 + 0.02)


def test_a_hit_of_a_rebuild_is_none_of_a_lookup() -> None:
    state = run(
        START, DONE, decoding(9, 59, 50), HIT.format(5), FINISH,
        "chat ctx=29..40:11 prompt start",
    )  # fmt: skip
    assert len(state.hits) == 1
    assert not state.disk_hits
    assert [request.hit for request in state.requests] == [None, None]


def test_a_hit_for_other_tokens_than_the_prompt_takes_is_no_disk_hit() -> None:
    state = run(MISS, HIT.format(600), "chat ctx=0..640:640 prompt start")
    assert (len(state.hits), len(state.disk_hits)) == (1, 0)


@pytest.mark.parametrize(
    ("line", "continuation"),
    [
        ("responses live continuation RESPPROTO match=visible-prefix ids=1 cached=9 prompt=12",
         "responses"),
        ("anthropic live continuation match=tool-output-ids ids=1 cached=9 prompt=12",
         "anthropic"),
        ("thinking live continuation match=visible-prefix cached=9 prompt=12", "thinking"),
        ("responses replay RESPPROTO missing reasoning state; continuing from visible history"
         " source=none cached=9 prompt=12", "replay"),
        (STORED.format(9, "continued"), None),
    ],
)  # fmt: skip
def test_where_reused_tokens_came_from(line: str, continuation: str | None) -> None:
    assert only(run(line, "chat ctx=9..12:3 prompt start")).continuation == continuation


def test_a_prompt_without_chunk_lines() -> None:
    state = run(
        "completion ctx=0..700:700 prompt start", "completion ctx=0..700:700 prompt done 0.912s"
    )
    request = only(state)
    assert (request.phase, request.prefill_done_tokens) == (Phase.DECODE, 700)
    assert (request.context_tokens, request.prompt_s, request.api) == (700, 0.912, "completion")
    assert len(state.prefill) == 0


def test_which_chunks_are_prefill_samples() -> None:
    state = run(
        "chat ctx=0..9000:9000 prompt start",
        prefill(0, 9_000, 0.0),
        prefill(2_048, 9_000, 850.0),
        prefill(2_056, 9_000, 50.0),
        prefill(4_096, 9_000, 0.0),
        prefill(6_144, 9_000, 820.0),
        STORED.format(6_144, "continued"),
        prefill(8_192, 9_000, 700.0),
        prefill(9_000, 9_000, 790.0),
    )
    assert list(state.prefill.context) == [2_048, 6_144, 9_000]
    assert list(state.prefill.tps) == [850.0, 820.0, 790.0]


def test_decode_samples_are_intervals_of_ten_tokens_or_more() -> None:
    state = run(
        START, DONE, decoding(9, 59, 50, rate=14.0), decoding(59, 69, 60, rate=13.0),
        decoding(69, 78, 69, rate=3.0), FINISH,
    )  # fmt: skip
    assert list(state.decode.context) == [59, 69]
    assert list(state.decode.tps) == [14.0, 13.0]
    assert list(state.decode.request) == [1, 1]
    assert only(state).decode_tps == 13.0


def test_a_batched_session_matches_lines_by_their_span() -> None:
    state = run(
        BUFFERS,
        "batched mode enabled resident_sessions=2 prefill_quantum=512 mixed_prefill_quantum=128"
        " decode_coalesce_us=200",
        LISTENING,
        "chat ctx=0..100:100 prompt start",
        "chat ctx=0..200:200 prompt start",
        "chat ctx=0..100:100 prompt done 1.000s",
        "chat ctx=0..200:200 prompt done 2.000s",
        decoding(100, 150, 50, rate=7.0),
        decoding(200, 250, 50, rate=6.0),
        decoding(150, 200, 100, rate=5.0),
        "chat ctx=0..200:200 gen=50 finish=stop 5.000s",
        "chat ctx=0..100:100 gen=100 finish=length 9.000s",
    )
    first, second = state.requests
    assert (first.end, first.finish, first.generated_tokens) == (End.COMPLETED, "length", 100)
    assert (second.end, second.finish, second.duration_s) == (End.COMPLETED, "stop", 5.0)
    assert (first.prompt_s, second.prompt_s) == (1.0, 2.0)
    assert list(state.decode.request) == [1, 2, 1]


def test_a_batched_lookup_ends_only_the_request_of_its_slot() -> None:
    state = run(
        BUFFERS, "batched mode enabled resident_sessions=2", LISTENING,
        "chat ctx=0..100:100 prompt start", "chat ctx=0..200:200 prompt start",
        "chat ctx=0..100:100 prompt done 1.000s", "chat ctx=0..200:200 prompt done 2.000s",
        "live kv cache miss live=100 prompt=50 common=1 reason=token-mismatch",
        "chat ctx=0..50:50 prompt start",
    )  # fmt: skip
    assert ends(state) == [End.FAILED, End.RUNNING, End.RUNNING]
    assert [request.miss is not None for request in state.requests] == [False, False, True]


def test_a_cold_save_of_what_was_evicted_before() -> None:
    evicted = "kv cache evicted reason=disk-cache-full tokens=9 hits=0 size=1.00 MiB file=/c/a.kv"
    cold = STORED.format(9, "cold")
    assert only(run(evicted, START, cold)).evicted_before
    assert not only(run(START, cold)).evicted_before
    state = run(evicted, START, cold, FINISH, START, cold)
    assert [request.evicted_before for request in state.requests] == [True, False]


def test_a_poisoned_gpu_is_remembered() -> None:
    line = "ds4: CUDA decode failed: an illegal memory access was encountered"
    state = run(BUFFERS, LISTENING, line)
    assert state.lives[0].poisoned == "an illegal memory access was encountered"
    assert state.lives[0].warnings == {"cuda-error": 1}


def test_a_live_view_keeps_a_bounded_history() -> None:
    state = run(*[START, DONE, decoding(9, 29, 20), FINISH] * 400, limit=50)
    assert len(state.requests) <= 56
    assert len(state.requests) + state.requests_dropped == 400
    assert state.requests[-1].number == 400
    assert len(state.decode) <= 564


def test_a_year_change_a_misleading_chunk_and_a_clean_stop() -> None:
    data = (DATA / "new-year" / "server.log").read_bytes()
    mtime = datetime(2027, 1, 1, 0, 0, 33, tzinfo=UTC).timestamp()
    reader = LogReader(StampClock(mtime + 86_400, UTC))
    state = LogState()
    Reducer(state).apply([*reader.feed(data), *reader.close()])
    assert (reader.lines, reader.unrecognised) == (45, 0)
    (life,) = state.lives
    assert (life.begun_at, life.listening_at) == (
        datetime(2026, 12, 31, 23, 58, 1, tzinfo=UTC).timestamp(),
        datetime(2026, 12, 31, 23, 58, 2, tzinfo=UTC).timestamp(),
    )
    assert state.last_at == mtime
    assert life.plan["planned_gib"] == 83.16
    assert (life.shutdown, life.persisted, life.persist_open) == (True, True, False)
    assert ends(state) == [End.COMPLETED, End.COMPLETED, End.INTERRUPTED]
    assert [r.finish for r in state.requests] == ["tool_calls", "stop", "error"]
    assert [r.generated_tokens for r in state.requests] == [82, 11, 29]
    assert [r.duration_s for r in state.requests] == [16.702, 1.335, 2.834]
    assert [r.miss is not None for r in state.requests] == [False, True, True]
    assert [r.miss.common_tokens for r in state.requests if r.miss] == [12, 1]
    assert [r.miss.extra for r in state.requests if r.miss] == [(("vision", "match"),)] * 2
    assert [r.first_of_life for r in state.requests] == [True, False, False]
    assert [hit.tokens for hit in state.disk_hits] == [600]
    assert state.requests[1].ttft_s == pytest.approx(0.601 + 0.118 + 0.0204)
    assert [s.reason for s in state.stores] == ["cold", "evict", "evict", "cold", "shutdown"]
    assert sum(s.size_mib for s in state.stores) == pytest.approx(314.70)
    assert list(zip(state.prefill.context, state.prefill.tps, strict=True)) == [
        (8_192, 838.66), (9_000, 841.67),
    ]  # fmt: skip
    assert list(zip(state.decode.context, state.decode.tps, strict=True)) == [
        (9_050, 14.71), (9_082, 14.60), (651, 15.03), (729, 15.10),
    ]  # fmt: skip
    assert [(t.n, t.names) for t in state.tool_lines] == [(1, ("read_file",))]
    assert state.requests[0].thinking
    assert state.open == []
