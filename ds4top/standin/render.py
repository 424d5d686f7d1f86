"""A conversation as the one text the model reads; the same text for the same history, always."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

_BAR = "\uff5c"
_GAP = "\u2581"
BOS = f"<{_BAR}begin{_GAP}of{_GAP}sentence{_BAR}>"
EOS = f"<{_BAR}end{_GAP}of{_GAP}sentence{_BAR}>"
USER = f"<{_BAR}User{_BAR}>"
ASSISTANT = f"<{_BAR}Assistant{_BAR}>"
THINK = "<think>"
THINK_END = "</think>"
_MARK = f"{_BAR}DSML{_BAR}"
DSML_START = f"<{_MARK}tool_calls>"
DSML_END = f"</{_MARK}tool_calls>"


@dataclass(frozen=True)
class Call:
    """One tool call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One message; a tool message answers the call `answers`."""

    role: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = field(default=())
    answers: str = ""

    @property
    def is_system(self) -> bool:
        """Whether it belongs to the head of the prompt."""
        return self.role in ("system", "developer")

    @property
    def is_tool(self) -> bool:
        """Whether it is a tool's output."""
        return self.role in ("tool", "function")


def _attribute(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace(">", "&gt;").replace('"', "&quot;")


def _parameters(arguments: str) -> str:
    try:
        values = json.loads(arguments)
    except ValueError:
        values = {"arguments": arguments}
    if not isinstance(values, dict):
        values = {"arguments": arguments}
    lines = []
    for name, value in values.items():
        is_text = isinstance(value, str)
        shown = value if is_text else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        lines.append(
            f'<{_MARK}parameter name="{_attribute(name)}" string="{str(is_text).lower()}">'
            f"{shown}</{_MARK}parameter>\n"
        )
    return "".join(lines)


def dsml(calls: Sequence[Call]) -> str:
    """A block of tool calls as the model writes it."""
    if not calls:
        return ""
    invokes = "".join(
        f'<{_MARK}invoke name="{_attribute(call.name)}">\n{_parameters(call.arguments)}'
        f"</{_MARK}invoke>\n"
        for call in calls
    )
    return f"\n\n{DSML_START}\n{invokes}{DSML_END}"


def uses_tools(messages: Sequence[Message], schemas: str) -> bool:
    """Whether reasoning of past turns is kept in the text."""
    return bool(schemas) or any(message.calls or message.is_tool for message in messages)


def _turns(
    messages: Sequence[Message], think: bool, keep_reasoning: bool, last_user: int
) -> list[str]:
    parts: list[str] = []
    open_turn = open_result = False
    for index, message in enumerate(messages):
        if message.is_system:
            continue
        if message.is_tool:
            body = message.content.replace("</tool_result>", "&lt;/tool_result>")
            parts.append("" if open_result else USER)
            parts.append(f"<tool_result>{body}</tool_result>")
            open_turn = open_result = True
        elif message.role == "assistant":
            if open_turn:
                parts.append(ASSISTANT)
                if think and (keep_reasoning or index > last_user):
                    parts.append(THINK + message.reasoning)
                parts.append(THINK_END)
            parts += [message.content, dsml(message.calls), EOS]
            open_turn = open_result = False
        else:
            parts += [USER, message.content]
            open_turn, open_result = True, False
    if open_turn:
        parts += [ASSISTANT, THINK if think else THINK_END]
    return parts


def render_chat(messages: Sequence[Message], schemas: str, think: bool) -> str:
    """The whole prompt."""
    last_user = max(
        (i for i, m in enumerate(messages) if m.is_tool or m.role == "user"), default=-1
    )
    head = []
    if schemas:
        head.append(f"## Tools\n\nCall a tool with a tool_calls block.\n\n{schemas}")
    head += [message.content for message in messages if message.is_system]
    turns = _turns(messages, think, uses_tools(messages, schemas), last_user)
    return "".join([BOS, "\n\n".join(head), *turns])


def render_tail(messages: Sequence[Message], think: bool) -> str:
    """Only what must follow a live tool call: its end, the results, the next turn's opening."""
    return "".join([EOS, *_turns(messages, think, True, len(messages))])


def render_completion(prompt: str, think: bool) -> str:
    """The prompt of a plain completion."""
    opening = THINK if think else THINK_END
    return f"{BOS}You are a helpful assistant{USER}{prompt}{ASSISTANT}{opening}"


def answer_suffix(think: bool, reasoning: str, content: str, calls: Sequence[Call]) -> str:
    """An answer as a later prompt will hold it after the opening of the turn."""
    head = reasoning + THINK_END if think else ""
    return f"{head}{content}{dsml(calls)}{EOS}"
