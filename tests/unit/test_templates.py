"""Every line of a request, the server and the disk cache, and the event it becomes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ds4top.core import events as ev
from ds4top.core.logread import LogReader
from ds4top.core.stamps import StampClock

DATA = Path(__file__).parents[1] / "data" / "ds4"
T = "0521 10:00:00 ds4-server: "
AT = datetime(2026, 5, 21, 10, tzinfo=UTC).timestamp()
LATEST = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
NONE = frozenset[str]()
TOOLS = frozenset({"TOOLS"})


def read(data: bytes) -> tuple[list[ev.Event], LogReader]:
    reader = LogReader(StampClock(LATEST, UTC))
    return [*reader.feed(data), *reader.close()], reader


REQUEST = [
    (
        "chat ctx=0..17642:17642 TOOLS prompt start",
        ev.PromptStart(AT, "chat", 0, 17642, 17642, TOOLS),
    ),
    (
        "completion ctx=600..640:40 prompt start",
        ev.PromptStart(AT, "completion", 600, 640, 40, NONE),
    ),
    (
        "chat ctx=0..9:9 RESPPROTO TOOLS prompt start",
        ev.PromptStart(AT, "chat", 0, 9, 9, frozenset({"RESPPROTO", "TOOLS"})),
    ),
    (
        "chat ctx=0..56603:56603 TOOLS prefill chunk 32768/56603 (57.9%) chunk=0.00 t/s"
        " avg=417.95 t/s 78.401s",
        ev.PrefillChunk(
            AT, "chat", 0, 56603, 56603, TOOLS, False, 32768, 56603, 0.0, 417.95, 78.401
        ),
    ),
    (
        "chat ctx=0..9000:9000 tool checkpoint rebuild chunk 4096/9000 (45.5%) chunk=50.00 t/s"
        " avg=778.71 t/s 5.260s",
        ev.PrefillChunk(AT, "chat", 0, 9000, 9000, NONE, True, 4096, 9000, 50.0, 778.71, 5.26),
    ),
    (
        "chat ctx=0..56603:56603 TOOLS prompt done 157.932s",
        ev.PromptDone(AT, "chat", 0, 56603, 56603, TOOLS, 157.932),
    ),
    (
        "chat ctx=17642..17692:50 gen=50 TOOLS THINKING decoding chunk=13.71 t/s avg=13.70 t/s"
        " 3.647s",
        ev.Decoding(
            AT, "chat", 17642, 17692, 50, 50, TOOLS | {"THINKING"}, 13.71, 13.70, 3.647
        ),
    ),
    (
        "chat ctx=31937..33659:1722 gen=2457 TOOLS finish=stop 109.032s",
        ev.Finish(AT, "chat", 31937, 33659, 1722, 2457, TOOLS, "stop", None, 109.032),
    ),
    (
        "chat ctx=0..9:9 gen=7 TOOLS DSML_START DSML_END finish=tool_calls 1.000s",
        ev.Finish(
            AT, "chat", 0, 9, 9, 7, TOOLS | {"DSML_START", "DSML_END"}, "tool_calls", None, 1.0
        ),
    ),
    (
        'completion ctx=0..700:700 gen=29 finish=error error="shutdown requested" 2.834s',
        ev.Finish(
            AT, "completion", 0, 700, 700, 29, NONE, "error", "shutdown requested", 2.834
        ),
    ),
    (
        'chat ctx=0..7:7 gen=2 finish=error error="he said "no" at 1.5s" 2.000s',
        ev.Finish(AT, "chat", 0, 7, 7, 2, NONE, "error", 'he said "no" at 1.5s', 2.0),
    ),
    (
        "chat ctx=0..7582:7582 stream closed during prefill",
        ev.StreamLost(
            AT, "chat", 0, 7582, 7582, NONE, "prefill_closed", "stream closed during prefill"
        ),
    ),
    (
        "chat ctx=0..5:5 TOOLS sse headers failed",
        ev.StreamLost(AT, "chat", 0, 5, 5, TOOLS, "start_failed", "sse headers failed"),
    ),
    (
        "chat ctx=0..5:5 anthropic stream start failed",
        ev.StreamLost(AT, "chat", 0, 5, 5, NONE, "start_failed", "anthropic stream start failed"),
    ),
    (
        "chat ctx=0..5:5 openai role chunk failed",
        ev.StreamLost(AT, "chat", 0, 5, 5, NONE, "start_failed", "openai role chunk failed"),
    ),
    (
        "chat ctx=0..5:5 RESPPROTO responses created event failed",
        ev.StreamLost(
            AT, "chat", 0, 5, 5, frozenset({"RESPPROTO"}), "start_failed",
            "responses created event failed",
        ),
    ),
    (
        "chat ctx=0..5:5 TOOLS final stream failed",
        ev.StreamLost(AT, "chat", 0, 5, 5, TOOLS, "final_failed", "final stream failed"),
    ),
    (
        "chat ctx=0..5:5 client disconnected",
        ev.StreamLost(AT, "chat", 0, 5, 5, NONE, "disconnected", "client disconnected"),
    ),
]  # fmt: skip

SERVER = [
    (
        "live kv cache miss live=5873 prompt=5893 common=5638 reason=token-mismatch",
        ev.LiveMiss(AT, False, 5873, 5893, 5638, "token-mismatch"),
    ),
    (
        "live kv cache miss RESPPROTO live=1 prompt=2 common=1"
        " reason=incoming-prompt-shorter-than-live-checkpoint",
        ev.LiveMiss(AT, True, 1, 2, 1, "incoming-prompt-shorter-than-live-checkpoint"),
    ),
    (
        "live kv cache miss live=9082 prompt=640 common=12 vision=match reason=token-mismatch",
        ev.LiveMiss(AT, False, 9082, 640, 12, "token-mismatch", (("vision", "match"),)),
    ),
    (
        "responses live continuation RESPPROTO match=visible-prefix ids=0 cached=9 prompt=12",
        ev.Continuation(AT, "responses", "visible-prefix", 0, 9, 12, False),
    ),
    (
        "anthropic live continuation match=tool-output-ids ids=2 cached=9 prompt=12",
        ev.Continuation(AT, "anthropic", "tool-output-ids", 2, 9, 12, False),
    ),
    (
        "thinking live continuation match=visible-prefix cached=9 prompt=12",
        ev.Continuation(AT, "thinking", "visible-prefix", None, 9, 12, False),
    ),
    (
        "responses replay RESPPROTO missing reasoning state; continuing from visible history"
        " source=disk-text cached=9 prompt=12",
        ev.Continuation(AT, "responses", "disk-text", None, 9, 12, True),
    ),
    (
        "tool calls ctx=0..5816:5816 n=2 raw_dsml=1 ids=[call_1,call_2] names=[bash,read_file]",
        ev.ToolCalls(AT, 0, 5816, 5816, 2, 1, ("call_1", "call_2"), ("bash", "read_file")),
    ),
    (
        "tool calls ctx=0..9:9 RESPPROTO n=1 raw_tool_text=0 ids=[fc_1] names=[a] b[0]]",
        ev.ToolCalls(AT, 0, 9, 9, 1, 0, ("fc_1",), ("a] b[0]",)),
    ),
    (
        "persisting current KV cache before shutdown tokens=729",
        ev.Persisting(AT, 729, None),
    ),
    (
        "persisting resident KV cache before shutdown slot=1 tokens=729",
        ev.Persisting(AT, 729, 1),
    ),
    (
        "context buffers 2459.24 MiB (ctx=100000, backend=cuda, prefill_chunk=4096,"
        " raw_kv_rows=4352, compressed_kv_rows=25002)",
        ev.ContextBuffers(AT, 2459.24, 100000, "cuda", 4096, 4352, 25002),
    ),
    (
        "context buffers 1.00 MiB (ctx=1, backend=cuda, pages=7, prefill_chunk=2,"
        " raw_kv_rows=3, compressed_kv_rows=4)",
        ev.ContextBuffers(AT, 1.0, 1, "cuda", 2, 3, 4, (("pages", "7"),)),
    ),
    (
        "KV disk cache /var/my (old) cache (budget=8192 MiB, cross-quant=accept, min=512,"
        " cold_max=30000, continued=10000, trim=32, align=2048, hit_half_life=21600s)",
        ev.KvDiskCache(
            AT, "/var/my (old) cache", 8192, "accept", 512, 30000, 10000, 32, 2048,
            (("hit_half_life", "21600s"),),
        ),
    ),
    ("listening on http://127.0.0.1:8000", ev.Listening(AT, "http://127.0.0.1:8000")),
    ("shutdown requested, draining requests", ev.ShutdownRequested(AT)),
    (
        "batched mode enabled resident_sessions=4 prefill_quantum=512"
        " mixed_prefill_quantum=128 decode_coalesce_us=200",
        ev.BatchedMode(AT, 4),
    ),
]  # fmt: skip

KV = [
    (
        "kv cache stored tokens=4088 trimmed=4912 reason=cold key=token-text size=76.62 MiB"
        " save=61.2 ms",
        ev.KvStored(AT, 4088, 4912, "cold", "token-text", 76.62, 61.2),
    ),
    (
        "kv cache stored tokens=9 trimmed=-1 reason=evict key=thinking-visible size=0.50 MiB"
        " save=1.0 ms",
        ev.KvStored(AT, 9, -1, "evict", "thinking-visible", 0.5, 1.0),
    ),
    (
        "kv cache hit text tokens=600 text=2411 quant=2 key=token-text load=20.4 ms"
        " file=/var/cache/ds4/0123.kv",
        ev.KvHit(AT, 600, 2411, 2, "token-text", 20.4, False, "/var/cache/ds4/0123.kv"),
    ),
    (
        "kv cache hit text RESPPROTO tokens=600 text=2411 quant=4 key=responses-visible"
        " load=20.4 ms consumed file=/var/a cache/0123.kv",
        ev.KvHit(
            AT, 600, 2411, 4, "responses-visible", 20.4, True, "/var/a cache/0123.kv"
        ),
    ),
    (
        "kv cache evicted reason=disk-cache-full tokens=99 hits=3 size=1.50 MiB file=/c/a.kv",
        ev.KvEvicted(AT, "disk-cache-full", 99, 3, 1.5, "/c/a.kv"),
    ),
    (
        "kv cache skipped tokens=5 reason=cold because live checkpoint is at 7",
        ev.KvSkipped(AT, 5, "cold", "live checkpoint is at 7"),
    ),
    (
        "kv cache skipped tokens=5 because rendered text is too large",
        ev.KvSkipped(AT, 5, "", "rendered text is too large"),
    ),
    (
        "kv cache skipped tokens=5 reason=evict because tool map size overflowed",
        ev.KvSkipped(AT, 5, "evict", "tool map size overflowed"),
    ),
    (
        "kv cache skipped tokens=5 reason=evict because estimated file size 9.00 MiB"
        " (9.90 MiB with safety) exceeds budget 4.00 MiB",
        ev.KvSkipped(
            AT, 5, "evict",
            "estimated file size 9.00 MiB (9.90 MiB with safety) exceeds budget 4.00 MiB",
        ),
    ),
    (
        "kv cache skipped tokens=5 reason=evict because KV payload staging failed: No space",
        ev.KvSkipped(AT, 5, "evict", "KV payload staging failed: No space"),
    ),
    (
        "kv cache failed to create /c/x.tmp: Permission denied save=0.3 ms",
        ev.KvStoreFailed(AT, "failed to create /c/x.tmp", "Permission denied", 0.3),
    ),
    (
        "kv cache store failed (cold): No space left on device save=91.0 ms",
        ev.KvStoreFailed(AT, "store failed (cold)", "No space left on device", 91.0),
    ),
    (
        "kv cache load failed RESPPROTO /c/a.kv: cached text hash mismatch load=2.0 ms",
        ev.KvLoadFailed(AT, "/c/a.kv", "cached text hash mismatch", 2.0),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "event"), [*REQUEST, *SERVER, *KV])
def test_a_stamped_line_becomes_its_event(body: str, event: ev.Event) -> None:
    events, reader = read(f"{T}{body}\n".encode())
    assert events == [event]
    assert type(events[0]) is type(event)
    assert reader.unrecognised == 0


@pytest.mark.parametrize(("body", "event"), [*REQUEST, *SERVER, *KV])
def test_the_short_way_and_the_templates_agree(body: str, event: ev.Event) -> None:
    # Colour takes a line off the short way.
    events, _ = read(f"0521 10:00:00 \x1b[36mds4-server: {body}\x1b[0m\n".encode())
    assert events == [event]
    assert type(events[0]) is type(event)


@pytest.mark.parametrize(
    "path", sorted(DATA.rglob("*.log")) + sorted(DATA.rglob("*.stderr")), ids=lambda p: p.name
)
def test_nothing_of_the_recorded_logs_is_unrecognised(path: Path) -> None:
    data = path.read_bytes()
    events, reader = read(data)
    assert [e for e in events if isinstance(e, ev.Unrecognised)] == []
    assert reader.unrecognised == 0
    assert reader.lines == data.count(b"\n")
    assert events


def test_an_unknown_server_line_is_kept_raw_and_drops_nothing() -> None:
    events, reader = read(
        f"{T}chat ctx=0..9:9 prompt start\n{T}a line of tomorrow x=1\n"
        f"{T}chat ctx=0..9:9 prompt done 1.000s\n".encode()
    )
    assert events == [
        ev.PromptStart(AT, "chat", 0, 9, 9, NONE),
        ev.Unrecognised(AT, "ds4-server: a line of tomorrow x=1"),
        ev.PromptDone(AT, "chat", 0, 9, 9, NONE, 1.0),
    ]
    assert reader.unrecognised == 1
