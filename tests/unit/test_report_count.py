"""Every figure of the report, counted a second time in another way, straight from the lines.

Reports of the real logs, and of logs composed of their
pieces, must agree with it field by field; those of the real logs with the clients' records too.
"""

from __future__ import annotations

import io
import json
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
from tests.unit.second_count import count

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
    found = json.loads(
        (DATA / name / {"sim-short": "calls.json"}.get(name, "events.json")).read_text()
    )
    return found["calls"], found["events"]


@pytest.mark.parametrize("name", LOGS)
def test_the_clients_saw_the_same(name: str) -> None:
    calls, happened = records(name)
    served = [call for call in calls if call["status"] in (200, None)]
    assert [call["call"] for call in calls if call not in served] == [25, 26, 27]
    rows: list[Any] = []
    report = load(
        ["-"], now=NOW, tz=UTC, stdin=io.BytesIO(LOGS[name]), sink_for=lambda: rows.append
    )
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
