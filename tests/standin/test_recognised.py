"""Logs of starts, of failures and of several sessions: no line that the parser does not know."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from report_kit import report
from standin_kit import DEADLINE_S, Running, Start, words

from ds4top.standin.profiles import PROFILES

PROFILE_NAMES = tuple(PROFILES)
FAST = 20_000.0


def unrecognised(*logs: Path) -> dict[str, Any]:
    """The report of logs, all of whose lines are known."""
    told = json.loads(report([path for path in logs if path.stat().st_size], "--json"))
    assert told["source"]["unrecognised_lines"] == 0
    return dict(told)


def ports(count: int) -> list[int]:
    """Free ports, all different: many servers start at a time."""
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


FAILING: tuple[tuple[str, ...], ...] = (
    ("--bogus",), ("--port",), ("--ctx", "many"), ("--backend", "tpu"), ("--backend", "metal"),
    ("--kv-cache-cold-max-tokens", "100"), ("--chdir", "/nowhere"), ("-m", "/nowhere.gguf"),
    ("-m", "small.gguf"), ("-m", "text.gguf"), ("--trace", "/nowhere/trace"),
    ("--host", "not-an-address"),
)  # fmt: skip


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_failed_starts_are_recognised(start: Start, tmp_path: Path, profile: str) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    (tmp_path / "text.gguf").write_bytes(b"no model".ljust(64))
    first, second, *free = ports(len(FAILING) + 2)
    held = start(profile=profile, speed=FAST, port=first).ready()
    failing = [
        start(*words, profile=profile, speed=FAST, lock=f"lock-{port}", port=port)
        for port, words in zip(free, FAILING, strict=True)
    ]
    failing += [
        start(profile=profile, speed=FAST, port=second),
        start(profile=profile, speed=FAST, port=held.port, lock="other"),
    ]
    for each in failing:
        assert each.process.wait(DEADLINE_S) in (1, 2)
    told = unrecognised(*(each.log_path for each in failing))
    assert told["server"]["starts"] == 0
    assert told["server"]["failed_starts"] == len(failing)
    held.stop()
    whole = unrecognised(held.log_path)
    assert (whole["server"]["starts"], whole["server"]["clean_stops"]) == (1, 1)


WAYS: tuple[dict[str, str], ...] = (
    {},
    {"DS4_CUDA_DIRECT_MODEL": "1"},
    {"DS4_CUDA_COPY_MODEL": "1"},
    {"DS4_CUDA_WEIGHT_CACHE": "1"},
    {"DS4_CUDA_BUILD_ARTIFACTS": "0"},
    {"DS4_CUDA_WEIGHT_CACHE_VERBOSE": "1"},
)


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_every_way_to_load_is_recognised(start: Start, tmp_path: Path, profile: str) -> None:
    (tmp_path / "a-file").write_text("")
    odd = ("--warm-weights", "--disable-exact-dsml-tool-replay", "--trace", "trace")
    extra = (*odd, "--mtp", "mtp.gguf", "--kv-disk-dir", "a-file/kv")
    copying = ("--no-mmap",) if profile == "daily-agent" else ()
    cases = [(way, words) for way in WAYS for words in ((), (*copying, *extra))]
    running = [
        start(*words, profile=profile, speed=FAST, lock=f"lock-{port}", port=port, **way)
        for port, (way, words) in zip(ports(len(cases)), cases, strict=True)
    ]
    for each in running:
        each.ready()
        assert each.stop() == 0, each.log
    told = unrecognised(*(each.log_path for each in running))
    assert told["server"] == {
        "starts": len(running), "failed_starts": 0, "clean_stops": len(running), "unclean_stops": 0,
    }  # fmt: skip


def fail(server: Running, kind: str) -> None:
    """Let the server fail at once."""
    assert server.request("POST", "/standin/fail", {"kind": kind}).status == 200


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_failures_in_service_are_recognised_and_counted(start: Start, profile: str) -> None:
    server = start("--kv-disk-dir", "kv", profile=profile, speed=2000.0).ready()
    body: dict[str, Any] = {"prompt": words(700) + "[[plan gen=8]]", "max_tokens": 20}
    server.post("/v1/completions", **body)
    fail(server, "slow")
    fail(server, "disk-full")
    server.post("/v1/completions", **{**body, "prompt": "x" + str(body["prompt"])})
    server.wait_for("No space left on device")
    fail(server, "clear")
    fail(server, "cuda")
    for stream in (False, True):
        lost = {**body, "prompt": f"{stream} {body['prompt']}", "stream": stream}
        assert server.request("POST", "/v1/completions", lost).status == 500
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE_S) == 0
    told = unrecognised(server.log_path)
    requests = told["requests"]
    # A prefill that fails is not logged: one has failed once the next begins, and of the last one
    # the log does not know that it is over.
    assert (requests["completed"], requests["failed"], requests["running"]) == (2, 1, 1)
    killed = start("--kv-disk-dir", "kv", profile=profile, speed=2000.0).ready()
    with contextlib.suppress(ConnectionError):
        fail(killed, "oom")
    assert killed.process.wait(DEADLINE_S) == -signal.SIGKILL
    again = start("--kv-disk-dir", "kv", profile=profile, speed=2000.0).ready()
    assert again.stop() == 0
    told = unrecognised(killed.log_path, again.log_path)
    assert (told["server"]["starts"], told["server"]["unclean_stops"]) == (2, 1)


def test_several_sessions_at_a_time_agree_with_their_clients(start: Start) -> None:
    server = start(
        "--batched-session", 3, "--kv-disk-dir", "kv", profile="stock-2026-08", speed=300.0
    ).ready()
    told: list[dict[str, Any]] = []

    def client(name: str) -> None:
        for turn in range(3):
            prompt = f"{name} {words(900 + 200 * turn)}"
            answer = server.request(
                "POST", "/v1/completions", {"prompt": prompt + "[[plan gen=60]]", "max_tokens": 80}
            )
            told.append(answer.json["usage"])

    clients = [threading.Thread(target=client, args=(name,)) for name in ("a", "bb", "ccc", "dddd")]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert server.stop() == 0
    log = unrecognised(server.log_path)
    requests, context = log["requests"], log["context"]
    assert (requests["total"], requests["completed"], len(told)) == (12, 12, 12)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in told)
    prompts = sum(usage["prompt_tokens"] for usage in told)
    assert (context["cached_tokens"], context["prefilled_tokens"]) == (cached, prompts - cached)
    rows = csv.DictReader(io.StringIO(report([server.log_path], "--csv")))
    generated = sum(int(row["generated_tokens"]) for row in rows)
    assert generated == sum(usage["completion_tokens"] for usage in told)
