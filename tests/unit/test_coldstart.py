"""A start that goes on: bytes, rate, its end, and what the last ones took."""

from __future__ import annotations

import pytest

from ds4top.core.coldstart import AT_THE_MEAN, AT_THIS_RATE, BY_LAST, ColdStart, cold_start
from ds4top.core.gpu import GpuProcess, GpuSample
from ds4top.core.kept import Kept, PastStart, start_s
from ds4top.core.loadtrack import BY_CACHE, BY_IO, BY_LOG, BY_NVML, BY_RSS, LoadTrack
from ds4top.core.machine import Machine
from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import GIB
from ds4top.core.model import Model
from ds4top.core.plan import Target
from ds4top.core.process import ServerProcess
from ds4top.core.standing import standing
from ds4top.core.state import Life
from ds4top.reach.status import load_words
from ds4top.view.coldstart import compact_start, last_words, start_rows
from ds4top.view.look import Look
from ds4top.view.memview import memory_view
from ds4top.view.rates import RateBook
from ds4top.view.status import LINE_CELLS, document, line
from ds4top.view.text import ASCII, row_text
from ds4top.view.today import TodayBook
from tests.unit.keep_tools import BEGUN, WEIGHTS, log_of, vitals

INIT = b"ds4: CUDA backend initialized on NVIDIA GB10 (sm_121)\n"
COPY = INIT + b"ds4: CUDA loading model tensors into device cache\n"
MAPPED = INIT + b"ds4: CUDA registered 80.76 GiB model mapping for device access\n"
TARGET = Target(7, 1, "b", "ds4-server")


class Box:
    """A Spark whose server loads; time in seconds since its process began."""

    def __init__(self, log: bytes, kept: Kept | None = None) -> None:
        self.model = Model(log_of(log, BEGUN), BEGUN, Machine())
        if kept is not None:
            self.model.kept = kept
        server = ServerProcess(TARGET, BEGUN, "ds4", 0, "u", model_bytes=WEIGHTS, model_path="/m")
        self.model.machine.seen((server,), server)

    def look(self, at_s: float, held: int | None = None, **sizes: int | None) -> None:
        """One sample of each source at a time."""
        model, wall = self.model, BEGUN + at_s
        model.now = wall
        if held is not None:
            process = GpuProcess(7, held, "ds4-server")
            sample = GpuSample(0, at_s, wall, unified=True, processes=(process,))
            model.machine.take_gpu(sample, 0, decoding=False)
        if sizes:
            model.machine.take_vitals(vitals(at_s, **sizes))
        memory = MemorySample(at_s, wall, 120 * GIB, GIB, 100 * GIB)
        model.machine.take_memory(memory, model.log, standing(model).state)

    def start(self) -> ColdStart:
        found = cold_start(self.model, standing(self.model))
        assert found is not None
        return found

    def texts(self, width: int = 58) -> list[str]:
        rows = start_rows(self.model, standing(self.model), width, Look(ASCII))
        return [row_text(row).rstrip() for row in rows]


def copying(kept: Kept | None = None) -> Box:
    """Half a minute of a copy at 1.4 GiB/s."""
    box = Box(COPY, kept)
    for second in range(31):
        box.look(float(second), held=int(1.4 * GIB * second))
    return box


def test_a_copy_is_told_by_nvml_and_ends_at_its_rate():
    start = copying().start()
    assert (start.residency, start.source, start.stage) == ("copy", BY_NVML, "loading tensors")
    assert start.done_bytes == 42 * GIB
    assert start.total_bytes == WEIGHTS
    assert start.bytes_per_s == pytest.approx(1.4 * GIB, rel=0.01)
    assert start.eta_s == pytest.approx((80.76 - 42) / 1.4, rel=0.01)
    assert start.eta_from == AT_THIS_RATE
    assert start.elapsed_s == 30.0
    assert start.share == pytest.approx(42 / 80.76, rel=0.001)


def test_mapped_weights_are_told_by_pages_not_by_the_gpu():
    box = Box(MAPPED)
    for second in range(21):
        box.look(float(second), held=GIB, file_bytes=second * 200_000_000, read_bytes=0)
    start = box.start()
    assert (start.residency, start.source) == ("mmap", BY_RSS)
    assert start.done_bytes == 4_000_000_000
    assert start.bytes_per_s == pytest.approx(200e6)
    assert start.eta_s == pytest.approx((WEIGHTS - 4e9) / 200e6)


def test_the_gpu_reads_through_the_page_cache_where_no_page_is_mapped():
    box = Box(MAPPED)
    for second in range(21):
        box.look(float(second), file_bytes=GIB // 64, model_cached_bytes=GIB * second)
    assert (box.start().source, box.start().done_bytes) == (BY_CACHE, 20 * GIB)


def test_before_the_log_tells_the_way_what_was_read_counts():
    box = Box(INIT)
    for second in range(11):
        box.look(float(second), read_bytes=GIB * second)
    start = box.start()
    assert (start.residency, start.source, start.done_bytes) == ("unknown", BY_IO, 10 * GIB)


def test_without_nvml_the_lines_of_the_log_tell_and_the_mean_is_the_rate():
    box = Box(COPY + b"ds4: CUDA loading model tensors 32.00 GiB cached\n")
    box.look(0.0)
    box.look(20.0)
    start = box.start()
    assert (start.source, start.done_bytes) == (BY_LOG, 32 * GIB)
    assert start.bytes_per_s == pytest.approx(1.6 * GIB)
    assert start.eta_s == pytest.approx(48.76 / 1.6)


def test_one_look_alone_knows_the_mean_since_the_process_began():
    box = Box(COPY + b"ds4: CUDA loading model tensors 32.00 GiB cached\n")
    # Memory is looked at before the log was read: the track has nothing yet.
    box.model.now = BEGUN + 20
    start = box.start()
    assert (start.source, start.done_bytes, start.is_mean) == (BY_LOG, 32 * GIB, True)
    assert start.bytes_per_s == pytest.approx(1.6 * GIB)
    assert start.eta_s == pytest.approx(48.76 / 1.6)
    assert start.eta_from == AT_THE_MEAN
    assert box.texts()[2] == " rate      1.60 GiB/s   by its log, the mean so far"
    box.model.now = BEGUN + 4.9
    assert (box.start().done_bytes, box.start().bytes_per_s) == (32 * GIB, None)
    assert not box.start().is_mean


def test_what_lies_in_the_page_cache_may_be_of_an_earlier_life():
    box = Box(MAPPED)
    box.look(6.0, file_bytes=GIB, model_cached_bytes=60 * GIB)
    start = box.start()
    assert (start.source, start.done_bytes, start.bytes_per_s) == (BY_CACHE, 60 * GIB, None)
    assert (start.eta_s, start.is_mean) == (None, False)


def test_the_status_tells_it_as_the_screen_does():
    box = copying(Kept(starts=(PastStart("copy", 57.0, BEGUN - 90),)))
    status = standing(box.model)
    found = document(box.model, status, RateBook(), TodayBook().today(box.model, RateBook()), ())
    assert found["server"]["load"] == {
        "stage": "loading tensors",
        "loaded_bytes": 42 * GIB,
        "total_bytes": WEIGHTS,
        "loaded_from": "NVML",
        "bytes_per_s": pytest.approx(1.4 * GIB, rel=0.01),
        "rate_from": "of late",
        "eta_s": 27.7,
        "eta_from": "at this rate",
        "elapsed_s": 30.0,
    }
    assert load_words(found["server"]["load"]) == (
        "loading tensors   42.0 of 80.8 GiB by NVML   1.40 GiB/s of late"
        "   ends in 28 s at this rate"
    )
    box = Box(INIT)
    box.look(12.0)
    status = standing(box.model)
    found = document(box.model, status, RateBook(), TodayBook().today(box.model, RateBook()), ())
    load = found["server"]["load"]
    known = {name: value for name, value in load.items() if value is not None}
    assert known == {"stage": "starting", "total_bytes": WEIGHTS, "elapsed_s": 12.0}
    assert load_words(load) == "starting   80.8 GiB"


def test_nothing_is_guessed_where_nobody_tells():
    box = Box(INIT)
    box.look(12.0)
    start = box.start()
    assert (start.done_bytes, start.bytes_per_s, start.eta_s, start.share) == (None,) * 4
    assert "how much is loaded is not told" in box.texts()[1]


def test_once_all_is_in_place_the_last_such_start_tells_the_end():
    kept = Kept(starts=(PastStart("copy", 61.0, BEGUN - 90), PastStart("copy", 40.0, BEGUN - 900)))
    box = Box(COPY, kept)
    for second in range(50, 59):
        box.look(float(second), held=WEIGHTS + 5 * GIB)
    start = box.start()
    assert start.done_bytes == WEIGHTS
    assert (start.eta_s, start.eta_from) == (3.0, BY_LAST)
    box.look(62.0, held=WEIGHTS + 5 * GIB)
    assert box.start().eta_s is None


def test_another_process_begins_anew_and_a_source_stays_while_it_keeps_up():
    track = LoadTrack()
    track.take(0.0, TARGET, [(BY_LOG, None), (BY_NVML, 10 * GIB)])
    track.take(1.0, TARGET, [(BY_LOG, 11 * GIB), (BY_NVML, 10 * GIB)])
    assert (track.source, track.done_bytes) == (BY_NVML, 10 * GIB)
    track.take(2.0, TARGET, [(BY_LOG, 16 * GIB), (BY_NVML, 10 * GIB)])
    assert (track.source, track.done_bytes) == (BY_LOG, 16 * GIB)
    track.take(3.0, TARGET, [(BY_LOG, None), (BY_NVML, None)])
    assert track.done_bytes == 16 * GIB
    track.take(3.5, TARGET, [(BY_LOG, 16 * GIB), (BY_NVML, 17 * GIB)])
    assert (track.source, track.done_bytes) == (BY_NVML, 17 * GIB)
    track.take(4.0, Target(8, 2, "b", "ds4-server"), [(BY_NVML, GIB)])
    assert (track.source, track.done_bytes, track.begun_wall) == (BY_NVML, GIB, 4.0)


def test_the_panel_in_words():
    kept = Kept(starts=(PastStart("mmap", 418.0, BEGUN - 90), PastStart("copy", 57.0, BEGUN - 900)))
    texts = copying(kept).texts()
    assert texts[0].split() == ["COLD", "START", "loading", "tensors", "no-mmap"]
    assert texts[1].startswith(" weights   42.0 of 80.8 GiB ")
    assert texts[1].endswith(" 52 %")
    assert texts[2:4] == [
        " rate      1.40 GiB/s   by NVML",
        " ends in   28 s   at this rate",
    ]
    assert texts[5] == " last      no-mmap 57 s, mmap 6 m 58 s"
    assert len(texts) <= 9


@pytest.mark.parametrize(
    ("past", "speed", "expected"),
    [
        ((), 1.0, "no-mmap 57 s, mmap 6 m 58 s, a Spark's"),
        ((PastStart("copy", 49.0, 1.0),), 1.0, "no-mmap 49 s, mmap 6 m 58 s (a Spark's)"),
        ((PastStart("mmap", 300.0, 1.0),), 1.0, "no-mmap 57 s (a Spark's), mmap 5 m 00 s"),
        ((), 4.0, "no-mmap 14 s, mmap 1 m 45 s, a Spark's"),
    ],
)
def test_the_last_starts_are_this_machines_or_said_to_be_anothers(past, speed, expected):
    box = copying(Kept(starts=past))
    box.model.speed = speed
    assert last_words(box.start(), box.model) == expected


def test_every_size_has_it_and_no_other_state():
    box = copying()
    status = standing(box.model)
    small = [row_text(each) for each in compact_start(box.model, status, 60, Look(ASCII))]
    assert max(len(text) for text in small) <= 60
    assert "1.40 GiB/s   ends in 28 s   so far 30 s" in small[2]
    view = [row_text(each) for each in memory_view(box.model, status, 80, Look(ASCII))]
    assert any("COLD START" in text for text in view)
    listening = COPY + b"1124 18:00:57 ds4-server: listening on http://127.0.0.1:8000\n"
    ready = Box(listening)
    assert cold_start(ready.model, standing(ready.model)) is None
    assert start_rows(ready.model, standing(ready.model), 80, Look(ASCII)) == ()


def test_the_status_line_has_it():
    box = copying()
    text = line(box.model, standing(box.model), RateBook(), ())
    assert text.startswith("load 52% 28s no-mmap ")
    assert len(text) <= LINE_CELLS


def test_a_start_is_timed_by_its_process_where_its_lines_have_no_time():
    life = Life(1, None, True, listened=True, listening_at=BEGUN + 57)
    assert start_s(life, BEGUN) == 57.0
    assert start_s(life, None) is None
    # A life that listened before this process began was another one.
    assert start_s(life, BEGUN + 600) is None
    life.engine_at = BEGUN + 2
    assert start_s(life, BEGUN) == 55.0
    assert start_s(None, BEGUN) is None
