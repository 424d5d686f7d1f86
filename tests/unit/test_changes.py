"""What a recording leaves out: what only holds on; a replay shows the same without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ds4top.archive.changes import Changes
from ds4top.archive.record import Recorder
from ds4top.core.gpu import GpuSample
from ds4top.core.kvfile import KvDirSample
from ds4top.core.memory import GIB
from ds4top.core.serverinfo import ModelsAnswer, PropsSample, Slot, SlotsSample
from ds4top.session import replay
from ds4top.sources.base import Clock
from ds4top.sources.find import ServersSeen
from tests.unit.keep_tools import vitals
from tests.unit.kv_tools import entry
from tests.unit.test_kv_view import sample

BEGIN = 1_780_000_000.0
FREE = 100 * GIB


def directory(at_s: float, count: int = 3, **changes: object) -> KvDirSample:
    entries = tuple(entry(number) for number in range(1, count + 1))
    found = sample(entries=entries, disk_free_bytes=FREE, scan_s=0.004)
    return replace(found, t=at_s, wall=BEGIN + at_s, **changes)


HELD = [
    (directory(0.0), directory(1.0, scan_s=0.005)),
    (directory(0.0), directory(1.0, disk_free_bytes=FREE - 4096)),
    (directory(0.0), directory(1.0, scanning=True, headers_read=9)),
    (vitals(0.0), vitals(1.0)),
    (PropsSample(0.0, build="b1"), PropsSample(2.0, build="b1")),
    (SlotsSample(0.0, BEGIN, (Slot(0, False),)), SlotsSample(2.0, BEGIN + 2, (Slot(0, False),))),
]
NEEDED = [
    (directory(0.0), directory(1.0, count=4)),
    (directory(0.0), directory(1.0, entries=(entry(1), entry(2), replace(entry(3), hits=99)))),
    (directory(0.0), directory(1.0, disk_free_bytes=FREE - GIB // 10)),
    (directory(0.0), directory(1.0, disk_free_bytes=None)),
    (directory(0.0, 0, scanning=True), directory(0.1, 0, scanning=True, headers_read=9)),
    (directory(0.0, scanning=True), directory(0.1)),
    (vitals(0.0), vitals(1.0, read_bytes=1)),
    (vitals(0.0), replace(vitals(1.0), queued=1)),
    (SlotsSample(0.0, BEGIN, None, "off"), SlotsSample(2.0, BEGIN + 2, (Slot(0, True),))),
    (GpuSample(0, 0.0, BEGIN), GpuSample(0, 0.0, BEGIN)),
    (ModelsAnswer(0.0, BEGIN, "u", 200, 0.002), ModelsAnswer(2.0, BEGIN + 2, "u", 200, 0.002)),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), HELD)
def test_what_holds_on_is_not_needed_again(old: object, new: object) -> None:
    changes = Changes()
    assert [changes.needs(each) for each in (old, new, new, old)] == [True, False, False, False]


@pytest.mark.parametrize(("old", "new"), NEEDED)
def test_what_changes_or_ages_is_needed(old: object, new: object) -> None:
    changes = Changes()
    assert [changes.needs(each) for each in (old, new)] == [True, True]


def test_many_small_steps_are_not_lost() -> None:
    changes = Changes()
    free = [FREE - step * GIB // 50 for step in range(26)]
    needed = [size for size in free if changes.needs(directory(0.0, disk_free_bytes=size))]
    assert [round(size / GIB, 1) for size in needed] == [100.0, 99.9, 99.8, 99.7, 99.6, 99.5]


def test_each_kind_has_a_last_one_of_its_own() -> None:
    changes = Changes()
    first, second = vitals(0.0), directory(0.0)
    assert [changes.needs(each) for each in (first, second, first, second)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_another_server_brings_everything_anew() -> None:
    changes = Changes()
    seen = ServersSeen((), None, 0.0, BEGIN)
    told = [vitals(0.0), seen, vitals(1.0), vitals(2.0)]
    assert [changes.needs(each) for each in told] == [True, True, True, False]


def test_a_replay_shows_the_same_of_a_small_part(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "rec.jsonl"
    recorder = Recorder(str(path), {}, clock=Clock(lambda: now, lambda: BEGIN + now))
    wanted: list[KvDirSample] = []
    for second in range(61):
        now = float(second)
        wanted.append(directory(now, 400 if second < 40 else 401))
        for each in (wanted[-1], vitals(now), GpuSample(0, now, BEGIN + now)):
            recorder.record("machine", each)
    recorder.close()
    kinds = [json.loads(line)["data"]["type"] for line in path.read_text().splitlines()[1:]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "KvDirSample": 2, "Vitals": 1, "GpuSample": 61,
    }  # fmt: skip
    session = replay(str(path), fixed=True)
    session.source.open()
    machine = session.model.machine
    for second in (0, 39, 40, 60, 20):
        clock = session.replay_clock
        assert clock is not None
        clock.seek(BEGIN + second - clock.now())
        session.pump(session.source.read_to(BEGIN + second))  # type: ignore[union-attr]
        assert machine.kv is not None
        assert replace(machine.kv, t=0.0, wall=0.0) == replace(wanted[second], t=0.0, wall=0.0)
        # Its age is told by its own samples: each is there.
        assert machine.gpu is not None
        assert (machine.gpu.wall, machine.gpu.stale(BEGIN + second + 1.9)) == (
            BEGIN + second,
            False,
        )
    session.close()
