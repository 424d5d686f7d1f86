"""A busy agent and its neighbours as clients: ten scripted minutes, then more of the same.

The first ten simulated minutes hold hot turns, every cause of a cold one, tool calls, thinking, a
compaction, a side question, clients that leave, and errors; see `_Scene.script`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ds4top.standin.client import Answer, CallRecord, Client
from ds4top.standin.text import junk

__all__ = ["CallRecord", "run"]

_FUNCTIONS: list[dict[str, object]] = [
    {
        "name": name,
        "description": f"Run {name} in the workspace.",
        "parameters": {"type": "object", "properties": {argument: {"type": "string"}}},
    }
    for name, argument in (("bash", "command"), ("read_file", "path"), ("edit", "patch"))
]
_COMPACT_AT_TOKENS = 48_000
_CHAT, _PLAIN = "/v1/chat/completions", "/v1/completions"
_MESSAGES, _RESPONSES = "/v1/messages", "/v1/responses"


def _plan(think: int, gen: int, tool: str | None = None) -> str:
    words = f" tool={tool}" if tool else ""
    return f"\n[[plan think={think} gen={gen}{words}]]"


@dataclass
class _Chat:
    """A conversation over chat completions that sends all of its history each time."""

    system: str
    tools: bool = True
    thinks: bool = True
    history: list[dict[str, object]] = field(default_factory=list)
    waiting: str | None = None
    tokens: int = 0

    def body(self, *, stream: bool = True) -> dict[str, object]:
        """The request as it stands."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, object] = {
            "model": "deepseek-v4-flash",
            "messages": [*head, *self.history],
            "stream": stream,
            "thinking": {"type": "enabled" if self.thinks else "disabled"},
        }
        if self.tools:
            body["tools"] = [{"type": "function", "function": each} for each in _FUNCTIONS]
        if stream:
            body["stream_options"] = {"include_usage": True}
        return body

    def say(self, text: str) -> None:
        """The next message: the output of the tool that was called, else the user's words."""
        message: dict[str, object] = {"role": "user", "content": text}
        if self.waiting is not None:
            message = {"role": "tool", "tool_call_id": self.waiting, "content": text}
        self.history.append(message)

    def hear(self, answer: Answer) -> None:
        """Keep the answer, or take the message back where none came."""
        if not answer.ok:
            self.history.pop()
            return
        self.tokens = answer.record.prompt_tokens or self.tokens
        message: dict[str, object] = {"role": "assistant", "content": answer.content}
        if answer.reasoning and self.tools:
            message["reasoning_content"] = answer.reasoning
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": name,
                    "type": "function",
                    "function": {"name": function, "arguments": arguments},
                }
                for name, function, arguments in answer.calls
            ]
        self.waiting = answer.calls[0][0] if answer.calls else None
        self.history.append(message)


class _Scene:
    """The clients, their texts and the order in which they call."""

    def __init__(
        self,
        client: Client,
        seed: int,
        speed: float,
        stop: threading.Event,
        record: Callable[[CallRecord], None] | None,
    ) -> None:
        self._client = client
        self._rng = random.Random(seed)
        self._speed = speed
        self._stop = stop
        self._record = record
        self._main = _Chat("You are a coding agent.\n" + junk(self._rng, 5800))
        self._helper = junk(self._rng, 600)
        self._dated = (junk(self._rng, 900), junk(self._rng, 1200))
        self._asked = 0

    def pause(self, seconds: float) -> None:
        """Let simulated seconds pass."""
        self._stop.wait(seconds / self._speed)

    def wait_for_server(self) -> bool:
        """Until the server answers; False where the end came first."""
        while not self._stop.is_set():
            if self._client.is_up():
                return True
            self._stop.wait(max(0.02, 0.5 / self._speed))
        return False

    def call(
        self,
        endpoint: str,
        body: dict[str, object],
        *,
        leave_after_s: float | None = None,
        leave_after_events: int | None = None,
    ) -> Answer:
        """One call in simulated time, recorded; afterwards the server is up again.

        None is made once the driver is to stop.
        """
        if self._stop.is_set():
            now = time.time()
            return Answer(CallRecord(endpoint, False, now, now, None, error="stopped"))
        after = None if leave_after_s is None else leave_after_s / self._speed
        answer = self._client.call(
            endpoint, body, hang_up_after_s=after, hang_up_after_events=leave_after_events
        )
        if self._record is not None and not self._stop.is_set():
            self._record(answer.record)
        if answer.record.status is None and not answer.record.aborted:
            self.wait_for_server()
        self.pause(self._rng.uniform(0.3, 1.0))
        return answer

    def turn(
        self,
        chat: _Chat,
        tokens: int,
        think: int,
        gen: int,
        tool: str | None = None,
        *,
        stream: bool = True,
    ) -> Answer:
        """One turn of a conversation that adds `tokens` tokens."""
        chat.say(junk(self._rng, tokens) + _plan(think, gen, tool))
        answer = self.call(_CHAT, chat.body(stream=stream))
        chat.hear(answer)
        return answer

    def side_question(self) -> None:
        """A short completion that pushes the conversation out of memory."""
        prompt = junk(self._rng, 80) + _plan(8, 16)
        self.call(_PLAIN, {"prompt": prompt, "max_tokens": 60})

    def helper(self, tokens: int) -> None:
        """A sub-agent with a system prompt of its own, over the Messages API."""
        words = junk(self._rng, tokens) + _plan(0, 24)
        body = {
            "model": "deepseek-v4-flash",
            "max_tokens": 400,
            "stream": True,
            "system": self._helper,
            "thinking": {"type": "disabled"},
            "messages": [{"role": "user", "content": words}],
        }
        self.call(_MESSAGES, body)

    def dated(self) -> None:
        """A client that writes the time into the middle of its system prompt."""
        self._asked += 1
        system = f"{self._dated[0]}It is now {self._asked:06d}.\n{self._dated[1]}"
        chat = _Chat(system, tools=False, thinks=False)
        self.turn(chat, 160, 0, 24)

    def regenerated(self) -> None:
        """A conversation that grew from a short prompt, whose last answer is asked for again."""
        chat = _Chat("", tools=False, thinks=False)
        self.turn(chat, 220, 0, 16)
        chat.say(junk(self._rng, 2150) + _plan(0, 20))
        self.call(_CHAT, chat.body())
        self.call(_CHAT, chat.body())

    def thinking(self) -> None:
        """Two turns that think, without tools: the reasoning is not sent back."""
        chat = _Chat(junk(self._rng, 150), tools=False)
        self.turn(chat, 90, 24, 24)
        self.turn(chat, 40, 20, 20, stream=False)

    def responses(self) -> None:
        """A tool turn over the Responses API, and its continuation."""
        tools = [{"type": "function", **each} for each in _FUNCTIONS]
        items: list[object] = [
            {"role": "user", "content": junk(self._rng, 500) + _plan(8, 12, "read_file")}
        ]
        body: dict[str, object] = {
            "instructions": junk(self._rng, 160),
            "tools": tools,
            "stream": True,
            "input": items,
        }
        answer = self.call(_RESPONSES, body)
        if not answer.calls:
            return
        name, function, arguments = answer.calls[0]
        if answer.content:
            items.append({"role": "assistant", "content": answer.content})
        items.append(
            {"type": "function_call", "call_id": name, "name": function, "arguments": arguments}
        )
        output = junk(self._rng, 240) + _plan(6, 18)
        items.append({"type": "function_call_output", "call_id": name, "output": output})
        self.call(_RESPONSES, body)

    def broken_call(self) -> None:
        """A tool call that the output limit cuts in two: an error of the server's own."""
        main = self._main
        main.say(junk(self._rng, 60) + _plan(0, 6, "bash"))
        body = {**main.body(), "max_tokens": 16}
        self.call(_CHAT, body)
        main.history.pop()

    def left_in_prefill(self) -> None:
        """The client goes while its prompt is read; the server reads on to the end."""
        main = self._main
        main.say(junk(self._rng, 2400) + _plan(0, 40))
        self.call(_CHAT, main.body(), leave_after_s=2.0)
        main.history.pop()

    def left_in_decode(self) -> None:
        """The client goes in the middle of the answer."""
        main = self._main
        main.say(junk(self._rng, 120) + _plan(0, 120))
        self.call(_CHAT, main.body(), leave_after_events=30)
        main.history.pop()

    def too_long(self) -> None:
        """A prompt beyond the context: refused with 400, never logged."""
        prompt = junk(self._rng, 140_000)
        self.call(_PLAIN, {"prompt": prompt, "max_tokens": 10})

    def compaction(self) -> None:
        """The client puts a summary in the place of its history."""
        self._main.history.clear()
        self._main.waiting = None
        self.turn(self._main, 900, 20, 40, "bash")

    def script(self) -> Iterator[Callable[[], object]]:
        """The first ten minutes, restart of the server (by others, about minute 7) included."""
        main = self._main

        def turn(
            tokens: int, think: int, gen: int, tool: str | None = None
        ) -> Callable[[], object]:
            return lambda: self.turn(main, tokens, think, gen, tool)

        yield turn(260, 30, 30, "bash")  # cold: first after start
        yield turn(700, 0, 30, "read_file")
        yield turn(1500, 20, 30, "bash")
        yield lambda: self.helper(1500)  # cold: a new prefix, its anchor the first to be evicted
        yield turn(500, 12, 24, "bash")  # hot, from disk
        yield self.side_question
        yield turn(400, 0, 30, "read_file")
        yield self.dated  # cold: a new prefix
        yield self.dated  # cold: diverged
        yield self.regenerated  # cold: partial, then shortened
        yield turn(900, 50, 60)
        yield turn(60, 10, 20, "edit")
        yield self.compaction  # the history gives way to a summary; the system prompt is a disk hit
        yield self.thinking
        yield self.broken_call
        yield turn(2600, 0, 24, "bash")
        yield self.left_in_prefill
        yield self.left_in_decode
        yield turn(300, 0, 30, "bash")
        yield lambda: self.helper(1600)  # cold: its anchor was evicted
        yield self.too_long
        for tokens in (500, 700, 300):
            yield turn(tokens, 20, 40, "bash")
        yield self.responses
        while not self._stop.is_set():
            yield self._any_step()

    def _any_step(self) -> Callable[[], object]:
        rng, main = self._rng, self._main
        if main.tokens > _COMPACT_AT_TOKENS:
            return self.compaction
        steps: tuple[tuple[float, Callable[[], object]], ...] = (
            (
                70.0,
                lambda: self.turn(
                    main,
                    rng.randint(60, 2600),
                    rng.choice((0, 20, 60)),
                    rng.randint(20, 90),
                    rng.choice(("bash", "edit", None)),
                ),
            ),
            (8.0, self.side_question),
            (5.0, lambda: self.helper(rng.randint(1500, 3000))),
            (4.0, self.thinking),
            (3.0, self.responses),
            (2.0, self.dated),
            (2.0, self.regenerated),
            (2.0, self.left_in_decode),
            (1.0, self.broken_call),
            (1.0, lambda: self.turn(main, 17_000, 0, 40, "bash")),
            (2.0, lambda: self.pause(20.0)),
        )
        weights = [weight for weight, _ in steps]
        return rng.choices([step for _, step in steps], weights)[0]


def run(
    base_url: str,
    *,
    seed: int,
    speed: float,
    stop: threading.Event,
    record: Callable[[CallRecord], None] | None = None,
) -> None:
    """Drive a server until `stop` is set; `record` hears of every call as it ends.

    `speed` is how many times faster than a Spark the server runs.
    """
    scene = _Scene(Client(base_url, stop), seed, speed, stop, record)
    for step in scene.script():
        if not scene.wait_for_server():
            return
        step()
        if stop.is_set():
            return
