"""Histories of which the older part is packed: what comes back is what was put in."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.events import KvHit, KvStored, LiveMiss, ToolCalls
from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.shelf import BLOCK, Shelf, shelf_of
from ds4top.core.stamps import StampClock
from ds4top.core.state import REQUESTS, End, LogState, Phase, Request

DEMO = Path(__file__).parent.parent / "data" / "ds4" / "sim-short" / "server.log"
NOW = 1_795_000_000.0


def store(number: int) -> KvStored:
    return KvStored(NOW + number, number, 0, "cold", f"key{number}", 0.1 * number, 3.25)


def shelf_to(count: int, near: int = 10, dropped: int = 0) -> Shelf[KvStored]:
    shelf = shelf_of(KvStored)
    for number in range(count):
        shelf.append(store(number))
        shelf.settle(near)
    shelf.drop(dropped)
    return shelf


def request(number: int, **more: object) -> Request:
    found = Request(number, 1, "chat", 5, 2_050, 2_045, NOW + number, 512, number == 1)
    for name, value in more.items():
        setattr(found, name, value)
    return found


@given(st.integers(0, 4 * BLOCK), st.integers(0, 40), st.data())
def test_packed_or_not_it_is_a_sequence_like_a_list(count: int, near: int, data: st.DataObject):
    shelf, plain = shelf_to(count, near), [store(number) for number in range(count)]
    assert list(shelf) == plain
    assert list(reversed(shelf)) == plain[::-1]
    seen = data.draw(st.integers(0, count + 3))
    assert list(shelf.after(seen)) == plain[seen:]
    assert (len(shelf), shelf.total, bool(shelf)) == (count, count, count > 0)
    edges = st.none() | st.integers(-count - 3, count + 3)
    step = st.sampled_from([None, 1, 2, -1, -3])
    begin, end, by = data.draw(edges), data.draw(edges), data.draw(step)
    assert shelf[begin:end:by] == plain[begin:end:by]
    if count:
        at = data.draw(st.integers(-count, count - 1))
        assert shelf[at] == plain[at]
    for outside in (count, -count - 1):
        with pytest.raises(IndexError):
            shelf[outside]


@given(st.integers(0, 4 * BLOCK), st.none() | st.integers(1, 5 * BLOCK), st.booleans())
def test_the_newest_stay_though_the_shelf_goes_on(count: int, limit: int | None, first: bool):
    shelf, plain = shelf_to(count), [store(number) for number in range(count)]
    found = shelf.newest(limit, first=first)
    for number in range(count, count + 2 * BLOCK):
        shelf.append(store(number))
        shelf.settle(10)
    shelf.drop(count)
    expected = plain[-limit:] if limit else plain
    expected = expected[::-1] if first else expected
    assert list(found) == expected
    assert found[2:40] == expected[2:40]


def test_the_oldest_go_by_whole_blocks_and_are_counted() -> None:
    shelf = shelf_to(3 * BLOCK + 10)
    shelf.drop(BLOCK + 5)
    assert (len(shelf), shelf.dropped, shelf.total) == (2 * BLOCK + 10, BLOCK, 3 * BLOCK + 10)
    assert shelf[0] == store(BLOCK)
    assert list(shelf.after(0)) == list(shelf)
    assert list(shelf.after(3 * BLOCK + 8)) == [store(3 * BLOCK + 8), store(3 * BLOCK + 9)]
    shelf.drop(2 * BLOCK + 3)
    assert list(shelf) == [store(number) for number in range(3 * BLOCK + 3, 3 * BLOCK + 10)]
    shelf.drop(100)
    assert (len(shelf), shelf.dropped) == (0, 3 * BLOCK + 10)
    shelf.append(store(1))
    shelf.clear()
    assert (len(shelf), shelf.total) == (0, 3 * BLOCK + 11)


def test_what_may_still_change_is_not_packed() -> None:
    shelf: Shelf[Request] = Shelf(REQUESTS)
    running = request(3)
    for number in range(1, 3 * BLOCK):
        shelf.append(running if number == 3 else request(number, end=End.COMPLETED))
        shelf.settle(0, lambda one: not one.is_open)
    assert shelf[2] is running
    running.end = End.FAILED
    shelf.settle(0, lambda one: not one.is_open)
    assert shelf[2] is not running
    assert (shelf[2].end, shelf[2].number) == (End.FAILED, 3)


def test_a_packed_request_keeps_every_figure_but_its_timeline() -> None:
    miss = LiveMiss(NOW, True, 9_000, 2_050, 1_204, "token-mismatch", (("new", "1"),))
    hit = KvHit(NOW, 5, 900, 2, "key", 47.5, True, "/kv/file.kv")
    whole = request(
        7, responses=True, tools=True, phase=Phase.OVER, heard_at=NOW + 0.125, decode_tps=11.13,
        finish="tool_calls", end=End.ABORTED, tool_calls=2, tool_names=("read", "wríte"),
        miss=miss, hit=hit, evicted_before=True, jump_tokens=20_000, prompt_tokens=1 << 40,
        marks=array("d", (1.5, 0, 2_048, 350.25)),
    )  # fmt: skip
    assert whole.timeline == [(1.5, "prefill", 2_048, 350.25)]
    (back,) = REQUESTS.unpack(REQUESTS.pack([whole]))
    for name in Request.__slots__:
        if name != "marks":
            assert getattr(back, name) == getattr(whole, name), name
    assert (type(back.end), type(back.phase)) == (End, Phase)
    assert (type(back.miss), type(back.hit)) == (LiveMiss, KvHit)
    assert (back.ttft_s, back.marks, back.timeline) == (whole.ttft_s, None, [])


def test_events_come_back_with_their_fields() -> None:
    calls = ToolCalls(None, 1, 2, 1, 2, None, ("a", "b"), ("read_file",), (("x", "y"),))
    shelf = shelf_of(ToolCalls)
    for _ in range(BLOCK):
        shelf.append(calls)
    shelf.settle(0)
    assert shelf[5] == calls
    assert (type(shelf[5]), shelf[5] is calls) == (ToolCalls, False)


def test_a_live_state_of_many_rounds_says_what_a_whole_one_says() -> None:
    """Every history of a live state, packed long ago, against one that packs nothing."""
    data = DEMO.read_bytes() * 12
    live, whole = LogState(limit=10_000), LogState()
    for state in (live, whole):
        reducer, reader = Reducer(state), LogReader(StampClock(NOW))
        for line in data.splitlines(keepends=True):
            reducer.apply(reader.feed(line))
    assert len(live.requests) > 300
    assert len(live.stores) > BLOCK + 64
    names = [name for name in Request.__slots__ if name != "marks"]
    assert [[getattr(r, n) for n in names] for r in live.requests] == [
        [getattr(r, n) for n in names] for r in whole.requests
    ]
    for history in ("stores", "hits", "disk_hits", "evictions", "misses", "tool_lines"):
        assert list(getattr(live, history)) == list(getattr(whole, history)), history
    assert all(r.marks is not None for r in live.requests[-200:])
    assert live.requests[0].marks is None
