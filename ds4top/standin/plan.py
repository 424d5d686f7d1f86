"""What the model will say: by a marker in the last message, else seeded junk.

`[[plan think=N gen=N tool=NAME]]` asks for N tokens of reasoning, N of text and one tool call.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ds4top.standin.render import DSML_END, DSML_START, THINK_END, Call, dsml
from ds4top.standin.text import TOKEN_BYTES, count_tokens, junk

_MARKER = re.compile(r"\[\[plan((?:\s+\w+=[^\s\]]+)*)\s*\]\]")


@dataclass(frozen=True)
class Plan:
    """Tokens of reasoning and of text, and the tool to call."""

    think: int
    generate: int
    tool: str | None = None


def read_plan(message: str) -> Plan | None:
    """The last marker of a message; None where there is none."""
    found = _MARKER.findall(message)
    if not found:
        return None
    words = dict(part.split("=", 1) for part in found[-1].split())

    def number(name: str) -> int:
        return int(words[name]) if words.get(name, "").isdigit() else 0

    return Plan(number("think"), number("gen"), words.get("tool"))


def junk_plan(rng: random.Random, thinks: bool) -> Plan:
    """A plan for a client that asked for nothing in particular."""
    return Plan(rng.randint(20, 60) if thinks else 0, rng.randint(40, 200))


@dataclass(frozen=True)
class Script:
    """The bytes to come, one token every four, and where in them what begins and ends.

    `think_end`, `dsml_start`, `dsml_end` are the token counts at which the mark is complete (None:
    it never is); the texts are what the protocol shows.
    """

    raw: bytes
    reasoning: str
    content: str
    calls: tuple[Call, ...]
    content_at: int
    content_end: int
    think_end: int | None
    dsml_start: int | None
    dsml_end: int | None
    stopped_at: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens until the model ends by itself."""
        return count_tokens(self.raw)


def _value(schema: object, rng: random.Random) -> object:
    kind = schema.get("type") if isinstance(schema, dict) else "string"
    if kind in ("integer", "number"):
        return rng.randint(1, 400)
    if kind == "boolean":
        return bool(rng.randint(0, 1))
    return junk(rng, rng.randint(4, 12)).strip().replace("\n", " ")


def _arguments(schema: object, rng: random.Random) -> str:
    parameters = schema.get("properties") if isinstance(schema, dict) else None
    names = parameters if isinstance(parameters, dict) and parameters else {"input": {}}
    return json.dumps({str(name): _value(kind, rng) for name, kind in names.items()})


def write_script(
    plan: Plan,
    rng: random.Random,
    *,
    thinks: bool,
    tools: Mapping[str, object],
    call_prefix: str,
    stops: Sequence[str],
) -> Script:
    """Write out a plan. A tool is called only if the request declared tools."""
    reasoning = junk(rng, plan.think) if thinks else ""
    content = junk(rng, plan.generate)
    calls: tuple[Call, ...] = ()
    if plan.tool is not None and tools:
        name = plan.tool
        identifier = f"{call_prefix}{rng.getrandbits(128):032x}"
        calls = (Call(identifier, name, _arguments(tools.get(name), rng)),)
    stopped = min((at for at in (content.find(s) for s in stops if s) if at >= 0), default=None)
    if stopped is not None:
        content, calls = content[:stopped], ()
    head = reasoning + THINK_END if thinks else ""
    block = dsml(calls)
    raw = f"{head}{content}{block}".encode()
    content_at = len(head.encode())
    content_end = content_at + len(content.encode())

    def complete(mark: str, needed: bool) -> int | None:
        if not needed:
            return None
        end = raw.index(mark.encode(), content_end if mark != THINK_END else 0)
        return -(-(end + len(mark.encode())) // TOKEN_BYTES)

    return Script(
        raw=raw,
        reasoning=reasoning,
        content=content,
        calls=calls,
        content_at=content_at,
        content_end=content_end,
        think_end=complete(THINK_END, thinks),
        dsml_start=complete(DSML_START, bool(calls)),
        dsml_end=complete(DSML_END, bool(calls)),
        stopped_at=stopped,
    )
