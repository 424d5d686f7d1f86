"""The clients' own record of a busy session against the report of the server's log."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from report_kit import report
from standin_kit import DEADLINE_S, eventually

from ds4top.standin import driver
from ds4top.standin.client import CallRecord
from ds4top.standin.demo import DemoServer
from ds4top.standin.profiles import PROFILES
from ds4top.standin.state import STATE_ENV

SPEED = 200.0
SCRIPTED = 29
"""Calls of the script in which every kind occurs; one more call is broken off by a restart."""
CALLS = SCRIPTED + 4
PROFILE_NAMES = tuple(PROFILES)
ENDED = {
    "stop": "stop", "tool_calls": "tool_calls", "end_turn": "stop", "error": "error",
    "length": "length",
}  # fmt: skip


@dataclass
class Run:
    """One driven life of two servers: what the clients saw, what the log and the traces say."""

    records: list[CallRecord]
    report: dict[str, Any]
    rows: list[dict[str, str]]
    traces: list[list[dict[str, str]]]
    environments: list[dict[str, str]]

    def answered(self) -> list[CallRecord]:
        """Calls whose usage the client was told."""
        return [call for call in self.records if call.prompt_tokens is not None]

    def matched(self) -> list[tuple[CallRecord, dict[str, str] | None]]:
        """Each call with its row. Without one: those refused before a worker took them."""
        rows = list(self.rows)
        found: list[tuple[CallRecord, dict[str, str] | None]] = []
        for call in self.records:
            begun = call.aborted or call.status == 200
            lost = call.status is None and not call.aborted
            if begun or (lost and rows and rows[0]["end"] == "interrupted"):
                found.append((call, rows.pop(0)))
            else:
                found.append((call, None))
        assert rows == []
        return found


def trace_of(path: Path) -> list[dict[str, str]]:
    """Requests of a --trace file, which has words of its own for where a prompt came from."""
    heads = path.read_text().split("===== request ")[1:]
    return [dict(re.findall(r"(?m)^(\w+): (\S+)$", head)) for head in heads]


def environment_of(pid: int) -> dict[str, str]:
    """A process's environment."""
    pairs = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def drive(profile: str, folder: Path) -> Run:
    """Drive the script and a little more, with one restart in the middle of a call."""
    stop = threading.Event()
    records: list[CallRecord] = []
    traces: list[list[dict[str, str]]] = []
    environments: list[dict[str, str]] = []
    trace = folder / "trace"
    demo = DemoServer(
        profile=profile,
        speed=SPEED,
        seed=3,
        drive=False,
        restart_after_s=None,
        arguments=("--trace", str(trace)),
    )

    def begun() -> int:
        return demo.log_path.read_text().count("prompt start")

    def restart(seen: int) -> None:
        end = time.monotonic() + DEADLINE_S
        while begun() == seen and time.monotonic() < end:
            time.sleep(0.002)
        traces.append(trace_of(trace))
        demo.restart()

    def record(call: CallRecord) -> None:
        records.append(call)
        if len(records) == SCRIPTED:
            threading.Thread(target=restart, args=(begun(),), daemon=True).start()
        elif len(records) == CALLS:
            stop.set()

    with demo:
        assert demo.wait_ready()
        first = demo.server_pid()
        assert first is not None
        environments.append(environment_of(first))
        driver.run(demo.url, seed=3, speed=SPEED, stop=stop, record=record)
        # The log is whole once the server has ended: a finish line follows its answer.
        eventually(lambda: demo.server_pid() not in (None, first), "the second server")
        last = demo.server_pid()
        assert last is not None
        environments.append(environment_of(last))
        os.kill(last, signal.SIGTERM)
        eventually(lambda: demo.server_pid() is None, "the server's end")
        traces.append(trace_of(trace))
        log = folder / "server.log"
        log.write_bytes(demo.log_path.read_bytes())
    return Run(
        records,
        json.loads(report([log], "--json")),
        list(csv.DictReader(io.StringIO(report([log], "--csv")))),
        traces,
        environments,
    )


@pytest.fixture(scope="module", params=PROFILE_NAMES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The session, once for each profile."""
    return drive(request.param, tmp_path_factory.mktemp("kept"))


def test_every_line_is_recognised(run: Run) -> None:
    assert run.report["source"]["unrecognised_lines"] == 0
    assert run.report["source"]["lines"] > 300


def test_each_call_is_one_request_with_the_same_figures(run: Run) -> None:
    for call, row in run.matched():
        if call.prompt_tokens is None:
            continue
        assert row is not None
        told = (call.cached_tokens, call.prompt_tokens, call.completion_tokens, call.tool_calls)
        logged = ("cached_tokens", "prompt_tokens", "generated_tokens", "tool_calls")
        assert told == tuple(int(row[name]) for name in logged)
        finish = "tool_calls" if call.tool_calls else ENDED.get(call.finish or "", "stop")
        assert row["finish"] == finish
        assert row["api"] == {"/v1/completions": "completion", "/v1/responses": "responses"}.get(
            call.endpoint, "chat"
        )


def test_each_call_ended_as_its_client_saw_it(run: Run) -> None:
    for call, row in run.matched():
        if call.aborted:
            assert row is not None
            assert row["end"] == "aborted"
        elif call.status == 200:
            assert row is not None
            # A stream that a stop cut ends with an error that is not the request's own.
            good = ("failed", "interrupted") if call.finish in (None, "error") else ("completed",)
            assert row["end"] in good
        else:
            assert row is None or row["end"] == "interrupted"
    refused = [call for call in run.records if call.status == 400]
    assert len(refused) == 1
    assert "context size" in (refused[0].error or "")


def test_the_report_counts_what_the_clients_count(run: Run) -> None:
    requests, answered = run.report["requests"], run.answered()
    ends = Counter(row["end"] for row in run.rows)
    assert requests["total"] == len(run.rows)
    assert requests["aborted"] == sum(call.aborted for call in run.records) == 2
    assert requests["interrupted"] == ends["interrupted"] == 1
    assert requests["failed"] == sum(call.finish == "error" for call in answered) >= 1
    assert requests["completed"] == sum(call.finish != "error" for call in answered)
    assert requests["running"] == 0
    assert requests["tool_calls"] == sum(call.tool_calls for call in answered) >= 10
    assert requests["tool_completions"] == sum(bool(call.tool_calls) for call in answered)
    kinds = Counter(call.endpoint for call in run.records if call.status != 400)
    assert requests["by_api"] == {
        "chat": kinds["/v1/chat/completions"] + kinds["/v1/messages"],
        "completion": kinds["/v1/completions"],
        "responses": kinds["/v1/responses"],
    }


def test_tokens_add_up(run: Run) -> None:
    answered, context = run.answered(), run.report["context"]
    # Of those that left, and of the one that was broken off, the clients were told nothing.
    silent = [row for call, row in run.matched() if row and call.prompt_tokens is None]
    assert len(silent) == 3

    def both(name: str) -> int:
        return sum(getattr(call, name) for call in answered) + sum(int(x[name]) for x in silent)

    prompts, cached = both("prompt_tokens"), both("cached_tokens")
    assert context["cached_tokens"] == cached
    assert context["prefilled_tokens"] == prompts - cached
    assert context["prompt_tokens_mean"] == pytest.approx(prompts / len(run.rows))
    most = max(call.prompt_tokens or 0 for call in answered)
    assert context["prompt_tokens_max"] == max(most, *(int(x["prompt_tokens"]) for x in silent))
    assert context["reuse_ratio"] == pytest.approx(cached / prompts)


def test_hits_are_where_the_trace_has_them(run: Run) -> None:
    first, second = run.traces
    broken = next(at for at, row in enumerate(run.rows) if row["end"] == "interrupted")
    # The trace of the first life was read in the middle of the call that was broken off.
    assert len(first) in (broken, broken + 1)
    assert len(second) == len(run.rows) - broken - 1
    pairs = [*zip(run.rows[:broken], first, strict=False)]
    pairs += zip(run.rows[broken + 1 :], second, strict=True)
    for row, trace in pairs:
        assert row["prompt_tokens"] == trace["effective_prompt_tokens"]
        assert row["cached_tokens"] == trace["cached_tokens"]
        assert bool(row["disk_hit_tokens"]) == (trace["cache_source"] == "disk-text")
    sources = Counter(trace["cache_source"] for _, trace in pairs)
    odd = run.rows[broken]
    kv = run.report["kv_cache"]
    disk = sources.pop("disk-text") + bool(odd["disk_hit_tokens"])
    none = sources.pop("none") + (odd["cached_tokens"] == "0")
    assert kv["disk_hits"] == disk >= 5
    assert kv["misses"] == none >= 5
    assert kv["live_hits"] == len(run.rows) - disk - none
    assert set(sources) >= {"memory-text", "thinking-visible", "responses-visible"}


def test_lives_are_counted(run: Run) -> None:
    server = run.report["server"]
    assert server == {"starts": 2, "failed_starts": 0, "clean_stops": 2, "unclean_stops": 0}


def test_every_server_of_a_demo_carries_its_mark(run: Run) -> None:
    first, second = run.environments
    assert first["DS4TOP_DEMO"]
    assert first["DS4TOP_DEMO"] == second["DS4TOP_DEMO"]
    assert Path(first[STATE_ENV]).parent == Path(first["DS4TOP_DEMO"])
    assert first[STATE_ENV] == second[STATE_ENV]
