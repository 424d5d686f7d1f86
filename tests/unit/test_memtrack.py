"""Memory over time: collapses are critical, loads are not, and what is kept is bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.meminfo import MemorySample, sample_of
from ds4top.core.memory import (
    ARENAS_BYTES,
    GIB,
    Parts,
    Residency,
    ServerMemory,
    context_bytes,
    parts_of,
)
from ds4top.core.memtrack import Counter, Loading, MemoryTrack, PartsHistory, Series
from tests.unit.memory_tools import MODEL, TOTAL, copied, gib, mapped, spark

CONTEXT = context_bytes(131_072, 4096, 4352)


def on_line(corners: list[tuple[float, float]], t: float) -> float:
    """The value at ``t`` of a line through the corners."""
    for (a, x), (b, y) in pairwise(corners):
        if a <= t <= b:
            return x + (y - x) * (t - a) / (b - a)
    return corners[-1][1]


def first_critical(
    corners: list[tuple[float, float]], step_s: float, server: ServerMemory | None
) -> float | None:
    """When a track that follows the line says critical for the first time."""
    track = MemoryTrack()
    t = corners[0][0]
    while t <= corners[-1][0]:
        track.take(spark(100 + t, on_line(corners, t)), server)
        if track.level == "critical":
            return t
        t += step_s
    return None


# Collapses ------------------------------------------------------------------------------------

CITED = [(-5.0, 29.0), (0.0, 29.0), (4.0, 26.0), (7.0, 12.8), (11.0, 6.3)]
"""29.0 to 6.3 GiB in 11 s, with 13.2 GiB of it within 3 s."""
STRAIGHT = [(-5.0, 29.0), (0.0, 29.0), (11.0, 6.3)]
FASTER = [(-5.0, 29.0), (0.0, 29.0), (9.0, 2.5)]
"""29 to 2.5 GiB in 9 s."""


@pytest.mark.parametrize("step_s", [0.2, 0.5, 1.0])
@pytest.mark.parametrize(("corners", "latest"), [(CITED, 7.0), (STRAIGHT, 6.0), (FASTER, 4.0)])
def test_constructed_collapse_is_critical_before_its_end(
    corners: list[tuple[float, float]], latest: float, step_s: float
) -> None:
    at = first_critical(corners, step_s, copied())
    assert at is not None
    assert 0.0 < at <= latest < corners[-1][0]


def test_constructed_collapse_is_critical_while_nothing_is_known_of_the_server() -> None:
    """No NVML, no log: headroom is unknown, but it is no more than MemAvailable."""
    unknown = ServerMemory(Residency.UNKNOWN, MODEL)
    at = first_critical(CITED, 0.5, unknown)
    assert at is not None
    assert at <= 7.0
    assert first_critical([(0.0, 20.0), (30.0, 20.0)], 0.5, unknown) is None


def test_memavailable_may_condemn_but_not_acquit() -> None:
    track = MemoryTrack()
    for turn, left, level in ((0, 20.0, "unknown"), (1, 5.0, "unknown"), (2, 5.0, "warning"),
                              (3, 2.0, "warning"), (4, 2.0, "critical")):  # fmt: skip
        track.take(spark(turn * 30.0, left), ServerMemory(Residency.UNKNOWN, MODEL))
        assert (track.headroom, track.level) == (None, level)


# Loads ----------------------------------------------------------------------------------------


def load(
    final: float, *, readings: float, step_s: float = 0.2, gib_per_s: float = 3.5
) -> tuple[set[str], list[int], MemoryTrack]:
    """A copying load that ends at ``final`` GiB; NVML is read every ``readings`` seconds.

    Arenas and context come last, within a second, and then it listens.
    """
    track = MemoryTrack()
    levels: set[str] = set()
    projected: list[int] = []
    rest = CONTEXT + ARENAS_BYTES
    weights_s = MODEL / GIB / gib_per_s
    end_s = weights_s + 1.0

    def held_at(t: float) -> int:
        extra = min(max(t - weights_s, 0.0), 1.0) * rest
        return min(int(max(t, 0.0) * gib_per_s * GIB), MODEL) + int(extra)

    turns = int((end_s + 15) / step_s)
    for turn in range(turns):
        t = turn * step_s
        read_t = t // readings * readings
        done = t > end_s + 0.5
        loading = None if done else Loading(MODEL, held_at(read_t), CONTEXT, loaded_t=read_t)
        available = final + (MODEL + rest - held_at(t)) / GIB
        track.take(spark(t, available), copied() if done else ServerMemory(), loading)
        levels.add(track.level)
        if track.projected is not None:
            projected.append(track.projected)
    return levels, projected, track


@pytest.mark.parametrize("readings", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("final", [24.1, 8.0])
def test_constructed_load_of_80_gib_alarms_nobody(final: float, readings: float) -> None:
    levels, projected, track = load(final, readings=readings)
    assert levels == {"ok"}
    assert track.headroom is not None
    assert track.headroom / GIB == pytest.approx(final, abs=0.01)
    # What the projection says is the same from the first second to the last.
    assert min(projected) / GIB == pytest.approx(final, abs=0.1)
    assert max(projected) / GIB == pytest.approx(final, abs=0.1)


def test_constructed_load_is_projected_from_its_log_alone() -> None:
    """Lines of 16 GiB, and nothing of NVML: between two of them MemAvailable tells."""
    track = MemoryTrack()
    levels = set()
    for turn in range(115):
        t = turn * 0.2
        loaded = min(t * 3.5, 80.76)
        told = gib(loaded // 16 * 16)
        track.take(spark(t, 105.0 - loaded), ServerMemory(), Loading(MODEL, told, CONTEXT))
        levels.add(track.level)
        assert track.projected is not None
        assert track.projected / GIB == pytest.approx(105.0 - 80.76 - 8.24, abs=0.8)
    assert levels == {"ok"}


def test_constructed_load_that_ends_in_the_red_is_critical_while_it_runs() -> None:
    track = MemoryTrack()
    for turn in range(10):
        loaded = turn * 0.7
        track.take(
            spark(turn / 5, 85.0 - loaded), ServerMemory(), Loading(MODEL, gib(loaded), CONTEXT)
        )
    assert track.level == "critical"
    assert track.projected is not None
    assert track.projected < 0


def test_constructed_neighbour_that_takes_memory_during_a_load_is_seen() -> None:
    """The load would end at 20 GiB; somebody else takes 16 of them, NVML reads on."""
    track = MemoryTrack()
    levels = []
    for turn in range(60):
        t = turn * 0.2
        loaded = t * 3.5
        stolen = min(max(t - 4.0, 0.0) * 4.0, 16.0)
        read_t = t // 1.0
        loading = Loading(MODEL, gib(read_t * 3.5), CONTEXT, loaded_t=read_t)
        track.take(spark(t, 109.0 - loaded - stolen), ServerMemory(), loading)
        levels.append(track.level)
    assert set(levels[:20]) == {"ok"}
    assert levels[-1] in ("warning", "critical")


def test_a_load_of_which_nothing_is_known_projects_nothing() -> None:
    track = MemoryTrack()
    track.take(spark(0.0, 53.0), ServerMemory(), Loading(MODEL, None, CONTEXT))
    assert (track.projected, track.headroom, track.level) == (None, gib(53.0), "ok")


def test_constructed_load_does_not_become_a_fall_when_it_ends() -> None:
    """The last seconds of a load fall by 3.5 GiB/s; to 9 GiB left that would be 3 s to zero."""
    levels, _, track = load(9.0, readings=1.0)
    assert levels == {"ok"}
    assert not track.falling


def test_constructed_mapped_load_alarms_nobody() -> None:
    """Weights come into page cache, looked at every 5 s, also after the server listens."""
    track = MemoryTrack()
    levels = set()
    for turn in range(400):
        t = turn * 0.25
        cached = min(1.4 * (t // 5 * 5), 80.76)
        listens = t > 20.0
        server = mapped(cached) if cached > 25 else ServerMemory(Residency.UNKNOWN, MODEL)
        loading = None if listens else Loading(MODEL, gib(4), gib(3), copies=False)
        track.take(spark(t, 109.1, Cached=gib(cached)), server, loading)
        levels.add(track.level)
        if loading is not None:
            assert track.projected == gib(109.1) - MODEL
    assert levels == {"ok"}
    assert (track.headroom or 0) / GIB == pytest.approx(28.3, abs=0.1)
    assert track.slope() == 0.0


def test_a_mapped_load_that_will_leave_nothing_is_judged_by_its_end() -> None:
    track = MemoryTrack()
    for turn in range(3):
        track.take(
            spark(float(turn), 86.0),
            ServerMemory(Residency.UNKNOWN, MODEL),
            Loading(MODEL, 0, gib(3), copies=False),
        )
    assert track.headroom == gib(86.0)
    assert track.level == "critical"


def test_while_a_copy_loads_the_cached_file_is_not_taken_off() -> None:
    track = MemoryTrack()
    track.take(spark(0.0, 60.0), mapped(50), Loading(MODEL, gib(40), CONTEXT))
    assert track.headroom == gib(60.0)


# Levels ---------------------------------------------------------------------------------------


def test_hysteresis() -> None:
    track = MemoryTrack()

    def at(t: float, left: float) -> str:
        track.take(spark(t, left), copied())
        return track.level

    assert at(0.0, 6.2) == "ok"
    assert at(0.5, 5.9) == "ok"
    assert at(1.0, 5.9) == "warning"
    # Just above the line is no way out; 1 GiB more for 5 s is.
    assert [at(1.5 + n * 0.5, 6.5) for n in range(14)] == ["warning"] * 14
    assert at(10.0, 7.1) == "warning"
    assert at(14.5, 7.1) == "warning"
    assert at(15.5, 7.1) == "ok"


def test_one_sample_below_is_no_alarm_and_two_say_which() -> None:
    track = MemoryTrack()
    levels = []
    for t, left in ((0, 7.0), (30, 2.0), (60, 7.0), (90, 5.0), (120, 2.0), (150, 2.0)):
        track.take(spark(t, left), copied())
        levels.append(track.level)
    # A warning and a critical one in a row are a warning.
    assert levels == ["ok", "ok", "ok", "ok", "warning", "critical"]


def test_critical_is_left_step_by_step() -> None:
    track = MemoryTrack()
    levels = []
    for t, left in ((0, 2.0), (30, 2.0), (60, 4.0), (64, 4.0), (66, 4.0), (70, 8.0), (76, 8.0)):
        track.take(spark(t, left), copied())
        levels.append(track.level)
    assert levels == ["critical"] * 4 + ["warning"] * 2 + ["ok"]


def test_one_look_alone_counts() -> None:
    track = MemoryTrack()
    track.take(spark(0.0, 1.0), copied())
    assert track.level == "critical"


def test_the_same_sample_is_judged_anew_when_more_is_known() -> None:
    track = MemoryTrack()
    sample = spark(5.0, 84.0, Cached=gib(81))
    track.take(sample)
    assert (track.headroom, track.level) == (gib(84.0), "ok")
    track.take(sample, mapped())
    assert track.headroom == gib(84.0) - MODEL
    assert track.level == "warning"
    assert track.recent.since(0.0) == [(5.0, gib(84.0) - MODEL)]


def test_limits_may_be_others() -> None:
    track = MemoryTrack()
    for turn in range(3):
        track.take(spark(float(turn), 1.8), copied(), ok_bytes=gib(1.5), critical_bytes=gib(0.9))
    assert track.level == "ok"


# What is kept ---------------------------------------------------------------------------------


def test_slopes_are_those_of_memavailable() -> None:
    track = MemoryTrack()
    for turn in range(41):
        t = turn * 0.5
        # Model pages come in at 1 GiB/s, an allocation takes 0.5 GiB/s.
        track.take(spark(t, 100.0 - 0.5 * t), mapped(40 + t))
    assert track.slope(2.0) == pytest.approx(-0.5 * GIB, abs=2)
    assert track.slope(10.0) == pytest.approx(-0.5 * GIB, abs=2)
    assert track.to_zero_s == pytest.approx(30.0 / 0.5, abs=0.01)
    assert track.falling
    track.take(spark(20.5, 90.0), mapped(60))
    track.take(spark(22.5, 90.0), mapped(60))
    assert not track.falling


def test_minutes_keep_the_least() -> None:
    track = MemoryTrack()
    for t, left in ((0, 20.0), (10, 18.0), (61, 19.0), (240, 21.0)):
        track.take(spark(t, left), copied())
    lows = [None if value is None else value / GIB for value in track.by_minute()]
    assert lows == [18.0, 19.0, None, None, 21.0]
    assert track.lowest() == gib(18)
    assert track.lowest(2) == gib(21)
    track.take(spark(200_000, 5.0), copied())
    assert track.by_minute() == [gib(5)]


def test_history_is_bounded_and_at_two_a_second() -> None:
    track = MemoryTrack()
    parts = parts_of(spark(0.0, 20.0), copied())
    for turn in range(200_000):
        t = turn * 0.5
        if turn >= 190_000:
            track.take(spark(t, 20.0), copied())
        if turn % 5 == 0:
            track.take_parts(1_000.0 + t, parts)
    ten_minutes = track.recent.since(99_999.5 - 600)
    assert len(ten_minutes) == 1_201
    assert len(track.recent.t) <= 1_321
    assert len(track.minutes) <= 1_440
    assert len(track.parts_recent.points()) == 120
    assert len(track.parts_day.points()) == 1_440


def test_a_day_has_1440_minutes() -> None:
    track = MemoryTrack()
    for minute in range(2_000):
        track.take(spark(minute * 60.0, 20.0 if minute != 1_990 else 10.0), copied())
    lows = track.by_minute()
    assert len(lows) == 1_440
    assert lows.index(gib(10.0)) == 1_440 - 10


def test_a_clock_that_goes_back_writes_into_the_newest_minute() -> None:
    track = MemoryTrack()
    for t, wall, left in ((0.0, 6_000.0, 20.0), (1.0, 6_060.0, 19.0), (2.0, 60.0, 15.0)):
        meminfo = {"MemTotal": TOTAL, "MemFree": 1, "MemAvailable": gib(left)}
        track.take(sample_of(t, wall, meminfo), copied())
    assert track.by_minute() == [gib(20.0), gib(15.0)]


def test_a_replay_that_goes_back_begins_anew() -> None:
    track = MemoryTrack()
    for t in (100.0, 101.0, 102.0):
        track.take(spark(t, 2.0), copied())
    assert track.level == "critical"
    track.take(spark(50.0, 20.0), copied())
    assert track.level == "ok"
    assert track.recent.since(0.0) == [(50.0, gib(20.0))]
    assert track.by_minute() == [gib(20.0)]


def test_counters_of_the_kernel() -> None:
    track = MemoryTrack()

    def counted(t: float, **fields: int) -> MemorySample:
        return sample_of(t, t, {"MemTotal": TOTAL, "MemFree": 1, "MemAvailable": gib(9)}, fields)

    for t, kills, refaults in ((0.0, 5, 100), (5.0, 5, 1_100), (10.0, 6, 2_100)):
        track.take(counted(t, oom_kill=kills, workingset_refault_file=refaults), copied())
    assert (track.oom_kills.grown, track.oom_kills.count) == (1, 1)
    assert track.oom_seen_wall == 10.0
    assert track.refaults.per_s(10.0) == pytest.approx(200.0)
    assert track.refaults.per_s(60.0) is None
    assert (track.swap_in.per_s(10.0), track.swap_in.count) == (None, None)


def test_a_counter_that_begins_anew_does_not_go_down() -> None:
    counter = Counter()
    steps = [counter.take(float(t), value) for t, value in enumerate((7, 9, 2, 5, None, 6))]
    assert steps == [0, 2, 0, 3, 0, 1]
    assert counter.count == 6


def test_who_held_what() -> None:
    history = PartsHistory(60.0, 3)
    each = [Parts(n, 0, 0, 0, 0, 0, n * 10, -n) for n in range(6)]
    for wall, parts in zip((0.0, 59.0, 60.0, 200.0, 205.0, 150.0), each, strict=True):
        history.take(wall, parts)
    # The last of each minute; a minute without one is a gap; a clock that went back is the newest.
    assert history.points() == [(60.0, each[2]), (180.0, each[5])]
    assert history.points()[1][1].unaccounted == -5


def test_a_value_between_two_points() -> None:
    series = Series(600.0)
    assert series.at(1.0) is None
    for t, value in ((0.0, 100), (10.0, 200), (20.0, 100)):
        series.add(t, value)
    assert [series.at(t) for t in (-5.0, 0.0, 5.0, 10.0, 12.5, 99.0)] == [
        100,
        100,
        150,
        200,
        175,
        100,
    ]


@given(
    st.lists(st.tuples(st.floats(0.01, 5.0), st.integers(-(10**12), 10**12)), max_size=60),
    st.sampled_from([2.0, 10.0]),
)
def test_a_slope_lies_between_the_steps(steps: list[tuple[float, int]], window: float) -> None:
    series = Series(600.0)
    t = 0.0
    for step, value in steps:
        t += step
        series.add(t, value)
    slope = series.slope(window)
    if slope is None:
        return
    each = [(y - x) / (b - a) for (a, x), (b, y) in pairwise(series.since(t - window - 1e-6))]
    assert min(each) - 1 <= slope <= max(each) + 1


@given(st.lists(st.none() | st.floats(0.0, 120.0), min_size=1, max_size=40), st.booleans())
def test_any_course_keeps_a_level_that_its_headroom_allows(
    course: list[float | None], loading: bool
) -> None:
    track = MemoryTrack()
    for turn, left in enumerate(course):
        meminfo = {"MemTotal": TOTAL, "MemFree": 1}
        if left is not None:
            meminfo["MemAvailable"] = gib(left)
        load_now = Loading(MODEL, gib(10), CONTEXT) if loading else None
        track.take(sample_of(turn * 0.5, turn * 0.5, meminfo), copied(), load_now)
        if left is None:
            assert (track.headroom, track.level) == (None, "unknown")
        elif turn and course[turn - 1] is not None and max(left, course[turn - 1] or 0) < 2.4:
            assert track.level == "critical"
