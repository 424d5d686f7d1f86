"""The black box: its records, its ring, its file, and what survives which accident."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.archive.blackbox import MOST_HELD, RETRY_S, BlackBox, BoxPast, BoxPump, Tapped
from ds4top.archive.blackbox_read import read_box
from ds4top.core.boxfill import Follower
from ds4top.core.boxrecord import (
    ENDS,
    HEADER_BYTES,
    LEVELS,
    PHASES,
    RESIDENCIES,
    RING_BYTES,
    SLOT_BYTES,
    SLOTS,
    BoxRecord,
    boot_of,
    decode_slot,
    encode_slot,
    flush_due,
    header_bytes,
    header_state,
    is_urgent,
    parse_ring,
)
from ds4top.core.meminfo import Blocks, MemorySample
from ds4top.sources.base import SourceFault
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.supervisor import Supervisor

GIB = 1 << 30
BOOT = "0f9e8d7c-6b5a-4938-8271-605f4e3d2c1b"
FULL = BoxRecord(
    wall=1_764_000_000.25, t=4711.5, level="critical", phase="prefill", residency="copy",
    ended="died", free_bytes=GIB, available_bytes=6 * GIB, headroom_bytes=-5,
    slope_bytes_per_s=-2.06e9, gpu_held_bytes=89 * GIB, oom_kills=3, big_blocks=27, power_w=37.5,
    sm_clock_mhz=2223, temperature_c=81, utilisation_pct=96, request_number=155,
    request_started_wall=1_763_999_900.0, context_tokens=56_320, prompt_tokens=61_000,
    decode_tps=5.2, context_limit_tokens=131_072, pid=914_871, start_ticks=123_456_789_012,
    other_pid=4242, other_bytes=12 * GIB, other_comm="comfyui", told_wall=1_763_999_999.5,
)  # fmt: skip


def record(number: int) -> BoxRecord:
    """A record that tells its number: two a second."""
    return BoxRecord(1_764_000_000.0 + number / 2, number / 2, headroom_bytes=number)


def numbers(path: Path) -> list[int | None]:
    return [each.headroom_bytes for each in read_box(path).past.records]


# records ---------------------------------------------------------------------------------------


def whole(bits: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(-(1 << (bits - 1)) + 1, (1 << (bits - 1)) - 1)


NUMBER = st.floats(allow_nan=False, allow_infinity=False)
RECORDS = st.builds(
    BoxRecord, wall=NUMBER, t=NUMBER, level=st.sampled_from(LEVELS), phase=st.sampled_from(PHASES),
    residency=st.sampled_from(RESIDENCIES), ended=st.sampled_from(ENDS), free_bytes=whole(64),
    headroom_bytes=whole(64), slope_bytes_per_s=st.none() | NUMBER, pid=whole(32),
    context_tokens=whole(64), decode_tps=st.none() | NUMBER, temperature_c=whole(32),
    other_comm=st.text("abcdefgh-_.", max_size=16), told_wall=st.none() | NUMBER,
)  # fmt: skip


@given(RECORDS, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1))
def test_a_record_comes_back_as_it_was(given_record, seq, run):
    data = encode_slot(seq, run, boot_of(BOOT), "sample", given_record)
    assert len(data) == SLOT_BYTES
    kept = decode_slot(data)
    assert kept == (seq, run, BOOT, "sample", given_record)


def test_every_field_has_its_place():
    kept = decode_slot(encode_slot(9, 2, boot_of(BOOT), "sample", FULL))
    assert kept is not None
    assert kept.record == FULL
    assert not [f.name for f in fields(BoxRecord) if getattr(FULL, f.name) in (None, "")]


def test_unknown_is_no_zero_and_a_strange_name_is_unknown():
    strange = BoxRecord(1.0, 2.0, phase="dancing", slope_bytes_per_s=float("nan"), pid=1 << 40)
    kept = decode_slot(encode_slot(1, 1, boot_of("no uuid"), "closed", strange))
    assert kept is not None
    assert kept.record == BoxRecord(1.0, 2.0, pid=(1 << 31) - 1)
    assert kept.record.headroom_bytes is None
    assert kept.kind == "closed"
    assert kept.boot_id == str(boot_of("no uuid")) != str(boot_of("another"))


@given(st.integers(0, SLOT_BYTES - 1), st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_seen(at, flip):
    data = bytearray(encode_slot(77, 3, boot_of(BOOT), "sample", FULL))
    data[at] ^= flip
    assert decode_slot(bytes(data)) is None


@given(st.binary(max_size=600))
def test_no_bytes_make_the_reader_fail(data):
    assert decode_slot(data) is None
    assert header_state(data) in ("empty", "foreign", "damaged")
    assert parse_ring(header_bytes() + data).records == ()


def test_a_slot_is_only_believed_where_it_belongs():
    slot = encode_slot(5, 1, boot_of(BOOT), "sample", FULL)
    right = header_bytes() + bytes(5 * SLOT_BYTES) + slot
    assert parse_ring(right).records == (FULL,)
    moved = header_bytes() + bytes(6 * SLOT_BYTES) + slot
    assert parse_ring(moved).records == ()
    assert parse_ring(moved).bad == 1


# policy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since_s", "urgent", "before", "due"),
    [
        (0.4, True, True, False),
        (0.5, True, True, True),
        (0.1, True, False, True),
        (9.9, False, True, False),
        (10.0, False, False, True),
    ],
)
def test_flushed_twice_a_second_when_urgent_else_each_ten(since_s, urgent, before, due):
    assert flush_due(since_s, urgent, before) is due


@pytest.mark.parametrize(
    ("pace_s", "urgent", "most_s"), [(0.5, True, 1.0), (0.2, True, 1.0), (0.5, False, 10.5)]
)
def test_no_record_waits_longer_than_promised(tmp_path, pace_s, urgent, most_s):
    box = BlackBox(tmp_path / "box", BOOT, sync=lambda fd: flushes.append(now))
    flushes: list[float] = []
    now = 0.0
    for step in range(int(60 / pace_s)):
        now = step * pace_s
        box.add(record(step), now, urgent)
    gaps = [later - earlier for earlier, later in itertools.pairwise(flushes)]
    assert gaps
    assert max(gaps) <= most_s
    assert min(gaps) >= (0.5 if urgent else 10.0)


@pytest.mark.parametrize(
    ("changes", "urgent"),
    [
        ({"headroom_bytes": 24 * GIB}, False),
        ({"headroom_bytes": 24 * GIB, "slope_bytes_per_s": -0.2 * GIB}, False),
        ({"headroom_bytes": 24 * GIB, "slope_bytes_per_s": -0.4 * GIB}, True),
        ({"headroom_bytes": 5 * GIB}, True),
        ({"level": "warning"}, True),
        ({}, False),
    ],
)
def test_urgent_is_low_or_falling(changes, urgent):
    assert is_urgent(BoxRecord(0.0, 0.0, **changes)) is urgent


def test_a_box_that_is_low_by_choice_is_not_urgent():
    steady = BoxRecord(0.0, 0.0, level="ok", headroom_bytes=2 * GIB)
    assert not is_urgent(steady, ok_bytes=GIB)


# the file --------------------------------------------------------------------------------------


def test_what_was_added_is_read_back_and_private(tmp_path):
    path = tmp_path / "state" / "box"
    box = BlackBox.open(path, BOOT)
    assert box.problem == ""
    assert box.past is not None
    assert box.past.records == ()
    for number in range(5):
        box.add(record(number), now=float(number))
    assert numbers(path) == [0, 1, 2, 3, 4]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.stat().st_size == RING_BYTES == 4096 + 4096 * 256
    assert not read_box(path).past.closed
    assert read_box(path).owned
    box.close(1_764_000_009.0, 9.0, now=9.0)
    found = read_box(path)
    assert (found.past.closed, found.past.closed_wall, found.owned) == (
        True,
        1_764_000_009.0,
        False,
    )
    assert len(found.past.records) == 5
    assert found.past.boot_id == BOOT


def test_an_old_file_that_others_may_read_is_made_private(tmp_path):
    path = tmp_path / "box"
    BlackBox.open(path, BOOT).close(0.0, 0.0, 0.0)
    path.chmod(0o644)
    BlackBox.open(path, BOOT).close(0.0, 0.0, 0.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_ring_wraps_and_holds_ten_minutes(tmp_path):
    path = tmp_path / "box"
    box = BlackBox(path, BOOT, sync=lambda fd: None)
    for number in range(SLOTS + 300):
        box.add(record(number), now=number / 2)
    assert path.stat().st_size == RING_BYTES
    assert box.seq == SLOTS + 300
    found = numbers(path)
    # Two a second: ten minutes are 1,200 steps and the record that begins them.
    assert found == list(range(SLOTS + 300 - 1201, SLOTS + 300))


def test_each_run_is_told_apart_and_numbers_go_on(tmp_path):
    path = tmp_path / "box"
    first = BlackBox.open(path, BOOT)
    first.add(record(1), now=0.0)
    first.close(0.0, 0.0, 0.0)
    second = BlackBox.open(path, "another boot")
    assert second.past is not None
    assert (second.past.closed, second.past.records) == (True, (record(1),))
    second.add(record(2), now=0.0)
    assert second.seq == 3
    past = read_box(path).past
    assert (past.records, past.closed, past.last_run) == ((record(2),), False, 2)
    assert past.boot_id == str(boot_of("another boot"))
    second.close(0.0, 0.0, 0.0)


def test_a_torn_record_costs_itself_alone(tmp_path):
    path = tmp_path / "box"
    box = BlackBox.open(path, BOOT)
    for number in range(3):
        box.add(record(number), now=0.0)
    torn = encode_slot(4, 1, boot_of(BOOT), "sample", record(3))[:100]
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 4 * SLOT_BYTES)
        file.write(torn)
    assert numbers(path) == [0, 1, 2]
    assert read_box(path).past.bad == 1


def test_a_wrong_checksum_costs_one_record(tmp_path):
    path = tmp_path / "box"
    box = BlackBox.open(path, BOOT)
    for number in range(3):
        box.add(record(number), now=0.0)
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 2 * SLOT_BYTES + 60)
        file.write(b"\xff")
    assert numbers(path) == [0, 2]


def test_a_file_cut_short_is_read_as_far_as_it_goes_and_mended(tmp_path):
    path = tmp_path / "box"
    box = BlackBox.open(path, BOOT)
    for number in range(3):
        box.add(record(number), now=0.0)
    box.close(0.0, 0.0, 0.0)
    os.truncate(path, HEADER_BYTES + 3 * SLOT_BYTES)
    assert numbers(path) == [0, 1]
    again = BlackBox.open(path, BOOT)
    assert path.stat().st_size == RING_BYTES
    again.add(record(7), now=0.0)
    assert numbers(path) == [7]


@pytest.mark.parametrize(
    "content", [header_bytes(version=2), header_bytes()[:20] + b"\x07" + header_bytes()[21:]]
)
def test_another_version_and_a_damaged_header_are_moved_aside(tmp_path, content):
    path = tmp_path / "box"
    path.write_bytes(content)
    assert "version" in read_box(path).problem or "damaged" in read_box(path).problem
    box = BlackBox.open(path, BOOT)
    assert box.problem == ""
    box.add(record(1), now=0.0)
    assert numbers(path) == [1]
    assert (tmp_path / "box.old").read_bytes() == content


def test_a_strangers_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "box"
    path.write_text("somebody's notes")
    box = BlackBox.open(path, BOOT)
    box.add(record(1), now=0.0)
    assert "not a black box" in box.problem
    assert path.read_text() == "somebody's notes"
    assert read_box(path).problem == box.problem


def test_a_pipe_and_a_link_by_that_name_do_not_stop_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert BlackBox.open(tmp_path / "pipe", BOOT).problem.endswith("is no file")
    assert read_box(tmp_path / "pipe").problem.endswith("is no file")
    target = tmp_path / "target"
    target.write_bytes(b"")
    (tmp_path / "link").symlink_to(target)
    box = BlackBox.open(tmp_path / "link", BOOT)
    box.add(record(1), now=0.0)
    assert box.problem
    assert target.read_bytes() == b""


def test_nothing_there_is_no_problem(tmp_path):
    assert read_box(tmp_path / "none") == read_box(tmp_path / "none" / "deeper")
    assert read_box(tmp_path / "none").problem == ""


def test_a_second_one_is_told_and_takes_over_later(tmp_path):
    path = tmp_path / "box"
    first = BlackBox.open(path, BOOT)
    first.add(record(1), now=0.0)
    second = BlackBox.open(path, BOOT, now=0.0)
    second.add(record(2), now=1.0)
    assert "another ds4top" in second.problem
    assert second.past is None
    assert numbers(path) == [1]
    first.close(0.0, 0.0, 0.0)
    second.add(record(3), now=RETRY_S - 0.1)
    assert second.problem
    second.tick(RETRY_S)
    assert second.problem == ""
    assert second.past is not None
    assert second.past.closed
    assert numbers(path) == [2, 3]


def test_a_removed_file_is_made_anew_with_what_was_not_flushed(tmp_path):
    path = tmp_path / "box"
    box = BlackBox.open(path, BOOT, now=0.0)
    box.add(record(1), now=0.0)
    path.unlink()
    box.add(record(2), now=20.0)
    assert box.problem
    box.add(record(3), now=20.0 + RETRY_S)
    assert box.problem == ""
    assert numbers(path) == [2, 3]


# the disk --------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_survived_and_said():
    box = BlackBox.open(Path("/proc/version/ds4top/box"), BOOT)
    box.add(record(1), now=0.0)
    box.close(0.0, 0.0, 0.0)
    assert box.problem == "/proc/version/ds4top/box: Not a directory; tried again"


def test_a_name_below_proc_cannot_be_written_and_that_is_said():
    box = BlackBox.open(Path("/proc/sys/kernel/ds4top-box"), BOOT)
    box.add(record(1), now=0.0)
    assert box.problem.startswith("/proc/sys/kernel/ds4top-box: ")
    assert box.flushed == 0


class Disk:
    """A disk that may refuse; what it does take goes to the real file."""

    def __init__(self) -> None:
        self.write_error = self.sync_error = 0
        self.writes = self.syncs = 0

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        self.writes += 1
        if self.write_error:
            raise OSError(self.write_error, os.strerror(self.write_error))
        # A short write is no error.
        return os.pwrite(fd, data[:100], at)

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))


def test_a_full_disk_by_a_refusing_pwrite_is_survived_and_nothing_lost(tmp_path):
    disk, path = Disk(), tmp_path / "box"
    box = BlackBox(path, BOOT, disk.pwrite, disk.sync)
    box.add(record(0), now=0.0, urgent=True)
    disk.write_error = errno.ENOSPC
    for number in range(1, 19):
        box.add(record(number), now=number / 2, urgent=True)
    assert box.problem == f"{path}: No space left on device; tried again"
    assert numbers(path) == [0]
    writes = disk.writes
    box.add(record(19), now=RETRY_S + 0.4, urgent=True)
    assert disk.writes == writes
    disk.write_error = 0
    box.add(record(20), now=RETRY_S + 0.5, urgent=True)
    assert box.problem == ""
    assert numbers(path) == list(range(21))
    assert (box.flushed, box.lost) == (21, 0)


def test_a_flush_that_fails_is_no_flush_and_all_is_written_again(tmp_path):
    disk, path = Disk(), tmp_path / "box"
    box = BlackBox(path, BOOT, disk.pwrite, disk.sync)
    box.add(record(0), now=0.0)
    assert box.flushed == 1
    disk.sync_error = errno.EIO
    box.add(record(1), now=20.0)
    assert box.flushed == 1
    assert "Input/output error" in box.problem
    # What a failed flush leaves in the file is not known: as if it were lost.
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 2 * SLOT_BYTES)
        file.write(bytes(SLOT_BYTES))
    disk.sync_error = 0
    box.tick(20.0 + RETRY_S)
    assert (box.flushed, box.problem) == (2, "")
    assert numbers(path) == [0, 1]


def test_a_disk_that_stays_full_costs_the_oldest_and_they_are_counted(tmp_path):
    disk, path = Disk(), tmp_path / "box"
    disk.write_error = errno.ENOSPC
    box = BlackBox(path, BOOT, disk.pwrite, disk.sync)
    for number in range(MOST_HELD + 5):
        box.add(record(number), now=0.0)
    assert box.lost == 5
    disk.write_error = 0
    box.flush(RETRY_S)
    assert numbers(path)[0] == 5
    assert len(numbers(path)) == MOST_HELD


LIMITED = """
import resource, sys
from pathlib import Path
from ds4top.archive.blackbox import RETRY_S, BlackBox
from ds4top.core.boxrecord import BoxRecord
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
box = BlackBox.open(Path(sys.argv[1]), "boot", now=0.0)
box.add(BoxRecord(1.0, 1.0, headroom_bytes=1), now=0.0)
print(box.problem)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
box.tick(RETRY_S)
print(box.problem or "well", box.flushed)
"""


def test_no_room_by_a_limit_of_file_size_is_said_and_mended_later(tmp_path):
    path = tmp_path / "box"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"{path}: File too large; tried again", "well 1"]
    assert numbers(path) == [1]


def test_what_cannot_be_written_may_still_be_read_constructed(tmp_path, monkeypatch):
    path = tmp_path / "box"
    first = BlackBox.open(path, BOOT)
    first.add(record(1), now=0.0)
    os.close(first._fd)
    real = os.open

    def read_only(name, flags, mode=0o777):
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(name, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    box = BlackBox.open(path, BOOT)
    assert box.problem == f"{path}: Read-only file system; tried again"
    assert box.past is not None
    assert box.past.records == (record(1),)


class Volatile:
    """A disk with a cache: after a cut, what was not synced is there, or torn, or not."""

    def __init__(self) -> None:
        self.cache: list[tuple[bytes, int]] = []

    def pwrite(self, fd: int, data: bytes, at: int) -> int:
        self.cache.append((data, at))
        return len(data)

    def sync(self, fd: int) -> None:
        for data, at in self.cache:
            os.pwrite(fd, data, at)
        self.cache.clear()

    def cut(self, fd: int, rng: random.Random) -> None:
        for data, at in rng.sample(self.cache, len(self.cache)):
            os.pwrite(fd, data[: rng.choice((0, len(data), rng.randrange(len(data) + 1)))], at)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from((0.1, 0.5, 3.0)), st.booleans()), max_size=60),
    st.integers(0, 10_000),
)
def test_after_a_power_cut_everything_flushed_is_there_constructed(steps, seed):
    disk = Volatile()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "box"
        path.write_bytes(header_bytes())
        box = BlackBox(path, BOOT, disk.pwrite, disk.sync)
        now, added = 0.0, 0
        for pause_s, urgent in steps:
            now += pause_s
            added += 1
            box.add(record(added), now, urgent)
        flushed = box.flushed
        disk.cut(box._fd, random.Random(seed))
        found = numbers(path)
        assert [number for number in found if number <= flushed] == list(range(1, flushed + 1))
        assert set(found) <= set(range(1, added + 1))
        if steps and steps[-1][1] and len(steps) > 1 and not steps[-2][1]:
            assert flushed == added


# the pump --------------------------------------------------------------------------------------


def memory_sample(t: float, available: float) -> MemorySample:
    return MemorySample(
        t, 1_764_000_000.0 + t, 120 * GIB, GIB, int(available * GIB), oom_kills=1,
        blocks=Blocks(27, 5),
    )  # fmt: skip


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[BoxPump]:
    found = BoxPump(BlackBox(tmp_path / "box", BOOT))
    yield found
    found.close()


def test_the_pump_writes_memory_on_top_of_the_last_look(pump):
    pump.look(replace(FULL, available_bytes=100 * GIB, headroom_bytes=20 * GIB, level="ok"))
    for step in range(12):
        pump.memory(memory_sample(step / 5, 100 - step))
    assert pump.read(0.0) == (BoxPast(pump.box.past),)
    assert pump.read(0.1) == ()
    last = read_box(pump.box.path).past.records[-1]
    assert last.headroom_bytes == 9 * GIB
    assert last.slope_bytes_per_s == pytest.approx(-5 * GIB)
    assert (last.phase, last.pid, last.power_w) == ("prefill", 914_871, 37.5)
    assert (last.t, last.wall, last.big_blocks, last.oom_kills) == (2.2, 1_764_000_002.2, 27, 1)
    assert pump.interval_s == 0.1


def test_the_pump_never_waits_and_keeps_the_latest(tmp_path):
    pump = BoxPump(BlackBox(tmp_path / "box", BOOT), capacity=4)
    for step in range(10):
        pump.memory(memory_sample(float(step), 50))
    assert pump.dropped == 6
    pump.read(0.0)
    times = [each.t for each in read_box(tmp_path / "box").past.records]
    assert times == [6.0, 7.0, 8.0, 9.0]
    assert pump.interval_s == 0.5
    pump.close()
    assert read_box(tmp_path / "box").past.closed


def test_the_pump_says_what_is_wrong_and_holds_the_records(tmp_path):
    path = tmp_path / "box"
    other = BlackBox.open(path, BOOT)
    pump = BoxPump(BlackBox(path, BOOT))
    pump.memory(memory_sample(1.0, 50))
    with pytest.raises(SourceFault, match="another ds4top"):
        pump.read(0.0)
    other.close(0.0, 0.0, 0.0)
    (told,) = pump.read(RETRY_S)
    assert told.past.closed
    assert len(read_box(path).past.records) == 1
    pump.close()


def test_under_the_supervisor_it_is_closed_at_the_end(tmp_path):
    mailbox = Mailbox()
    supervisor = Supervisor(mailbox)
    pump = BoxPump(BlackBox(tmp_path / "box", BOOT))
    pump.memory(memory_sample(1.0, 50))
    supervisor.add(pump)
    supervisor.start()
    deadline, samples = time.monotonic() + 30, []
    while not any(isinstance(sample, BoxPast) for sample in samples):
        assert time.monotonic() < deadline
        samples += mailbox.drain()
    pump.memory(memory_sample(2.0, 50))
    assert supervisor.stop(30.0) == ()
    past = read_box(tmp_path / "box").past
    assert (len(past.records), past.closed, past.closed_wall) == (2, True, 1_764_000_002.0)


def test_a_followers_headroom_is_unknown_where_the_last_look_had_none():
    follower = Follower()
    assert follower.memory(memory_sample(1.0, 50)).headroom_bytes == 50 * GIB
    follower.frame = replace(FULL, headroom_bytes=None)
    found = follower.memory(memory_sample(2.0, 50))
    assert (found.headroom_bytes, found.slope_bytes_per_s) == (None, 0.0)


def test_another_residency_is_no_fall():
    follower = Follower(replace(FULL, available_bytes=100 * GIB, headroom_bytes=100 * GIB))
    for step in range(6):
        assert follower.memory(memory_sample(step / 5, 100)).headroom_bytes == 100 * GIB
    follower.frame = replace(
        FULL, residency="mmap", available_bytes=100 * GIB, headroom_bytes=20 * GIB
    )
    found = follower.memory(memory_sample(1.2, 100))
    assert (found.headroom_bytes, found.slope_bytes_per_s) == (20 * GIB, 0.0)


def test_a_tapped_source_shows_its_samples_first():
    seen: list[object] = []

    class Two:
        name, interval_s = "two", 0.5

        def open(self) -> None:
            seen.append("open")

        def read(self, now: float) -> tuple[object, ...]:
            return ("a", now)

        def close(self) -> None:
            seen.append("close")

    tapped = Tapped(Two(), seen.append)
    tapped.open()
    assert (tapped.name, tapped.interval_s, tapped.read(3.0)) == ("two", 0.5, ("a", 3.0))
    tapped.close()
    assert seen == ["open", "a", 3.0, "close"]


def test_reading_takes_no_lock_away(tmp_path):
    path = tmp_path / "box"
    BlackBox.open(path, BOOT).close(0.0, 0.0, 0.0)
    read_box(path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert read_box(path).owned
