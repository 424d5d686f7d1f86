"""A second count of everything in a report, straight from the lines of a log.

It uses nothing of the parser, the reducer or the figures: small expressions of its own and plain
forward scans from each prompt start.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

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
    r"unknown option: .*|missing value for .*|invalid value for .*|cannot open model .*"
    r"|failed to (?:chdir|listen|open tr).*|model (?:file is too|is not).*"
    r"|tensor points outside.*|.*aborting startup"
)
REFUSED = re.compile(r"another ds4 process is already running.*")
OTHER = re.compile(
    r"KV disk cache .*|tracing session to .*|listening on http.*|shutdown requested, .*"
    r"|persisting current KV .*|thinking live checkpoint remembered .*|kv cache skipped .*"
    r"|kv cache store failed .*|failed to create KV .*|CUDA .*|cuda backend init.*"
)
KNOWN = (START, CHUNK, DONE, DECODE, FINISH, GONE, FINAL, MISS, CONTINUED, STORED, HIT, EVICTED,
         TOOLS, *BEGIN, FATAL, REFUSED, OTHER)  # fmt: skip
SAVED = (
    "kv cache stored",
    "kv cache skipped",
    "kv cache store failed",
    "kv cache failed to create",
)


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
    causes = Counter(cause(r) for r in done if heat(r) == "cold")
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
                for low, high in pairwise(edges)
            ],
        },
        "speed": {**speed, "cold_causes": dict(causes)},
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
            "seconds_saved": saved_s(hits),
            "seconds_saved_live": saved_s([(r["A"], 0) for r in live]),
        },
        "decode": {"samples": len(decode), "by_context": buckets(decode)},
        "prefill": {"chunks": len(prefill), "by_context": buckets(prefill)},
    }  # fmt: skip
