"""Alerts as events: begin, rise and end once each, with figures; across runs the same one once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from ds4top.core.alert_facts import AlertFacts
from ds4top.core.alertlog import AlertLog, PastAlert, begun_before, past_alerts
from ds4top.core.alerts import Alert, AlertBook
from ds4top.core.kept import PastEvent
from ds4top.core.memory import GIB
from ds4top.core.model import Model
from ds4top.core.state import LogState
from ds4top.report.day import day_rows
from ds4top.view.alertpast import MEMORY_RULES, past_alert_rows
from ds4top.view.text import row_text

NOON = 1_767_268_800.0
LOW = Alert("headroom", "warning", "headroom", "5.2 GiB, below 6.0 GiB", "close it", NOON)
GONE = Alert("swap-in", "warning", "the machine is swapping", "2.0 MB/s read back", "", NOON)


def test_an_alert_is_told_when_it_begins_and_when_it_ends():
    log = AlertLog()
    assert log.look([], NOON - 5) == []
    assert log.look([LOW], NOON + 1) == [
        PastEvent(NOON, "warning headroom", "headroom: 5.2 GiB, below 6.0 GiB")
    ]
    later = replace(LOW, figure="5.9 GiB, below 6.0 GiB")
    assert log.look([LOW, GONE], NOON + 2) == [
        PastEvent(NOON, "warning swap-in", "the machine is swapping: 2.0 MB/s read back")
    ]
    assert log.look([later, GONE], NOON + 60) == []
    assert log.look([GONE], NOON + 148) == [
        PastEvent(
            NOON + 148, "over headroom",
            "headroom: over after 2 m 28 s, last 5.9 GiB, below 6.0 GiB",
        )
    ]  # fmt: skip
    assert log.look([GONE], NOON + 149) == []


def test_a_rise_is_told_once_and_a_fall_is_not():
    log = AlertLog()
    worse = replace(LOW, level="critical", figure="1.9 GiB, below 2.5 GiB")
    log.look([LOW], NOON)
    assert log.look([worse], NOON + 10) == [
        PastEvent(NOON + 10, "critical headroom", "headroom: 1.9 GiB, below 2.5 GiB")
    ]
    assert log.look([worse], NOON + 11) == []
    assert log.look([LOW], NOON + 12) == []
    events = log.look([], NOON + 20)
    assert [event.kind for event in events] == ["over headroom"]
    assert events[0].text.startswith("headroom: over after 20 s")


def test_what_is_not_known_any_more_is_not_said_to_be_over():
    log = AlertLog()
    log.look([LOW], NOON)
    log.look([replace(LOW, stale=True)], NOON + 30)
    (event,) = log.look([], NOON + 61)
    assert event.text == "headroom: not known any more after 1 m 01 s, last 5.2 GiB, below 6.0 GiB"


def test_the_book_has_the_hysteresis():
    book, log, events = AlertBook(), AlertLog(), []
    # About the limit, up and down each second: it entered once, and leaves by more than it entered.
    sizes = [8.0, 5.9, 5.9, 6.1, 5.9, 6.4, 5.8, 6.2, 5.9, *[7.1] * 6, 7.2]
    for second, size in enumerate(sizes):
        facts = AlertFacts(headroom_bytes=int(size * GIB))
        events += log.look(book.update(facts, NOON + second), NOON + second)
    assert [(event.kind, event.at - NOON) for event in events] == [
        ("warning headroom", 1.0), ("over headroom", 14.0),
    ]  # fmt: skip


def told(*alerts: Alert, past: tuple[PastAlert, ...], now: float) -> list[str]:
    log = AlertLog()
    log.recall(past)
    return [event.kind for event in log.look(alerts, now)]


def test_what_an_earlier_run_told_and_still_stands_is_not_told_again():
    before = PastAlert("headroom", "warning", "headroom: 5.5 GiB", NOON - 3600)
    assert told(LOW, past=(before,), now=NOON) == []
    assert told(replace(LOW, level="critical"), past=(before,), now=NOON) == ["critical headroom"]
    assert told(LOW, past=(replace(before, ended=NOON - 60),), now=NOON) == ["warning headroom"]
    assert told(LOW, past=(replace(before, began=NOON - 90_000),), now=NOON) == ["warning headroom"]
    log = AlertLog()
    log.recall((before,))
    log.look([], NOON - 100)
    assert [event.kind for event in log.look([LOW], NOON)] == ["warning headroom"]
    log = AlertLog()
    log.recall((before,))
    log.look([LOW], NOON)
    (over,) = log.look([], NOON + 10)
    assert over.text.startswith("headroom: over after 1 h 00 m")


def test_one_that_comes_and_goes_all_day_does_not_fill_the_store():
    log = AlertLog()
    assert log.look([replace(LOW, times=51)], NOON) == []
    assert log.look([], NOON + 1) == []


EVENTS = (
    PastEvent(NOON - 7200, "stop", "shutdown requested"),
    PastEvent(NOON - 3600, "warning headroom", "headroom: 5.2 GiB"),
    PastEvent(NOON - 3590, "critical headroom", "headroom: 1.9 GiB"),
    PastEvent(NOON - 3500, "warning swap-in", "the machine is swapping: 2.0 MB/s read back"),
    PastEvent(NOON - 3452, "over headroom", "headroom: over after 2 m 28 s, last 5.9 GiB"),
    PastEvent(NOON - 100, "warning headroom", "headroom: 5.8 GiB"),
)


def test_events_are_put_together_again():
    assert past_alerts(EVENTS) == (
        PastAlert("headroom", "critical", "headroom: 1.9 GiB", NOON - 3600, NOON - 3452,
                  "headroom: over after 2 m 28 s, last 5.9 GiB"),
        PastAlert("swap-in", "warning", "the machine is swapping: 2.0 MB/s read back", NOON - 3500),
        PastAlert("headroom", "warning", "headroom: 5.8 GiB", NOON - 100),
    )  # fmt: skip
    again = (EVENTS[1], replace(EVENTS[1], at=NOON - 60))
    assert [each.ended for each in past_alerts(again)] == [None, None]
    assert past_alerts(EVENTS[4:5]) == ()


def test_what_earlier_runs_saw_counts_among_the_times_of_a_day():
    past = (
        PastAlert("headroom", "warning", "", NOON - 90_000, NOON - 89_000),
        PastAlert("headroom", "critical", "", NOON - 3600, NOON - 3500),
        PastAlert("headroom", "warning", "", NOON - 600, NOON - 500),
        PastAlert("headroom", "warning", "", NOON - 200),
        PastAlert("an-old-rule", "warning", "", NOON - 300, NOON - 200),
        PastAlert("headroom", "warning", "", NOON + 1, NOON + 2),
    )
    book = AlertBook()
    book.recall(begun_before(past, NOON))
    for second in range(3):
        (alert,) = book.update(AlertFacts(headroom_bytes=5 * GIB), NOON + second) or (None,)
    assert alert is not None
    # Without the one of the day before, and the one of which nobody saw the end: it may be this.
    assert alert.times == 3
    assert alert.text.startswith("headroom: 5.0 GiB, below 6.0 GiB (3 times in 24 h); ")
    book.recall([("headroom", NOON - second) for second in range(500, 700)])
    assert book.standing(NOON + 3)[0].times == 64


def model() -> Model:
    found = Model(LogState(), NOON, tz=UTC)
    found.past_alerts = past_alerts(EVENTS)
    found.alerts = (LOW,)
    return found


def test_rows_tell_when_how_long_and_by_which_figure():
    assert [row_text(line).rstrip() for line in past_alert_rows(model(), 100)] == [
        "",
        " ALERTS   3 times, as kept",
        "  01 Jan 11:58:20  stands        warning   headroom: 5.8 GiB",
        "  01 Jan 11:01:40  end not seen  warning   the machine is swapping: 2.0 MB/s read back",
        "  01 Jan 11:00:00  for 2 m 28 s  critical  headroom: 1.9 GiB",
    ]
    last = [" ALERTS   2 times, as kept, the last 1",
            "  01 Jan 11:58:20  stands        warning   headroom: 5.8 GiB"]  # fmt: skip
    late = past_alert_rows(model(), 100, since=NOON - 3460, rules=MEMORY_RULES, most=1)
    assert [row_text(line).rstrip() for line in late][1:] == last
    newest = past_alert_rows(model(), 100, since=NOON - 50)
    assert [row_text(line).rstrip() for line in newest][1:] == [
        " ALERTS   1 time, as kept",
        last[1],
    ]
    unended = model()
    unended.alerts = ()
    assert past_alert_rows(unended, 100, since=NOON - 50) == []
    assert past_alert_rows(Model(LogState(), NOON, tz=UTC), 100) == []


def test_the_day_tells_them():
    said = [row_text(line).rstrip() for line in day_rows(model(), 100)]
    assert said[said.index(" ALERTS   3 times, as kept") - 1] == ""
    tomorrow = model()
    tomorrow.now += 86_400
    tomorrow.past_alerts = tomorrow.past_alerts[:1]
    assert not any("ALERTS" in row_text(line) for line in day_rows(tomorrow, 100))
