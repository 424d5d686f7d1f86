"""Every figure of the report, counted a second time in another way, straight from the lines.

``count`` uses nothing of the parser, the reducer or the figures: small expressions of its own and
plain forward scans from each prompt start. Reports of the real logs, and of logs composed of their
pieces, must agree with it field by field; those of the real logs with the clients' records too.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.core.figures import build
from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.report.jsonout import as_json
from ds4top.report.load import load

DATA = Path(__file__).parent.parent / "data" / "ds4"
NOW = datetime(2026, 11, 24, 19, tzinfo=UTC).timestamp()
LOGS = {name: (DATA / name / "server.log").read_bytes() for name in ("sim-short", "h200-copy")}
FAILURES = {path.stem: path.read_bytes() for path in sorted((DATA / "failures").glob("*.stderr"))}
REASONS = {
    "bad-chdir": "failed to chdir to /nonexistent: No such file or directory",
    "bad-host": "failed to listen on not-a-host:18201: Invalid argument",
    "bad-trace-path": "failed to open trace file /nonexistent/trace.txt: No such file or directory",
    "cuda-backend-not-built": "cuda backend requested but this build has no graph backend support;"
    " aborting startup",
    "default-model-missing": "cannot open model 'ds4flash.gguf': No such file or directory",
    "invalid-number": "invalid value for --ctx: 128k",
    "missing-model": "cannot open model '/data/models/ds4flash-q4.gguf': No such file or directory",
    "missing-value": "missing value for -m",
    "model-not-gguf": "model is not a GGUF file",
    "model-too-small": "model file is too small to be GGUF",
    "model-truncated": "tensor points outside GGUF file",
    "port-in-use": "failed to listen on 127.0.0.1:18200: Address already in use",
    "unknown-option": "unknown option: --no-mmap",
    "unknown-option-typo": "unknown option: --kv-disk-spaces-mb",
}

# the second count -------------------------------------------------------------------------------

BODY = re.compile(r"(?:(\d{4} \d\d:\d\d:\d\d) ds4-server: |(ds4): )?(.*)")
SPAN = r"(chat|completion) ctx=(\d+)\.\.(\d+):(\d+) "
WORDS = r"((?:[A-Z_]+ )*)"
START = re.compile(SPAN + WORDS + r"prompt start")
CHUNK = re.compile(SPAN + WORDS + r"prefill chunk (\d+)/\d+ \(.*%\) chunk=([\d.]+) t/s .*")
DONE = re.compile(SPAN + WORDS + r"prompt done [\d.]+s")
DECODE = re.compile(SPAN + r"gen=\d+ " + WORDS + r"decoding chunk=([\d.]+) t/s .*")
FINISH = re.compile(SPAN + r"gen=(\d+) " + WORDS + r'finish=(\w+)(?: error="(.*)")? ([\d.]+)s')
GONE = re.compile(SPAN + WORDS + r"(stream closed during prefill|sse headers failed)")
FINAL = re.compile(SPAN + WORDS + r"final stream failed")
MISS = re.compile(r"live kv cache miss .*prompt=(\d+) common=(\d+) reason=(\S+)")
CONTINUED = re.compile(r"(?:responses|anthropic|thinking) live continuation .*|responses replay .*")
STORED = re.compile(r"kv cache stored tokens=(\d+) .*reason=(\S+) .*size=(\d+)\.(\d\d) MiB .*")
HIT = re.compile(r"kv cache hit .*tokens=(\d+) .*load=([\d.]+) ms .*")
EVICTED = re.compile(r"kv cache evicted .*tokens=(\d+) .*")
TOOLS = re.compile(r"tool calls .*n=(\d+) .*")
BEGIN = (
    re.compile(r"Linux .* set oom_score_adj=.*"),
    re.compile(r"warming mapped tensor pages.*"),
    re.compile(r"CUDA backend initialized.*"),
    re.compile(r"context buffers .*"),
)
FATAL = re.compile(
    r"unknown option: .*|missing value for .*|invalid value for .*|failed to (?:chdir|listen|open tr).*"
    r"|cannot open model .*|model (?:file is too|is not).*|tensor points outside.*|.*aborting startup"
)
REFUSED = re.compile(r"another ds4 process is already running.*")
OTHER = re.compile(
    r"KV disk cache .*|tracing session to .*|listening on http.*|shutdown requested, .*"
    r"|persisting current KV .*|thinking live checkpoint remembered .*|kv cache skipped .*"
    r"|kv cache store failed .*|failed to create KV .*|CUDA .*|cuda backend init.*"
)
KNOWN = (START, CHUNK, DONE, DECODE, FINISH, GONE, FINAL, MISS, CONTINUED, STORED, HIT, EVICTED,
         TOOLS, *BEGIN, FATAL, REFUSED, OTHER)  # fmt: skip
SAVED = ("kv cache stored", "kv cache skipped", "kv cache store failed", "kv cache failed to create")


def middle(values: list[float], q: float) -> float | None:
    values = sorted(values)
    if not values:
        return None
    k = (len(values) - 1) * q
    below = int(k)
    above = min(below + 1, len(values) - 1)
    return values[below] * (1 - (k - below)) + values[above] * (k - below)


def buckets(samples: list[tuple[int, float]]) -> list[dict[str, Any]]:
    found = []
    low, high = 0, 1024
    while low < 1 << 22:
        rates = [rate for context, rate in samples if low <= context < high]
        if rates:
            found.append({
                "from_tokens": low, "to_tokens": high, "samples": len(rates),
                "median_tps": middle(rates, 0.5), "p10_tps": middle(rates, 0.1),
                "p90_tps": middle(rates, 0.9),
            })  # fmt: skip
        low, high = high, 2 * high
    return found


def lives_of(lines: list[str]) -> list[dict[str, Any]]:
    lives: list[dict[str, Any]] = [{"from": 0, "begun": False, "rank": 0, "over": False}]
    for i, line in enumerate(lines):
        life = lives[-1]
        rank = next((r for r, begin in enumerate(BEGIN, 1) if begin.fullmatch(line)), 0)
        fatal = bool(FATAL.fullmatch(line))
        served = any("prompt start" in text for text in lines[life["from"] : i])
        if rank and (life["over"] or served or not life["begun"] or rank <= life["rank"]):
            lives.append({"from": i, "begun": True, "rank": rank, "over": False})
        elif fatal and (life["over"] or served or not life["begun"]):
            lives.append({"from": i, "begun": True, "rank": 0, "over": True})
        life = lives[-1]
        life["rank"] = max(life["rank"], rank)
        life["over"] |= fatal or line.startswith(("listening on", "shutdown requested"))
    for life, following in zip(lives, [*lives[1:], None], strict=True):
        life["to"] = following["from"] if following else len(lines)
        life["last"] = following is None
        life["lines"] = lines[life["from"] : life["to"]]
        life["listened"] = any(text.startswith("listening on") for text in life["lines"])
        life["fatal"] = any(FATAL.fullmatch(text) for text in life["lines"])
    return lives


def end_of(lines: list[str], i: int, life: dict[str, Any]) -> dict[str, Any]:
    """Where and how the request that begins at line ``i`` ends."""
    span = START.fullmatch(lines[i]).groups()[:4]  # type: ignore[union-attr]
    lost = False
    for j in range(i + 1, life["to"]):
        line = lines[j]
        finish = FINISH.fullmatch(line)
        if finish and finish.groups()[:4] == span:
            word, error = finish[7], finish[8]
            if word != "error":
                raw = "completed"
            elif lost or error in ("client stream write failed", "client disconnected"):
                raw = "aborted"
            else:
                raw = "failed"
            found = {"at": j, "end": raw, "finish": word, "s": float(finish[9])}
            break
        final, gone = FINAL.fullmatch(line), GONE.fullmatch(line)
        lost = lost or bool(final and final.groups()[:4] == span)
        if gone and gone.groups()[:4] == span:
            found = {"at": j, "end": "aborted"}
            break
        if (
            MISS.fullmatch(line) or CONTINUED.fullmatch(line) or START.fullmatch(line)
            or line.startswith("persisting ")
        ):  # fmt: skip
            found = {"at": j, "end": "failed"}
            break
    else:
        open_end = "running" if life["last"] else "interrupted"
        found = {"at": life["to"], "end": open_end, "open": True}
    before = lines[life["from"] : found["at"]]
    stopping = any(text.startswith("shutdown requested") for text in before)
    if stopping and found["end"] in ("aborted", "failed"):
        found["end"] = "interrupted"
    return found


def count(data: bytes) -> dict[str, Any]:
    whole, _, tail = data.decode("utf-8", "replace").rpartition("\n")
    physical = (whole + "\n").split("\n")[:-1] if whole or data.startswith(b"\n") else []
    stamps: list[str] = []
    lines: list[str] = []
    unknown = 1 if tail.strip() else 0
    usage = False
    for text in physical:
        stamp, engine, body = BODY.fullmatch(text).groups()  # type: ignore[union-attr]
        usage = (usage and not (stamp or engine)) or text.startswith("Usage: ds4-server")
        if usage or not text.strip():
            continue
        if stamp:
            stamps.append(stamp)
        lines.append(body)
        unknown += not any(known.fullmatch(body) for known in KNOWN)
    lives = lives_of(lines)
    life_of = [life for life in lives for _ in life["lines"]]

    # requests, each by a scan of its own
    requests: list[dict[str, Any]] = []
    starts = [i for i, line in enumerate(lines) if START.fullmatch(line)]
    evicted: set[int] = set()
    evicted_store: dict[int, bool] = {}
    for i, line in enumerate(lines):
        if m := EVICTED.fullmatch(line):
            evicted.add(int(m[1]))
        elif m := STORED.fullmatch(line):
            evicted_store[i] = m[2] == "cold" and int(m[1]) in evicted
            evicted.discard(int(m[1]))
    for i in starts:
        kind, a, b, c, flags = START.fullmatch(lines[i]).groups()  # type: ignore[union-attr]
        life = life_of[i]
        found = end_of(lines, i, life)
        own_from = max([life["from"], *(s + 1 for s in starts if s < i)])
        misses = [k for k in range(own_from, i) if MISS.fullmatch(lines[k])]
        hit_from = misses[-1] if misses else own_from
        hits = [HIT.fullmatch(text) for text in lines[hit_from:i]]
        inside = range(i, min(found["at"] + 1, life["to"]))
        ready = any(text.startswith("listening on") for text in lines[life["from"] : i])
        thinking = "THINKING" in flags
        for k in inside:
            of_span = f"{kind} ctx={a}..{b}:{c} "
            decode = DECODE.fullmatch(lines[k])
            mine = lines[k].startswith(of_span) or (
                decode and decode[1] == kind and int(decode[2]) >= int(b)
            )
            thinking |= bool(mine and " THINKING " in lines[k])
        requests.append({
            **found, "line": i, "life": life, "A": int(a), "B": int(b), "C": int(c),
            "api": "responses" if "RESPPROTO" in flags else kind, "tools": "TOOLS" in flags,
            "thinking": thinking, "miss": MISS.fullmatch(lines[misses[-1]]) if misses else None,
            "hits": [(int(h[1]), float(h[2])) for h in hits if h and int(h[1]) == int(a)],
            "evicted": any(evicted_store.get(k, False) for k in inside),
            "first": (life["begun"] or ready) and i == min(s for s in starts if s >= life["from"]),
        })  # fmt: skip

    def heat(r: dict[str, Any]) -> str:
        return "short" if r["B"] < 2048 else "hot" if r["A"] / r["B"] >= 0.5 else "cold"

    def cause(r: dict[str, Any]) -> str:
        if r["evicted"]:
            return "evicted"
        if r["first"]:
            return "first_after_start"
        if r["A"] > 0:
            return "partial"
        if r["miss"] is None or int(r["miss"][2]) < 512:
            return "new_prefix"
        shorter = r["miss"][3] == "incoming-prompt-shorter-than-live-checkpoint"
        return "shortened" if shorter else "diverged"

    # samples
    decode: list[tuple[int, float]] = []
    prefill: list[tuple[int, float]] = []
    before: dict[tuple[str, ...], int] = {}
    for line in lines:
        if m := DECODE.fullmatch(line):
            if int(m[4]) >= 10:
                decode.append((int(m[3]), float(m[6])))
        elif STORED.fullmatch(line):
            before = {}
        elif m := START.fullmatch(line):
            before.pop(m.groups()[:4], None)
        elif m := CHUNK.fullmatch(line):
            span, done, rate = m.groups()[:4], int(m[6]), float(m[7])
            if span in before and rate > 0 and done - before[span] >= 256:
                prefill.append((int(m[2]) + done, rate))
            before[span] = done

    # stops
    clean = unclean = failed = 0
    for life in lives:
        texts = life["lines"]
        waiting = saved = 0
        for text in texts:
            waiting += text.startswith("persisting ")
            saved += text.startswith(SAVED) and waiting > saved
        open_at_end = any(r["life"] is life and r.get("open") for r in requests)
        stopped = any(text.startswith("shutdown requested") for text in texts)
        ok = stopped and not open_at_end and waiting == saved
        clean += ok
        unclean += life["listened"] and not ok and not life["last"]
        failed += life["begun"] and not life["listened"] and (life["fatal"] or not life["last"])

    done = [r for r in requests if r["end"] == "completed"]
    times = [r["s"] for r in done]
    edges = [0, 5, 15, 60, 160, float("inf")]
    stored = [m for line in lines if (m := STORED.fullmatch(line))]
    missed = [m for line in lines if (m := MISS.fullmatch(line))]
    hits = [hit for r in requests for hit in r["hits"]]
    live = [r for r in requests if r["A"] > 0 and not r["hits"]]
    prompts = [r["B"] for r in requests]
    a_s = b_s = None
    if len(prefill) >= 20:
        n = len(prefill)
        sx, sy = sum(x for x, _ in prefill), sum(1 / y for _, y in prefill)
        sxx, sxy = sum(x * x for x, _ in prefill), sum(x / y for x, y in prefill)
        if n * sxx != sx * sx:
            b_s = (n * sxy - sx * sy) / (n * sxx - sx * sx)
            a_s = (sy - b_s * sx) / n

    def saved_s(pairs: list[tuple[int, float]]) -> float | None:
        if a_s is None or b_s is None:
            return None
        return sum(a_s * t + b_s * t * t / 2 - ms / 1000 for t, ms in pairs)

    def time(stamp: str) -> str:
        month, day, clock = stamp[:2], stamp[2:4], stamp[5:]
        return f"2026-{month}-{day}T{clock}+00:00"

    speed: dict[str, Any] = {}
    for name in ("hot", "cold", "short"):
        took = [r["s"] for r in done if heat(r) == name]
        speed[name] = {
            "count": len(took), "median_s": middle(took, 0.5),
            "min_s": min(took, default=None), "max_s": max(took, default=None),
        }  # fmt: skip
    ends = Counter(r["end"] for r in requests)
    finish = Counter(r["finish"] for r in requests if "finish" in r)
    return {
        "schema": "ds4top.report/1",
        "source": {
            "lines": data.count(b"\n"), "unrecognised_lines": unknown,
            "first": time(stamps[0]) if stamps else None,
            "last": time(stamps[-1]) if stamps else None,
        },
        "server": {
            "starts": sum(life["listened"] for life in lives),
            "failed_starts": failed + sum(bool(REFUSED.fullmatch(line)) for line in lines),
            "clean_stops": clean, "unclean_stops": unclean,
        },
        "requests": {
            "total": len(requests),
            **{e: ends[e] for e in ("completed", "aborted", "interrupted", "failed", "running")},
            "by_api": dict(Counter(r["api"] for r in requests)),
            "with_tools": sum(r["tools"] for r in requests),
            "with_thinking": sum(r["thinking"] for r in requests),
            "finish": dict(finish), "tool_completions": finish["tool_calls"],
            "tool_calls": sum(int(m[1]) for x in lines if (m := TOOLS.fullmatch(x))),
        },
        "context": {
            "prompt_tokens_mean": sum(prompts) / len(prompts) if prompts else None,
            "prompt_tokens_max": max(prompts, default=None),
            "cached_tokens": sum(r["A"] for r in requests),
            "prefilled_tokens": sum(r["C"] for r in requests),
            "reuse_ratio": sum(r["A"] for r in requests) / sum(prompts) if prompts else None,
        },
        "durations": {
            "median_s": middle(times, 0.5), "p90_s": middle(times, 0.9),
            "bins": [
                {"from_s": low, "to_s": None if high == float("inf") else high,
                 "count": (k := sum(low <= t < high for t in times)),
                 "share": k / len(times) if times else 0}
                for low, high in zip(edges, edges[1:], strict=False)
            ],
        },
        "speed": {**speed, "cold_causes": dict(Counter(cause(r) for r in done if heat(r) == "cold"))},
        "kv_cache": {
            "disk_hits": len(hits), "live_hits": len(live),
            "misses": sum(r["A"] == 0 for r in requests), "live_misses": len(missed),
            "stores": len(stored),
            "evictions": sum(bool(EVICTED.fullmatch(line)) for line in lines),
            "miss_reasons": dict(Counter(m[3] for m in missed)),
            "store_reasons": dict(Counter(m[2] for m in stored)),
            "hit_tokens_median": middle([t for t, _ in hits], 0.5),
            "load_ms_median": middle([ms for _, ms in hits], 0.5),
            "load_ms_max": max((ms for _, ms in hits), default=None),
            "stored_bytes": round(sum(int(m[3] + m[4]) for m in stored) * 1_048_576 / 100),
            "seconds_saved": saved_s(hits), "seconds_saved_live": saved_s([(r["A"], 0) for r in live]),
        },
        "decode": {"samples": len(decode), "by_context": buckets(decode)},
        "prefill": {"chunks": len(prefill), "by_context": buckets(prefill)},
    }  # fmt: skip


# the comparison ---------------------------------------------------------------------------------


def close(value: Any) -> Any:
    """Floats may differ in their last digits, nothing else may."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-9)
    if isinstance(value, dict):
        return {key: close(inner) for key, inner in value.items()}
    return [close(inner) for inner in value] if isinstance(value, list) else value


def streamed(data: bytes) -> dict[str, Any]:
    return as_json(load(["-"], now=NOW, tz=UTC, stdin=io.BytesIO(data)))


def built(data: bytes, size: int) -> dict[str, Any]:
    state, reader = LogState(), LogReader(StampClock(NOW, UTC))
    reducer = Reducer(state)
    for begin in range(0, len(data), size):
        reducer.apply(reader.feed(data[begin : begin + size]))
    reducer.apply(reader.close())
    report = as_json(build(state, tz=UTC))
    report["source"]["lines"] = reader.lines
    report["source"]["unrecognised_lines"] = reader.unrecognised
    return report


def agree(report: dict[str, Any], data: bytes) -> None:
    expected = count(data)
    assert set(report) == {*expected, "sources"}
    report["source"].pop("paths")
    for section, fields in expected.items():
        assert report[section] == close(fields), section


@pytest.mark.parametrize("name", LOGS)
def test_every_field_of_the_real_logs(name: str) -> None:
    agree(streamed(LOGS[name]), LOGS[name])
    agree(built(LOGS[name], 4_099), LOGS[name])


@pytest.mark.parametrize("name", FAILURES)
def test_failed_starts_and_their_reasons(name: str) -> None:
    data = FAILURES[name]
    agree(streamed(data), data)
    report = load(["-"], now=NOW, tz=UTC, stdin=io.BytesIO(data))
    server = report.tally.server
    if name == "kv-dir-not-creatable":
        assert (server.starts, server.failed_starts, server.clean_stops) == (1, 0, 1)
    elif name == "already-running":
        assert (server.starts, server.failed_starts) == (0, 1)
    else:
        assert (server.starts, server.failed_starts) == (0, 1)
        assert dict(server.failures) == {REASONS[name]: 1}


# composed logs ----------------------------------------------------------------------------------

LINES = {name: data.splitlines(keepends=True) for name, data in LOGS.items()}
STAMP = b"1124 18:29:00 ds4-server: "
SHUTDOWN = STAMP + b"shutdown requested, draining requests\n"


def cut(name: str, begin: int, length: int) -> bytes:
    lines = LINES[name]
    begin %= len(lines)
    return b"".join(lines[begin : begin + length])


def unfinished(name: str, begin: int, length: int) -> bytes:
    lines = cut(name, begin, length).splitlines(keepends=True)
    return b"".join(line for line in lines if b" finish=" not in line)


def cut_by_shutdown(name: str, begin: int, length: int) -> bytes:
    """A streamed request: the server is asked to stop, then writing to the client fails."""
    piece = cut(name, begin, length)
    starts = [line for line in piece.splitlines() if line.endswith(b" prompt start")]
    if not starts:
        return piece + SHUTDOWN
    span = b" ".join(starts[-1].split(b" ")[3:5])
    failed = b' gen=7 finish=error error="client stream write failed" 1.500s\n'
    return piece + SHUTDOWN + STAMP + span + b" final stream failed\n" + STAMP + span + failed


def failed_start(name: str, begin: int, length: int) -> bytes:
    return FAILURES[sorted(FAILURES)[(begin + length) % len(FAILURES)]]


def life_start(name: str, begin: int, length: int) -> bytes:
    return b"".join(LINES[name][: (4, 9)[name == "h200-copy"]])


PIECE = st.builds(
    lambda make, name, begin, length: make(name, begin, length),
    st.sampled_from((cut, cut, cut, unfinished, cut_by_shutdown, failed_start, life_start)),
    st.sampled_from(sorted(LINES)),
    st.integers(0, 331),
    st.integers(1, 90),
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(PIECE, min_size=1, max_size=7), st.integers(0, 60), st.integers(1, 5_000))
def test_every_field_of_composed_logs(pieces: list[bytes], torn: int, size: int) -> None:
    data = b"".join(pieces)
    data = data[: len(data) - torn]
    agree(built(data, size), data)
    agree(streamed(data), data)


# the clients' own records -----------------------------------------------------------------------


def records(name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    found = json.loads((DATA / name / {"sim-short": "calls.json"}.get(name, "events.json")).read_text())
    return found["calls"], found["events"]


@pytest.mark.parametrize("name", LOGS)
def test_the_clients_saw_the_same(name: str) -> None:
    calls, happened = records(name)
    served = [call for call in calls if call["status"] in (200, None)]
    assert [call["call"] for call in calls if call not in served] == [25, 26, 27]
    rows: list[Any] = []
    report = load(["-"], now=NOW, tz=UTC, stdin=io.BytesIO(LOGS[name]), sink_for=lambda: rows.append)
    figures = as_json(report)

    assert len(rows) == len(served) == 29
    for call, request in zip(served, rows, strict=True):
        if call["prompt_tokens"] is not None:
            assert request.prompt_tokens == call["prompt_tokens"]
            assert request.cached_tokens == call["cached_tokens"]
        if call["completion_tokens"] and request.end == "completed":
            assert request.generated_tokens == call["completion_tokens"]
        api = {"/v1/responses": "responses", "/v1/completions": "completion"}
        assert request.api == api.get(call["endpoint"], "chat")
    left = {call["call"]: call for call in served}
    hung_up = [17, 18] if name == "sim-short" else [12, 17, 18]
    ends = {call["call"]: str(r.end) for call, r in zip(served, rows, strict=True)}
    assert [number for number, end in ends.items() if end == "aborted"] == hung_up
    assert [number for number, end in ends.items() if end == "interrupted"] == [31]
    assert all(left[number]["finish"] for number, end in ends.items() if end == "completed")
    assert figures["requests"]["completed"] == 29 - len(hung_up) - 1

    kinds = Counter(event["event"] for event in happened)
    codes = [event["rc"] for event in happened if event["event"] == "exit"]
    assert figures["server"] == {
        "starts": kinds["ready"], "failed_starts": 0, "clean_stops": codes.count(0),
        "unclean_stops": codes.count(-9),
    }  # fmt: skip


def test_disk_hits_bring_what_the_log_says() -> None:
    rows: list[Any] = []
    load(["-"], now=NOW, tz=UTC, stdin=io.BytesIO(LOGS["sim-short"]), sink_for=lambda: rows.append)
    hits = [(r.hit.tokens, r.hit.load_ms) for r in rows if r.hit]
    assert hits == [(11358, 182.2), (12501, 296.5), (12501, 127.2), (12712, 194.7), (12712, 161.0)]
