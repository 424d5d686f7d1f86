"""HTTP: shapes, usage, refusals, one worker with a queue, and the failures a client sees."""

from __future__ import annotations

import re
import signal
import socket
import time

import pytest
from standin_kit import TOOLS, Running, Start, eventually, words

PLAN = "[[plan think=4 gen=6]]"
CHAT = {"messages": [{"role": "user", "content": f"{words(40)} {PLAN}"}]}
BODIES: dict[str, dict] = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": {**CHAT, "max_tokens": 100},
    "/v1/responses": {"input": f"{words(40)} {PLAN}"},
    "/v1/completions": {"prompt": f"{words(40)} {PLAN}"},
}


@pytest.fixture(name="server")
def a_server(start: Start) -> Running:
    """One that listens, with a small context."""
    return start("--ctx", 8192).ready()


def test_models(server: Running) -> None:
    reply = server.request("GET", "/v1/models?x=1")
    assert reply.headers == {
        "Content-Length": str(len(reply.body)), "Content-Type": "application/json",
        "Connection": "close",
    }  # fmt: skip
    model = reply.json["data"][0]
    assert len(reply.json["data"]) == 1
    assert (model["id"], model["owned_by"], model["created"]) == (
        "deepseek-v4-flash", "ds4.c", 1767225600,
    )  # fmt: skip
    assert model["context_length"] == 8192
    assert model["top_provider"]["max_completion_tokens"] == 8192
    assert server.request("GET", "/v1/models/deepseek-v4-flash").json == model


def test_the_newer_build_lists_two_names_of_one_model(start: Start) -> None:
    server = start(profile="stock-2026-08").ready()
    names = [model["id"] for model in server.request("GET", "/v1/models").json["data"]]
    assert names == ["deepseek-v4-flash", "deepseek-v4-pro"]


@pytest.mark.parametrize("path", ["/health", "/metrics", "/stats", "/props", "/", "/v1/models/x"])
def test_unknown_paths(server: Running, path: str) -> None:
    reply = server.request("GET", path)
    assert reply.status == 404
    assert reply.body == (
        b'{"error":{"message":"unknown endpoint","type":"invalid_request_error"}}\n'
    )


def test_options_and_cross_origin_headers(start: Start) -> None:
    reply = start("--cors").ready().request("OPTIONS", "/v1/models")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/chat/completions", b'{"messages":3}', "invalid JSON request"),
        ("/v1/chat/completions", b"not json", "invalid JSON request"),
        ("/v1/chat/completions", b"{}", "missing messages"),
        ("/v1/completions", b"{}", "missing prompt"),
        ("/v1/responses", b"{}", "missing input"),
        ("/v1/responses", b'{"input":"x","previous_response_id":"r"}',
         "previous_response_id is not supported; replay full input instead"),
    ],
)  # fmt: skip
def test_bad_bodies(server: Running, path: str, body: bytes, words: str) -> None:
    reply = server.request("POST", path, body)
    assert reply.status == 400
    assert reply.json == {"error": {"message": words, "type": "invalid_request_error"}}
    assert server.log.endswith(f"listening on http://127.0.0.1:{server.port}\n")


def test_no_http_at_all(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 5) as raw:
        raw.sendall(b"hello\r\n\r\n")
        assert raw.recv(4096).endswith(
            b'{"error":{"message":"bad HTTP request","type":"invalid_request_error"}}\n'
        )


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/v1/chat/completions", "messages"), ("/v1/completions", "prompt"),
        ("/v1/responses", "input"), ("/v1/messages", None),
    ],
)  # fmt: skip
def test_a_prompt_that_does_not_fit(server: Running, path: str, where: str | None) -> None:
    long = words(8200)
    body = {"messages": [{"role": "user", "content": long}], "prompt": long, "input": long}
    reply = server.post(path, **body)
    assert reply.status == 400
    error = reply.json["error"]
    tokens = error["n_prompt_tokens"]
    assert 8192 <= tokens < 8240
    kind = "invalid_request_error"
    message = f"Prompt has {tokens} tokens, but the configured context size is 8192 tokens"
    expected = {"message": message, "type": kind, "n_prompt_tokens": tokens, "n_ctx": 8192}
    if where is None:
        assert reply.json == {"type": "error", "error": expected}
    else:
        expected |= {"param": where, "code": "context_length_exceeded"}
        assert reply.json == {"error": expected}
    assert "prompt start" not in server.log


def usages(path: str, usage: dict) -> tuple[int, int, int]:
    """Prompt, cached and generated tokens of any of the shapes."""
    if path == "/v1/messages":
        assert usage["input_tokens"] == 0
        read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
        return read + written, read, usage["output_tokens"]
    prompt, details, generated = (
        ("input_tokens", "input_tokens_details", "output_tokens")
        if path == "/v1/responses"
        else ("prompt_tokens", "prompt_tokens_details", "completion_tokens")
    )
    assert usage["total_tokens"] == usage[prompt] + usage[generated]
    cached = usage[details]["cached_tokens"]
    assert usage[details]["cache_write_tokens"] == usage[prompt] - cached
    return usage[prompt], cached, usage[generated]


@pytest.mark.parametrize("path", BODIES)
def test_usage_and_text_are_the_same_whole_and_streamed(server: Running, path: str) -> None:
    whole = server.post(path, **BODIES[path]).json
    prompt, cached, generated = usages(path, whole["usage"])
    assert (cached, generated) == (0, 4 + 2 + 6)
    finish = re.search(r"ctx=(\d+)\.\.(\d+):\d+ gen=(\d+) .*finish=stop", server.log)
    assert finish
    assert [int(part) for part in finish.groups()] == [cached, prompt, generated]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    events = server.post(path, **BODIES[path], **options).events
    if path == "/v1/messages":
        kinds = [event["type"] for event in events]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert events[-2]["usage"] == {"output_tokens": generated}
        text = "".join(event["delta"].get("text", "") for event in events if "delta" in event)
        assert text == whole["content"][-1]["text"]
        assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "end_turn"
    elif path == "/v1/responses":
        assert [events[0]["type"], events[-1]["type"]] == [
            "response.created", "response.completed",
        ]  # fmt: skip
        done = events[-1]["response"]
        assert usages(path, done["usage"]) == (prompt, 0, generated)
        assert done["output"][0]["content"] == whole["output"][0]["content"]
    else:
        assert events[-1]["choices"] == []
        assert usages(path, events[-1]["usage"]) == (prompt, 0, generated)
        assert events[-2]["choices"][0]["finish_reason"] == "stop"


def test_without_being_asked_a_stream_sends_no_usage_and_ends_with_done(server: Running) -> None:
    reply = server.post("/v1/chat/completions", **CHAT, stream=True)
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert not any("usage" in event for event in reply.events)


def test_tools_are_called_only_if_they_are_declared(server: Running) -> None:
    messages = [{"role": "user", "content": "go [[plan gen=2 tool=bash]]"}]
    plain = server.post("/v1/chat/completions", messages=messages).json["choices"][0]
    assert plain["finish_reason"] == "stop"
    called = server.post("/v1/chat/completions", messages=messages, tools=TOOLS).json["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    call = called["message"]["tool_calls"][0]
    assert re.fullmatch(r"call_[0-9a-f]{32}", call["id"])
    assert call["function"]["name"] == "bash"


def test_the_same_seed_says_the_same(start: Start) -> None:
    def say(seed: int) -> str:
        server = start("--standin-seed", seed, lock=f"lock{seed}{time.monotonic()}").ready()
        return server.post("/v1/completions", prompt="x", max_tokens=50).json["choices"][0]["text"]

    assert say(1) == say(1) != say(2)


def test_one_after_the_other_in_the_order_they_came(start: Start) -> None:
    server = start(speed=100).ready()
    socks = [server.open("/v1/completions", prompt=words(3000), max_tokens=2)]
    server.wait_for("prompt start")
    for size in (50, 70, 90):
        socks.append(server.open("/v1/completions", prompt=words(size), max_tokens=2))
        # The server has read it once its connection thread has gone to wait in the queue.
        assert server.request("GET", "/v1/models").status == 200
    eventually(lambda: server.log.count("finish=length") == 4, "four answers")
    starts = re.findall(r"ctx=0\.\.(\d+):\d+ prompt start", server.log)
    assert starts == ["3023", "73", "93", "113"]
    kinds = re.findall(r"(prompt start|finish=)", server.log)
    assert kinds == ["prompt start", "finish="] * 4
    for sock in socks:
        sock.close()


def test_a_continuation_whose_state_is_gone(server: Running) -> None:
    tools = [{"type": "function", **TOOLS[0]["function"]}]
    items = [{"role": "user", "content": "go [[plan gen=2 tool=bash]]"}]
    output = server.post("/v1/responses", input=items, tools=tools).json["output"]
    call = output[-1]["call_id"]
    tail = [{"type": "function_call_output", "call_id": call, "output": "x"}]
    unknown = server.post("/v1/responses", input=[{**tail[0], "call_id": "call_0"}], tools=tools)
    assert unknown.status == 400
    good = server.post("/v1/responses", input=tail, tools=tools)
    assert good.status == 200
    assert "responses live continuation RESPPROTO match=tool-output-ids ids=1" in server.log
    gone = server.post("/v1/responses", input=tail, tools=tools)
    assert gone.status == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_poisoned_gpu_fails_every_request(start: Start, stream: bool) -> None:
    server = start("--ctx", 32768, "--standin-fail", "cuda@1").ready()
    assert server.post("/v1/completions", prompt="first", max_tokens=3).status == 200
    seen = len(server.lines())
    for _ in range(2):
        reply = server.post("/v1/completions", prompt=words(5000), max_tokens=3, stream=stream)
        if stream:
            assert reply.body.endswith(
                b'event: error\ndata: {"error":{"message":"cuda prefill failed",'
                b'"type":"server_error"}}\n\n'
            )
        else:
            assert reply.status == 500
            assert reply.json["error"]["message"] == "cuda prefill failed"
    line = "ds4: CUDA end commands failed: an illegal memory access was encountered"
    assert server.lines(seen).count(line) == 2
    assert "finish=" not in "".join(server.lines(seen))
    assert server.request("GET", "/v1/models").status == 200


def test_a_gpu_that_fails_in_mid_answer(start: Start) -> None:
    server = start(speed=20).ready()
    sock = server.open("/v1/completions", prompt="x [[plan gen=5000]]")
    server.wait_for("gen=50 ")
    assert server.post("/standin/fail", kind="cuda").status == 200
    server.wait_for('finish=error error="cuda decode failed"')
    assert "an illegal memory access was encountered" in server.log
    sock.close()


def test_an_oom_kill_leaves_no_line(start: Start) -> None:
    server = start("--standin-fail", "oom@1").ready()
    server.post("/v1/completions", prompt="x", max_tokens=2)
    seen = server.log
    sock = server.open("/v1/completions", prompt="x", max_tokens=2)
    assert server.process.wait(10) == -signal.SIGKILL
    assert server.log == seen
    sock.close()


def test_a_worker_that_hangs_answers_nobody_but_the_server_lives(start: Start) -> None:
    control = "control"
    server = start("--standin-control", control).ready()
    server.post("/v1/completions", prompt="x", max_tokens=2)
    (server.directory / control).write_text("hang")
    server.request("GET", "/v1/models")
    seen = len(server.lines())
    sock = server.open("/v1/completions", prompt=words(900), max_tokens=2)
    eventually(lambda: "prompt start" in "".join(server.lines(seen)), "a prefill")
    assert server.request("GET", "/v1/models").status == 200
    assert "prompt done" not in "".join(server.lines(seen))
    sock.close()


def test_a_slow_phase_takes_three_times_as_long(start: Start) -> None:
    server = start(speed=100).ready()
    body = {"prompt": "x [[plan gen=150]]", "thinking": {"type": "disabled"}}

    def rate() -> float:
        server.post("/v1/completions", **body)
        return float(re.findall(r"avg=(\S+) t/s", server.log)[-1])

    before = rate()
    server.post("/standin/fail", kind="slow")
    assert rate() == pytest.approx(before / 3, rel=0.35)
    server.post("/standin/fail", kind="clear")
    assert rate() == pytest.approx(before, rel=0.25)
    assert server.post("/standin/fail", kind="fire").status == 400


@pytest.mark.parametrize(
    ("profile", "context", "prefill_tps", "decode_tps"),
    [
        ("daily-agent", 4096, 222.6, 11.1),
        ("stock-2026-05", 8192, 1e6 / (2338 + 14.1 * 8), 1e3 / (70.5 + 0.233 * 8.2)),
        ("stock-2026-08", 16384, 860.0, 1e3 / (52.9 + 0.0839 * 16.4)),
    ],
)
def test_speeds_of_a_spark(
    start: Start, profile: str, context: int, prefill_tps: float, decode_tps: float
) -> None:
    speed = 50.0
    server = start("--ctx", 32768, profile=profile, speed=speed).ready()
    prompt = words(context - 60) + "[[plan gen=100]]"
    server.post("/v1/completions", prompt=prompt, thinking={"type": "disabled"})
    chunk, decode = re.findall(r"chunk=(\S+) t/s avg=(\S+) t/s", server.log)[-3:-1]
    prompt_tokens, prefill_s = re.findall(r"0\.\.(\d+):\d+ prompt done (\S+)s", server.log)[0]
    assert chunk
    # A busy machine can only make it slower than asked for.
    measured = int(prompt_tokens) / float(prefill_s) / speed
    assert 0.8 * prefill_tps <= measured <= 1.05 * prefill_tps
    assert 0.8 * decode_tps <= float(decode[1]) / speed <= 1.05 * decode_tps
