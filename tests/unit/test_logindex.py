"""A log file of any size in the Log view: every line of it, by its place, without holding it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.core.logtext import words_of
from ds4top.sources.logcells import CELL_BYTES, SHOWN_BYTES, WINDOW_BYTES
from ds4top.sources.logindex import LogPages, Rows

DATA = Path(__file__).parents[1] / "data" / "ds4"
REAL = DATA / "sim-short" / "server.log"
WAIT_S = 10.0


class Reading:
    """Pages of a file, and a wait for what their thread does."""

    def __init__(self, path: Path) -> None:
        self._changed = Event()
        # A clock that runs: every step of its thread is told.
        self.pages = LogPages(str(path), self._changed.set, count().__next__)
        self.pages.start()

    def look(self) -> None:
        """Look at the file as it is now, and wait until all of it is counted and searched."""
        self.pages.wake()
        self.wait(self._done)

    def _done(self) -> bool:
        shape = self.pages.shape
        searched = shape.found is None or shape.searched_bytes == shape.size_bytes
        return shape.parts > 0 and shape.indexed_bytes == shape.size_bytes and searched

    def wait(self, condition) -> None:
        """Until it holds, looked at whenever the pages say that something changed."""
        while True:
            self._changed.clear()
            if condition():
                return
            assert self._changed.wait(WAIT_S), self.pages.shape

    def search(self, text: str, *, hide: bool = True) -> list[str]:
        self.pages.search(words_of(text), hide=hide)
        self.look()
        return self.texts(found=True)

    def texts(self, *, found: bool = False) -> list[str]:
        return [self.text(key) for key in self.pages.rows(found=found)]

    def text(self, key: int) -> str:
        line = self.pages.line(key)
        assert line is not None
        return line.data.decode()


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    path = tmp_path / "server.log"
    path.write_bytes(b"")
    made = Reading(path)
    yield made
    made.pages.close()


def path_of(reading: Reading) -> Path:
    return Path(reading.pages.path)


def append(reading: Reading, data: bytes) -> None:
    with path_of(reading).open("ab") as file:
        file.write(data)
    reading.pages.wake()
    reading.wait(lambda: reading.pages.shape.size_bytes == path_of(reading).stat().st_size)
    reading.look()


def test_every_line_of_a_real_log(reading: Reading) -> None:
    append(reading, REAL.read_bytes())
    wanted = [line for line in REAL.read_text().splitlines() if line]
    assert reading.texts() == [line.encode()[:SHOWN_BYTES].decode() for line in wanted]
    assert reading.search("EVICTED") == [w for w in wanted if "evicted" in w.lower()]
    both = [w for w in wanted if "prefill" in w and "completion" in w]
    assert both
    assert reading.search("prefill completion") == both


def test_a_line_is_found_by_its_key_and_keeps_it(reading: Reading) -> None:
    append(reading, b"".join(b"line %d\n" % n for n in range(30_000)))
    rows = reading.pages.rows()
    assert len(rows) == 30_000
    key = rows[12_345]
    append(reading, b"more\n" * 100)
    later = reading.pages.rows()
    assert len(later) == 30_100
    assert later.index(key) == 12_345
    assert reading.text(key) == "line 12345"
    assert later != rows
    assert reading.pages.rows() == later
    with pytest.raises(ValueError):
        later.index(key + 1)


def test_what_is_found_in_a_line_that_grows(reading: Reading) -> None:
    append(reading, b"one\ntwo nee")
    assert reading.search("needle") == []
    append(reading, b"dle\nthree\n")
    assert reading.texts(found=True) == ["two needle"]
    assert reading.texts() == ["one", "two needle", "three"]


def test_model_text_is_not_searched_unless_asked(reading: Reading) -> None:
    append(reading, b'a text_snippet: ["secret\nsecret goes on"]\nsecret here\n')
    assert reading.search("secret") == ["secret here"]
    lines = [reading.pages.line(key) for key in reading.pages.rows()]
    assert [line.model_at for line in lines if line] == [16, 0, 11]
    assert len(reading.search("secret", hide=False)) == 3


def test_progress_steps_blank_lines_and_holes(reading: Reading) -> None:
    append(reading, b"\n\nload 1%\rload 2%\r\n" + bytes(200_000) + b"after\n\n")
    assert reading.texts() == ["load 1%", "load 2%", "after"]


def test_rotated(reading: Reading) -> None:
    append(reading, b"old 1\nold 2\n")
    key = reading.pages.rows()[1]
    path = path_of(reading)
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"new 1\n")
    reading.pages.wake()
    reading.wait(lambda: reading.pages.shape.parts == 2 and reading.pages.shape.lines == 3)
    assert reading.texts() == ["old 1", "old 2", "new 1"]
    assert reading.text(key) == "old 2"
    assert "rotated" in reading.pages.shape.note


def test_emptied(reading: Reading) -> None:
    append(reading, b"old 1\nold 2\n")
    key = reading.pages.rows()[1]
    path_of(reading).write_bytes(b"new\n")
    reading.pages.wake()
    reading.wait(lambda: reading.pages.shape.lines == 1)
    assert reading.texts() == ["new"]
    assert reading.pages.line(key) is None
    assert "emptied" in reading.pages.shape.note


def test_a_file_that_is_gone_and_one_that_never_was(reading: Reading, tmp_path: Path) -> None:
    append(reading, b"kept\n")
    path_of(reading).unlink()
    reading.pages.wake()
    reading.wait(lambda: "not there" in reading.pages.shape.note)
    assert reading.texts() == ["kept"]
    other = Reading(tmp_path / "absent.log")
    other.pages.wake()
    other.wait(lambda: "waiting for it" in other.pages.shape.note)
    assert len(other.pages.rows()) == 0
    other.pages.close()


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    reading.pages.wake()
    reading.wait(lambda: "is a directory" in reading.pages.shape.note)
    reading.pages.close()


def test_a_line_without_an_end(reading: Reading) -> None:
    """Of a line of megabytes its beginning is shown and searched, whatever comes after it."""
    append(reading, b"start " + b"x" * 3_000_000 + b" late\nnext\n")
    rows = reading.pages.rows()
    assert len(rows) == 2
    line = reading.pages.line(rows[0])
    assert line is not None
    assert line.clipped
    assert len(line.data) == SHOWN_BYTES
    assert reading.text(rows[1]) == "next"
    assert reading.search("start") == [line.data.decode()]
    assert reading.search("late") == []


def test_a_search_is_stopped_and_keeps_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / "big.log"
    path.write_bytes(b"needle\n" + b"hay and straw and more of it\n" * 200_000)
    reading = Reading(path)
    told, go_on = Event(), Event()

    def at_first_match() -> None:
        # The thread that searches waits in here, so that there is something left to stop.
        if reading.pages.shape.found == 1:
            told.set()
            assert go_on.wait(WAIT_S)

    reading.pages.on_change = at_first_match
    reading.pages.search((b"needle",))
    assert told.wait(WAIT_S)
    assert reading.pages.stop_search()
    go_on.set()
    shape = reading.pages.shape
    assert not shape.searching
    assert shape.searched_bytes < shape.size_bytes
    assert reading.texts(found=True) == ["needle"]
    assert not reading.pages.stop_search()
    reading.pages.close()


pieces = st.sampled_from(
    [b"needle", b"hay", b"NEEDLE hay", b"x" * 70, b"y" * (WINDOW_BYTES + 5), b"z" * CELL_BYTES, b""]
)
ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", bytes(40)])


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(st.tuples(pieces, ends), min_size=1, max_size=30),
    times=st.integers(1, 60),
    last=pieces,
)
def test_against_reading_it_all(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[bytes, bytes]],
    times: int,
    last: bytes,
) -> None:
    data = b"".join(a + b for a, b in lines) * times + last
    path = tmp_path_factory.mktemp("log") / "server.log"
    path.write_bytes(data)
    reading = Reading(path)
    try:
        reading.pages.search((b"needle",))
        reading.look()
        # At its end a file may be a hole still to be written; it begins at its first data.
        plain = [m[0] for m in re.finditer(rb"[^\r\n\0]+", data)]
        wanted = [line[:SHOWN_BYTES].decode() for line in plain]
        assert reading.texts() == wanted
        holding = [line for line in plain if b"needle" in line[:WINDOW_BYTES].lower()]
        assert reading.texts(found=True) == [line[:SHOWN_BYTES].decode() for line in holding]
        rows = reading.pages.rows()
        assert isinstance(rows, Rows)
        assert [rows.rank(key) for key in rows] == list(range(len(rows)))
    finally:
        reading.pages.close()
