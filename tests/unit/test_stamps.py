"""Stamps without year and zone to seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from ds4top.core.stamps import DAY_S, StampClock, newest_year

BERLIN = ZoneInfo("Europe/Berlin")


def at(*when: int, tz: tzinfo = UTC, fold: int = 0) -> float:
    return datetime(*when, tzinfo=tz, fold=fold).timestamp()  # type: ignore[arg-type, misc]


def read(clock: StampClock, *stamps: str) -> list[float | None]:
    return [clock.at(stamp) for stamp in stamps]


@pytest.mark.parametrize(
    ("stamp", "latest", "year"),
    [
        ("1124 18:25:29", at(2026, 11, 25), 2026),
        ("1124 18:25:29", at(2026, 11, 24, 18, 25, 29), 2026),
        ("1124 18:25:29", at(2026, 11, 24, 18, 25, 28), 2025),
        ("0101 00:00:03", at(2027, 1, 1, 0, 0, 3), 2027),
        ("1231 23:58:01", at(2027, 1, 2), 2026),
        ("0229 12:00:00", at(2027, 3, 1), 2024),
        ("0230 12:00:00", at(2027, 3, 1), None),
        ("0001 12:00:00", at(2027, 3, 1), None),
    ],
)
def test_the_newest_year_that_is_not_in_the_future(
    stamp: str, latest: float, year: int | None
) -> None:
    assert newest_year(stamp, latest, UTC) == year


def test_the_year_comes_from_the_file() -> None:
    clock = StampClock(at(2026, 11, 24) + DAY_S, UTC)
    assert clock.at("1124 18:25:29") == at(2026, 11, 24, 18, 25, 29)
    assert clock.year == 2026
    assert (clock.first, clock.last) == (clock.last, at(2026, 11, 24, 18, 25, 29))
    assert clock.years_off() == 0


def test_a_given_year_wins() -> None:
    assert StampClock(at(2026, 11, 25), UTC, 2024).at("0229 00:00:01") == at(2024, 2, 29, 0, 0, 1)


def test_every_second_of_an_hour() -> None:
    clock = StampClock(at(2026, 6, 1), UTC)
    stamps = [f"0521 10:{s // 60:02}:{s % 60:02}" for s in range(3_600)]
    assert read(clock, *stamps) == [at(2026, 5, 21, 10) + s for s in range(3_600)]


def test_new_years_eve_and_a_line_of_the_old_year_behind_it() -> None:
    clock = StampClock(at(2027, 1, 2), UTC)
    assert read(
        clock, "1231 23:59:59", "0101 00:00:00", "1231 23:59:59", "0101 00:00:01", "0102 00:00:00"
    ) == [
        at(2026, 12, 31, 23, 59, 59),
        at(2027, 1, 1),
        at(2026, 12, 31, 23, 59, 59),
        at(2027, 1, 1, 0, 0, 1),
        at(2027, 1, 2),
    ]
    assert clock.years_off() == 0


def test_a_log_of_more_than_a_year_shows_it_at_its_end() -> None:
    stamps = ["0301 00:00:00", "0901 00:00:00", "0201 00:00:00", "1101 00:00:00"]
    first = StampClock(at(2026, 11, 2), UTC)
    read(first, *stamps)
    assert first.years_off() == -1
    second = StampClock(at(2026, 11, 2), UTC, 2026 + first.years_off())
    assert read(second, *stamps) == [
        at(2025, 3, 1), at(2025, 9, 1), at(2026, 2, 1), at(2026, 11, 1),
    ]  # fmt: skip
    assert second.years_off() == 0


def test_leap_day() -> None:
    clock = StampClock(at(2028, 3, 2), UTC)
    assert read(clock, "0228 23:59:59", "0229 00:00:00", "0301 00:00:00") == [
        at(2028, 2, 28, 23, 59, 59), at(2028, 2, 29), at(2028, 3, 1),
    ]  # fmt: skip


def test_the_hour_that_a_clock_shows_twice() -> None:
    clock = StampClock(at(2026, 11, 1), BERLIN)
    before = at(2026, 10, 25, 1, 59, 59, tz=BERLIN)
    assert read(
        clock, "1025 01:59:59", "1025 02:00:00", "1025 02:50:00", "1025 02:30:00",
        "1025 02:30:01", "1025 02:59:59", "1025 03:00:00",
    ) == [
        before, before + 1, before + 3_001, before + 5_401,
        before + 5_402, before + 7_200, before + 7_201,
    ]  # fmt: skip


def test_the_hour_shown_twice_with_the_same_second() -> None:
    clock = StampClock(at(2026, 11, 1), BERLIN)
    first, second, third = read(clock, "1025 02:10:00", "1025 02:59:00", "1025 02:10:00")
    assert first is not None
    assert second == first + 2_940
    assert third == first + 3_600


def test_the_hour_that_a_clock_leaves_out() -> None:
    clock = StampClock(at(2026, 5, 1), BERLIN)
    before, after = read(clock, "0329 01:59:59", "0329 03:00:00")
    assert before is not None
    assert after == before + 1


def test_a_clock_set_back_an_hour_goes_back() -> None:
    clock = StampClock(at(2026, 6, 1), UTC)
    assert read(clock, "0521 15:30:00", "0521 14:30:00", "0521 14:30:05") == [
        at(2026, 5, 21, 15, 30), at(2026, 5, 21, 14, 30), at(2026, 5, 21, 14, 30, 5),
    ]  # fmt: skip


def test_two_threads_may_swap_a_second() -> None:
    clock = StampClock(at(2026, 6, 1), UTC)
    assert read(clock, "0521 10:00:01", "0521 10:00:00", "0521 10:00:01") == [
        at(2026, 5, 21, 10, 0, 1), at(2026, 5, 21, 10), at(2026, 5, 21, 10, 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "stamp", ["0000 00:00:00", "1399 10:00:00", "0521 25:00:00", "0521 10:99:99", "0431 10:00:00"]
)
def test_what_is_no_time_is_none_and_changes_nothing(stamp: str) -> None:
    fresh = StampClock(at(2026, 6, 1), UTC)
    assert fresh.at(stamp) is None
    assert (fresh.year, fresh.first, fresh.years_off()) == (None, None, 0)
    clock = StampClock(at(2026, 6, 1), UTC)
    clock.at("0521 10:00:00")
    assert clock.at(stamp) is None
    assert clock.at("0521 10:00:01") == at(2026, 5, 21, 10, 0, 1)
    assert clock.year == 2026
