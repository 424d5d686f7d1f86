"""How much of a file is in page cache, by either call of the kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ds4top.sources import pagecache
from ds4top.sources.pagecache import by_mincore, cached_bytes

MIB = 1 << 20


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """8 MiB just written, and 24 of nothing after them."""
    opened = os.open(tmp_path / "model.gguf", os.O_RDWR | os.O_CREAT)
    os.write(opened, b"x" * (8 * MIB))
    os.ftruncate(opened, 32 * MIB)
    yield opened
    os.close(opened)


def refuse(code: int) -> Callable[[int], int]:
    def call(fd: int) -> int:
        raise OSError(code, os.strerror(code))

    return call


def test_what_was_just_written_is_there_and_a_hole_is_not(fd: int) -> None:
    assert cached_bytes(fd) == 8 * MIB
    assert by_mincore(fd) == 8 * MIB


def test_a_file_that_is_no_multiple_of_a_page(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x" * 5_000)
    with path.open("rb") as file:
        assert by_mincore(file.fileno()) == 5_000
    empty = tmp_path / "empty"
    empty.touch()
    with empty.open("rb") as file:
        assert by_mincore(file.fileno()) == 0


def test_a_large_file_is_looked_at_in_windows(fd: int) -> None:
    # Every fourth window of 1 MiB: two of eight hold something.
    assert by_mincore(fd, windows=8) == 8 * MIB
    assert by_mincore(fd, windows=2) == 16 * MIB


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_an_older_kernel_or_a_filter_is_answered_by_the_other_call(
    fd: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagecache, "by_cachestat", refuse(code))
    assert cached_bytes(fd) == 8 * MIB


def test_a_file_of_somebody_else_is_not_known(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """mincore would call all of it resident."""
    monkeypatch.setattr(pagecache, "by_cachestat", refuse(errno.EPERM))
    monkeypatch.setattr(pagecache, "_ours", lambda fd: False)
    with pytest.raises(PermissionError):
        cached_bytes(fd)


def test_whose_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.touch()
    owner = path.stat().st_uid
    with path.open("rb") as file:
        writable = False
        monkeypatch.setattr(os, "access", lambda name, mode: writable)
        assert pagecache._ours(file.fileno(), lambda: owner)
        assert pagecache._ours(file.fileno(), lambda: 0)
        assert not pagecache._ours(file.fileno(), lambda: owner + 1)
        writable = True
        assert pagecache._ours(file.fileno(), lambda: owner + 1)


def test_a_descriptor_that_is_none(fd: int) -> None:
    for call in (cached_bytes, by_mincore):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call(1_000_000)
