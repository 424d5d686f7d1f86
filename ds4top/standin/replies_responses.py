"""Answers of the Responses API, and the choice of the shape by endpoint."""

from __future__ import annotations

import random
import time

from ds4top.standin.render import Call
from ds4top.standin.replies import CompletionReply, Json, MessagesReply, Outcome, Reply, Usage
from ds4top.standin.requests import Request
from ds4top.standin.wire import Wire, compact

_STATUS = {"length": "incomplete", "error": "failed"}


class ResponsesReply(Reply):
    """Items with added, delta and done events; the terminal event tells how it ended."""

    def __init__(self, wire: Wire, request: Request, rng: random.Random) -> None:
        """One a request, with its own random id."""
        super().__init__(wire, request, rng)
        self._response_id = f"resp_{rng.getrandbits(128):032x}"
        self._sequence = 0
        self._item = ""
        self._items: list[Json] = []
        self._texts = {"reasoning": "", "message": ""}

    def begin(self, identifier: str, usage: Usage) -> str | None:
        """response.created."""
        self.identifier = identifier
        ok = self._typed("response.created", response=self._response("in_progress", []))
        return None if ok else "responses created event failed"

    def reasoning_delta(self, text: str) -> bool:
        """More of the summary, where the client asked for one."""
        if not self.request.reasoning_summary:
            return True
        return self._delta("reasoning", "response.reasoning_summary_text.delta", text)

    def content_delta(self, text: str) -> bool:
        """More of the message."""
        return self._delta("message", "response.output_text.delta", text)

    def end(self, outcome: Outcome) -> bool:
        """Close the items, add the calls, tell the end."""
        ok = self._close()
        for call in outcome.calls:
            item = _call_item(call, self._new_id("fc_"))
            index = len(self._items)
            ok = ok and self._typed("response.output_item.added", output_index=index, item=item)
            ok = ok and self._typed("response.output_item.done", output_index=index, item=item)
            self._items.append(item)
        status = _STATUS.get(outcome.finish, "completed")
        body = {**self._response(status, self._items), "usage": outcome.usage.responses()}
        return ok and self._typed(f"response.{status}", response=body)

    def whole(self, identifier: str, outcome: Outcome) -> bool:
        """The answer in one piece."""
        items: list[Json] = []
        if outcome.reasoning and self.request.reasoning_summary:
            items.append(self._item_of("reasoning", outcome.reasoning))
        if outcome.content:
            items.append(self._item_of("message", outcome.content))
        items += [_call_item(call, self._new_id("fc_")) for call in outcome.calls]
        status = _STATUS.get(outcome.finish, "completed")
        body = {**self._response(status, items), "usage": outcome.usage.responses()}
        return self.wire.respond(200, compact(body))

    def _response(self, status: str, items: list[Json]) -> Json:
        body: dict[str, object] = {
            "id": self._response_id,
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "model": self.request.model,
        }
        if status == "failed":
            body["error"] = {"code": "server_error", "message": "generation failed"}
        if status == "incomplete":
            body["incomplete_details"] = {"reason": "max_tokens"}
        return {**body, "output": items}

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}{self._rng.getrandbits(128):032x}"

    def _item_of(self, kind: str, text: str) -> Json:
        if kind == "reasoning":
            return {
                "id": self._new_id("rs_"),
                "type": "reasoning",
                "status": "completed",
                "summary": [{"type": "summary_text", "text": text}],
            }
        part = {"type": "output_text", "text": text, "annotations": []}
        return {
            "id": self._new_id("msg_"),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [part],
        }

    def _typed(self, name: str, **fields: object) -> bool:
        body: Json = {"type": name, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return self._event(body, name)

    def _delta(self, kind: str, event: str, text: str) -> bool:
        ok = True
        if self._item != kind:
            ok = self._close()
            self._item = kind
            item = self._item_of(kind, "")
            ok = ok and self._typed(
                "response.output_item.added", output_index=len(self._items), item=item
            )
        self._texts[kind] += text
        return ok and self._typed(event, output_index=len(self._items), delta=text)

    def _close(self) -> bool:
        if not self._item:
            return True
        item = self._item_of(self._item, self._texts[self._item])
        self._item = ""
        index = len(self._items)
        self._items.append(item)
        return self._typed("response.output_item.done", output_index=index, item=item)


def _call_item(call: Call, identifier: str) -> Json:
    return {
        "id": identifier,
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


_SHAPES: dict[str, type[Reply]] = {
    "chat": Reply,
    "completions": CompletionReply,
    "messages": MessagesReply,
    "responses": ResponsesReply,
}


def reply_for(wire: Wire, request: Request, rng: random.Random) -> Reply:
    """The answer's shape for a request."""
    return _SHAPES[request.api](wire, request, rng)
