"""The log as a source: the tail at once, the whole behind it, one swap, nothing twice or lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.sources.logroute import LogAddress, opener
from ds4top.sources.logsource import LogSource
from ds4top.sources.logtail import LogFollower, StreamFollower
from ds4top.sources.samples import HistoryProgress, HistorySwap, LogBreak, LogEvents
from tests.unit.follow_tools import LineReader, ListStore, Log, fixed_clock


class Rig:
    """A source on a small log whose background work is done by hand, and its consumer."""

    def __init__(
        self,
        log: Log,
        tail_bytes: int,
        turn_bytes: int = 1 << 18,
        store: Callable[[], ListStore] = ListStore,
    ) -> None:
        self.work: list[Callable[[], None]] = []
        self.source = LogSource(
            LogFollower(str(log.path), tail_bytes, lambda: 5.0, turn_bytes),
            LineReader,
            store,
            fixed_clock(),
            self.work.append,
        )
        self.seen: list[Any] = []
        self.samples: list[object] = []
        self.swaps = 0

    def turn(self) -> list[object]:
        samples = list(self.source.read(5.0))
        for sample in samples:
            if isinstance(sample, LogEvents):
                self.seen += sample.events
            elif isinstance(sample, HistorySwap):
                assert isinstance(sample.store, ListStore)
                self.seen = sample.store.seen
                self.swaps += 1
        self.samples += samples
        return samples

    def settle(self) -> None:
        """Turns and background slices until nothing moves any more."""
        quiet = 0
        while quiet < 3:
            slept = self.source.backfill is None or not self.source.backfill.slice()
            moved = any(isinstance(s, LogEvents | HistorySwap | LogBreak) for s in self.turn())
            quiet = quiet + 1 if slept and not moved and not self.source.follower.more else 0

    def progress(self) -> list[tuple[int, int, str]]:
        return [
            (s.done_bytes, s.total_bytes, s.state)
            for s in self.samples
            if isinstance(s, HistoryProgress)
        ]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "ds4.log")


def test_a_small_file_is_read_whole_into_the_live_store(log: Log):
    log.write("a\nb\n")
    os.utime(log.path, (0, 1234.0))
    rig = Rig(log, tail_bytes=100)
    assert rig.turn() == [LogEvents(("a", "b"), 2, 5.0, 1000.0, 0, False, b"a\nb\n")]
    assert rig.work == []
    assert rig.source.backfill is None
    assert rig.source.lines == 2
    log.write("c\n")
    assert rig.turn() == [LogEvents(("c",), 1, 5.0, 1000.0, 0, True, b"c\n")]


def test_the_reader_gets_the_mtime_of_the_file(log: Log):
    log.write("a\n")
    os.utime(log.path, (0, 1234.0))
    mtimes: list[float] = []

    def make(mtime: float) -> LineReader:
        mtimes.append(mtime)
        return LineReader()

    LogSource(LogFollower(str(log.path)), make, ListStore, fixed_clock()).read(0.0)
    assert mtimes == [1234.0]


def test_the_tail_of_a_big_file_shows_at_once_and_the_whole_is_swapped_in(log: Log):
    log.write("".join(f"line {n}\n" for n in range(10)))
    rig = Rig(log, tail_bytes=15)
    (tail, progress) = rig.turn()
    assert isinstance(tail, LogEvents)
    assert (tail.events, tail.live) == (("line 8", "line 9"), False)
    assert progress == HistoryProgress(0, 70, "reading", 5.0)
    assert len(rig.work) == 1
    done, swap = rig.turn()
    assert done == HistoryProgress(70, 70, "done", 5.0)
    assert isinstance(swap, HistorySwap)
    assert (swap.lines, swap.offset, swap.generation) == (10, 70, 0)
    assert rig.seen == [f"line {n}" for n in range(10)]
    log.write("line 10\n")
    rig.turn()
    assert rig.seen == [f"line {n}" for n in range(11)]
    assert rig.source.lines == 11
    assert rig.swaps == 1


def big(log: Log, lines: int) -> list[str]:
    """More than the live side would catch up with by itself."""
    texts = [f"{n:08d} " + "x" * 1014 for n in range(lines)]
    log.write("\n".join(texts) + "\n")
    return texts


def test_a_line_that_is_torn_at_the_swap_is_finished_by_the_new_reader(log: Log):
    texts = big(log, 600)
    rig = Rig(log, tail_bytes=2048)
    rig.turn()
    log.write("to")
    rig.turn()
    rig.settle()
    assert rig.swaps == 1
    log.write("rn\n")
    rig.turn()
    assert rig.seen == [*texts, "torn"]


def test_growth_during_the_background_read_is_counted_once(log: Log):
    texts = big(log, 600)
    rig = Rig(log, tail_bytes=2048)
    rig.turn()
    assert rig.source.backfill is not None
    assert rig.source.backfill.slice(100_000)
    log.write("new\n")
    rig.turn()
    assert rig.seen == [*texts[-2:], "new"]
    rig.settle()
    assert rig.seen == [*texts, "new"]
    assert rig.progress()[1] == (100_000, 614_404, "reading")
    assert rig.progress()[-1] == (614_404, 614_404, "done")


def test_a_rotation_during_the_background_read_loses_neither_file(log: Log):
    texts = big(log, 600)
    rig = Rig(log, tail_bytes=2048)
    rig.turn()
    assert rig.source.backfill is not None
    rig.source.backfill.slice(100_000)
    log.write("late")
    log.rename()
    log.reopen()
    log.write("first\n")
    rig.turn()
    rig.turn()
    log.rename()
    log.reopen()
    log.write("second\n")
    rig.settle()
    assert rig.swaps == 1
    assert rig.seen == [*texts, "~late", "first", "second"]
    log.write("third\n")
    rig.turn()
    assert rig.seen[-1] == "third"
    assert rig.source.lines == 603


def test_a_truncation_during_the_background_read_keeps_what_is_shown(log: Log):
    texts = big(log, 600)
    rig = Rig(log, tail_bytes=2048)
    rig.turn()
    assert rig.source.backfill is not None
    rig.source.backfill.slice(100_000)
    log.truncate()
    log.write("new\n")
    rig.settle()
    assert rig.swaps == 0
    assert rig.seen == [*texts[-2:], "new"]
    (last,) = [s for s in rig.samples if isinstance(s, HistoryProgress)][-1:]
    assert last.state == "abandoned"
    assert last.note == "the log was emptied before its beginning had been read"
    assert rig.source.backfill is None


def test_the_background_notices_a_truncation_before_the_live_side_does(log: Log):
    big(log, 600)
    rig = Rig(log, tail_bytes=2048)
    rig.turn()
    backfill = rig.source.backfill
    assert backfill is not None
    backfill.slice(100_000)
    log.truncate()
    log.write("y" * 700_000 + "\n")
    while backfill.slice(100_000):
        pass
    assert backfill.state == "abandoned"


def test_a_torn_line_before_a_break_reaches_the_store_before_it(log: Log):
    log.write("a\ntorn")
    rig = Rig(log, tail_bytes=100)
    rig.turn()
    log.truncate()
    log.write("b\n")
    torn, broken, new = rig.turn()
    assert isinstance(torn, LogEvents)
    assert (torn.events, torn.lines, torn.generation) == (("~torn",), 0, 0)
    assert isinstance(broken, LogBreak)
    assert broken.reason == "truncated"
    assert isinstance(new, LogEvents)
    assert (new.events, new.generation, new.live) == (("b",), 1, True)


def test_a_store_that_fails_in_the_background_leaves_the_live_one(log: Log):
    class Broken(ListStore):
        def apply(self, events: Iterable[Any], heard_at: float | None = None) -> None:
            raise RuntimeError("boom")

    texts = big(log, 600)
    rig = Rig(log, tail_bytes=2048, store=Broken)
    rig.settle()
    assert rig.seen == texts[-2:]
    assert rig.progress()[-1][2] == "abandoned"


def test_the_thread_reads_in_slices_and_ends_when_the_source_is_closed(log: Log):
    big(log, 3000)
    began, done = Event(), Event()

    class Slow(ListStore):
        def apply(self, events: Iterable[Any], heard_at: float | None = None) -> None:
            super().apply(events)
            began.set()

    rig = Rig(log, tail_bytes=2048, store=Slow)
    rig.turn()

    def work() -> None:
        rig.work[0]()
        done.set()

    Thread(target=work, daemon=True).start()
    assert began.wait(30)
    rig.source.close()
    assert done.wait(30)


def test_the_thread_and_the_turns_meet(log: Log):
    """The same with the real thread: whatever the order, the whole is there once."""
    texts = big(log, 3000)
    source = LogSource(
        LogFollower(str(log.path), 2048, lambda: 5.0), LineReader, ListStore, fixed_clock()
    )
    seen: list[Any] = []
    swapped = False
    number = 0
    while not swapped or number < 50:
        for sample in source.read(5.0):
            if isinstance(sample, LogEvents):
                seen += sample.events
            elif isinstance(sample, HistorySwap):
                assert isinstance(sample.store, ListStore)
                seen, swapped = sample.store.seen, True
        if number < 50:
            texts.append(f"new {number}")
            log.write(f"new {number}\n")
            number += 1
    for sample in source.read(5.0):
        if isinstance(sample, LogEvents):
            seen += sample.events
    source.close()
    assert seen == texts


STEPS = st.lists(
    st.sampled_from(["write", "write", "torn", "turn", "slice", "rename"]), min_size=1, max_size=60
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, turn_bytes=st.integers(40, 400), size=st.integers(10, 300))
def test_history_and_live_meet_at_one_byte_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], turn_bytes: int, size: int
):
    """Every line exactly once and in order, and a torn one closed at the end of its file."""
    log = Log(tmp_path_factory.mktemp("h") / "ds4.log")
    files = [""]
    big(log, 257)
    files[0] = log.path.read_text()
    rig = Rig(log, tail_bytes=1500, turn_bytes=turn_bytes)
    rig.turn()
    number = 0
    for step in steps:
        if step in ("write", "torn"):
            number += 1
            text = f"new {number}" + ("\n" if step == "write" else "|")
            log.write(text)
            files[-1] += text
        elif step == "turn":
            rig.turn()
        elif step == "slice" and rig.source.backfill is not None:
            rig.source.backfill.slice(size)
        elif step == "rename":
            rig.turn()
            log.rename()
            log.reopen()
            files.append("")
    rig.settle()
    rig.source.close()
    os.close(log.fd)
    files = [text for text in files if text]
    expected: list[str] = []
    for place, text in enumerate(files):
        *whole, tail = text.split("\n")
        expected += whole
        if tail and place < len(files) - 1:
            expected.append(f"~{tail}")
    assert rig.swaps == 1
    assert rig.seen == expected
    assert rig.source.lines == sum(text.count("\n") for text in files)


def test_a_pipe_ends_and_its_torn_line_is_shown():
    read, write = os.pipe()
    source = LogSource(
        StreamFollower(read, monotonic=lambda: 5.0, wait_s=0.0),
        LineReader,
        ListStore,
        fixed_clock(),
    )
    os.write(write, b"a\nb")
    os.close(write)
    line, torn, ended = source.read(5.0)
    assert line == LogEvents(("a",), 1, 5.0, 1000.0, 0, True, b"a\nb")
    assert isinstance(torn, LogEvents)
    assert torn.events == ("~b",)
    assert isinstance(ended, LogBreak)
    assert ended.reason == "ended"
    assert source.interval_s == 1.0
    os.close(read)


def test_what_fills_a_pipe_at_the_start_is_not_called_live():
    read, write = os.pipe()
    source = LogSource(
        StreamFollower(read, wait_s=0.0, turn_bytes=4), LineReader, ListStore, fixed_clock()
    )
    os.write(write, b"a\nb\nc\n")
    lives = [s.live for _ in range(2) for s in source.read(5.0) if isinstance(s, LogEvents)]
    assert lives == [False, True]
    os.close(write)
    os.close(read)


def test_a_missing_log_waits_and_then_begins(tmp_path: Path):
    path = tmp_path / "ds4.log"
    source = opener(LineReader, ListStore, fixed_clock())(LogAddress("ds4.log", str(path)))
    (missing,) = source.read(5.0)
    assert isinstance(missing, LogBreak)
    assert missing.reason == "missing"
    assert source.interval_s == 0.25
    path.write_text("a\n")
    appeared, first = source.read(5.0)
    assert isinstance(appeared, LogBreak)
    assert isinstance(first, LogEvents)
    assert first.events == ("a",)
    source.close()
