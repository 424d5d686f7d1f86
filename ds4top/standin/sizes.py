"""Sizes in bytes of the 43-layer Flash model's state: one KV snapshot, and the context buffers."""

from __future__ import annotations

from dataclasses import dataclass

_FIXED = 23_995_788
_ROW = 88_064
_PER_FOUR = 53_760
_PER_128 = 40_960
_WINDOW = 128


def payload_bytes(tokens: int) -> int:
    """Payload of a KV file that holds `tokens` tokens, without header, text and trailer."""
    size = _FIXED + 4 * tokens + _PER_FOUR * (tokens // 4) + _PER_128 * (tokens // _WINDOW)
    return size - _ROW * max(0, _WINDOW - tokens)


@dataclass(frozen=True)
class ContextBuffers:
    """What a session allocates at start for its whole life, in bytes and rows."""

    raw_rows: int
    compressed_rows: int
    prefill_chunk: int
    raw_bytes: int
    compressed_bytes: int
    buffer_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it, in bytes."""
        return self.raw_bytes + self.compressed_bytes + self.buffer_bytes


def context_buffers(context_tokens: int, prefill_chunk: int) -> ContextBuffers:
    """The allocation for a context; chunk 0 is the CPU backend, which has no scratch for chunks."""
    rows = min(_WINDOW + prefill_chunk, context_tokens)
    rows = min(-(-rows // 256) * 256, 8192) if prefill_chunk else _WINDOW
    compressed_rows = context_tokens // 4 + 2
    return ContextBuffers(
        raw_rows=rows,
        compressed_rows=compressed_rows,
        prefill_chunk=prefill_chunk,
        raw_bytes=_ROW * rows,
        compressed_bytes=_PER_FOUR * compressed_rows + _PER_128 * (context_tokens // _WINDOW + 2),
        buffer_bytes=compressed_rows * (8 * prefill_chunk if prefill_chunk else 9),
    )
