"""The source of memory: what it reads, how often, and what it makes of a kernel that has less."""

from __future__ import annotations

import random
from pathlib import Path
from threading import Event

import pytest

from ds4top.core.memory import GIB
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault
from ds4top.sources.host import FAST_S, STEADY_S, HostMemory
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.supervisor import Runner, default_route

KB_OF_GIB = 1 << 20


def meminfo(available_gib: float) -> str:
    """A text with so much available."""
    kb = int(available_gib * KB_OF_GIB)
    return f"MemTotal: {122 * KB_OF_GIB} kB\nMemFree: 100 kB\nMemAvailable: {kb} kB\n"


def test_it_reads_a_tree(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 50 kB\nMemAvailable: 70 kB\n")
    (tmp_path / "vmstat").write_text("oom_kill 3\npswpin 1\n")
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text("some avg10=1.50 total=8\nfull avg10=0.5\n")
    (tmp_path / "buddyinfo").write_text("Node 0, zone Normal 0 0 0 0 0 0 0 0 0 7 1\n")
    source = HostMemory(tmp_path, clock=Clock(wall=lambda: 77.0))
    source.open()
    found = source.read(5.0)[0]
    source.close()
    assert (found.t, found.wall, found.total_bytes, found.available_bytes) == (
        5.0, 77.0, 102_400, 71_680,
    )  # fmt: skip
    assert (found.oom_kills, found.swap_in_pages, found.swap_out_pages) == (3, 1, None)
    assert (found.psi_some_pct, found.psi_full_pct) == (1.5, 0.5)
    assert found.blocks is not None


def test_a_kernel_that_has_less_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 50 kB\n")
    (tmp_path / "pressure").mkdir()
    # Opens, and refuses to be read, like a kernel without pressure accounting.
    (tmp_path / "pressure" / "memory").mkdir()
    source = HostMemory(tmp_path)
    source.open()
    found = source.read(5.0)[0]
    source.close()
    assert (found.available_bytes, found.oom_kills, found.psi_full_pct) == (None, None, None)
    assert found.blocks is None


def test_a_meminfo_that_makes_no_sense_is_a_fault_and_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("nonsense\n")
    source = HostMemory(tmp_path)
    source.open()
    with pytest.raises(SourceFault, match="no MemTotal") as caught:
        source.read(6.0)
    source.close()
    assert (caught.value.kind, caught.value.reopen) == ("parse", True)
    with pytest.raises(FileNotFoundError):
        HostMemory(tmp_path / "none", clock=SYSTEM_CLOCK).open()


def test_descriptors_are_kept_and_let_go(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text(meminfo(10))
    source = HostMemory(tmp_path)
    source.open()
    file.unlink()
    assert source.read(0.0)[0].available_bytes == 10 * GIB
    source.close()
    with pytest.raises(FileNotFoundError):
        source.open()


def test_this_machine() -> None:
    source = HostMemory()
    source.open()
    found = source.read(1.0)[0]
    source.close()
    assert 0 < found.free_bytes < found.total_bytes
    assert found.available_bytes is not None
    assert found.available_bytes <= found.total_bytes


def test_it_looks_more_often_while_it_is_asked_to(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(meminfo(10))
    fast = False
    source = HostMemory(tmp_path, lambda: fast)
    source.open()
    source.read(0.0)
    assert source.interval_s == STEADY_S <= 0.5
    fast = True
    source.read(0.5)
    assert 0.1 <= source.interval_s == FAST_S <= 0.25
    fast = False
    source.read(0.7)
    assert source.interval_s == STEADY_S
    source.close()


def paced(course: list[tuple[float, float]]) -> list[float]:
    """The interval after each sample of a course of time and GiB."""
    left = 0.0
    source = HostMemory(texts=lambda name: meminfo(left) if name == "meminfo" else "")
    source.open()
    intervals = []
    for t, left in course:  # noqa: B007
        source.read(t)
        intervals.append(source.interval_s)
    return intervals


def test_it_sees_a_fall_by_itself_at_its_second_sample() -> None:
    collapse = [(0.0, 29.0), (0.5, 29.0), (1.0, 28.0), (1.2, 27.6)]
    assert paced(collapse) == [STEADY_S, STEADY_S, FAST_S, FAST_S]
    # And goes on for a while after it.
    after = [(0.0, 29.0), (0.5, 28.0), (3.0, 28.0), (5.4, 28.0), (5.6, 28.0), (6.0, 28.0)]
    assert paced(after) == [STEADY_S, FAST_S, FAST_S, FAST_S, STEADY_S, STEADY_S]


def test_what_is_slow_or_rises_is_no_fall() -> None:
    slow = [(t * 0.5, 29.0 - t * 0.1) for t in range(20)]
    rising = [(t * 0.5, 9.0 + t) for t in range(20)]
    assert set(paced(slow)) == {STEADY_S}
    assert set(paced(rising)) == {STEADY_S}
    # Twice in an instant: no fall of anything.
    assert paced([(1.0, 29.0), (1.0, 28.99)]) == [STEADY_S, STEADY_S]


def test_slow_files_are_read_every_fourth_turn_and_each_turn_while_it_matters() -> None:
    asked: list[str] = []
    fast = False

    def text(name: str) -> str:
        asked.append(name)
        return meminfo(10) if name == "meminfo" else ""

    source = HostMemory(fast=lambda: fast, texts=text)
    source.open()
    for turn in range(8):
        source.read(turn * 0.5)
    assert (asked.count("meminfo"), asked.count("vmstat"), asked.count("buddyinfo")) == (8, 2, 2)
    fast = True
    for turn in range(8, 16):
        source.read(turn * 0.5)
    assert (asked.count("meminfo"), asked.count("vmstat")) == (16, 10)


def test_every_sample_reaches_who_paints_seldom() -> None:
    """A paint every ten seconds must not make a history of one sample every ten seconds."""
    mailbox = Mailbox()
    now = 0.0
    clock = Clock(lambda: now, lambda: now, lambda: 0.0)
    source = HostMemory(texts=lambda name: meminfo(20) if name == "meminfo" else "", clock=clock)
    runner = Runner(source, mailbox, Event(), clock, random.Random(1), default_route)
    for _ in range(20):
        assert runner.turn() == STEADY_S
        now += STEADY_S
    samples = [each for each in mailbox.drain() if type(each).__name__ == "MemorySample"]
    assert [sample.t for sample in samples] == [turn * 0.5 for turn in range(20)]
