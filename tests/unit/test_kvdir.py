"""The source of the KV directory: what is read, what is not, and what is in the way."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ds4top.core.kvfile import (
    AUGUST_2026,
    MAY_2026,
    Filesystem,
    KvDirSample,
    KvEntry,
    Refusal,
)
from ds4top.sources import kvdir
from ds4top.sources.base import Clock, SourceFault
from ds4top.sources.kvdir import COMPARE_S, KvDirectory
from tests.unit.kv_tools import NOW_S, head, key, listing, recorded_head, refused, write

LATER_S = 4e9
"""A wall clock far from any file's own times, so that a directory counts as settled."""
CLOCK = Clock(wall=lambda: LATER_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "kv"
    path.mkdir()
    return path


def opened(path: Path, **options: Any) -> KvDirectory:
    source = KvDirectory(path, **({"clock": CLOCK, "slice_s": 600.0} | options))
    source.open()
    return source


def look(source: KvDirectory, now: float = 0.0) -> KvDirSample:
    (sample,) = source.read(now)
    return sample


def by_key(sample: KvDirSample) -> dict[str, KvEntry]:
    return {entry.key: entry for entry in sample.entries}


def test_a_recorded_directory(folder: Path) -> None:
    for file in listing("h200-copy", "end"):
        path = folder / file["file"]
        path.write_bytes(recorded_head(file))
        os.truncate(path, file["size"])
    sample = look(opened(folder, budget_bytes=1 << 30), 5.0)
    assert (sample.t, sample.wall, sample.path) == (5.0, LATER_S, str(folder))
    assert len(sample.entries) == 6
    assert sample.used_bytes == 1_072_237_337
    assert sample.budget_bytes == 1_073_741_824
    assert sample.refused == ((Refusal.FOREIGN, 1, 17), (Refusal.TORN, 1, 103_991_057))
    assert sample.foreign_bytes == 103_991_074
    assert refused(sample, Refusal.TEMPORARY) == 0
    assert sample.headers_read == 7
    assert not sample.scanning
    entry = by_key(sample)["20f34e52ad3d191e90287f417c9d03aef17c5044"]
    assert (entry.tokens, entry.hits, entry.text_bytes) == (12_288, 1, 55_607)
    assert {one.name for one in sample.examples} >= {"notes.txt"}


def test_ten_thousand_entries_are_scanned_once_and_then_only_what_changed(folder: Path) -> None:
    for number in range(10_000):
        write(folder, number, head(600 + number))
    source = opened(folder)
    sample = look(source)
    assert (len(sample.entries), sample.headers_read) == (10_000, 10_000)
    assert look(source, 1.0).entries is sample.entries

    write(folder, "new", head(77))
    (folder / f"{key(5)}.kv").unlink()
    os.replace(write(folder, "other", head(88)), folder / f"{key(6)}.kv")
    sample = look(source, 2.0)
    assert sample.headers_read == 10_002
    assert len(sample.entries) == 10_000
    found = by_key(sample)
    assert (found[key("new")].tokens, found[key(6)].tokens) == (77, 88)
    assert key(5) not in found

    # Nothing is read for a look at every stat either.
    assert look(source, 2.0 + COMPARE_S).headers_read == 10_002


def test_a_big_directory_takes_several_turns(folder: Path) -> None:
    for number in range(100):
        write(folder, number, head(600 + number))
    ticks = count()
    source = opened(folder, slice_s=0.2, clock=Clock(lambda: next(ticks) * 0.01, lambda: LATER_S))
    assert source.interval_s == 1.0
    sample = look(source)
    assert (sample.scanning, sample.entries) == (True, ())
    assert 0 < sample.headers_read < 100
    assert source.interval_s == 0.2
    turns = 1
    while sample.scanning:
        sample, turns = look(source, float(turns)), turns + 1
    assert (len(sample.entries), sample.headers_read) == (100, 100)
    assert 4 <= turns <= 8
    assert source.interval_s == 1.0
    assert sample.scan_s == pytest.approx(1.0, rel=0.5)

    # While another scan is under way the last whole picture stays.
    write(folder, "new", head(77))
    during = look(source, 100.0)
    assert (during.scanning, during.entries) == (True, sample.entries)


def test_a_hit_named_in_the_log_is_read_again(folder: Path) -> None:
    path = write(folder, 1, head(2_048, hits=0))
    write(folder, 2, head(4_096))
    source = opened(folder)
    assert look(source).headers_read == 2
    rewritten = head(2_048, hits=1, used=NOW_S + 60)
    with path.open("r+b") as file:
        file.write(rewritten)
    assert by_key(look(source, 1.0))[key(1)].hits == 0
    for name in (str(path), path.name, "/var/cache/gone.kv", "../../etc/passwd", ""):
        source.note_hit(name)
    sample = look(source, 2.0)
    assert sample.headers_read == 3
    entry = by_key(sample)[key(1)]
    assert (entry.hits, entry.last_used_at) == (1, NOW_S + 60)


def test_a_hit_that_no_log_names_is_seen_within_a_minute(folder: Path) -> None:
    path = write(folder, 1, head(2_048))
    source = opened(folder)
    look(source)
    with path.open("r+b") as file:
        file.write(head(2_048, hits=3))
    os.utime(path, ns=(1, 1))
    assert by_key(look(source, COMPARE_S - 1))[key(1)].hits == 0
    assert by_key(look(source, COMPARE_S))[key(1)].hits == 3


def test_a_hit_during_a_scan_is_not_lost(folder: Path) -> None:
    path = write(folder, 1, head(2_048))
    ticks = count()
    source = opened(folder, slice_s=0.0, clock=Clock(lambda: float(next(ticks)), lambda: LATER_S))
    assert look(source).scanning
    state = path.stat()
    with path.open("r+b") as file:
        file.write(head(2_048, hits=1))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    source.note_hit(path.name)
    sample = look(source, 1.0)
    assert not sample.scanning
    assert by_key(sample)[key(1)].hits == 1


def test_a_directory_that_changed_just_now_is_looked_at_again(folder: Path) -> None:
    """Two changes within one time stamp: the second does not show in the directory's time."""
    wall = folder.stat().st_mtime + 0.01
    source = opened(folder, clock=Clock(wall=lambda: wall))
    state = folder.stat()
    assert look(source).entries == ()
    write(folder, 1, head())
    os.utime(folder, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert len(look(source, 1.0).entries) == 1


def test_hostile_files_are_counted_constructed(folder: Path) -> None:
    write(folder, "good", head())
    os.mkfifo(folder / f"{key('fifo')}.kv")
    (folder / f"{key('directory')}.kv").mkdir()
    (folder / f"{key('link')}.kv").symlink_to(folder / f"{key('good')}.kv")
    (folder / f"{key('loop')}.kv").symlink_to(f"{key('loop')}.kv")
    (folder / f"{key('passwd')}.kv").symlink_to("/etc/passwd")
    (folder / f"{key('empty')}.kv").write_bytes(b"")
    write(folder, "short", head()[:20], 20)
    write(folder, "gguf", head(magic=b"GGU"))
    write(folder, "v2", head(version=2))
    write(folder, "giant", head(2**32 - 1, payload=2**64 - 1, text=2**32 - 1), 52)
    write(folder, "many", head(2**32 - 1, hits=2**32 - 1, payload=0, text=0))
    (folder / f"{key('x')}.kv.tmp.4711").write_bytes(b"0123456789")
    (folder / ("x" * 255)).write_bytes(b"12345")
    (folder / "notes.txt").symlink_to("/dev/zero")
    (folder / os.fsdecode(b"bad\xff\x1b[31mname")).write_bytes(b"")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind(str(folder / "socket"))
        except OSError:  # A path longer than a socket's may be.
            (folder / "socket").write_bytes(b"")
        sample = look(opened(folder))
    assert sorted(entry.key for entry in sample.entries) == sorted([key("good"), key("many")])
    assert refused(sample, Refusal.SPECIAL) == 5
    assert refused(sample, Refusal.TORN) == 3
    assert refused(sample, Refusal.MAGIC) == refused(sample, Refusal.VERSION) == 1
    assert (refused(sample, Refusal.TEMPORARY), refused(sample, Refusal.FOREIGN)) == (1, 5)
    tmp = next(one for one in sample.refused if one[0] is Refusal.TEMPORARY)
    assert tmp == (Refusal.TEMPORARY, 1, 10)
    assert all(len(one.name) <= 80 for one in sample.examples)
    for one in sample.examples:
        one.name.encode()


def test_no_text_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / f"{key(1)}.kv"
    text = b"the conversation"
    path.write_bytes(head(1, payload=0, text=len(text)) + text)
    asked: list[int] = []
    real = os.read

    def watched(fd: int, size: int) -> bytes:
        asked.append(size)
        return real(fd, size)

    monkeypatch.setattr(kvdir.os, "read", watched)
    assert len(look(opened(folder)).entries) == 1
    assert asked == [52]


Opener = Callable[..., int]


@pytest.fixture
def on_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], None]], None]]:
    """Does something just before a file of the directory is opened."""

    def install(action: Callable[[str], None]) -> None:
        real = os.open

        def opener(path: Any, flags: int, *rest: Any, dir_fd: int | None = None) -> int:
            if dir_fd is not None:
                assert flags & os.O_NOFOLLOW
                assert flags & os.O_NONBLOCK
                assert flags & os.O_ACCMODE == os.O_RDONLY
                action(str(path))
            return real(path, flags, *rest, dir_fd=dir_fd)

        monkeypatch.setattr(kvdir.os, "open", opener)

    yield install
    monkeypatch.undo()


def test_files_that_vanish_between_the_listing_and_the_opening(
    folder: Path, on_open: Callable[[Callable[[str], None]], None]
) -> None:
    for number in range(6):
        write(folder, number, head())
    gone = {f"{key(number)}.kv" for number in (0, 1, 2)}

    def vanish(name: str) -> None:
        if name in gone:
            (folder / name).unlink()

    on_open(vanish)
    sample = look(opened(folder))
    assert {entry.key for entry in sample.entries} == {key(number) for number in (3, 4, 5)}
    assert sample.refused == ()


def test_a_file_that_becomes_something_else_before_it_is_opened(
    folder: Path, on_open: Callable[[Callable[[str], None]], None]
) -> None:
    for number in range(2):
        write(folder, number, head())

    def become(name: str) -> None:
        (folder / name).unlink()
        if name == f"{key(0)}.kv":
            os.mkfifo(folder / name)
        else:
            (folder / name).symlink_to("/etc/passwd")

    on_open(become)
    sample = look(opened(folder))
    assert sample.entries == ()
    assert refused(sample, Refusal.SPECIAL) == 1
    assert refused(sample, Refusal.DENIED) == 1


def test_files_that_may_not_be_read_are_counted_and_tried_again(
    folder: Path, on_open: Callable[[Callable[[str], None]], None]
) -> None:
    write(folder, 1, head())
    denied = [True]

    def deny(name: str) -> None:
        if denied[0]:
            raise PermissionError(13, "Permission denied", name)

    on_open(deny)
    source = opened(folder)
    sample = look(source)
    size = (folder / f"{key(1)}.kv").stat().st_size
    assert sample.refused == ((Refusal.DENIED, 1, size),)
    assert sample.examples[0].detail == "Permission denied"
    denied[0] = False
    assert len(look(source, COMPARE_S).entries) == 1


def test_old_abi_by_the_build_constructed(folder: Path) -> None:
    write(folder, "old", head(2_048, abi=0, created=NOW_S - 10))
    write(folder, "new", head(4_096, abi=2, created=NOW_S))
    source = opened(folder)
    sample = look(source)
    assert (sample.build, sample.build_inferred) == (AUGUST_2026, True)
    assert [entry.key for entry in sample.entries] == [key("new")]
    assert [entry.tokens for entry in sample.old_abi] == [2_048]
    assert refused(sample, Refusal.OLD_ABI) == 1
    assert sample.foreign_bytes == sample.old_abi[0].file_bytes
    assert refused(sample, Refusal.FOREIGN, Refusal.MAGIC, Refusal.SPECIAL) == 0

    source.configure(budget_bytes=4 << 30, build=MAY_2026)
    sample = look(source, 1.0)
    assert (sample.build, sample.build_inferred) == (MAY_2026, False)
    assert (len(sample.entries), sample.foreign_bytes) == (2, 0)
    assert refused(sample, Refusal.OLD_ABI) == 0
    assert (sample.budget_bytes, sample.headers_read) == (4 << 30, 2)


def test_disk_and_filesystem(folder: Path, tmp_path: Path) -> None:
    mounts = tmp_path / "self" / "mounts"
    mounts.parent.mkdir()
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nnas:/kv {tmp_path} nfs4 rw 0 0\n")
    sample = look(opened(folder, proc=tmp_path))
    disk = os.statvfs(folder)
    assert sample.disk_total_bytes == disk.f_blocks * disk.f_frsize
    assert sample.disk_free_bytes is not None
    assert 0 <= sample.disk_free_bytes <= sample.disk_total_bytes
    assert sample.filesystem == Filesystem("network", "nfs4", str(tmp_path), "nas:/kv")
    assert look(opened(folder, proc=tmp_path / "none")).filesystem is None


def test_the_directory_goes_and_comes_back(folder: Path) -> None:
    write(folder, 1, head())
    source = opened(folder)
    assert len(look(source).entries) == 1
    shutil.rmtree(folder)
    with pytest.raises(SourceFault) as caught:
        source.read(1.0)
    assert caught.value.kind == "not_found"
    assert caught.value.message == (
        f"{folder} is not there; it is made when a server with --kv-disk-dir starts"
    )
    folder.mkdir()
    write(folder, 2, head())
    assert [entry.key for entry in look(source, 2.0).entries] == [key(2)]


def test_what_is_no_directory_or_not_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "file"
    file.write_bytes(b"")
    with pytest.raises(SourceFault) as caught:
        opened(file).read(0.0)
    assert (caught.value.kind, caught.value.message) == ("error", f"{file}: Not a directory")

    def deny(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kvdir.os, "stat", deny)
    with pytest.raises(SourceFault) as caught:
        opened(folder).read(0.0)
    assert caught.value.kind == "permission"
    assert "run ds4top as the server's user" in caught.value.message


def open_in(folder: Path) -> list[str]:
    """What this process has open in a directory, and the directory itself."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [target for target in found if target.startswith(str(folder))]


def test_nothing_stays_open(folder: Path) -> None:
    for number in range(50):
        write(folder, number, head())
    ticks = count()
    source = opened(folder, slice_s=0.0, clock=Clock(lambda: float(next(ticks)), lambda: LATER_S))
    assert look(source).scanning
    assert set(open_in(folder)) == {str(folder)}
    source.close()
    assert open_in(folder) == []
    source.open()
    sample = look(source)
    while sample.scanning:
        sample = look(source)
    assert len(sample.entries) == 50
    assert open_in(folder) == []


def test_what_is_beyond_the_bound_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvdir, "MOST_FILES", 10)
    for number in range(13):
        write(folder, number, head())
    sample = look(opened(folder))
    assert (len(sample.entries), sample.unread_files, sample.headers_read) == (10, 3, 10)
