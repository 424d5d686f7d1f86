"""Every line template of the server, the disk cache and the engine, and the event it becomes."""

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
SPAN_FIELDS = {"a": 10, "b": 30, "c": 20}


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

NOTES = [
    (
        "kv cache discarded corrupt text-prefix payload /c/a.kv",
        "kv-discarded", "warning", "/c/a.kv", {},
    ),
    ("kv cache replaced incompatible file /c/a.kv", "kv-replaced", "warning", "/c/a.kv", {}),
    (
        "kv cache discarded reason=prefill-failed file=/c/a.kv",
        "kv-discarded", "warning", "/c/a.kv", {"reason": "prefill-failed"},
    ),
    (
        "kv cache failed to discard prefill-failed file=/c/a.kv: EIO",
        "kv-discard-failed", "warning", "/c/a.kv: EIO", {"reason": "prefill-failed"},
    ),
    (
        "failed to create KV cache directory /proc/nope/kv: No such file or directory",
        "kv-dir-failed", "error", "No such file or directory", {"directory": "/proc/nope/kv"},
    ),
    ("tracing session to /var/log/t.txt", "tracing", "info", "/var/log/t.txt", {}),
    ("accept failed: Too many open files", "accept-failed", "info", "Too many open files", {}),
    (
        "thinking live checkpoint remembered ctx=10..30:20 live=651 visible=2560",
        "thinking-remembered", "info", "", {**SPAN_FIELDS, "live": 651, "visible": 2560},
    ),
    (
        "tool checkpoint canonicalized ctx=10..30:20 common=5 live=8 canonical=9",
        "checkpoint", "info", "", {**SPAN_FIELDS, "common": 5, "live": 8, "canonical": 9},
    ),
    (
        "tool checkpoint canonicalization needs 70 tokens rebuild ctx=10..30:20"
        " request_ctx=1..2:1 reason=canonical-tail-rewrite tail=4 discard=6 common=5 live=8"
        " target=9 cached=3 source=disk file=/c/a b.kv",
        "checkpoint-rebuild", "warning", "/c/a b.kv",
        {
            **SPAN_FIELDS, "tokens": 70, "request_ctx": "1..2:1",
            "reason": "canonical-tail-rewrite", "tail": 4, "discard": 6, "common": 5, "live": 8,
            "target": 9, "cached": 3, "source": "disk",
        },
    ),
    (
        "tool checkpoint rebuild done ctx=10..30:20 request_ctx=1..2:1 source=full cached=0"
        " replay=9 target=9 1.500s",
        "checkpoint-rebuilt", "info", "",
        {
            **SPAN_FIELDS, "request_ctx": "1..2:1", "source": "full", "cached": 0, "replay": 9,
            "target": 9, "elapsed_s": 1.5,
        },
    ),
    (
        'tool checkpoint rebuild failed ctx=10..30:20 request_ctx=1..2:1 source=full cached=0'
        ' replay=9 target=9 error="no room"',
        "checkpoint-failed", "warning", "no room",
        {
            **SPAN_FIELDS, "request_ctx": "1..2:1", "source": "full", "cached": 0, "replay": 9,
            "target": 9,
        },
    ),
    (
        'tool checkpoint canonicalization failed ctx=10..30:20 common=1 live=2 canonical=3'
        ' error="no room"',
        "checkpoint-failed", "warning", "no room",
        {**SPAN_FIELDS, "common": 1, "live": 2, "canonical": 3},
    ),
    (
        "chat ctx=10..30:20 TOOLS ignored orphan tool-call end marker after 12 generated tokens",
        "orphan-tool-end", "warning", "",
        {**SPAN_FIELDS, "kind": "chat", "flags": "TOOLS ", "tokens": 12},
    ),
    (
        "chat ctx=10..30:20 invalid tool call returned as assistant text finish=stop",
        "bad-tool-call", "warning", "",
        {**SPAN_FIELDS, "kind": "chat", "flags": "", "finish": "stop"},
    ),
    (
        "chat ctx=10..30:20 invalid tool call returned as assistant text finish=stop"
        " [text_len=2 saw_start=1 saw_end=0 text_snippet: hi]",
        "bad-tool-call", "warning", " [text_len=2 saw_start=1 saw_end=0 text_snippet: hi]",
        {**SPAN_FIELDS, "kind": "chat", "flags": "", "finish": "stop"},
    ),
    ("invalid tool call dsml_snippet: <x>", "tool-snippet", "warning", "<x>", {}),
    (
        "repaired unterminated tool call (2 calls recovered)",
        "repaired-tool", "warning", " (2 calls recovered)", {},
    ),
    (
        "invalid tool call; continuing with model-visible tool error",
        "unterminated-tool", "warning", "with model-visible tool error", {},
    ),
    ("tool-error continuation appended 81 tokens", "tool-continued", "info", "", {"tokens": 81}),
    (
        "recovered a complete tool call from unclosed reasoning after 9 generated tokens",
        "recovered-tool", "info", "", {"tokens": 9},
    ),
    (
        "thinking not closed, ignoring incomplete DSML in reasoning",
        "open-thinking", "info", "", {},
    ),
    (
        "rewound GLM live prefix from 9 to 8; final prompt token will be reevaluated",
        "rewound", "info", "", {"from_tokens": 9, "to_tokens": 8},
    ),
    (
        "chat ctx=10..30:20 prefill failed after stream closed: cuda oops",
        "prefill-failed", "warning", "cuda oops", {**SPAN_FIELDS, "kind": "chat", "flags": ""},
    ),
    (
        "chat ctx=10..30:20 prefill SSE error failed: oops",
        "prefill-sse-failed", "warning", "oops", {**SPAN_FIELDS, "kind": "chat", "flags": ""},
    ),
    (
        "4 resident sessions request at least 9.50 GiB of context buffers",
        "sessions", "info", "", {"sessions": 4, "size_gib": 9.5},
    ),
    (
        "exact DSML tool replay disabled; using canonical tool text",
        "no-exact-replay", "info", "", {},
    ),
    (
        "MTP speculative decoding is disabled while native session batching is active",
        "mtp-off", "info", "", {},
    ),
    (
        "decode batch count=3 elapsed=81.250 ms status=ok",
        "decode-batch", "info", "", {"count": 3, "elapsed_ms": 81.25, "status": "ok"},
    ),
    (
        "request queued behind 2 job(s) (worker busy)", "queued", "info", "", {"jobs": 2},
    ),
    ("request queued behind 1 job(s)", "queued", "info", "", {"jobs": 1}),
    (
        "dropping queued request: client disconnected", "queue-dropped", "info", "", {},
    ),
    (
        "prefill cancelled ctx=10..30:20 reason=client-gone",
        "prefill-cancelled", "info", "", {**SPAN_FIELDS, "reason": "client-gone"},
    ),
    (
        "stopped repetitive decode after 900 generated tokens ngram=4 repeats=32",
        "repetition", "info", "", {"tokens": 900, "ngram": 4, "repeats": 32},
    ),
    (
        "thinking mode ignores request sampling params (temperature)",
        "sampling-ignored", "info", "", {},
    ),
    ("request images=2", "images", "info", "", {"images": 2}),
    ("multimodal live kv hit cached=5", "multimodal-hit", "info", "", {}),
    (
        "rewind point remembered pos=9 text=4", "rewind-remembered", "info", "",
        {"pos": 9, "visible": 4},
    ),
    (
        "rewind point hit pos=9 live=12 prompt=15", "rewind-hit", "info", "",
        {"pos": 9, "live": 12, "prompt": 15},
    ),
]  # fmt: skip

FATAL = [
    ("unknown option: --no-mmap", "unknown_option", "--no-mmap", 2),
    ("missing value for -m", "missing_value", "-m", 2),
    ("invalid value for --ctx: 128k", "invalid_value", "--ctx: 128k", 2),
    ("failed to chdir to /nope: No such file", "chdir_failed", "/nope: No such file", 1),
    ("failed to open trace file /t: EACCES", "trace_file", "/t: EACCES", 1),
    (
        "failed to listen on 127.0.0.1:80: Address already in use",
        "port_in_use", "127.0.0.1:80: Address already in use", 1,
    ),
    ("failed to listen on x:80: Invalid argument", "listen_failed", "x:80: Invalid argument", 1),
    ("failed to create cuda session", "session_failed", "cuda", 1),
    ("failed to create cuda session 2/4", "session_failed", "cuda", 1),
]  # fmt: skip

ENGINE = [
    ("Linux cuda backend set oom_score_adj=1000", ev.LifeBegin(None, "oom_score_adj", 1000.0)),
    ("warming mapped tensor pages: 80.76 GiB", ev.LifeBegin(None, "warming", 80.76)),
    (
        "warmed tensor pages in 12.500s (checksum=991)",
        ev.LoadProgress(None, "warm", None, None, 12.5, True),
    ),
    (
        "CUDA backend initialized on NVIDIA GB10 (sm_121)",
        ev.LifeBegin(None, "cuda_init", None, "NVIDIA GB10", "sm_121", None),
    ),
    (
        "CUDA backend initialized on NVIDIA GB10 (sm_121) dev=0",
        ev.LifeBegin(None, "cuda_init", None, "NVIDIA GB10", "sm_121", 0),
    ),
    (
        "built 456 aligned CUDA artifacts (68.58 GiB) in 18.7s; expert raw residency replaced",
        ev.LoadProgress(None, "artifacts", 68.58, None, 18.7, True),
    ),
    (
        "CUDA aligned artifacts replace expert residency; leaving the 80.76 GiB model mmap"
        " unpinned",
        ev.LoadProgress(None, "artifacts", None, 80.76, None, True),
    ),
    (
        "CUDA registered 80.76 GiB model mapping for device access",
        ev.LoadProgress(None, "register", 80.76, None, None, True),
    ),
    (
        "CUDA copying 80.76 GiB model to device memory",
        ev.LoadProgress(None, "copy", None, 80.76),
    ),
    (
        "CUDA model copy complete in 46.257s",
        ev.LoadProgress(None, "copy", None, None, 46.257, True),
    ),
    (
        "CUDA chunk-copying 80.76 GiB model image",
        ev.LoadProgress(None, "copy", None, 80.76),
    ),
    (
        "CUDA model chunk copy 12.00/80.76 GiB", ev.LoadProgress(None, "copy", 12.0, 80.76),
    ),
    (
        "CUDA model chunk copy complete in 30.000s (80.76 GiB tensors)",
        ev.LoadProgress(None, "copy", 80.76, None, 30.0, True),
    ),
    (
        "CUDA ATS/HMM prefetch queued 80.76 GiB of model tensors in 0.100s",
        ev.LoadProgress(None, "prefetch", 80.76, None, 0.1, True),
    ),
    ("CUDA loading model tensors into device cache", ev.LoadProgress(None, "tensors")),
    (
        "CUDA loading model tensors into device cache: 2.00 GiB",
        ev.LoadProgress(None, "tensors", 2.0),
    ),
    ("CUDA loading model tensors 16.02 GiB cached", ev.LoadProgress(None, "tensors", 16.02)),
    ("CUDA preparing model tensor mappings", ev.LoadProgress(None, "map")),
    ("CUDA prepared model tensor mappings 16.37 GiB", ev.LoadProgress(None, "map", 16.37)),
    (
        "CUDA startup model cache prepared 80.76 GiB of tensor spans in 24.310s",
        ev.LoadProgress(None, "prepared", 80.76, None, 24.31, True),
    ),
    (
        "CUDA startup model preparation covered 80.76 GiB of tensor spans in 24.310s",
        ev.LoadProgress(None, "prepared", 80.76, None, 24.31, True),
    ),
    (
        "cuda backend initialized for graph diagnostics",
        ev.LoadProgress(None, "engine", None, None, None, True),
    ),
    (
        "another ds4 process is already running (pid 19205); refusing to start",
        ev.AlreadyRunning(None, 19205),
    ),
]  # fmt: skip

ENGINE_FATAL = [
    ("cannot open model '/m.gguf': No such file or directory", "model_missing", "/m.gguf"),
    ("model file is too small to be GGUF", "model_too_small", ""),
    ("model is not a GGUF file", "model_not_gguf", ""),
    ("tensor points outside GGUF file", "model_truncated", ""),
    (
        "cuda backend requested but this build has no graph backend support; aborting startup",
        "backend_missing", "cuda",
    ),
    (
        "accelerator failed to cache model tensor span 3 at offset 99",
        "weights_failed", "model tensor span 3 at offset 99",
    ),
    (
        "CUDA model 120.00 GiB exceeds the default single-GPU startup cache budget 96.00 GiB;"
        " set a limit",
        "model_too_large", "96.00 GiB",
    ),
    ("out of memory", "out_of_memory", ""),
]  # fmt: skip

ENGINE_NOTES = [
    (
        "MTP support model loaded: /m/mtp.gguf (draft=2)",
        "support-model", "info", "/m/mtp.gguf", {"draft": 2},
    ),
    (
        "DSpark support model detected: /m/d.gguf (stages=2 block=4)",
        "support-model", "info", "/m/d.gguf (stages=2 block=4)", {},
    ),
    (
        "CUDA host registration skipped: operation not supported",
        "register-skipped", "warning", "operation not supported", {},
    ),
    (
        "memory: KV 1.64 GiB (raw 0.36 + compressed 1.28) + buffers 0.76 GiB + resident model"
        " 80.76 GiB + expert cache 2.00 GiB = 85.16 GiB planned",
        "memory-plan", "info", "",
        {
            "kv_gib": 1.64, "raw_gib": 0.36, "compressed_gib": 1.28, "buffers_gib": 0.76,
            "model_gib": 80.76, "planned_gib": 85.16,
        },
    ),
    (
        "memory detail: ctx=100000 prefill_cap=4096 raw_kv_rows=4352 compressed_kv_rows=25002"
        " backend=cuda",
        "memory-detail", "info", "",
        {
            "ctx": 100000, "prefill_cap": 4096, "raw_kv_rows": 4352, "compressed_kv_rows": 25002,
            "backend": "cuda",
        },
    ),
    (
        "CUDA using managed KV cache for ctx=700000 (kv cache 9.10 GiB, context buffers"
        " 3.00 GiB); this may degrade performance",
        "managed-kv", "warning", "; this may degrade performance",
        {"ctx": 700000, "kv_gib": 9.1, "buffers_gib": 3.0},
    ),
    (
        "CUDA model arena alloc failed for blk.3.ffn (1792.00 MiB chunk): out of memory",
        "arena-failed", "warning", "out of memory", {"tensor": "blk.3.ffn", "size_mib": 1792.0},
    ),
    (
        "CUDA q8 fp16 cache budget exhausted; using q8 kernels (request=1 cached=2)",
        "q8-budget", "warning", "; using q8 kernels (request=1 cached=2)", {},
    ),
    (
        "CUDA q8 fp16 cache alloc failed (12.00 MiB): out of memory",
        "q8-failed", "warning", " (12.00 MiB): out of memory", {},
    ),
    (
        "CUDA temp alloc failed for logits (12.00 MiB): out of memory",
        "temp-failed", "error", "out of memory", {"what": "logits", "size_mib": 12.0},
    ),
    ("CUDA tensor alloc failed: out of memory", "tensor-failed", "error", "out of memory", {}),
    (
        "CUDA decode failed: an illegal memory access was encountered",
        "cuda-error", "error", "an illegal memory access was encountered", {"what": "decode"},
    ),
    ("cuBLAS gemm failed: status 13", "cuda-error", "error", "status 13", {"what": "gemm"}),
    (
        "CUDA memory report after load: free 100.00 MiB total 200.00 MiB",
        "memory-report", "info", "",
        {"label": "after load", "free_mib": 100.0, "total_mib": 200.0},
    ),
    (
        "mtp probe token=5 draft=2 hit=1/2", "mtp", "info", " token=5 draft=2 hit=1/2", {},
    ),
    (
        "distributed worker: connected to coordinator 10.0.0.1:9000",
        "distributed", "info", "connected to coordinator 10.0.0.1:9000", {},
    ),
    ("gpu prefill layer 7/43", "layer-progress", "info", "", {"layer": 7, "layers": 43}),
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


@pytest.mark.parametrize(("body", "name", "level", "text", "fields"), NOTES)
def test_a_known_line_without_a_rule_is_a_note(
    body: str, name: str, level: str, text: str, fields: dict[str, object]
) -> None:
    events, _ = read(f"{T}{body}\n".encode())
    assert events == [ev.Note(AT, name, level, text, fields)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "reason", "detail", "code"), FATAL)
def test_a_start_that_fails(body: str, reason: str, detail: str, code: int) -> None:
    events, _ = read(f"{T}{body}\n".encode())
    assert events == [ev.StartFatal(AT, reason, detail, body, code)]


@pytest.mark.parametrize(("body", "event"), ENGINE)
def test_an_engine_line_becomes_its_event(body: str, event: ev.Event) -> None:
    events, _ = read(f"ds4: {body}\n".encode())
    assert events == [event]
    assert type(events[0]) is type(event)


@pytest.mark.parametrize(("body", "reason", "detail"), ENGINE_FATAL)
def test_an_engine_that_gives_up(body: str, reason: str, detail: str) -> None:
    events, _ = read(f"ds4: {body}\n".encode())
    assert events == [ev.StartFatal(None, reason, detail, body, 1)]


@pytest.mark.parametrize(("body", "name", "level", "text", "fields"), ENGINE_NOTES)
def test_an_engine_note(
    body: str, name: str, level: str, text: str, fields: dict[str, object]
) -> None:
    events, _ = read(f"ds4: {body}\n".encode())
    assert events == [ev.Note(None, name, level, text, fields)]  # type: ignore[arg-type]


@pytest.mark.parametrize("origin", ["ds4-server", "ds4-kvstore"])
def test_out_of_memory_has_no_stamp(origin: str) -> None:
    events, _ = read(f"{origin}: out of memory\n".encode())
    assert events == [ev.StartFatal(None, "out_of_memory", "", "out of memory", 1)]


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
