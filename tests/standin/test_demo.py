"""The demo: ten simulated minutes with every kind of turn, and nothing left when it is over."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from standin_kit import eventually

from ds4top.standin.demo import DemoServer, calls, python_environment

SPEED = 80.0
TEN_MINUTES_S = 600.0
MIN_TOKENS = 512


@dataclass
class Turn:
    """One request of the log: cached, prompt, and what stood before it."""

    cached: int
    prompt: int
    common: int | None
    reason: str | None
    first: bool
    known_evicted: bool = False


def turns(log: str) -> list[Turn]:
    """Requests of a log, with the marks that decide why one was cold."""
    found: list[Turn] = []
    evicted: Counter[int] = Counter()
    miss: tuple[int, str] | None = None
    first = True
    for line in log.splitlines():
        if match := re.search(r"live kv cache miss.* common=(\d+) reason=(\S+)", line):
            miss = (int(match[1]), match[2])
        elif match := re.search(r"kv cache evicted .* tokens=(\d+)", line):
            evicted[int(match[1])] += 1
        elif match := re.search(r"kv cache stored tokens=(\d+) .* reason=(\w+)", line):
            if match[2] == "cold" and evicted[int(match[1])]:
                found[-1].known_evicted = True
            evicted[int(match[1])] = 0
        elif match := re.search(r"ctx=(\d+)\.\.(\d+):\d+ .*prompt start", line):
            common, reason = miss or (None, None)
            found.append(Turn(int(match[1]), int(match[2]), common, reason, first))
            miss, first = None, False
        elif "context buffers" in line:
            miss, first = None, True
    return found


def cause(turn: Turn) -> str:
    """Why a turn was cold, or what else it was."""
    if turn.prompt < 2048:
        return "short"
    if turn.cached >= turn.prompt / 2:
        return "hot"
    if turn.known_evicted:
        return "evicted"
    if turn.first:
        return "first_after_start"
    if turn.cached:
        return "partial"
    if turn.common is None or turn.common < MIN_TOKENS:
        return "new_prefix"
    return "shortened" if turn.reason and turn.reason.startswith("incoming") else "diverged"


def processes(folder: Path) -> list[int]:
    """Processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in line:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict]]:
    """The log and the calls of the first ten minutes."""
    keep = tmp_path_factory.mktemp("kept") / "server.log"
    with DemoServer(speed=SPEED, seed=3) as demo:
        began = time.monotonic()
        assert demo.wait_ready()
        left = TEN_MINUTES_S / SPEED - (time.monotonic() - began)
        time.sleep(max(0.0, left))
        shutil.copy(demo.log_path, keep)
        seen = calls(demo.record_path)
        folder = demo.workdir
    assert not folder.exists()
    assert processes(folder) == []
    return keep.read_text(), seen


def test_every_kind_of_turn_within_ten_minutes(ten_minutes: tuple[str, list[dict]]) -> None:
    log, _ = ten_minutes
    kinds = Counter(map(cause, turns(log)))
    assert kinds["hot"] >= 6
    assert kinds["short"] >= 2
    missing = {
        "evicted", "first_after_start", "partial", "new_prefix", "shortened", "diverged",
    } - set(kinds)  # fmt: skip
    assert missing == set()


def test_what_else_the_log_shows(ten_minutes: tuple[str, list[dict]]) -> None:
    log, _ = ten_minutes
    for text in (
        "finish=tool_calls", "THINKING", "thinking live continuation", "completion ctx=",
        "kv cache hit text", "reason=disk-cache-full", "reason=continued", "reason=evict",
        'error="unterminated tool call"', 'error="client stream write failed"',
        "shutdown requested, draining requests", "reason=shutdown",
    ):  # fmt: skip
        assert text in log, text
    assert log.count("listening on") == 2
    # A compaction: a long live history, of which a system prompt is left.
    rewritten = [turn for turn in turns(log) if turn.common and turn.common > 5000]
    assert any(5000 < turn.cached < turn.prompt for turn in rewritten)


def test_what_the_clients_saw(ten_minutes: tuple[str, list[dict]]) -> None:
    log, seen = ten_minutes
    assert {call["endpoint"] for call in seen} >= {
        "/v1/chat/completions", "/v1/completions", "/v1/messages",
    }  # fmt: skip
    assert {call["status"] for call in seen} >= {200, 400}
    assert any(call["aborted"] for call in seen)
    assert any(call["finish"] == "error" for call in seen)
    assert all(call["end"] >= call["start"] for call in seen)
    finished = re.findall(r"ctx=(\d+)\.\.(\d+):\d+ gen=(\d+) .*finish=(?:stop|tool_calls)", log)
    told = [
        (call["cached_tokens"], call["prompt_tokens"], call["completion_tokens"])
        for call in seen
        if call["finish"] in ("stop", "tool_calls", "end_turn", "completed")
    ]
    assert [tuple(map(int, row)) for row in finished][: len(told)] == told


def test_a_restart_on_demand_and_a_failure_on_demand() -> None:
    with DemoServer(speed=400.0, drive=False, restart_after_s=None) as demo:
        assert demo.wait_ready()
        first = demo.server_pid()
        assert first is not None
        comm = Path(f"/proc/{first}/comm").read_text()
        demo.restart()
        eventually(lambda: demo.server_pid() not in (None, first), "a second server")
        assert demo.wait_ready()
        second = demo.server_pid()
        assert second is not None
        demo.fail("oom")
        eventually(lambda: demo.server_pid() is None, "the server's end")
        log = demo.log_path.read_text()
    assert comm == "ds4-server\n"
    assert log.count("listening on") == 2
    assert log.count("draining requests") == 1


def test_a_server_that_others_started_ends_with_the_demo() -> None:
    with DemoServer(speed=400.0, drive=False, restart_after_s=None) as demo:
        assert demo.wait_ready()
        pid = demo.server_pid()
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: demo.server_pid() is None, "the first server's end")
        stranger = subprocess.Popen(
            demo.server_argv,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**python_environment(), "DS4_LOCK_FILE": str(demo.lock_path)},
        )
        assert demo.wait_ready()
        folder = demo.workdir
    assert stranger.wait(10) == -signal.SIGKILL
    assert not folder.exists()


def test_a_killed_parent_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    script = """
        import sys, time
        from ds4top.standin.demo import DemoServer
        with DemoServer(speed=100.0, workdir=sys.argv[1]) as demo:
            assert demo.wait_ready()
            print(demo.server_pid(), flush=True)
            time.sleep(600)
    """
    folder = tmp_path / "demo"
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        stdout=subprocess.PIPE,
        env=python_environment(),
    )
    assert parent.stdout is not None
    with parent.stdout:
        server = int(parent.stdout.readline())
        family = set(processes(folder)) - {parent.pid}
        assert server in family
        assert len(family) == 3  # the keeper, the server, the driver
        parent.kill()
        parent.wait()
    eventually(lambda: not folder.exists() and not processes(folder), "an empty stage")
