"""Text and tokens: one token is four bytes of rendered text; junk of an exact length, seeded."""

from __future__ import annotations

import random

TOKEN_BYTES = 4
_WORDS = (
    "buffer",
    "cache",
    "check",
    "chunk",
    "client",
    "context",
    "default",
    "entry",
    "error",
    "field",
    "file",
    "frame",
    "header",
    "index",
    "input",
    "layer",
    "limit",
    "list",
    "memory",
    "model",
    "number",
    "offset",
    "option",
    "output",
    "parser",
    "path",
    "prefix",
    "queue",
    "read",
    "request",
    "reset",
    "result",
    "return",
    "row",
    "scan",
    "server",
    "session",
    "size",
    "slot",
    "state",
    "store",
    "string",
    "test",
    "thread",
    "token",
    "update",
    "value",
    "window",
    "worker",
    "write",
)


def count_tokens(text: bytes) -> int:
    """Tokens of a text that is tokenised on its own."""
    return -(-len(text) // TOKEN_BYTES)


def junk(rng: random.Random, tokens: int) -> str:
    """ASCII words of exactly `tokens` tokens."""
    size = max(0, tokens) * TOKEN_BYTES
    parts: list[str] = []
    length = 0
    while length < size:
        word = rng.choice(_WORDS)
        tail = ".\n" if rng.random() < 0.12 else " "
        parts.append(word + tail)
        length += len(parts[-1])
    return "".join(parts)[:size]


def common_bytes(left: bytes, right: bytes) -> int:
    """Length of the common beginning."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
