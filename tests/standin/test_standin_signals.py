"""Signals: one drains and saves, two end at once, and a load is not interrupted."""

from __future__ import annotations

import signal
import socket

from standin_kit import Start, eventually, words

LONG = {"prompt": words(9000), "max_tokens": 4}


def test_one_signal_when_idle_saves_and_ends_with_0(start: Start) -> None:
    server = start("--kv-disk-dir", "kv").ready()
    server.post("/v1/completions", prompt=words(700), max_tokens=10)
    seen = len(server.lines())
    assert server.stop() == 0
    tokens = 723 + 10
    assert [line.split(" key=")[0] for line in server.lines(seen)] == [
        "ds4-server: shutdown requested, draining requests",
        f"ds4-server: persisting current KV cache before shutdown tokens={tokens}",
        f"ds4-server: kv cache stored tokens={tokens} trimmed=0 reason=shutdown",
    ]


def test_the_newer_build_names_the_slot(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", profile="stock-2026-08").ready()
    server.post("/v1/completions", prompt=words(700), max_tokens=10)
    assert server.stop(signal.SIGINT) == 0
    assert (
        "ds4-server: persisting resident KV cache before shutdown slot=0 tokens=733"
        in server.lines()
    )


def test_nothing_is_saved_below_the_least_length_or_without_a_directory(start: Start) -> None:
    server = start("--kv-disk-dir", "kv").ready()
    server.post("/v1/completions", prompt="short", max_tokens=10)
    assert server.stop() == 0
    assert server.lines()[-1] == "ds4-server: shutdown requested, draining requests"


def test_a_signal_during_the_load_only_sets_a_flag(start: Start) -> None:
    server = start("--standin-model-gib", 80, speed=100)
    server.wait_for("into device cache")
    assert server.stop() == 0
    assert server.lines()[-2:] == [
        f"ds4-server: listening on http://127.0.0.1:{server.port}",
        "ds4-server: shutdown requested, draining requests",
    ]


def test_a_second_signal_during_the_load_ends_with_130(start: Start) -> None:
    server = start("--standin-model-gib", 80, speed=4)
    server.wait_for("into device cache")
    server.process.send_signal(signal.SIGTERM)
    # Two signals of one number that are pending together are one: the other number is a second.
    assert server.stop(signal.SIGINT) == 130
    assert "listening" not in server.log


def test_a_second_signal_while_draining_ends_with_130_and_saves_nothing(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--standin-fail", "hang@1").ready()
    server.post("/v1/completions", prompt=words(700), max_tokens=2)
    sock = server.open("/v1/completions", **LONG)
    server.wait_for("ctx=0..9023:9023 prompt start")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining requests")
    assert server.stop() == 130
    assert "persisting" not in server.log
    sock.close()


def test_a_prefill_is_waited_for_and_queued_work_is_still_taken(start: Start) -> None:
    server = start(speed=60).ready()
    first = server.open("/v1/completions", **LONG)
    server.wait_for("prefill chunk 2048/9023")
    second = server.open("/v1/completions", prompt=words(5000), max_tokens=4)
    late = socket.create_connection(("127.0.0.1", server.port))
    assert server.request("GET", "/v1/models").status == 200
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining requests")
    body = b'{"prompt":"x"}'
    late.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 14\r\n\r\n" + body)
    answer = late.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503 Error\r\n")
    assert answer.endswith(
        b'{"error":{"message":"server shutting down","type":"invalid_request_error"}}\n'
    )
    assert server.process.wait(15) == 0
    lines = server.lines()
    ends = [line for line in lines if 'finish=error error="shutdown requested"' in line]
    assert [line.split(" gen=")[0] for line in ends] == [
        "ds4-server: completion ctx=0..9023:9023",
        "ds4-server: completion ctx=0..5023:5023",
    ]
    assert any("5023/5023 (100.0%)" in line for line in lines)
    for sock in (first, second, late):
        sock.close()


def test_a_decode_stops_at_the_next_token(start: Start) -> None:
    server = start(speed=20).ready()
    sock = server.open("/v1/completions", prompt=words(100) + "[[plan gen=4000]]", stream=True)
    server.wait_for("gen=50 ")
    assert server.stop() == 0
    # The request's last line and the line of the drain come from two threads, in either order.
    last = [line for line in server.lines() if line.startswith("ds4-server: completion ctx=0..")]
    assert "finish=error error=" in last[-1]
    assert "ds4-server: shutdown requested, draining requests" in server.lines()
    sock.close()


def test_a_kill_leaves_no_line(start: Start) -> None:
    server = start("--kv-disk-dir", "kv").ready()
    seen = server.log
    assert server.stop(signal.SIGKILL) == -9
    assert server.log == seen


def test_hangup_is_not_handled(start: Start) -> None:
    assert start().ready().stop(signal.SIGHUP) == -signal.SIGHUP


def test_the_port_closes_with_the_first_signal(start: Start) -> None:
    server = start("--standin-fail", "hang").ready()
    sock = server.open("/v1/completions", **LONG)
    server.wait_for("prompt start")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("draining requests")

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", server.port)) != 0

    eventually(refused, "a closed port")
    sock.close()
