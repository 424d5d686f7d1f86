"""The Memory view: what fits, the account of ten minutes, what was killed."""

from __future__ import annotations

from datetime import UTC

import pytest

from ds4top.core.autopsy import Autopsy
from ds4top.core.gpu import GpuProcess, GpuSample
from ds4top.core.kernlines import OomKill, Xid
from ds4top.core.model import Model
from ds4top.core.standing import standing
from ds4top.core.state import LogState
from ds4top.view.look import Look
from ds4top.view.memory import trend
from ds4top.view.memview import memory_view, over_time
from ds4top.view.text import ASCII, row_text, row_width
from tests.unit.memory_tools import gib, spark
from tests.unit.test_reduce import BUFFERS, LISTENING, run
from tests.unit.test_status_view import server

NOON = 1_767_268_800.0


def model(available: float = 24.0, *, agent: bool = True, log: LogState | None = None) -> Model:
    """A server whose weights are a copy; of the fork whose prefills take memory."""
    found = Model(run(BUFFERS, LISTENING) if log is None else log, NOON, tz=UTC)
    machine = found.machine
    argv = ("ds4-server", "--no-mmap") if agent else ("ds4-server",)
    one = server(argv=argv)
    machine.seen((one,), one)
    holders = (GpuProcess(4711, gib(88.3), "ds4-server"), GpuProcess(9, gib(5), "python3"))
    gpu = GpuSample(0, 1.0, NOON, unified=True, processes=holders)
    machine.take_gpu(gpu, 0, decoding=False)
    machine.take_memory(spark(1.0, available), found.log, standing(found).state)
    return found


def said(found: Model, width: int = 120, look: Look | None = None) -> list[str]:
    rows = memory_view(found, standing(found), width, look or Look())
    return [row_text(each).rstrip() for each in rows]


def section(lines: list[str], title: str) -> list[str]:
    """The rows of a section, down to the next blank one."""
    begin = next(at for at, text in enumerate(lines) if text.startswith(f" {title}"))
    rest = lines[begin:]
    return rest[: rest.index("") if "" in rest else None]


@pytest.mark.parametrize(
    ("gib_per_h", "words"),
    [
        (0.0, "steady"),
        (-0.04, "steady"),
        (-0.1, "falling   0.1 GiB/h"),
        (36.0, "rising  36.0 GiB/h"),
        (-59.9, "falling  59.9 GiB/h"),
        (-66.0, "falling  1.1 GiB/min"),
        (90.0, "rising  1.5 GiB/min"),
        (-179.0, "falling  3.0 GiB/min"),
        (-360.0, "falling  0.10 GiB/s"),
        (-7_416.0, "falling  2.06 GiB/s"),
    ],
)
def test_a_slope_is_told_in_the_unit_of_its_pace(gib_per_h: float, words: str) -> None:
    found = model(80.0)
    step = 1.0 if abs(gib_per_h) > 180 else 5.0
    for count in range(1, 81 if step > 1 else 20):
        at = spark(1.0 + step * count, 80.0 + gib_per_h * step * count / 3_600)
        found.machine.take_memory(at, found.log, standing(found).state)
    assert trend(found.machine.memory) == words
    assert section(said(found), "HEADROOM")[0].endswith(f" GiB   {words}")
    assert section(said(found), "HEADROOM")[0].lower().count("headroom") == 1


def test_a_fast_change_that_is_over_is_told_by_the_minute() -> None:
    found = model(30.0)
    for count in range(1, 402):
        at = spark(1.0 + count, max(30.0 - 2.0 * count, 20.0))
        found.machine.take_memory(at, found.log, standing(found).state)
    assert trend(found.machine.memory) == "falling  1.5 GiB/min"


def test_what_fits_alone_and_beside_an_image_model() -> None:
    lines = section(said(model()), "WHAT FITS")
    assert lines[0] == (
        " WHAT FITS   21.5 GiB with 2.5 GiB kept back"
        "   a prefill of 100K needs 14.0 GiB (estimated)"
    )
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "LEFT 16K PREFILL 64K PREFILL 100K PREFILL LARGEST",
        "as it is 24.0 fits fits fits 100K",
        "+ image model of 12 GiB 12.0 fits does not fit does not fit 41K",
        "+ image model of 17 GiB 7.0 tight does not fit does not fit 24K",
        "+ image model of 24 GiB 0.0 does not fit does not fit does not fit none",
    ]


def test_a_build_that_allocates_at_the_start_takes_any_prefill() -> None:
    lines = section(said(model(9.0, agent=False)), "WHAT FITS")
    assert "needs nothing more (estimated)" in lines[0]
    assert lines[2].split()[-5:] == ["9.0", "fits", "fits", "fits", "100K"]


def test_what_a_prefill_took_here_is_what_the_next_one_takes() -> None:
    found = model(12.0)
    found.machine.prefills.extend([(90_000, gib(3)), (95_000, gib(4)), (99_000, gib(5))])
    assert "needs 4.0 GiB (measured)" in section(said(found), "WHAT FITS")[0]
    largest = found.machine.largest_prefill(100_000)
    assert largest is not None
    assert (largest.tokens, largest.verdict, largest.origin) == (100_000, "fits", "measured")


def test_the_largest_prefill_is_unknown_without_headroom() -> None:
    assert Model(LogState(), NOON).machine.largest_prefill(100_000) is None


def test_ten_minutes_are_bars_one_under_the_other() -> None:
    found = model()
    machine = found.machine
    for minute in range(1, 5):
        # The tenant grows by two GiB a minute.
        holders = (
            GpuProcess(4711, gib(88.3), "ds4-server"),
            GpuProcess(9, gib(5 + 2 * minute), "python3"),
        )
        gpu = GpuSample(0, 60.0 * minute, NOON, unified=True, processes=holders)
        machine.take_gpu(gpu, 0, decoding=False)
        sample = spark(60.0 * minute, 24.0 - 2 * minute)
        machine.take_memory(sample, found.log, standing(found).state)
    rows = over_time(found, 120, Look())
    texts = [row_text(each) for each in rows[2:]]
    assert [text[:11].strip() for text in texts] == [
        "now", "1 m ago", "2 m ago", "3 m ago", "4 m ago"
    ]  # fmt: skip
    assert {row_width(each) for each in rows[2:]} == {119}
    widths = [
        sum(len(span.text) for span in each if span.style == "mem-other-gpu") for each in rows[2:]
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] - widths[-1] == pytest.approx(8 / 121.7 * 107, abs=1.5)
    # Without colours the parts stand apart by their dividers.
    plain = [row_text(each) for each in over_time(found, 80, Look(charset=ASCII))[2:]]
    assert all(text.count("|") >= 3 for text in plain)


def test_a_minute_without_figures_is_said_to_be_one() -> None:
    found = model()
    for t in (1.0, 200.0):
        found.machine.take_memory(spark(t, 24.0), found.log, standing(found).state)
    texts = [row_text(each) for each in over_time(found, 100, Look())[2:]]
    assert ["no figures" in text for text in texts] == [False, True, True, False]


def test_kills_are_told_newest_first_with_what_is_known() -> None:
    found = model()
    track = found.machine.kernel
    track.take(
        [
            OomKill(
                NOON - 600, 7, "python3", "cgroup", gib(3), gib(339), "/user.slice", None, True
            ),
            OomKill(NOON - 60, 4711, "ds4-server", "kernel", asked_by="python3", by_driver=True),
            Xid(NOON - 50, 43, 4711, "text"),
        ],
        NOON,
    )
    lines = section(said(found), "OOM")
    assert lines[1:] == [
        "  01 Jan 11:59:00  ds4-server 4711  by kernel, python3 asked, in the NVIDIA driver",
        "  01 Jan 11:50:00  python3 7  by cgroup, in the NVIDIA driver, anonymous 3.0 GiB,"
        " total-vm 339 GiB, /user.slice",
        "  01 Jan 11:59:10  Xid 43 of pid 4711",
    ]


def test_the_last_end_stands_before_what_is_now() -> None:
    found = model()
    found.machine.autopsy = Autopsy.__new__(Autopsy)
    object.__setattr__(found.machine.autopsy, "lines", ("ds4-server died", "advice"))
    lines = said(found)
    assert section(lines, "THE LAST END")[1:] == ["  ds4-server died", "  advice"]
    assert lines.index(" THE LAST END") < lines.index(" WHO HOLDS IT   GiB")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_rows_fit(width: int) -> None:
    found = model()
    found.machine.take_memory(spark(61.0, 20.0), found.log, standing(found).state)
    rows = memory_view(found, standing(found), width, Look())
    fits = section([row_text(each) for each in rows], "WHAT FITS")
    assert all(len(text) <= width for text in fits)
    assert all(row_width(each) <= width for each in over_time(found, width, Look()))


def test_without_figures_the_log_is_all_there_is() -> None:
    found = Model(run(BUFFERS, LISTENING), NOON, tz=UTC)
    lines = said(found)
    assert "context buffers 1 MiB" in lines[2]
    assert lines[4] == " OOM   kills are not counted here"
    assert lines[-1].split()[-5:-3] == ["1", "MiB"]
