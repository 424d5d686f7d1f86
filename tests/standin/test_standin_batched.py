"""Several resident sessions: requests that are open together, each on the slot that knows it."""

from __future__ import annotations

import itertools
import re

from standin_kit import Start, words


def test_two_requests_are_open_and_a_third_waits(start: Start) -> None:
    server = start(
        "--kv-disk-dir", "kv", "--batched-session", 2, profile="stock-2026-08", speed=60
    ).ready()
    sizes = (5000, 6000, 700)
    socks = [
        server.open("/v1/completions", prompt=f"{size} {words(size)}", max_tokens=60)
        for size in sizes
    ]
    for sock in socks:
        while sock.recv(65536):
            pass
        sock.close()
    events = re.findall(
        r"completion ctx=0\.\.(\d+):\d+ (?:gen=\d+ )?.*?(prompt start|finish=)", server.log
    )
    first_three = [kind for _, kind in events[:3]]
    assert first_three == ["prompt start", "prompt start", "finish="]
    assert sorted(kind for _, kind in events) == ["finish="] * 3 + ["prompt start"] * 3
    assert server.stop() == 0
    persisted = re.findall(r"persisting resident KV cache before shutdown slot=(\d)", server.log)
    assert persisted == ["0", "1"]


def test_work_is_cut_small_and_shared_while_two_are_open(start: Start) -> None:
    server = start("--batched-session", 2, profile="stock-2026-08", speed=60).ready()
    decode = server.open("/v1/completions", prompt="x [[plan gen=3000]]")
    server.wait_for("gen=50 ")
    alone = float(re.findall(r"chunk=(\S+) t/s", server.log)[-1])
    prefill = server.open("/v1/completions", prompt=words(9000), max_tokens=2)
    server.wait_for("/9023 (100.0%)")
    steps = [int(n) for n in re.findall(r"prefill chunk (\d+)/9023", server.log)]
    assert max(b - a for a, b in itertools.pairwise(steps)) == 128
    shared = [float(n) for n in re.findall(r"gen=\d+ .*decoding chunk=(\S+) t/s", server.log)]
    assert min(shared) < 0.7 * alone
    for sock in (decode, prefill):
        sock.close()


def test_a_request_goes_to_the_slot_that_shares_its_beginning(start: Start) -> None:
    server = start("--batched-session", 2, profile="stock-2026-08").ready()
    chats = []
    for name in ("first", "second"):
        messages = [
            {"role": "system", "content": name + words(600)},
            {"role": "user", "content": "go [[plan gen=10]]"},
        ]
        body = {"messages": messages, "thinking": {"type": "disabled"}}
        answer = server.post("/v1/chat/completions", **body).json
        messages.append(answer["choices"][0]["message"])
        chats.append((body, answer["usage"]["total_tokens"]))
    for body, total in chats:
        body["messages"].append({"role": "user", "content": "on [[plan gen=10]]"})
        usage = server.post("/v1/chat/completions", **body).json["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == total
    assert "live kv cache miss" not in server.log


def test_a_stop_ends_prefill_between_quanta_and_refuses_the_queue(start: Start) -> None:
    server = start("--batched-session", 1, profile="stock-2026-08", speed=5).ready()
    first = server.open("/v1/completions", prompt=words(30000), max_tokens=2)
    server.wait_for("prefill chunk 0/")
    second = server.open("/v1/completions", prompt="x", max_tokens=2)
    assert server.request("GET", "/v1/models").status == 200
    assert server.stop() == 0
    assert second.recv(4096).startswith(b"HTTP/1.1 503 ")
    assert "finish=" not in server.log
    assert server.log.count("prompt start") == 1
    for sock in (first, second):
        sock.close()
