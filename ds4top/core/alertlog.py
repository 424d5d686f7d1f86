"""Alerts as events worth keeping: each begin, rise and end once, with the figure that proved it.

What counts as a begin or an end is the alert book's to say; it has the hysteresis. Pure: alerts
and a time in, events out; their kind is ``warning RULE``, ``critical RULE`` or ``over RULE``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ds4top.core.alerts import DAY_S, Alert
from ds4top.core.kept import PastEvent
from ds4top.core.units import fmt_duration

OVER = "over"
_RANK = {"warning": 1, "critical": 2}
_TEXT_CHARS = 200
_MOST_A_DAY = 50
"""Of one rule: an alert that comes and goes all day must not fill the store."""
_SAME_S = 60.0
"""What stands so soon after the start of ds4top and had no end in what was kept is the same one."""


@dataclass(frozen=True, slots=True)
class PastAlert:
    """One alert: its worst level, in the words and with the figure of then. Times are epoch.

    ``ended`` is ``None`` while it stands, and where nobody saw its end. ``last``: how it ended.
    """

    rule: str
    level: str
    text: str
    began: float
    ended: float | None = None
    last: str = ""


def past_alerts(events: Iterable[PastEvent]) -> tuple[PastAlert, ...]:
    """Begins, rises and ends, oldest first, as alerts; other events are left out."""
    found: list[PastAlert] = []
    standing: dict[str, int] = {}
    for event in events:
        said, _, rule = event.kind.partition(" ")
        at = standing.get(rule)
        if said == OVER and at is not None:
            found[at] = replace(found[at], ended=event.at, last=event.text)
            del standing[rule]
        elif said in _RANK and rule:
            if at is not None and _RANK[said] > _RANK[found[at].level]:
                found[at] = replace(found[at], level=said, text=event.text)
                continue
            standing[rule] = len(found)
            found.append(PastAlert(rule, said, event.text, event.at))
    return tuple(found)


def begun_before(past: Iterable[PastAlert], at: float) -> list[tuple[str, float]]:
    """Rules and begins of the alerts that were over by then: no one of them stands still."""
    return [(each.rule, each.began) for each in past if each.ended is not None and each.ended < at]


@dataclass(slots=True)
class _Told:
    """What was told of an alert that stands, and how it was at the last look."""

    level: str
    began: float
    alert: Alert


class AlertLog:
    """Compares what stands with what was told. ``recall`` once, then ``look`` at each tick."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}
        self._unended: dict[str, PastAlert] = {}
        self._begun: float | None = None

    def recall(self, past: Iterable[PastAlert]) -> None:
        """What earlier runs kept: of those without an end one may still stand."""
        self._unended = {each.rule: each for each in past if each.ended is None}

    def look(self, alerts: Iterable[Alert], now: float) -> list[PastEvent]:
        """What has begun, risen or ended since the last look at ``now`` (epoch seconds)."""
        self._begun = now if self._begun is None else self._begun
        standing = {alert.rule: alert for alert in alerts}
        found = [self._over(rule, now) for rule in self._told if rule not in standing]
        for rule in self._told.keys() - standing.keys():
            del self._told[rule]
        for rule, alert in standing.items():
            told = self._told.get(rule) or self._same(alert)
            if told is None or _RANK[alert.level] > _RANK[told.level]:
                at = alert.since if told is None else now
                if told is None and alert.times > _MOST_A_DAY:
                    continue
                found.append(_event(alert.level, alert, at, f"{alert.what}: {alert.figure}"))
            began = alert.since if told is None else told.began
            self._told[rule] = _Told(alert.level, began, alert)
        return found

    def _same(self, alert: Alert) -> _Told | None:
        """The begin that an earlier run told of this alert, which still stands."""
        past = self._unended.pop(alert.rule, None)
        if past is None or self._begun is None or alert.since > self._begun + _SAME_S:
            return None
        if alert.since - past.began > DAY_S:
            return None
        return _Told(past.level, past.began, alert)

    def _over(self, rule: str, now: float) -> PastEvent:
        told = self._told[rule]
        alert = told.alert
        how = "not known any more" if alert.stale else "over"
        after = fmt_duration(max(now - told.began, 0.0))
        return _event(OVER, alert, now, f"{alert.what}: {how} after {after}, last {alert.figure}")


def _event(said: str, alert: Alert, at: float, text: str) -> PastEvent:
    return PastEvent(at, f"{said} {alert.rule}", text[:_TEXT_CHARS])
