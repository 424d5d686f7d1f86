"""Lines of the log as they are shown, and the bar that says where one is."""

from __future__ import annotations

import pytest

from ds4top.core.logtext import Line, LogShape, ModelText, words_of
from ds4top.view.logview import (
    GONE,
    HIDDEN,
    LogLines,
    bar_row,
    line_row,
    nearest,
    next_match,
    text_of,
)
from ds4top.view.text import row_text, row_width

SNIPPET = b"1124 10:00:00 ds4-server: tool parse failed text_snippet: [the model's words]"


def places(*lines: bytes) -> list[int]:
    found = ModelText()
    return [found.place(line) for line in lines]


def test_where_model_text_begins() -> None:
    assert places(b"plain", SNIPPET, b"plain") == [5, SNIPPET.index(b"[the"), 5]
    # The server does not escape the newlines of what the model wrote.
    torn = [b"x text_snippet: [one", b"1124 10:00:00 looks like a line", b"end]", b"plain"]
    assert places(*torn) == [16, 0, 0, 5]
    assert places(b'{"MESSAGE":"x text_snippet: [one"}', b"plain") == [28, 5]


def test_model_text_is_hidden_unless_asked_for() -> None:
    line = Line(SNIPPET, places(SNIPPET)[0])
    assert text_of(line, hide=True).endswith(f"text_snippet: {HIDDEN}")
    assert text_of(line, hide=False).endswith("[the model's words]")
    assert text_of(None, hide=True) == GONE


def test_a_line_is_safe_to_draw() -> None:
    line = Line(b"a\x1b[31mred\x07 \xff", 20)
    assert text_of(line, hide=True) == "ared �"
    assert text_of(Line(b"cut", 3, clipped=True), hide=True) == "cut…"


def test_words_are_marked_where_they_stand() -> None:
    text = "1124 10:00:00 ds4-server: kv cache evicted Evicted"
    parts = line_row(text, words_of("evicted"))
    assert [span.text for span in parts if span.style == "match"] == ["evicted", "Evicted"]
    assert row_text(parts) == " 1124 10:00:00 kv cache evicted Evicted"


def fed(*lines: bytes, kept: int = 3) -> LogLines:
    ring = LogLines(kept)
    ring.feed(b"".join(line + b"\n" for line in lines))
    return ring


def test_a_stream_keeps_its_newest_lines() -> None:
    ring = fed(b"a", b"", b"b", b"c needle", SNIPPET)
    assert list(ring.rows()) == [1, 2, 3]
    assert ring.line(0) is None
    line = ring.line(2)
    assert line is not None
    assert line.data == b"c needle"
    assert (ring.shape.kept, ring.shape.dropped) == (3, 1)
    assert "a pipe is not kept" in ring.shape.note
    ring.search(words_of("words"))
    assert list(ring.rows(found=True)) == []
    ring.search(words_of("words"), hide=False)
    assert list(ring.rows(found=True)) == [3]
    ring.search(words_of("NEEDLE"))
    assert list(ring.rows(found=True)) == [2]
    assert ring.shape.found == 1
    ring.clear()
    assert list(ring.rows()) == []


def test_from_match_to_match() -> None:
    found = [10, 20, 30]
    assert [next_match(found, key, 1) for key in (None, 5, 10, 15, 30)] == [10, 10, 20, 20, None]
    assert [next_match(found, key, -1) for key in (None, 35, 30, 15, 10)] == [30, 30, 20, 10, None]
    assert next_match([], 3, 1) is None
    assert [nearest(found, key) for key in (1, 10, 11, 99)] == [10, 10, 20, 30]
    assert nearest([], 1) is None


WHOLE = LogShape(name="/var/log/ds4.log", lines=909_151, size_bytes=10**8, indexed_bytes=10**8)


@pytest.mark.parametrize(
    ("shape", "place", "words", "filtered", "text"),
    [
        (WHOLE, None, "", False, " 909,151 lines   ds4.log 100.0 MB"),
        (WHOLE, 12, "", False, " line 12 of 909,151   ds4.log 100.0 MB"),
        (
            LogShape(name="a.log", lines=10, size_bytes=200, indexed_bytes=199),
            None,
            "",
            False,
            " indexing 99 %, 10 lines so far   a.log 0.0 MB",
        ),
        (
            LogShape(
                name="a.log",
                lines=10,
                size_bytes=200,
                indexed_bytes=200,
                found=3,
                searched_bytes=100,
                searching=True,
            ),
            None,
            "x",
            True,
            " 10 lines   3 match   searching 50 %, Esc stops   a.log 0.0 MB",
        ),
        (
            LogShape(lines=10, size_bytes=200, indexed_bytes=200, found=3, searched_bytes=100),
            None,
            "x",
            False,
            " 10 lines   3 found x   search stopped at 50 %",
        ),
        (LogShape(lines=5, note="only 5"), None, "", False, " 5 lines   only 5"),
    ],
)
def test_bar(shape: LogShape, place: int | None, words: str, filtered: bool, text: str) -> None:
    made = bar_row(shape, place, words, filtered=filtered, follow=False, width=118)
    assert row_text(made).rstrip() == text
    for width in (8, 20, 40):
        narrow = bar_row(shape, place, words, filtered=filtered, follow=True, width=width)
        assert row_width(narrow) <= width
        assert row_text(narrow).strip()
