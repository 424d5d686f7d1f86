"""Answers in the shape of each endpoint: whole, or as a stream of events."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ds4top.standin.plan import Script
from ds4top.standin.render import Call
from ds4top.standin.requests import Request
from ds4top.standin.wire import Wire, compact

Json = Mapping[str, object]


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    prompt: int
    cached: int
    generated: int

    @property
    def written(self) -> int:
        """Tokens prefilled now."""
        return max(0, self.prompt - self.cached)

    def openai(self) -> Json:
        """For chat and plain completions."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {
                "cached_tokens": self.cached,
                "cache_write_tokens": self.written,
            },
        }

    def responses(self) -> Json:
        """For the Responses API."""
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {
                "cached_tokens": self.cached,
                "cache_write_tokens": self.written,
            },
            "output_tokens": self.generated,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt + self.generated,
        }

    def messages(self) -> Json:
        """For the Messages API."""
        return {
            "input_tokens": self.prompt - self.cached - self.written,
            "output_tokens": self.generated,
            "cache_read_input_tokens": self.cached,
            "cache_creation_input_tokens": self.written,
        }


@dataclass(frozen=True)
class Outcome:
    """What was said until the end: texts as far as they came, calls if they were finished."""

    reasoning: str
    content: str
    calls: tuple[Call, ...]
    finish: str
    usage: Usage


class Reply:
    """The common part: chat completions are written here, the other endpoints change the shape."""

    def __init__(self, wire: Wire, request: Request, rng: random.Random) -> None:
        """One a request."""
        self.wire = wire
        self.request = request
        self.identifier = ""
        self._created = int(time.time())
        self._rng = rng
        self._reasoned = self._said = 0

    def begin(self, identifier: str, usage: Usage) -> str | None:
        """Open the stream after its head; the words of the failure, None where it went well."""
        self.identifier = identifier
        return None if self._chunk({"role": "assistant"}) else "openai role chunk failed"

    def advance(self, script: Script, tokens: int) -> bool:
        """Send what `tokens` tokens of the script show beyond what was sent."""
        reasoning, content = shown(script, tokens)
        ok = True
        if len(reasoning) > self._reasoned:
            ok = self.reasoning_delta(reasoning[self._reasoned :])
            self._reasoned = len(reasoning)
        if ok and len(content) > self._said:
            ok = self.content_delta(content[self._said :])
            self._said = len(content)
        return ok

    def reasoning_delta(self, text: str) -> bool:
        """More reasoning."""
        return self._chunk({"reasoning_content": text})

    def content_delta(self, text: str) -> bool:
        """More text."""
        return self._chunk({"content": text})

    def end(self, outcome: Outcome) -> bool:
        """Close the stream."""
        ok = not outcome.calls or self._chunk({"tool_calls": self._calls(outcome.calls, True)})
        ok = ok and self._chunk({}, outcome.finish)
        if ok and self.request.include_usage:
            ok = self._event(
                {**self._head("chunk"), "choices": [], "usage": outcome.usage.openai()}
            )
        return ok and self.wire.send(b"data: [DONE]\n\n")

    def whole(self, identifier: str, outcome: Outcome) -> bool:
        """The answer in one piece."""
        self.identifier = identifier
        message: dict[str, object] = {"role": "assistant", "content": outcome.content}
        if outcome.reasoning:
            message["reasoning_content"] = outcome.reasoning
        if outcome.calls:
            message["tool_calls"] = self._calls(outcome.calls, False)
        choice = {"index": 0, "message": message, "finish_reason": outcome.finish}
        body = {**self._head(""), "choices": [choice], "usage": outcome.usage.openai()}
        return self.wire.respond(200, compact(body) + "\n")

    def failure_event(self, message: str) -> bool:
        """An error inside a stream whose head is out."""
        body = {"error": {"message": message, "type": "server_error"}}
        return self._event(body, "error")

    def _event(self, body: Json, name: str = "") -> bool:
        head = f"event: {name}\n" if name else ""
        return self.wire.send(f"{head}data: {compact(body)}\n\n".encode())

    def _head(self, what: str) -> Json:
        return {
            "id": self.identifier,
            "object": "chat.completion" + (f".{what}" if what else ""),
            "created": self._created,
            "model": self.request.model,
        }

    def _chunk(self, delta: Json, finish: str | None = None) -> bool:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return self._event({**self._head("chunk"), "choices": [choice]})

    def _calls(self, calls: tuple[Call, ...], indexed: bool) -> list[Json]:
        return [
            {
                **({"index": index} if indexed else {}),
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(calls)
        ]


class CompletionReply(Reply):
    """Plain completions: the raw text, reasoning marks and all."""

    def begin(self, identifier: str, usage: Usage) -> str | None:
        """No opening event."""
        self.identifier = identifier
        return None

    def advance(self, script: Script, tokens: int) -> bool:
        """The raw bytes as they come."""
        text = script.raw[self._said : tokens * 4].decode("utf-8", "replace")
        self._said = tokens * 4
        return self._piece(text, None)

    def end(self, outcome: Outcome) -> bool:
        """Finish, usage if asked for, end."""
        ok = self._piece("", outcome.finish)
        if ok and self.request.include_usage:
            ok = self._event({**self._head(""), "choices": [], "usage": outcome.usage.openai()})
        return ok and self.wire.send(b"data: [DONE]\n\n")

    def whole(self, identifier: str, outcome: Outcome) -> bool:
        """The answer in one piece."""
        self.identifier = identifier
        mark = f"{outcome.reasoning}</think>" if outcome.reasoning else ""
        choice = {"text": mark + outcome.content, "index": 0, "finish_reason": outcome.finish}
        body = {**self._head(""), "choices": [choice], "usage": outcome.usage.openai()}
        return self.wire.respond(200, compact(body) + "\n")

    def _head(self, what: str) -> Json:
        return {**super()._head(""), "object": "text_completion"}

    def _piece(self, text: str, finish: str | None) -> bool:
        choice = {"text": text, "index": 0, "finish_reason": finish}
        return self._event({**self._head(""), "choices": [choice]})


class MessagesReply(Reply):
    """The Messages API: content blocks."""

    _open = ""
    _index = 0

    def begin(self, identifier: str, usage: Usage) -> str | None:
        """message_start with the usage so far."""
        self.identifier = identifier
        message = {
            **self._message(),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage.messages(),
        }
        ok = self._typed("message_start", message=message)
        return None if ok else "anthropic stream start failed"

    def reasoning_delta(self, text: str) -> bool:
        """More of a thinking block."""
        start = {"type": "thinking", "thinking": "", "signature": ""}
        return self._delta("thinking", start, {"type": "thinking_delta", "thinking": text})

    def content_delta(self, text: str) -> bool:
        """More of a text block."""
        start = {"type": "text", "text": ""}
        return self._delta("text", start, {"type": "text_delta", "text": text})

    def end(self, outcome: Outcome) -> bool:
        """Tool blocks, stop reason, end."""
        ok = True
        for call in outcome.calls:
            start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": call.arguments}
            ok = ok and self._delta(call.id, start, delta)
        ok = ok and self._close()
        ending = {"stop_reason": _stop_reason(outcome.finish), "stop_sequence": None}
        usage = {"output_tokens": outcome.usage.generated}
        ok = ok and self._typed("message_delta", delta=ending, usage=usage)
        return ok and self._typed("message_stop")

    def whole(self, identifier: str, outcome: Outcome) -> bool:
        """The answer in one piece."""
        self.identifier = identifier
        blocks: list[Json] = []
        if outcome.reasoning:
            blocks.append(
                {"type": "thinking", "thinking": outcome.reasoning, "signature": identifier}
            )
        if outcome.content or not outcome.calls:
            blocks.append({"type": "text", "text": outcome.content})
        blocks += [
            {
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": json.loads(call.arguments),
            }
            for call in outcome.calls
        ]
        body = {
            **self._message(),
            "content": blocks,
            "stop_reason": _stop_reason(outcome.finish),
            "stop_sequence": None,
            "usage": outcome.usage.messages(),
        }
        return self.wire.respond(200, compact(body) + "\n")

    def failure_event(self, message: str) -> bool:
        """An error inside a stream."""
        return self._typed("error", error={"type": "api_error", "message": message})

    def _message(self) -> Json:
        return {
            "id": self.identifier,
            "type": "message",
            "role": "assistant",
            "model": self.request.model,
        }

    def _typed(self, name: str, **fields: object) -> bool:
        return self._event({"type": name, **fields}, name)

    def _delta(self, block: str, start: Json, delta: Json) -> bool:
        if self._open != block:
            if not self._close():
                return False
            self._open = block
            if not self._typed("content_block_start", index=self._index, content_block=start):
                return False
        return self._typed("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> bool:
        if not self._open:
            return True
        self._open = ""
        index, self._index = self._index, self._index + 1
        return self._typed("content_block_stop", index=index)


def _stop_reason(finish: str) -> str:
    return {"tool_calls": "tool_use", "length": "max_tokens"}.get(finish, "end_turn")


def shown(script: Script, tokens: int) -> tuple[str, str]:
    """Reasoning and text that `tokens` tokens of a script show (both are ASCII)."""
    size = min(tokens * 4, len(script.raw))
    reasoning = script.reasoning[:size]
    content = script.content[: max(0, min(size, script.content_end) - script.content_at)]
    return reasoning, content
