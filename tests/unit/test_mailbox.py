"""The mailbox: latest gauge wins, nothing queued is lost, a full queue makes its writer wait."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from ds4top.sources.mailbox import Mailbox


def test_only_the_latest_value_of_a_gauge_is_drained():
    box = Mailbox()
    box.set("gpu", 1)
    box.set("host", 2)
    box.set("gpu", 3)
    assert box.drain() == [2, 3]
    assert box.drain() == []


def test_queued_samples_come_first_and_in_their_order():
    box = Mailbox()
    box.set("gpu", "g")
    assert [box.put(n) for n in (1, 2, 1)] == [True, True, True]
    assert box.drain() == [1, 2, 1, "g"]


def test_a_full_queue_refuses_and_keeps_what_it_has():
    box = Mailbox(capacity=2)
    assert box.put("a")
    assert box.put("b")
    assert box.put("c") is False
    assert box.put("c", wait_s=0.001) is False
    assert box.waiting == 2
    box.set("gauge", 0)
    assert box.drain() == ["a", "b", 0]
    assert box.put("c")


def test_a_limit_leaves_the_rest_in_order():
    box = Mailbox()
    for number in range(5):
        box.put(number)
    assert box.drain(limit=2) == [0, 1]
    assert box.waiting == 3
    assert box.drain(limit=10) == [2, 3, 4]


def test_a_waiting_writer_goes_on_when_there_is_room():
    box = Mailbox(capacity=1)
    done = Event()

    def write() -> None:
        for number in range(100):
            assert box.put(number, wait_s=30)
        done.set()

    writer = Thread(target=write, daemon=True)
    writer.start()
    got: list[object] = []
    while not (done.is_set() and box.waiting == 0):
        got += box.drain()
    writer.join(30)
    assert got + box.drain() == list(range(100))


def test_a_mailbox_without_room_is_refused():
    with pytest.raises(ValueError, match="at least one sample, not 0"):
        Mailbox(capacity=0)
