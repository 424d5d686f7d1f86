"""Bodies of the four endpoints, read into one kind of request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ds4top.standin import render
from ds4top.standin.plan import Plan, read_plan
from ds4top.standin.render import Call, Message
from ds4top.standin.text import count_tokens

Json = Mapping[str, object]


class BadRequestError(Exception):
    """The body is refused with status 400 and this message."""


@dataclass(frozen=True)
class Request:
    """What a worker needs to know. `api` is chat, completions, responses or messages."""

    api: str
    model: str
    prompt: bytes
    thinks: bool
    stream: bool
    include_usage: bool
    max_tokens: int
    stops: tuple[str, ...]
    tools: Mapping[str, object]
    plan: Plan | None
    keeps_reasoning: bool = False
    reasoning_summary: bool = False
    live_ids: tuple[str, ...] = ()
    live_suffix: bytes | None = None
    needs_live_state: bool = False
    needs_live_reasoning: bool = False

    @property
    def kind(self) -> str:
        """The word of its log lines."""
        return "completion" if self.api == "completions" else "chat"

    @property
    def respproto(self) -> bool:
        """Whether its lines carry RESPPROTO."""
        return self.api == "responses"

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt when tokenised from its beginning."""
        return count_tokens(self.prompt)


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise BadRequestError("invalid JSON request")
    return value


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise BadRequestError("invalid JSON request")
    return value


def _text(value: object) -> str:
    """Text of a content field: a string, or the text of its parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    parts = [part if isinstance(part, str) else _object(part).get("text") for part in _list(value)]
    return "".join(part for part in parts if isinstance(part, str))


def _arguments(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _chat_messages(body: Json) -> list[Message]:
    messages = []
    for item in _list(body.get("messages")):
        entry = _object(item)
        calls = tuple(
            Call(
                str(call.get("id", "")),
                str(function.get("name", "")),
                _arguments(function.get("arguments", "{}")),
            )
            for call in map(_object, _list(entry.get("tool_calls") or []))
            for function in (_object(call.get("function")),)
        )
        messages.append(
            Message(
                str(entry.get("role", "user")),
                _text(entry.get("content")),
                str(entry.get("reasoning_content") or ""),
                calls,
                str(entry.get("tool_call_id") or ""),
            )
        )
    return messages


def _anthropic_messages(body: Json) -> list[Message]:
    messages = []
    system = _text(body.get("system"))
    if system:
        messages.append(Message("system", system))
    for item in _list(body.get("messages")):
        entry = _object(item)
        role, content = str(entry.get("role", "user")), entry.get("content")
        if not isinstance(content, list):
            messages.append(Message(role, _text(content)))
            continue
        turn = Message(role)
        for block in map(_object, content):
            match block.get("type"):
                case "tool_result":
                    answers = str(block.get("tool_use_id", ""))
                    messages.append(Message("tool", _text(block.get("content")), answers=answers))
                case "tool_use":
                    call = Call(
                        str(block.get("id", "")),
                        str(block.get("name", "")),
                        _arguments(block.get("input", {})),
                    )
                    turn = replace(turn, calls=(*turn.calls, call))
                case "thinking":
                    turn = replace(turn, reasoning=turn.reasoning + str(block.get("thinking", "")))
                case _:
                    turn = replace(turn, content=turn.content + str(block.get("text", "")))
        if turn != Message(role):
            messages.append(turn)
    return messages


def _responses_messages(body: Json) -> list[Message]:
    messages: list[Message] = []
    if body.get("instructions"):
        messages.append(Message("system", _text(body["instructions"])))
    source = body.get("input")
    if isinstance(source, str):
        return [*messages, Message("user", source)]

    def extend(message: Message) -> None:
        last = messages[-1] if messages else None
        if last is None or last.role != "assistant":
            messages.append(message)
            return
        messages[-1] = replace(
            last,
            content=last.content + message.content,
            reasoning=last.reasoning + message.reasoning,
            calls=last.calls + message.calls,
        )

    for entry in map(_object, _list(source)):
        match entry.get("type", "message"):
            case "function_call":
                call = Call(
                    str(entry.get("call_id", "")),
                    str(entry.get("name", "")),
                    _arguments(entry.get("arguments", "{}")),
                )
                extend(Message("assistant", calls=(call,)))
            case "function_call_output":
                output, answers = _text(entry.get("output")), str(entry.get("call_id", ""))
                messages.append(Message("tool", output, answers=answers))
            case "reasoning":
                extend(Message("assistant", reasoning=_text(entry.get("summary"))))
            case _:
                message = Message(str(entry.get("role", "user")), _text(entry.get("content")))
                if message.role == "assistant":
                    extend(message)
                else:
                    messages.append(message)
    return messages


def _tools(body: Json) -> dict[str, object]:
    if body.get("tool_choice") == "none":
        return {}
    found: dict[str, object] = {}
    for item in _list(body.get("tools") or []):
        tool = _object(item)
        function = _object(tool.get("function", tool))
        schema = function.get("parameters", function.get("input_schema"))
        found[str(function.get("name", ""))] = schema
    return found


def _thinks(body: Json) -> bool:
    thinking, think = body.get("thinking"), body.get("think")
    reasoning = body.get("reasoning")
    if isinstance(thinking, dict) and "type" in thinking:
        return bool(thinking["type"] != "disabled")
    if isinstance(think, bool):
        return think
    if isinstance(reasoning, dict) and reasoning.get("effort") in ("minimal", "none"):
        return False
    return body.get("model") != "deepseek-chat"


def _limit(body: Json, default: int) -> int:
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return max(0, value)
    return default


def _with_live_tail(
    request: Request, messages: Sequence[Message], known: Callable[[str, str], bool]
) -> Request:
    """Add what a continuation from the live state needs, and judge outputs without their call."""
    tail = len(messages)
    while tail and messages[tail - 1].is_tool:
        tail -= 1
    earlier: dict[str, Message] = {}
    needs_state = needs_reasoning = False
    for message in messages:
        earlier.update((call.id, message) for call in message.calls)
        if not message.is_tool or not message.answers:
            continue
        prior = earlier.get(message.answers)
        if prior is None and not known(request.api, message.answers):
            name = "Responses" if request.api == "responses" else "Anthropic"
            what = "full input history" if request.api == "responses" else "full messages history"
            raise BadRequestError(
                f"{name} continuation state is not available for call_id {message.answers}; "
                f"retry by replaying the {what}"
            )
        needs_state |= prior is None
        needs_reasoning |= prior is not None and request.thinks and not prior.reasoning
    if tail == len(messages):
        return replace(request, needs_live_state=needs_state, needs_live_reasoning=needs_reasoning)
    before = messages[tail - 1] if tail else None
    if before is not None and before.role == "assistant":
        ids = tuple(call.id for call in before.calls)
    else:
        ids = tuple(message.answers for message in messages[tail:])
    suffix = render.render_tail(messages[tail:], request.thinks)
    return replace(
        request,
        live_ids=ids,
        live_suffix=suffix.encode(),
        needs_live_state=needs_state,
        needs_live_reasoning=needs_reasoning,
    )


_READERS: Mapping[str, tuple[str, Callable[[Json], list[Message]]]] = {
    "chat": ("messages", _chat_messages),
    "messages": ("messages", _anthropic_messages),
    "responses": ("input", _responses_messages),
}


def read_request(
    api: str, raw: bytes, default_tokens: int, known: Callable[[str, str], bool]
) -> Request:
    """Read a body. `known(api, id)` tells whether the live state waits for that tool output.

    Raises BadRequestError.
    """
    try:
        body = _object(json.loads(raw))
    except ValueError as error:
        raise BadRequestError("invalid JSON request") from error
    if api == "responses":
        for name in ("previous_response_id", "conversation"):
            if body.get(name) is not None:
                raise BadRequestError(f"{name} is not supported; replay full input instead")
    thinks = _thinks(body)
    options = body.get("stream_options")
    stop = body.get("stop", body.get("stop_sequences"))
    request = Request(
        api=api,
        model=str(body.get("model") or "deepseek-v4-flash"),
        prompt=b"",
        thinks=thinks,
        stream=body.get("stream") is True,
        max_tokens=_limit(body, default_tokens),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        stops=(stop,) if isinstance(stop, str) else tuple(map(str, _list(stop or []))),
        tools={} if api == "completions" else _tools(body),
        plan=None,
    )
    if api == "completions":
        prompt = body.get("prompt")
        if prompt is None:
            raise BadRequestError("missing prompt")
        words = _text(prompt[:1] if isinstance(prompt, list) else prompt)
        return replace(
            request, prompt=render.render_completion(words, thinks).encode(), plan=read_plan(words)
        )
    name, reader = _READERS[api]
    if name not in body:
        raise BadRequestError(f"missing {name}")
    messages = reader(body)
    summary = body.get("reasoning")
    schemas = json.dumps(body["tools"]) if request.tools else ""
    request = replace(
        request,
        prompt=render.render_chat(messages, schemas, thinks).encode(),
        plan=read_plan(messages[-1].content) if messages else None,
        keeps_reasoning=render.uses_tools(messages, schemas),
        reasoning_summary=isinstance(summary, dict) and summary.get("summary") is not None,
    )
    if api == "chat":
        return request
    return _with_live_tail(request, messages, known)
