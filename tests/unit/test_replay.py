"""Replays: a raw log by its own stamps, a recording by its times; back, forth, faster, still."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.archive.record import Recorder, read_recording
from ds4top.sources.base import Clock, SourceFault
from ds4top.sources.replay import ReplayClock, ReplaySource
from ds4top.sources.samples import LogBreak, LogEvents, ReplayPosition, ReplayReset
from ds4top.sources.tracks import LogTrack, RecordTrack
from tests.unit.follow_tools import LineReader


class Hands:
    """Real time, moved by hand."""

    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now


def clock_of(mtime: float):
    """Stamps as seconds of one day; their date does not matter here."""

    def at(stamp: str) -> float | None:
        hour, minute, second = (int(part) for part in stamp[5:].split(":"))
        return float(hour * 3600 + minute * 60 + second) if hour < 24 else None

    return at


def stamped(second: int, text: str) -> str:
    return f"0102 {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} ds4-server: {text}"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(
        tmp_path / "ds4.log",
        "ds4: engine 1",
        stamped(10, "a"),
        stamped(10, "b"),
        "ds4: engine 2",
        stamped(13, "c"),
        stamped(100, "d"),
        "ds4: engine 3",
    )


def play(path: Path, clock: ReplayClock) -> ReplaySource:
    source = ReplaySource(LogTrack(str(path), clock_of), clock, LineReader)
    source.open()
    return source


def short(samples: Any) -> list[Any]:
    """Events as their last words, resets and breaks by name."""
    out: list[Any] = []
    for sample in samples:
        if isinstance(sample, LogEvents):
            out += [str(event).rpartition(": ")[2] for event in sample.events]
        elif isinstance(sample, ReplayReset):
            out.append("reset")
        elif isinstance(sample, LogBreak):
            out.append(sample.reason)
        elif not isinstance(sample, ReplayPosition):
            out.append(sample)
    return out


def test_lines_come_at_their_stamps_and_unstamped_ones_with_the_next(log: Path):
    source = play(log, ReplayClock(monotonic=None))
    assert short(source.read_to(10.0)) == ["engine 1", "a", "b"]
    assert short(source.read_to(12.9)) == []
    assert short(source.read_to(13.0)) == ["engine 2", "c"]
    assert short(source.read_to(99.0)) == []
    assert short(source.read_to(1000.0)) == ["d", "engine 3"]
    assert source.clock.now() == 100.0


def test_samples_are_those_of_the_live_source_in_replay_time(log: Path):
    source = play(log, ReplayClock(monotonic=None))
    first, position = source.read_to(10.0)
    data = log.read_bytes()
    assert isinstance(first, LogEvents)
    end = data.index(b"ds4: engine 2")
    assert (first.lines, first.t, first.wall, first.live) == (3, 10.0, 10.0, True)
    assert first.data == data[:end]
    assert position == ReplayPosition(0.0, 90.0, 10.0, 1.0, False, False, 10.0)
    *_, position = source.read_to(100.0)
    assert position == ReplayPosition(90.0, 90.0, 100.0, 1.0, False, True, 100.0)


def test_speed_pause_and_resume(log: Path):
    hands = Hands()
    source = play(log, ReplayClock(2.0, hands))
    assert short(source.read(0.0)) == ["engine 1", "a", "b"]
    hands.now += 1.0
    assert short(source.read(0.0)) == []
    assert source.clock.now() == 12.0
    source.clock.pause()
    hands.now += 500.0
    assert short(source.read(0.0)) == []
    source.clock.resume()
    assert source.clock.now() == 12.0
    hands.now += 0.5
    assert short(source.read(0.0)) == ["engine 2", "c"]


def test_a_jump_forward_hands_out_at_once_what_it_passed_as_history(log: Path):
    source = play(log, ReplayClock(monotonic=None))
    source.read_to(10.0)
    source.clock.seek(30.0)
    (events, position) = source.read(0.0)
    assert isinstance(events, LogEvents)
    assert (short([events]), events.live) == (["engine 2", "c"], False)
    assert isinstance(position, ReplayPosition)
    assert position.position_s == 30.0
    (events, _) = source.read_to(100.0)
    assert isinstance(events, LogEvents)
    assert events.live


def test_a_jump_back_resets_and_hands_out_everything_up_to_there(log: Path):
    source = play(log, ReplayClock(monotonic=None))
    source.read_to(100.0)
    source.clock.seek(-80.0)
    reset, events, _ = source.read(0.0)
    assert reset == ReplayReset(20.0)
    assert isinstance(events, LogEvents)
    assert short([events]) == ["engine 1", "a", "b", "engine 2", "c"]
    assert not events.live
    source.clock.seek(-5.0)
    assert short(source.read(0.0)) == []
    source.clock.seek(-1e9)
    assert short(source.read(0.0)) == ["reset", "engine 1", "a", "b"]
    assert source.clock.now() == 10.0


def times(path: Path) -> list[float]:
    track = LogTrack(str(path), clock_of)
    track.open()
    return list(track.times)


def test_a_carrier_before_the_stamp_and_a_stamp_after_progress_count(tmp_path: Path):
    path = tmp_path / "j.log"
    path.write_bytes(
        b"Jan 02 00:00:10 spark ds4[77]: " + stamped(10, "a").encode() + b"\n"
        b"ds4: prefill layer 3/43\r" + stamped(20, "b").encode() + b"\n"
        b"\x1b[36m" + stamped(30, "c").encode() + b"\n"
        b"0102 00:00:35 " + stamped(35, "two stamps").encode() + b"\n"
    )
    assert times(path) == [10.0, 20.0, 30.0, 35.0]


def test_a_stamp_inside_a_message_or_in_forged_lines_does_not_move_time(tmp_path: Path):
    path = write(
        tmp_path / "f.log",
        stamped(10, "a"),
        stamped(20, "said: " + stamped(5000, "no")),
        stamped(30, "snippet ["),
        stamped(9000, "forged"),
        stamped(31, "b"),
        stamped(2, "forged"),
        stamped(40, "c"),
        stamped(99_999, "no time at all"),
        stamped(41, "d"),
    )
    assert times(path) == [10.0, 20.0, 30.0, 30.0, 31.0, 31.0, 40.0, 41.0]


def test_a_log_without_stamps_is_one_moment(tmp_path: Path):
    path = write(tmp_path / "e.log", "ds4: one", "ds4: two")
    source = play(path, ReplayClock(monotonic=None))
    assert short(source.read_to(path.stat().st_mtime)) == ["one", "two"]


def test_an_empty_or_missing_log_is_said(tmp_path: Path):
    (tmp_path / "empty").touch()
    with pytest.raises(SourceFault, match="nothing in it to replay"):
        play(tmp_path / "empty", ReplayClock(monotonic=None))
    with pytest.raises(SourceFault, match="none does not exist"):
        play(tmp_path / "none", ReplayClock(monotonic=None))


def test_a_big_jump_comes_in_pieces_that_are_together_the_file(tmp_path: Path):
    path = write(tmp_path / "b.log", *(stamped(n // 3, "x" * 900) for n in range(4000)))
    source = play(path, ReplayClock(monotonic=None))
    source.clock.seek(1e9)
    turns = 0
    data = b""
    while True:
        samples = source.read(0.0)
        chunks = [sample for sample in samples if isinstance(sample, LogEvents)]
        assert all(len(chunk.data) <= 512 * 1024 and not chunk.live for chunk in chunks)
        data += b"".join(chunk.data for chunk in chunks)
        turns += 1
        if not source.more:
            break
        assert source.interval_s == 0.0
    assert data == path.read_bytes()
    assert turns == 3


def test_a_long_stretch_without_stamps_is_cut(tmp_path: Path):
    path = write(
        tmp_path / "u.log", stamped(1, "a"), *["ds4: " + "y" * 995] * 1000, stamped(5, "b")
    )
    assert times(path) == [1.0, 5.0, 5.0, 5.0, 5.0]
    source = play(path, ReplayClock(monotonic=None))
    assert len(short(source.read_to(5.0))) == 1002


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    moves=st.lists(st.integers(-40, 40), max_size=12),
)
def test_wherever_it_goes_the_state_is_that_of_the_log_up_to_there(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], moves: list[int]
):
    path = tmp_path_factory.mktemp("p") / "ds4.log"
    second, lines = 100, []
    for number, gap in enumerate(gaps):
        second += gap
        lines.append((second, f"e{number}"))
    write(path, *(stamped(at, text) for at, text in lines))
    source = play(path, ReplayClock(monotonic=None))
    state: list[Any] = []
    for move in [0, *moves]:
        source.clock.seek(float(move))
        for item in short(source.read(0.0)):
            state = [] if item == "reset" else [*state, item]
        assert state == [text for at, text in lines if at <= source.clock.now()]


def test_a_recording_plays_its_log_its_breaks_and_its_samples(tmp_path: Path):
    hands = Hands()
    path = tmp_path / "r.jsonl"
    recorder = Recorder(str(path), {}, clock=Clock(hands, lambda: hands() + 1000.0))
    recorder.log(b"old\n", live=False)
    hands.now = 8.0
    recorder.log(b"a\ntorn")
    hands.now = 9.0
    recorder.record("log", LogBreak("rotated", 1, 9.0, "/l"))
    recorder.log(b"\xff\n")
    hands.now = 10.0
    recorder.record("demo", ReplayReset(3.0))
    recorder.close()

    def decode(source: str, data: Mapping[str, Any], at: float) -> object | None:
        return (source, data["type"], at) if source == "demo" else None

    class Latin(LineReader):
        def feed(self, data: bytes) -> list[Any]:
            return super().feed(data.decode("latin-1").encode())

    source = ReplaySource(
        RecordTrack(read_recording(str(path))), ReplayClock(monotonic=None), Latin, decode
    )
    source.open()
    (old, _) = source.read(0.0)
    assert isinstance(old, LogEvents)
    assert (old.events, old.live, old.wall) == (("old",), False, 1007.0)
    (live, _) = source.read_to(1008.0)
    assert isinstance(live, LogEvents)
    assert (live.events, live.live) == (("a",), True)
    assert short(source.read_to(1009.0)) == ["~torn", "rotated", "ÿ"]
    assert short(source.read_to(1010.0)) == [("demo", "ReplayReset", 1010.0)]
    source.clock.seek(-2.5)
    assert short(source.read(0.0)) == ["reset", "old"]


def test_a_speed_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0, not 0"):
        ReplayClock(0.0)
    with pytest.raises(ValueError, match="above 0, not -1"):
        ReplayClock(-1.0, None)
