"""Turns, faults, backoff, back-pressure and the end of sources."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Event
from typing import ClassVar

import pytest

from ds4top.sources.base import Clock, SourceFault, kind_of
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.samples import SourceError, SourceOk
from ds4top.sources.supervisor import Runner, Supervisor, default_route


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu_s = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now + 1e9, lambda: self.cpu_s)


@dataclass(frozen=True)
class Reading:
    value: int


@dataclass(frozen=True)
class Line:
    queued: ClassVar[bool] = True
    text: str


class Scripted:
    """A source that plays a list: samples, or an exception to raise."""

    def __init__(self, *script: object, name: str = "s", interval_s: float = 1.0) -> None:
        self.name = name
        self.interval_s = interval_s
        self.script = list(script)
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")

    def read(self, now: float) -> Sequence[object]:
        self.calls.append("read")
        step = self.script.pop(0) if self.script else ()
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step = step()
        assert isinstance(step, tuple)
        return step

    def close(self) -> None:
        self.calls.append("close")


class Half(random.Random):
    """No jitter: always the middle."""

    def random(self) -> float:
        return 0.5


def runner(source: Scripted, hands: Hands, box: Mailbox, stop: Event | None = None) -> Runner:
    return Runner(source, box, stop or Event(), hands.clock(), Half(), default_route)


def test_a_turn_delivers_gauges_and_queued_samples_and_keeps_the_cadence():
    hands, box = Hands(), Mailbox()

    def slow() -> tuple[object, ...]:
        hands.now += 0.25
        return (Reading(2), Line("a"), Line("b"), Reading(3))

    one = runner(Scripted(slow), hands, box)
    assert one.turn() == pytest.approx(0.75)
    assert box.drain() == [Line("a"), Line("b"), SourceOk("s", 100.25), Reading(3)]
    assert (one.beat.state, one.beat.turns, one.beat.last_ok_t) == ("waiting", 1, 100.25)
    one.turn()
    assert box.drain() == []


def test_the_pause_is_ten_times_what_the_source_cost():
    hands, box = Hands(), Mailbox()

    def dear() -> tuple[object, ...]:
        hands.now += 0.5
        hands.cpu_s += 0.4
        return ()

    one = runner(Scripted(dear, interval_s=1.0), hands, box)
    assert one.turn() == pytest.approx(4.0 - 0.5)
    assert (one.beat.cost_s, one.beat.mean_cost_s) == (pytest.approx(0.4), pytest.approx(0.4))


def test_what_a_turn_costs_is_told_over_many():
    hands, costs = Hands(), iter([0.4, *[0.1] * 60])

    def read() -> tuple[object, ...]:
        hands.cpu_s += next(costs)
        return ()

    one = runner(Scripted(*[read] * 61), hands, Mailbox())
    means = []
    for _ in range(61):
        one.turn()
        means.append(one.beat.mean_cost_s)
    assert means[:3] == pytest.approx([0.4, 0.25, 0.2])
    assert means[-1] == pytest.approx(0.1, abs=0.005)
    # One odd turn of many does not show.
    assert all(abs(new - old) < 0.02 for old, new in pairwise(means[20:]))


def test_a_source_that_asks_for_the_next_turn_at_once_gets_it():
    hands, box = Hands(), Mailbox()
    assert runner(Scripted((), interval_s=0.0), hands, box).turn() == 0.0


def test_faults_back_off_doubling_to_half_a_minute_and_success_resets():
    hands, box = Hands(), Mailbox()
    source = Scripted(*[OSError(5, "Input/output error")] * 7, (), OSError("again"))
    one = runner(source, hands, box)
    pauses = [one.turn() for _ in range(7)]
    assert pauses == [0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]
    assert box.drain() == [SourceError("s", "error", "[Errno 5] Input/output error", 100.0)]
    assert (one.beat.state, one.beat.failures) == ("failing", 7)
    assert one.turn() == 1.0
    assert box.drain() == [SourceOk("s", 100.0)]
    assert one.beat.failures == 0
    assert one.turn() == 0.75
    assert source.calls.count("open") == 1


def test_jitter_takes_off_at_most_half():
    hands = Hands()
    pauses = set()
    for seed in range(50):
        one = Runner(
            Scripted(OSError("x")),
            Mailbox(),
            Event(),
            hands.clock(),
            random.Random(seed),
            default_route,
        )
        pauses.add(one.turn())
    assert min(pauses) >= 0.5
    assert max(pauses) <= 1.0
    assert len(pauses) > 40


def test_a_fault_may_ask_to_be_opened_anew():
    hands, box = Hands(), Mailbox()
    source = Scripted(SourceFault("refused", "the card is lost", reopen=True), ())
    one = runner(source, hands, box)
    one.turn()
    one.turn()
    assert source.calls == ["open", "read", "close", "open", "read"]


def test_an_open_that_fails_is_tried_again():
    hands, box = Hands(), Mailbox()

    class Shy(Scripted):
        def open(self) -> None:
            super().open()
            if len(self.calls) == 1:
                raise PermissionError(13, "Permission denied")

    source = Shy((Reading(1),))
    one = runner(source, hands, box)
    one.turn()
    assert box.drain() == [SourceError("s", "permission", "[Errno 13] Permission denied", 100.0)]
    one.turn()
    assert box.drain() == [SourceOk("s", 100.0), Reading(1)]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(), "permission"),
        (FileNotFoundError(), "not_found"),
        (ConnectionRefusedError(), "refused"),
        (TimeoutError(), "timeout"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), "parse"),
        (NotImplementedError(), "unsupported"),
        (SourceFault("not_found", "x"), "not_found"),
        (ZeroDivisionError(), "error"),
    ],
)
def test_exceptions_have_kinds(error: Exception, kind: str):
    assert kind_of(error) == kind


def test_a_message_is_one_short_line_and_never_empty():
    hands, box = Hands(), Mailbox()
    one = runner(Scripted(KeyError(), RuntimeError("a\nb " + "x" * 900)), hands, box)
    one.turn()
    assert box.drain() == [SourceError("s", "error", "KeyError", 100.0)]
    one.turn()
    (told,) = box.drain()
    assert isinstance(told, SourceError)
    assert told.message == "a b " + "x" * 396


def test_a_full_mailbox_holds_the_source_and_loses_nothing():
    """The thread blocks on the third line until somebody drains."""
    box = Mailbox(capacity=2)
    lines = tuple(Line(str(number)) for number in range(6))
    last = Event()

    def end() -> tuple[object, ...]:
        last.set()
        return ()

    source = Scripted(lines, end, interval_s=0.0)
    boss = Supervisor(box)
    boss.add(source)
    boss.start()
    got: list[object] = []
    while not last.is_set():
        got += [sample for sample in box.drain() if isinstance(sample, Line)]
    assert boss.stop(join_s=30) == ()
    got += [sample for sample in box.drain() if isinstance(sample, Line)]
    assert got == list(lines)


def test_stop_ends_a_source_that_waits_for_room():
    box = Mailbox(capacity=1)
    reading = Event()

    def flood() -> tuple[object, ...]:
        reading.set()
        return (Line("a"), Line("b"))

    source = Scripted(flood)
    boss = Supervisor(box)
    boss.add(source)
    boss.start()
    assert reading.wait(30)
    assert boss.stop(join_s=30) == ()
    assert source.calls[-1] == "close"
    assert boss.beats()["s"].state == "stopped"


def test_stop_names_the_source_that_hangs_and_does_not_wait_for_it():
    box = Mailbox()
    entered, leave = Event(), Event()

    def hang() -> tuple[object, ...]:
        entered.set()
        leave.wait(30)
        return ()

    boss = Supervisor(box)
    boss.add(Scripted(hang, name="nvml"))
    well = boss.add(Scripted(name="host", interval_s=30.0))
    boss.start()
    assert entered.wait(30)
    try:
        assert "nvml" in boss.stop(join_s=0.05)
        assert boss.beats()["nvml"].state == "reading"
    finally:
        leave.set()
    assert well.source.name == "host"


def test_two_sources_of_one_name_are_refused():
    boss = Supervisor(Mailbox())
    boss.add(Scripted())
    with pytest.raises(ValueError, match="a source named s already"):
        boss.add(Scripted())


def test_a_source_added_while_running_runs():
    box = Mailbox()
    boss = Supervisor(box)
    boss.start()
    ran = Event()

    def note() -> tuple[object, ...]:
        ran.set()
        return ()

    boss.add(Scripted(note))
    assert ran.wait(30)
    assert boss.stop(join_s=30) == ()


def test_several_samples_of_one_class_are_told_apart_by_their_key():
    @dataclass(frozen=True)
    class Card:
        gauge_key: str

    assert default_route("gpu", Card("card-0")) == "gpu/card-0"
    assert default_route("gpu", Reading(1)) == "gpu/Reading"
    assert default_route("gpu", Line("x")) is None
