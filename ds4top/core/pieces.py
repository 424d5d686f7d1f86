"""Bytes of a log, in any split, to whole pieces of text.

A piece ends at ``\\n`` or ``\\r`` (engine progress is rewritten in place with ``\\r``), so the
last piece of a file that is still being written is not handed out until its end has come.
Memory is bounded whatever comes: of a piece longer than ``HEAD + TAIL`` characters the first
``HEAD`` and the last ``TAIL`` are kept, since the stamped message may stand behind junk.
"""

from __future__ import annotations

HEAD = 16_384
TAIL = 16_384
_BYTES_PER_CHAR = 4
_KEEP_BYTES = (max(HEAD, TAIL) + 1) * _BYTES_PER_CHAR
_COMPACT_BYTES = 4 * _KEEP_BYTES
SEAM = "\ufffd"
"""Stands where the middle of an over-long piece was left out."""


def shorten(text: str) -> str:
    """Bound one piece to ``HEAD + TAIL`` characters and a seam."""
    if len(text) <= HEAD + TAIL:
        return text
    return text[:HEAD] + SEAM + text[-TAIL:]


class PieceSplitter:
    """Cuts a stream of bytes into pieces; the same pieces for any split of the stream."""

    __slots__ = ("_buffer", "_head", "lines")

    def __init__(self) -> None:
        self._buffer = b""
        self._head: bytes | None = None
        self.lines = 0
        """Physical lines seen so far, each ended by ``\\n``."""

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; give the pieces that they complete, decoded as UTF-8.

        Invalid bytes become U+FFFD; NUL bytes (the hole left by a truncating log rotation) are
        left out.
        """
        if b"\0" in data:
            data = data.translate(None, b"\0")
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not end:
            self._keep(data)
            return []
        block = self._buffer + data[:end]
        head, self._head = self._head, None
        self._buffer = b""
        self._keep(data[end:])
        self.lines += block.count(b"\n")
        text = block.decode("utf-8", "replace")
        if "\r" in text:
            text = text.replace("\r", "\n")
        pieces = text.split("\n")
        pieces.pop()
        if head is not None:
            first = head.decode("utf-8", "replace") + SEAM + pieces[0]
            pieces[0] = first[:HEAD] + SEAM + first[-TAIL:]
        return pieces

    def close(self) -> str | None:
        """The torn tail, if the stream ended inside a piece; the splitter is empty after it."""
        head, self._head = self._head, None
        buffer, self._buffer = self._buffer, b""
        text = buffer.decode("utf-8", "replace")
        if head is not None:
            text = head.decode("utf-8", "replace") + SEAM + text
        return shorten(text) if text.strip() else None

    @property
    def held_bytes(self) -> int:
        """Bytes held until the end of their piece comes."""
        return len(self._buffer) + len(self._head or b"")

    def _keep(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _COMPACT_BYTES:
            if self._head is None:
                self._head = self._buffer[:_KEEP_BYTES]
            self._buffer = self._buffer[-_KEEP_BYTES:]
