"""The newest lines of the log for the Log view: bounded, clean, coloured by event."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ds4top.core.logread import strip_controls
from ds4top.core.pieces import PieceSplitter
from ds4top.view.text import Row, row

KEPT_LINES = 5_000
LINE_CHARS = 512
HIDDEN = "[model text hidden]"
_STYLES: tuple[tuple[str, str], ...] = (
    ("finish=error", "log-error"),
    (" failed", "log-error"),
    ("refusing to start", "log-error"),
    ("unknown option", "log-error"),
    ("decoding chunk=", "log-decode"),
    ("prefill chunk", "log-prefill"),
    ("kv cache", "log-kv"),
    ("KV disk cache", "log-kv"),
    ("prompt start", "log-request"),
    ("prompt done", "log-prefill"),
    ("finish=", "log-request"),
    ("shutdown requested", "log-warn"),
    ("listening on", "log-start"),
    ("ds4: ", "log-start"),
    ("context buffers", "log-start"),
)
_MODEL_TEXT = ("text_snippet: ", "dsml_snippet: ")


def style_of(text: str) -> str:
    """The style of a line by what it tells."""
    return next((style for mark, style in _STYLES if mark in text), "log-other")


def without_model_text(text: str) -> str:
    """A line with the part that the model wrote left out."""
    for mark in _MODEL_TEXT:
        place = text.find(mark)
        if place >= 0:
            return text[: place + len(mark)] + HIDDEN
    return text


class LogLines:
    """The last lines, by their number since the start."""

    def __init__(self, kept: int = KEPT_LINES) -> None:
        self._splitter = PieceSplitter()
        self._lines: deque[str] = deque(maxlen=kept)
        self._count = 0
        self.version = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the log."""
        for piece in self._splitter.feed(data):
            if piece.strip():
                self._lines.append(without_model_text(strip_controls(piece))[:LINE_CHARS])
                self._count += 1
        self.version += 1

    def clear(self) -> None:
        """Forget everything: a replay went back."""
        self._splitter = PieceSplitter()
        self._lines.clear()
        self.version += 1

    def matching(self, text: str) -> tuple[Sequence[int], Sequence[str]]:
        """Numbers and texts of the lines that hold every word of ``text``."""
        first = self._count - len(self._lines)
        if not text:
            return range(first, self._count), list(self._lines)
        words = text.lower().split()
        found = [
            (first + index, line)
            for index, line in enumerate(self._lines)
            if all(word in line.lower() for word in words)
        ]
        return [number for number, _ in found], [line for _, line in found]

    def text(self, number: int) -> str:
        """One line by its number; empty where it is no longer kept."""
        index = number - (self._count - len(self._lines))
        return self._lines[index] if 0 <= index < len(self._lines) else ""

    @staticmethod
    def row(text: str) -> Row:
        """One line, its stamp apart."""
        if text[4:5] == " " and text[13:14] == " " and text[:4].isdigit():
            body = text[14:].removeprefix("ds4-server: ")
            return row((f" {text[:13]} ", "log-time"), (body, style_of(text)))
        return row((f" {'':13} ", "log-time"), (text, style_of(text)))
