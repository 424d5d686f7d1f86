"""The lines of one request, in the order and the words of recorded logs of the real server."""

from __future__ import annotations

import json
import re

from standin_kit import DATA, TOOLS, Running, Start, eventually, unstamped, words

FLAGS = re.compile(r"(THINKING |DSML_START |DSML_END )")


def template(line: str) -> str:
    """A line without what may differ: numbers, ids, paths, flags of the moment."""
    line = FLAGS.sub("", line)
    line = re.sub(r"ids=\[[^]]*\] names=\[[^]]*\]", "ids names", line)
    line = re.sub(r"file=\S+", "file", line)
    return re.sub(r"(?<![A-Za-z])\d+(\.\d+)?", "N", line)


def templates(lines: list[str]) -> list[str]:
    """Templates; chunks and decode intervals that follow each other count once."""
    found: list[str] = []
    for line in map(template, lines):
        if found and found[-1] == line and ("chunk" in line or "evicted" in line):
            continue
        found.append(line)
    return found


def recorded(name: str) -> list[str]:
    """Templates of a recorded excerpt."""
    return templates(unstamped((DATA / name).read_text()).splitlines())


class Conversation:
    """A chat that sends all its history, as agents do."""

    def __init__(self, server: Running, system_tokens: int, tools: bool = True) -> None:
        self.server = server
        self.messages: list[dict] = [{"role": "system", "content": words(system_tokens)}]
        self.tools = tools

    def body(self, stream: bool = True) -> dict:
        body = {"messages": self.messages, "stream": stream}
        if self.tools:
            body["tools"] = TOOLS
        return body

    def turn(self, tokens: int, plan: str) -> None:
        """Add a message (a tool's output where one is due) and keep the answer."""
        last = self.messages[-1]
        text = f"{words(tokens)} [[plan {plan}]]"
        message = {"role": "user", "content": text}
        if last.get("tool_calls"):
            message = {"role": "tool", "tool_call_id": last["tool_calls"][0]["id"], "content": text}
        self.messages.append(message)
        reply = self.server.post("/v1/chat/completions", **self.body(stream=False))
        self.messages.append(reply.json["choices"][0]["message"])


def test_cold_and_hot_tool_turns_as_recorded(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--ctx", 131072).ready()
    seen = len(server.lines())
    chat = Conversation(server, 5500)
    chat.turn(40, "think=60 gen=20 tool=bash")
    chat.turn(890, "gen=60 tool=read_file")
    real = recorded("turns.log")
    assert templates(server.lines(seen))[: len(real)] == real
    assert "names=[bash]" in server.log
    assert "names=[read_file]" in server.log


def test_eviction_and_disk_hit_as_recorded(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--ctx", 131072).ready()
    chat = Conversation(server, 5500)
    chat.turn(40, "think=60 gen=20 tool=bash")
    seen = len(server.lines())
    server.post("/v1/completions", prompt=words(80), max_tokens=24)
    chat.turn(1000, "gen=100")
    real = recorded("evict-and-hit.log")
    assert templates(server.lines(seen))[: len(real)] == real


def test_a_clean_stop_as_recorded(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--kv-disk-space-mb", 160).ready()
    server.post("/v1/completions", prompt=words(6100), max_tokens=4)
    seen = len(server.lines())
    assert server.stop() == 0
    assert templates(server.lines(seen)) == recorded("clean-stop.log")


def test_a_thinking_chat_without_tools_as_recorded(start: Start) -> None:
    server = start("--kv-disk-dir", "kv").ready()
    Conversation(server, 3000).turn(40, "gen=10")
    seen = len(server.lines())
    chat = Conversation(server, 640, tools=False)
    chat.turn(20, "think=20 gen=60")
    for message in chat.messages:
        message.pop("reasoning_content", None)
    chat.turn(12, "think=10 gen=70")
    real = [line for line in recorded("thinking.log") if "evicted" not in line]
    assert templates(server.lines(seen))[: len(real)] == real


def test_a_responses_continuation_as_recorded(start: Start) -> None:
    server = start("--kv-disk-dir", "kv").ready()
    Conversation(server, 3000).turn(40, "gen=10")
    seen = len(server.lines())
    items: list[dict] = [{"role": "user", "content": "go [[plan think=8 gen=40 tool=bash]]"}]
    tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
    fields = {"instructions": words(3900), "tools": tools, "stream": True}
    done = server.post("/v1/responses", input=items, **fields).events[-1]["response"]
    for item in done["output"]:
        items.append({key: item[key] for key in item if key not in ("id", "status")})
    items.append(
        {
            "type": "function_call_output",
            "call_id": done["output"][-1]["call_id"],
            "output": words(1800) + "[[plan gen=90]]",
        }
    )
    server.post("/v1/responses", input=items, **fields)
    real = recorded("responses.log")
    assert templates(server.lines(seen))[: len(real)] == real


def test_a_messages_continuation_as_recorded(start: Start) -> None:
    server = start("--kv-disk-dir", "kv").ready()
    instructions = words(900)
    server.post("/v1/responses", input="go [[plan gen=5]]", instructions=instructions)
    seen = len(server.lines())
    tools = [
        {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]}
        for tool in TOOLS
    ]
    messages: list[dict] = [{"role": "user", "content": "go [[plan think=9 gen=40 tool=bash]]"}]
    fields = {"system": words(4700), "tools": tools, "max_tokens": 500}
    answer = server.post("/v1/messages", messages=messages, **fields).json
    messages.append({"role": "assistant", "content": answer["content"]})
    result = {
        "type": "tool_result",
        "tool_use_id": answer["content"][-1]["id"],
        "content": words(1800) + "[[plan gen=90]]",
    }
    messages.append({"role": "user", "content": [result]})
    server.post("/v1/messages", messages=messages, stream=True, **fields)
    real = recorded("messages.log")
    assert templates(server.lines(seen))[: len(real)] == real
    assert "ids=[toolu_" in server.log


def test_a_replay_without_reasoning_is_remarked(start: Start) -> None:
    server = start().ready()
    items = [
        {"role": "user", "content": "go"},
        {"type": "function_call", "call_id": "call_1", "name": "bash", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "x [[plan gen=5]]"},
    ]
    tools = [{"type": "function", **TOOLS[0]["function"]}]
    seen = len(server.lines())
    server.post("/v1/responses", input=items, tools=tools)
    tokens = re.search(r"ctx=0\.\.(\d+):", server.lines(seen)[-1])
    assert tokens
    assert server.lines(seen)[0] == (
        "ds4-server: responses replay RESPPROTO missing reasoning state; continuing from visible "
        f"history source=none cached=0 prompt={tokens[1]}"
    )


def test_a_client_that_leaves_while_it_is_answered_as_recorded(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", speed=60).ready()
    chat = Conversation(server, 5500)
    chat.turn(40, "gen=20 tool=bash")
    server.post("/v1/completions", prompt=words(600), max_tokens=4)
    seen = len(server.lines())
    chat.messages.append({"role": "tool", "tool_call_id": "x", "content": "[[plan gen=900]]"})
    sock = server.open("/v1/chat/completions", **chat.body())
    eventually(lambda: "gen=50 " in "".join(server.lines(seen)), "an answer")
    sock.close()
    server.wait_for("final stream failed")
    server.wait_for('error="client stream write failed"')
    real = [line for line in recorded("client-left.log") if "evicted" not in line]
    assert templates(server.lines(seen)) == real


def test_a_client_that_leaves_in_prefill_does_not_end_it(start: Start) -> None:
    server = start(speed=60).ready()
    sock = server.open("/v1/completions", prompt=words(9000), stream=True)
    server.wait_for("prefill chunk 2048/")
    sock.close()
    server.wait_for("stream closed during prefill")
    assert server.lines()[-2].startswith("ds4-server: completion ctx=0..9023:9023 prompt done ")
    assert server.lines()[-1] == (
        "ds4-server: completion ctx=0..9023:9023 stream closed during prefill"
    )


def test_the_newer_build_evicts_before_it_writes(start: Start) -> None:
    server = start(
        "--kv-disk-dir", "kv", "--kv-disk-space-mb", 100, profile="stock-2026-08"
    ).ready()
    server.post("/v1/completions", prompt=words(3000), max_tokens=4)
    seen = len(server.lines())
    server.post("/v1/completions", prompt="other " + words(3000), max_tokens=4)
    kinds = [line.split()[3] for line in server.lines(seen) if " kv cache " in line]
    assert kinds == ["cache", "evicted", "stored", "evicted", "stored"]


def test_a_long_prompt_has_no_cold_save_and_its_hit_is_consumed(start: Start) -> None:
    server = start("--kv-disk-dir", "kv", "--ctx", 65536, speed=3000).ready()
    prompt = words(33000)
    server.post("/v1/completions", prompt=prompt, max_tokens=4)
    stored = re.findall(r"stored tokens=(\d+) trimmed=0 reason=(\w+)", server.log)
    assert stored == [("10240", "continued"), ("20480", "continued"), ("30720", "continued")]
    server.post("/v1/completions", prompt="other", max_tokens=4)
    server.post("/v1/completions", prompt=prompt, max_tokens=4)
    hit = re.search(r"kv cache hit text tokens=30720 .* ms( consumed)? file=(\S+)", server.log)
    assert hit
    assert hit[1] == " consumed"
    assert not (server.directory / hit[2]).exists()


def test_the_newer_build_keeps_what_it_loads(start: Start) -> None:
    server = start(
        "--kv-disk-dir", "kv", "--ctx", 65536, profile="stock-2026-08", speed=3000
    ).ready()
    prompt = words(33000)
    for text in (prompt, "other", prompt):
        server.post("/v1/completions", prompt=text, max_tokens=4)
    hit = re.search(r"kv cache hit text tokens=\d+ text=\d+ .* ms file=(\S+)", server.log)
    assert hit
    assert (server.directory / hit[1]).exists()


def test_a_tool_call_cut_by_the_limit_is_an_error(start: Start) -> None:
    server = start().ready()
    body = {
        "messages": [{"role": "user", "content": "go [[plan gen=2 tool=bash]]"}],
        "tools": TOOLS,
        "max_tokens": 15,
        "thinking": {"type": "disabled"},
    }
    reply = server.post("/v1/chat/completions", **body)
    assert json.loads(reply.body)["choices"][0]["finish_reason"] == "error"
    assert 'TOOLS DSML_START finish=error error="unterminated tool call"' in server.log


def test_a_stop_sequence_throws_the_live_state_away(start: Start) -> None:
    server = start().ready()
    body = {"prompt": "go [[plan gen=200]]", "max_tokens": 400, "thinking": {"type": "disabled"}}
    text = server.post("/v1/completions", **body).json["choices"][0]["text"]
    cut = server.post("/v1/completions", stop=text[101:106], **body).json["choices"][0]
    assert cut["finish_reason"] == "stop"
    assert text.startswith(cut["text"])
    assert len(cut["text"]) <= 101
    seen = len(server.lines())
    server.post("/v1/completions", prompt="again", max_tokens=4)
    assert "live kv cache miss" not in "".join(server.lines(seen))
