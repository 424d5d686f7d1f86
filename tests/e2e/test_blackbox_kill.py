"""A writer of the black box is killed at any moment: what it flushed is there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ds4top.archive.blackbox import BlackBox
from ds4top.archive.blackbox_read import read_box
from ds4top.core.boxrecord import SLOTS

ROOT = Path(__file__).parents[2]
WRITER = """
import sys, time
from pathlib import Path
from ds4top.archive.blackbox import BlackBox
from ds4top.core.boxrecord import BoxRecord
box = BlackBox.open(Path(sys.argv[1]), "boot", now=0.0)
number, told, pace_s = int(sys.argv[2]), 0, float(sys.argv[3])
while not box.problem:
    number += 1
    # The ring's own clock, not the real one: flushes come as fast as the disk takes them.
    record = BoxRecord(1e9 + number * pace_s, number * pace_s, headroom_bytes=number)
    box.add(record, number * pace_s, urgent=number % 40 > 10)
    if box.flushed != told:
        told = box.flushed
        print(told, number, flush=True)
print(box.problem, file=sys.stderr)
"""


def killed_writer(path: Path, first: int, pace_s: float, rng: random.Random) -> tuple[int, int]:
    """The last flush that a writer told of before it was killed: sequence, and its own number."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(pace_s)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        bufsize=0,
    )  # fmt: skip
    try:
        assert writer.stdout is not None
        for _ in range(rng.randrange(1, 200)):
            line = writer.stdout.readline()
            assert line, "the writer ended by itself"
        # A moment somewhere between two flushes: a bit of work, not a wait.
        sum(range(rng.randrange(50_000)))
        writer.kill()
        out, err = writer.communicate(timeout=60)
    finally:
        writer.kill()
        writer.wait()
    assert writer.returncode == -signal.SIGKILL, err.decode()
    # All that the pipe holds was printed after its flush had returned; a torn line is left out.
    told = (line + out).decode()
    sequence, number = told[: told.rindex("\n")].splitlines()[-1].split()
    return int(sequence), int(number)


@pytest.mark.parametrize("seed", range(6))
def test_every_record_whose_flush_returned_is_found_after_a_kill(tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / "box"
    pace_s = rng.choice((0.1, 0.2, 0.5))
    sequence, number = killed_writer(path, 0, pace_s, rng)
    found = read_box(path)
    assert not found.owned
    assert not found.past.closed
    kept = [record.headroom_bytes for record in found.past.records]
    oldest = max(1, kept[-1] - int(600 / pace_s) + 1, kept[-1] - SLOTS + 1)
    assert sequence == number
    # Records that were written and not flushed yet may follow; none is missing before.
    flushed = [each for each in kept if oldest <= each <= number]
    assert flushed == list(range(oldest, number + 1))
    assert kept == sorted(set(kept))


def test_a_second_life_goes_on_behind_the_first(tmp_path):
    path = tmp_path / "box"
    rng = random.Random(99)
    first, _ = killed_writer(path, 0, 0.2, rng)
    second, number = killed_writer(path, 100_000, 0.2, rng)
    assert second > first
    past = read_box(path).past
    assert past.last_run == 2
    kept = [record.headroom_bytes for record in past.records]
    assert number in kept
    assert min(kept) > 100_000


def test_the_next_one_takes_the_ring_of_a_killed_one(tmp_path):
    path = tmp_path / "box"
    sequence, _ = killed_writer(path, 0, 0.5, random.Random(7))
    box = BlackBox.open(path, "boot")
    assert box.problem == ""
    assert box.past is not None
    assert not box.past.closed
    assert box.past.last_seq >= sequence
    box.close(0.0, 0.0, 0.0)
    assert read_box(path).past.closed
