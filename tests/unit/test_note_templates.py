"""Lines of the server that are known but stand for no state, and those it dies with."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ds4top.core import events as ev
from ds4top.core.logread import LogReader
from ds4top.core.stamps import StampClock

T = "0521 10:00:00 ds4-server: "
AT = datetime(2026, 5, 21, 10, tzinfo=UTC).timestamp()
LATEST = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
SPAN_FIELDS = {"a": 10, "b": 30, "c": 20}


def read(data: bytes) -> tuple[list[ev.Event], LogReader]:
    reader = LogReader(StampClock(LATEST, UTC))
    return [*reader.feed(data), *reader.close()], reader


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
    ("accept failed: Too many open files", "accept-failed", "warning", "Too many open files", {}),
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
