"""Following files and pipes: every byte once and in order, and word of every break."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.sources.base import SourceFault
from ds4top.sources.logtail import LogFollower, StreamFollower
from ds4top.sources.samples import LogBreak, LogChunk
from tests.unit.follow_tools import Log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "ds4.log")


def follower(log: Log, tail_bytes: int | None = None, turn_bytes: int = 1 << 18) -> LogFollower:
    return LogFollower(str(log.path), tail_bytes, lambda: 5.0, turn_bytes)


def turn(one: LogFollower | StreamFollower) -> list[object]:
    """A turn, with chunks as bytes and breaks as (reason, generation)."""
    return [
        item.data if isinstance(item, LogChunk) else (item.reason, item.generation)
        for item in one.read()
    ]


def test_growth_is_read_as_it_comes_with_its_offsets(log: Log):
    one = follower(log)
    log.write("a\nb")
    assert one.read() == [LogChunk(b"a\nb", 0, 0, 5.0)]
    assert one.read() == []
    log.write("c\n")
    assert one.read() == [LogChunk(b"c\n", 3, 0, 5.0)]
    assert one.offset == 5


def test_a_turn_is_bounded_and_says_that_there_is_more(log: Log):
    one = follower(log, turn_bytes=4)
    log.write("0123456789")
    assert (turn(one), one.more, one.pause_s) == ([b"0123"], True, 0.0)
    assert (turn(one), one.more) == ([b"4567"], True)
    assert (turn(one), one.more, one.pause_s) == ([b"89"], False, 0.1)
    assert (turn(one), one.more, one.pause_s) == ([], False, 0.25)


def test_a_log_that_is_quiet_for_ten_seconds_is_looked_at_less_often(log: Log):
    one = follower(log)
    log.write("a\n")
    assert (turn(one), one.pause_s) == ([b"a\n"], 0.1)
    slept = 0.0
    while one.pause_s < 0.5:
        slept += one.pause_s
        assert turn(one) == []
    assert slept == pytest.approx(10.0, abs=0.25)
    log.write("b\n")
    assert (turn(one), one.pause_s) == ([b"b\n"], 0.1)
    assert (turn(one), one.pause_s) == ([], 0.25)


def test_rename_then_a_new_file(log: Log):
    one = follower(log)
    log.write("a\n")
    turn(one)
    log.write("b\n")
    log.rename()
    log.reopen()
    log.write("c\n")
    assert turn(one) == [b"b\n"]
    assert one.more
    assert turn(one) == [("rotated", 1), b"c\n"]
    assert turn(one) == []


def test_what_is_written_to_the_old_file_after_the_rename_comes_first(log: Log):
    one = follower(log)
    log.write("a\n")
    turn(one)
    log.rename()
    log.write("late\n")
    assert turn(one) == [("missing", 0), b"late\n"]
    log.write("later\n")
    log.reopen()
    log.write("new\n")
    assert turn(one) == [b"later\n"]
    assert turn(one) == [("rotated", 1), b"new\n"]


def test_a_new_empty_file_does_not_draw_the_reader_away_from_the_old_one(log: Log):
    """logrotate creates the file at once; a redirected server never looks at it."""
    one = follower(log)
    log.write("a\n")
    turn(one)
    log.rename()
    log.path.touch()
    log.write("b\n")
    assert turn(one) == [b"b\n"]
    assert "new and empty" in one.detail
    assert turn(one) == []
    log.write("c\n")
    assert turn(one) == [b"c\n"]
    log.reopen()
    log.write("d\n")
    assert turn(one) == [("rotated", 1), b"d\n"]
    assert one.detail == ""


def test_a_torn_line_is_closed_before_bytes_of_the_next_file(log: Log):
    one = follower(log)
    log.write("whole\ntor")
    assert turn(one) == [b"whole\ntor"]
    log.rename()
    log.reopen()
    log.write("n\n")
    rotated, chunk = one.read()
    assert isinstance(rotated, LogBreak)
    assert (rotated.reason, rotated.closes) == ("rotated", True)
    assert isinstance(chunk, LogChunk)
    assert (chunk.data, chunk.generation, chunk.offset) == (b"n\n", 1, 0)


def test_copytruncate_to_nothing_is_told_once(log: Log):
    one = follower(log)
    log.write("old line\n")
    turn(one)
    log.truncate()
    assert turn(one) == [("truncated", 1)]
    assert turn(one) == []
    log.write("x\n")
    assert turn(one) == [b"x\n"]


@pytest.mark.parametrize("new", ["short\n", "0102 10:00:00 12\n", "0102 10:00:00 12\nand more\n"])
def test_a_file_written_anew_is_seen_at_any_size(log: Log, new: str):
    one = follower(log)
    log.write("0101 10:00:00 11\n")
    turn(one)
    log.truncate()
    log.write(new)
    assert turn(one) == [("truncated", 1), new.encode()]
    assert turn(one) == []


def test_a_restart_with_the_same_first_lines_is_seen_by_what_follows_them(log: Log):
    """Two lives begin with the same engine lines: the head alone would not tell."""
    head = "ds4: Linux cuda backend set oom_score_adj=1000\n" * 12
    one = follower(log)
    log.write(head + "0101 10:00:00 ds4-server: listening\n")
    turn(one)
    new = head + "0102 11:00:00 ds4-server: listening\nmore\n"
    log.truncate()
    log.write(new)
    assert turn(one) == [("truncated", 1), new.encode()]


def test_a_file_of_like_lines_is_known_by_its_first_bytes(log: Log):
    """What stands before the reading position is the same in both lives here."""
    same = "ds4: CUDA warming mapped tensor pages\n" * 40
    one = follower(log)
    log.write("life 1\n" + same)
    turn(one)
    log.truncate()
    log.write("life 2\n" + same)
    assert turn(one) == [("truncated", 1), ("life 2\n" + same).encode()]


def test_the_hole_that_a_writer_leaves_after_a_truncation_is_no_text(tmp_path: Path):
    """A writer without O_APPEND goes on at its old offset."""
    log = Log(tmp_path / "ds4.log", append=False)
    one = follower(log)
    log.write("x" * 5000 + "\n")
    turn(one)
    log.truncate()
    log.write("after\n")
    assert one.read()[1:] == [LogChunk(b"after\n", 5001, 1, 5.0)]
    log.write("next\n")
    assert turn(one) == [b"next\n"]
    log.truncate()
    log.write("third\n")
    assert turn(one) == [("truncated", 2), b"third\n"]


def test_a_big_hole_is_not_read(tmp_path: Path):
    path = tmp_path / "ds4.log"
    with path.open("wb") as out:
        out.seek(1 << 40)
        out.write(b"far\n")
    one = LogFollower(str(path), 1 << 20, lambda: 0.0)
    assert turn(one) == [b"far\n"]
    assert one.data_offset == 1 << 40
    assert one.began_offset == 0


def test_a_file_that_is_all_hole_yields_nothing_and_no_error(tmp_path: Path):
    path = tmp_path / "ds4.log"
    path.touch()
    os.truncate(path, 1 << 40)
    assert turn(LogFollower(str(path))) == []


def test_nul_bytes_that_were_written_are_passed_over_at_the_start_only(log: Log):
    one = follower(log, turn_bytes=4)
    log.write("\0" * 10 + "a\0b\n")
    assert turn(one) == [b"a\0"]
    assert turn(one) == [b"b\n"]


def test_missing_is_told_once_then_the_file_is_read_from_its_start(tmp_path: Path):
    path = tmp_path / "sub" / "ds4.log"
    one = LogFollower(str(path), 4, lambda: 5.0)
    (missing,) = one.read()
    assert isinstance(missing, LogBreak)
    assert (missing.reason, missing.closes) == ("missing", False)
    assert missing.detail == f"{path} does not exist yet; waiting for it"
    assert one.read() == []
    assert one.mtime is None
    path.parent.mkdir()
    assert one.read() == []
    path.write_text("one\ntwo\nthree\n")
    assert turn(one) == [("appeared", 0), b"one\ntwo\nthree\n"]


def test_a_deleted_file_is_read_on(log: Log):
    one = follower(log)
    log.write("a\n")
    turn(one)
    log.path.unlink()
    log.write("b\n")
    assert turn(one) == [("missing", 0), b"b\n"]
    log.write("c\n")
    assert turn(one) == [b"c\n"]
    assert "reading on in the open file" in one.detail


def test_a_file_renamed_away_and_back_is_the_same(log: Log):
    one = follower(log)
    log.write("a\n")
    turn(one)
    log.rename()
    assert turn(one) == [("missing", 0)]
    log.path.with_name("ds4.log.1").rename(log.path)
    log.write("b\n")
    assert turn(one) == [("appeared", 0), b"b\n"]


def test_a_link_that_is_turned_to_another_file_is_a_rotation(tmp_path: Path):
    (tmp_path / "a").write_text("a\n")
    (tmp_path / "b").write_text("b\n")
    link = tmp_path / "ds4.log"
    link.symlink_to("a")
    one = LogFollower(str(link))
    assert turn(one) == [b"a\n"]
    link.unlink()
    link.symlink_to("b")
    assert turn(one) == [("rotated", 1), b"b\n"]


def test_the_tail_begins_at_a_line_start(log: Log):
    log.write("first\nsecond\nthird\n")
    one = follower(log, tail_bytes=9)
    assert one.read() == [LogChunk(b"third\n", 13, 0, 5.0)]
    assert (one.began_offset, one.known_bytes) == (13, 19)


def test_a_tail_that_is_exactly_at_a_line_start_loses_no_line(log: Log):
    log.write("first\nsecond\n")
    assert turn(follower(log, tail_bytes=7)) == [b"second\n"]


def test_a_tail_without_a_line_end_begins_where_it_must(log: Log):
    log.write("x" * 200_000)
    assert turn(follower(log, tail_bytes=100_000)) == [b"x" * 100_000]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.mkdir(), "{p} is a directory; name the file in it: ds4top --log {p}/FILE"),
        (os.mkfifo, "{p} is a FIFO; read it as a stream: ds4top --log - < {p}"),
        (lambda p: p.symlink_to("/dev/null"), "{p} is a device, not a log"),
    ],
)
def test_what_cannot_be_followed_is_said_with_the_way_to_mend_it(tmp_path: Path, make, says: str):
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(SourceFault) as caught:
        LogFollower(str(path)).read()
    assert caught.value.kind == "unsupported"
    assert caught.value.message.startswith(says.format(p=path))


def test_a_socket_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s")
        with pytest.raises(SourceFault, match="s is a socket; pipe what it carries"):
            LogFollower("s").read()


@pytest.mark.parametrize("path", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_standard_input_by_name_is_sent_to_the_dash(path: str):
    with pytest.raises(SourceFault, match="use ds4top --log -"):
        LogFollower(path).read()


def test_a_compressed_log_is_not_followed(tmp_path: Path):
    path = tmp_path / "ds4.log.gz"
    path.write_bytes(b"\x1f\x8b")
    with pytest.raises(SourceFault, match=r"compressed.*try ds4top report .*ds4\.log\.gz"):
        LogFollower(str(path)).read()


@pytest.fixture
def nobody() -> Iterator[None]:
    """As root every file can be read; be somebody else for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_file_names_its_owner_and_the_command(tmp_path: Path, request):
    path = tmp_path / "ds4.log"
    path.touch()
    path.chmod(0)
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    request.getfixturevalue("nobody")
    with pytest.raises(SourceFault) as caught:
        LogFollower(str(path)).read()
    assert caught.value.kind == "permission"
    assert f"cannot read {path} (it belongs to " in caught.value.message
    assert ", mode 0000)" in caught.value.message
    assert caught.value.message.endswith(f":r {path}")


def test_a_fault_of_the_successor_does_not_stop_the_old_file(log: Log):
    one = follower(log)
    log.write("a\n")
    turn(one)
    log.rename()
    log.path.mkdir()
    log.write("b\n")
    assert turn(one) == [b"b\n"]
    with pytest.raises(SourceFault, match="is a directory"):
        one.read()
    log.write("c\n")
    assert turn(one) == [b"c\n"]
    log.path.rmdir()
    log.reopen()
    log.write("d\n")
    assert turn(one) == [("rotated", 1), b"d\n"]


def test_close_lets_go_of_the_descriptor(log: Log):
    one = follower(log)
    before = set(os.listdir("/proc/self/fd"))
    one.read()
    one.close()
    assert set(os.listdir("/proc/self/fd")) == before


STEPS = st.lists(
    st.sampled_from(["write", "torn", "read", "rename", "new", "truncate"]), min_size=1, max_size=40
)


@settings(max_examples=120, deadline=None)
@given(steps=STEPS, turn_bytes=st.integers(3, 60))
def test_every_line_arrives_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], turn_bytes: int
):
    """Writes, torn writes, renames, new files and truncations at any point between turns.

    A writer truncates only what was read, and renames only what was seen: bytes truncated away
    and a file that came and went between two turns are the two things that cannot be known.
    """
    log = Log(tmp_path_factory.mktemp("f") / "ds4.log")
    one = follower(log, turn_bytes=turn_bytes)
    written, got = "", b""
    number = 0

    def catch_up() -> None:
        nonlocal got
        quiet = 0
        while quiet < 2:
            chunks = [item for item in one.read() if isinstance(item, LogChunk)]
            got += b"".join(chunk.data for chunk in chunks)
            quiet = 0 if chunks or one.more else quiet + 1

    for step in steps:
        if step in ("write", "torn"):
            number += 1
            text = f"line {number}" + ("\n" if step == "write" else "|")
            log.write(text)
            written += text
        elif step == "read":
            got += b"".join(item.data for item in one.read() if isinstance(item, LogChunk))
        elif step == "rename" and log.path.exists():
            got += b"".join(item.data for item in one.read() if isinstance(item, LogChunk))
            log.rename()
        elif step == "new":
            log.reopen()
        elif step == "truncate" and log.path.exists():
            catch_up()
            log.truncate()
    catch_up()
    one.close()
    os.close(log.fd)
    assert got.decode() == written


def pipe() -> tuple[int, int]:
    return os.pipe()


def test_a_pipe_is_read_as_it_fills_and_its_end_is_a_state():
    read, write = pipe()
    one = StreamFollower(read, monotonic=lambda: 5.0, wait_s=0.0)
    assert one.read() == []
    os.write(write, b"a\nb")
    assert one.read() == [LogChunk(b"a\nb", 0, 0, 5.0)]
    os.write(write, b"c\n")
    os.close(write)
    chunk, ended = one.read()
    assert chunk == LogChunk(b"c\n", 3, 0, 5.0)
    assert isinstance(ended, LogBreak)
    assert (ended.reason, ended.closes) == ("ended", True)
    assert ended.detail == "standard input ended after 5 bytes"
    assert (one.ended, one.offset, one.pause_s) == (True, 5, 1.0)
    assert one.read() == []
    os.close(read)


def test_a_pipe_turn_is_bounded():
    read, write = pipe()
    one = StreamFollower(read, wait_s=0.0, turn_bytes=4)
    os.write(write, b"0123456789")
    assert (turn(one), one.more) == ([b"0123"], True)
    assert (turn(one), one.more) == ([b"4567"], True)
    assert (turn(one), one.more) == ([b"89"], False)
    os.close(write)
    os.close(read)


def test_a_stopped_stream_is_not_waited_for():
    read, write = pipe()
    stop = Event()
    stop.set()
    assert StreamFollower(read, stop=stop, wait_s=3600.0).read() == []
    os.close(write)
    os.close(read)


def test_the_pipe_is_left_as_blocking_as_it_was():
    read, write = pipe()
    StreamFollower(read, wait_s=0.0).read()
    assert os.get_blocking(read)
    os.close(write)
    os.close(read)


def test_a_file_as_standard_input_ends(tmp_path: Path):
    path = tmp_path / "ds4.log"
    path.write_text("a\nb\n")
    fd = os.open(path, os.O_RDONLY)
    one = StreamFollower(fd, wait_s=0.0)
    assert turn(one) == [b"a\nb\n", ("ended", 0)]
    os.close(fd)


def test_a_terminal_as_standard_input_is_refused():
    leader, terminal = pty.openpty()
    try:
        with pytest.raises(SourceFault, match=r"standard input is a terminal; pipe the log"):
            StreamFollower(terminal)
    finally:
        os.close(leader)
        os.close(terminal)
