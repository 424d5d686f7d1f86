"""Lines of a log as they are looked through: what a model wrote in them, and which hold a word.

Bytes, not text: a log of any size is searched as it lies on the disk, and only what is in sight is
decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ds4top.core.logread import strip_controls

_MARKS = (b"text_snippet: ", b"dsml_snippet: ")
_ANY_MARK = b"_snippet: "
_OPEN = _MARKS[0]
_SNIPPET_LINES = 40
"""Lines that a snippet may go on for; as many as the reader holds back for one."""
_END_BYTES = 80


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log: its first bytes, where model text begins in them (its length: nowhere), and
    whether there is more of it.
    """

    data: bytes
    model_at: int
    clipped: bool = False


@dataclass(frozen=True, slots=True)
class LogShape:
    """How much of a log can be reached, and how far it was looked through.

    ``lines`` are those that can be shown, ``found`` those with the words that are searched for
    (``None``: nothing is). ``kept`` is set where only so many of the newest lines are kept.
    ``note`` says what became of the file. ``version`` changes whenever anything else does.
    """

    name: str = ""
    version: int = 0
    lines: int = 0
    size_bytes: int = 0
    indexed_bytes: int = 0
    found: int | None = None
    searched_bytes: int = 0
    searching: bool = False
    parts: int = 1
    kept: int | None = None
    dropped: int = 0
    note: str = ""


class ModelText:
    """Finds what the model wrote, line by line in their order.

    A snippet is the rest of its line. One that has no closing bracket there goes on over the
    next lines (the server does not escape newlines), whatever these look like.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = 0

    def place(self, line: bytes) -> int:
        """Where model text begins in the next line; its length where there is none."""
        if self._left:
            self._left = 0 if _ends(line) else self._left - 1
            return 0
        if _ANY_MARK not in line:
            return len(line)
        places = [(at + len(mark), mark) for mark in _MARKS if (at := line.find(mark)) >= 0]
        if not places:
            return len(line)
        at, mark = min(places)
        # A carrier's JSON record holds the whole snippet, its newlines escaped.
        if mark is _OPEN and not _ends(line) and not line.startswith(b"{"):
            self._left = _SNIPPET_LINES
        return at


def _ends(line: bytes) -> bool:
    tail = line[-_END_BYTES:].decode("utf-8", "replace")
    return strip_controls(tail).rstrip().endswith("]")


def model_places(lines: Sequence[bytes]) -> list[int]:
    """``ModelText.place`` of lines that follow each other."""
    if not any(_ANY_MARK in line for line in lines):
        return [len(line) for line in lines]
    found = ModelText()
    return [found.place(line) for line in lines]


def may_hold_model_text(data: bytes) -> bool:
    """Whether any line of a stretch of the log can begin a snippet."""
    return _ANY_MARK in data


def words_of(text: str) -> tuple[bytes, ...]:
    """The words of a search, as ``holds`` wants them; ASCII letters in any case."""
    return tuple(word.encode("utf-8", "replace") for word in text.lower().split())


def holds(line: bytes, words: Iterable[bytes]) -> bool:
    """Whether a line has all these words."""
    low = line.lower()
    return all(word in low for word in words)
