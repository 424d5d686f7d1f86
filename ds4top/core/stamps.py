"""Wall-clock time for stamps that have no year and no zone.

``MMDD HH:MM:SS`` is local time with one-second steps (ds4_server.c, ``server_log``). The year is
the newest one that puts the stamp no later than the file's last change plus a day; a step from
December to January is a new year; an hour that a clock shows twice is taken in order.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

DAY_S = 86_400.0
_BACK_S = 60
_HALF_YEAR_S = 183 * DAY_S


def newest_year(stamp: str, latest: float, tz: tzinfo | None) -> int | None:
    """The newest year in which ``stamp`` (``MMDD HH:MM:SS``) is no later than ``latest``.

    ``None`` where no year makes it a date.
    """
    year = datetime.fromtimestamp(latest, tz).year + 1
    for candidate in range(year, year - 10, -1):
        at = _epoch(candidate, stamp, tz, 0)
        if at is not None and at <= latest:
            return candidate
    return None


def _epoch(year: int, stamp: str, tz: tzinfo | None, fold: int) -> float | None:
    try:
        return datetime(
            year,
            int(stamp[0:2]),
            int(stamp[2:4]),
            int(stamp[5:7]),
            int(stamp[8:10]),
            int(stamp[11:13]),
            tzinfo=tz,
            fold=fold,
        ).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


class StampClock:
    """Turns the stamps of one log, in their order, into seconds since the epoch.

    ``latest`` is the newest time a stamp can have (the file's mtime plus a day); ``tz`` ``None``
    means this machine's zone; ``year`` fixes the year of the first stamp.
    """

    __slots__ = (
        "_base",
        "_hour",
        "_second",
        "_year",
        "first",
        "last",
        "last_stamp",
        "latest",
        "tz",
    )

    def __init__(self, latest: float, tz: tzinfo | None = None, year: int | None = None) -> None:
        self.latest = latest
        self.tz = tz
        self._year = year
        self._hour = ""
        self._base = 0.0
        self._second = 0
        self.first: float | None = None
        self.last: float | None = None
        self.last_stamp = ""

    def at(self, stamp: str) -> float | None:
        """Seconds since the epoch of ``MMDD HH:MM:SS``; ``None`` where it is no time."""
        if stamp == self.last_stamp:
            return self.last
        try:
            second = int(stamp[8:10]) * 60 + int(stamp[11:13])
        except ValueError:
            return None
        if stamp[8] > "5" or stamp[11] > "5":
            return None
        if stamp[:7] != self._hour or second < self._second - _BACK_S:
            return self._enter(stamp, second)
        self._second = second
        self.last_stamp = stamp
        self.last = at = self._base + second
        return at

    def years_off(self) -> int:
        """By how many years the last stamp missed the year it must have; 0 when it is right.

        A log that spans more than a year shows this only at its end: read it again with a
        ``year`` that much earlier or later.
        """
        if not self.last_stamp or self._year is None:
            return 0
        right = newest_year(self.last_stamp, self.latest, self.tz)
        return 0 if right is None else right - self._year

    @property
    def year(self) -> int | None:
        """The year of the newest stamp."""
        return self._year

    def _enter(self, stamp: str, second: int) -> float | None:
        if self._year is None:
            self._year = newest_year(stamp, self.latest, self.tz)
        if self._year is None:
            return None
        year = self._year
        last = self.last
        at = _epoch(year, stamp, self.tz, 0)
        if last is not None:
            if at is None or at < last - _HALF_YEAR_S:
                later = _epoch(year + 1, stamp, self.tz, 0)
                if later is not None:
                    year, at = year + 1, later
            elif at > last + _HALF_YEAR_S and stamp[:2] == "12" and self.last_stamp[:2] == "01":
                earlier = _epoch(year - 1, stamp, self.tz, 0)
                if earlier is not None:
                    year, at = year - 1, earlier
        if at is None:
            return None
        if last is not None and at < last:
            again = _epoch(year, stamp, self.tz, 1)
            if again is not None and again > at:
                at = again
        self._year = year
        self._hour = stamp[:7]
        self._second = second
        self._base = at - second
        self.last_stamp = stamp
        self.last = at
        if self.first is None:
            self.first = at
        return at
