"""The reader over any bytes, any split, any cut and any damage."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds4top.core import events as ev
from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import End, LogState

DATA = Path(__file__).parents[1] / "data" / "ds4"
LATEST = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
LOGS = tuple((DATA / name / "server.log").read_bytes() for name in ("sim-short", "h200-copy"))
LINES = tuple(line for log in LOGS for line in log.splitlines(keepends=True))
MOST_HELD = 5 * 65_540 + 32_769 + 40 * 32_769

steady = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def read(chunks: Iterable[bytes]) -> tuple[list[ev.Event], LogReader]:
    reader = LogReader(StampClock(LATEST, UTC))
    events: list[ev.Event] = []
    for chunk in chunks:
        events += reader.feed(chunk)
        assert reader.held_chars <= MOST_HELD
    events += reader.close()
    return events, reader


def chunks(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def reduced(events: Iterable[ev.Event]) -> LogState:
    state = LogState()
    Reducer(state).apply(events)
    return state


def assert_ends_add_up(events: list[ev.Event]) -> None:
    state = reduced(events)
    starts = sum(isinstance(event, ev.PromptStart) for event in events)
    ends = {end: sum(r.end is end for r in state.requests) for end in End}
    assert sum(ends.values()) == len(state.requests) == starts
    assert ends[End.RUNNING] == len(state.open)
    assert all(r.is_open for r in state.open)


fragments = st.sampled_from(
    [
        b"0521 10:00:00 ", b"ds4-server: ", b"ds4: ", b"\n", b"\r", b"\r\n", b"\0", b"\xff",
        b"\xe2",        b"\x1b[36m", b"\x1b]", b"{", b'{"MESSAGE": "', b'"}\n', b"listening on http://h:1\n",
        b"chat ctx=0..9:9 ", b"prompt start\n", b"gen=5 finish=stop 1.000s\n", b" text_snippet: ",
        b"0521 10:00:00 ds4-server: invalid tool call returned as assistant text text_snippet: a\n",
        b"]\n", b"Usage: ds4-server [options]\n", b"2026-05-21T10:00:00Z stderr P ", b"x=y ",
        b"9999 99:99:99 ds4-server: ", b"name  | ", b"Nov 24 18:25:29 h ds4-server[1]: ",
    ]
)  # fmt: skip
anything = st.lists(st.one_of(fragments, st.binary(max_size=20)), max_size=60).map(b"".join)
cuts = st.lists(st.integers(0, 10**6), max_size=12)


@steady
@given(anything, cuts)
def test_any_bytes_in_any_split_give_the_same_events(data: bytes, where: list[int]) -> None:
    whole, reader = read([data])
    split, other = read(chunks(data, where))
    assert split == whole
    assert [type(e) for e in split] == [type(e) for e in whole]
    assert (other.lines, other.unrecognised) == (reader.lines, reader.unrecognised)
    assert reader.lines == data.count(b"\n")
    assert reader.unrecognised == sum(isinstance(e, ev.Unrecognised) for e in whole)
    assert_ends_add_up(whole)


@steady
@given(anything)
def test_any_bytes_one_at_a_time(data: bytes) -> None:
    assert read(bytes([byte]) for byte in data)[0] == read([data])[0]


@steady
@given(st.sampled_from(LOGS), cuts)
def test_a_recorded_log_in_any_split(log: bytes, where: list[int]) -> None:
    assert read(chunks(log, where))[0] == read([log])[0]


@steady
@given(st.sampled_from(LOGS), st.integers(0, 10**6))
def test_a_cut_log_gives_a_prefix_of_its_events(log: bytes, where: int) -> None:
    cut = where % (len(log) + 1)
    whole, _ = read([log])
    part, _ = read([log[:cut]])
    torn = [e for e in part if isinstance(e, ev.Unrecognised)]
    assert len(torn) <= 1
    if torn:
        assert part[-1] is torn[0]
        assert torn[0].torn
        part.pop()
    assert part == whole[: len(part)]
    assert len(part) >= log[:cut].count(b"\n") - 1
    assert_ends_add_up(part)


def cut_bytes(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 400) :]


def duplicate(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[max(0, at - rng.randrange(1, 2_000)) :]


def interleave(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines) - 1)
    a, b = lines[at], lines[at + 1]
    split = rng.randrange(1, max(2, len(a)))
    lines[at : at + 2] = [a[:split], b, a[split:]]
    return b"".join(lines)


def carriage_return(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + b"\r" + data[at:]


def spoil(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at + 1 :]


def shuffle(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


DAMAGE = (cut_bytes, duplicate, interleave, carriage_return, spoil, shuffle)


@steady
@given(
    st.sampled_from(LOGS),
    st.lists(st.sampled_from(DAMAGE), min_size=1, max_size=25),
    st.integers(0, 2**32),
    cuts,
)
def test_a_damaged_log_never_raises_and_its_ends_add_up(
    log: bytes, damage: list[object], seed: int, where: list[int]
) -> None:
    rng = random.Random(seed)
    for spoiler in damage:
        log = spoiler(log, rng)  # type: ignore[operator]
    whole, reader = read([log])
    assert read(chunks(log, where))[0] == whole
    assert reader.lines == log.count(b"\n")
    assert_ends_add_up(whole)


@steady
@given(st.lists(st.sampled_from(LINES), max_size=80))
def test_lines_of_real_logs_in_any_order(lines: list[bytes]) -> None:
    events, reader = read([b"".join(lines)])
    assert reader.unrecognised == 0
    assert len(events) == len(lines)
    assert_ends_add_up(events)


def test_the_recorded_logs_have_their_events() -> None:
    for log in LOGS:
        events, _ = read([log])
        assert len(events) == log.count(b"\n")
        assert_ends_add_up(events)
