"""What the Live view answers at a glance, in each state: the words that do, at two sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from ds4top.core.units import GIB
from ds4top.session import Session
from tests.frames import (
    DECODE_S,
    LOAD_S,
    PREFILL_S,
    demo,
    example,
    frames,
)

IDLE_S = 33.2
SMALL, LARGE = (60, 12), (120, 30)


def low() -> Session:
    """While it decodes, two gigabytes are left."""
    session = demo(DECODE_S)
    sample = session.model.machine.memory.sample
    assert sample is not None
    less = {"available_bytes": int(1.9 * GIB), "free_bytes": int(0.7 * GIB)}
    for second in (1, 2, 3):
        session.pump([replace(sample, t=sample.t + second, wall=sample.wall + second, **less)])
    return session


STATES: dict[str, Callable[[], Session]] = {
    "prefill": lambda: demo(PREFILL_S),
    "decode": lambda: demo(DECODE_S),
    "idle hot": lambda: demo(IDLE_S),
    "loading": lambda: demo(LOAD_S),
    "stopped": example,
    "low headroom": low,
}

_CTX_13K = r"^ ctx +13,471 of 131,072 .* 10 %   118K left"
_RATE = r"^ 77\.0 tok/s +1\.03 x  normal +of 74\.8 at  13K  age 0 s"
AT_60X12: dict[str, dict[int, str]] = {
    "prefill": {
        1: r"^  PREFILL ",
        2: r"^ 3\.2K of 6\.4K .* 51 %  ETA 1\.7 s  1,777 tok/s",
        5: r"^ ctx +13,371 of 131,072 .* 10 %   118K left",
        8: r"^ headroom 24\.3 GiB  falling  8\.5 GiB/min  prefill 64K fits",
    },
    "decode": {
        1: r"^  DECODE ",
        2: _RATE,
        5: _CTX_13K,
        8: r"^ headroom 24\.7 GiB  falling  8\.1 GiB/min  prefill 64K fits",
    },
    "idle hot": {
        1: r"^  IDLE ",
        2: r"^ 84\.1 tok/s  last turn 1 s ago  1\.01 x  normal",
        5: r"^ ctx +6,992 of 131,072 .* 5 %   124K left",
        8: r"^ headroom 24\.7 GiB  steady  prefill 64K fits   GPU 95 %",
    },
    "loading": {
        1: r"^  LOADING ",
        2: r"^ 28\.7 of 80\.8 GiB .* 35 %",
        8: r"^ headroom projected 13\.1 GiB, now  63\.2  falling  1\.44 GiB/s",
    },
    "stopped": {
        1: r"^  STOPPED    clean stop",
        2: r"^ 36\.3 tok/s  last turn \d+ s ago  1\.01 x  normal",
        5: r"^ ctx +13,949 of 131,072 .* 11 %   117K left",
        8: r"^ headroom –  not in what is replayed",
    },
    "low headroom": {
        1: r"^  DECODE ",
        2: _RATE,
        5: _CTX_13K,
        8: r"^ headroom  1\.9 GiB .*prefill 64K does not fit",
    },
}
"""The four questions that a small terminal answers; while weights load nothing is in use yet."""

_LATER = {
    7: r"^ KV CACHE   hit  66 % .*; disk saved 43 s|hit  66 %.*today",
    9: r"other processes +\d+\.\d",
    10: r"ds4-server 17180   up <1 m   copy \(--no-mmap\)   tmux pane",
    11: r"2 settings hurt \(5\)",
    12: r"^ log ok, last line  0 s ago .*1 source not read \(8\)",
}
_TURN = {3: r"^ +1\.03 x  normal", 6: r"6,379 new \+ +6,992 cached   hot  52 %"}
AT_120X30: dict[str, dict[int, str]] = {
    "prefill": {
        1: r"^  PREFILL    ds4-server 17180",
        2: r"^ PREFILL +3,248 of +6,379 1,777 tok/s",
        4: r"^ ends in +1\.7 s   by the prefill line of this log",
        5: r"^ +117,701 left, about 139 turns like today's",
        6: _TURN[6],
        8: r"^ headroom 24\.3 GiB   falling  8\.5 GiB/min",
        **_LATER,
    },
    "decode": {
        1: r"^  DECODE    ds4-server 17180",
        2: r"^ decode +77\.0 tok/s now    75\.9 mean   age 0 s",
        5: r"^ +117,601 left, about 139 turns like today's",
        8: r"^ headroom 24\.7 GiB   falling  8\.1 GiB/min",
        **_TURN,
        **_LATER,
    },
    "idle hot": {
        1: r"^  IDLE    ds4-server 16474",
        2: r"^ decode +84\.1 tok/s last +",
        3: r"^ +1\.01 x  normal",
        4: r"^ next turn 7\.0K in memory: hot",
        5: r"^ +124,080 left",
        6: r"919 new \+ +5,960 cached   hot  87 %",
        7: r"^ KV CACHE   hit  53 %",
        8: r"^ headroom 24\.7 GiB   steady",
        9: _LATER[9],
        10: r"ds4-server 16474   up <1 m   copy .*tmux pane",
        11: _LATER[11],
        12: r"^ log ok, last line ",
    },
    "loading": {
        1: r"^  LOADING    ds4-server 17180",
        2: r"^ weights   28\.7 of 80\.8 GiB",
        4: r"^ ends in ",
        7: r"^ KV CACHE   hit  65 %",
        8: r"^ headroom projected 13\.1 GiB, now  63\.2   falling  1\.44 GiB/s",
        10: r"ds4-server 17180   up <1 m   copy \(by its log\)   tmux pane",
        11: _LATER[11],
        12: r"^ log ok, last line ",
    },
    "stopped": {
        1: r"^  STOPPED    clean stop",
        2: r"^ decode +36\.3 tok/s last +36\.3 mean",
        3: r"^ +1\.01 x  normal",
        5: r"^ +117,123 left, about 135 turns like today's",
        6: r"1,170 new \+ +12,712 cached   hot  92 %",
        7: r"^ KV CACHE   hit  62 % ",
        8: r"^ MEMORY  headroom –  not in what is replayed",
        12: r"6 sources not read \(8\)",
    },
    "low headroom": {
        1: r"^  DECODE    ds4-server 17180",
        2: r"^ decode +77\.0 tok/s now    75\.9 mean   age 0 s",
        5: r"^ +117,601 left, about 139 turns like today's",
        8: r"^ headroom  1\.9 GiB .*prefill of 64K needs 14\.0 GiB \(estimated\): does not fit",
        **_TURN,
        **_LATER,
        12: r"^ !! headroom: 1\.9 GiB, below 2\.5.* log ok,  0 s ago .* 1 source not read \(8\)",
    },
}
"""All twelve, where there is an answer: the ETA is a prefill's, what would be hot an idle one's."""


@pytest.mark.parametrize("state", STATES)
async def test_the_words_that_answer(state: str) -> None:
    shots = [("live", SMALL), ("live", LARGE)]
    found = await frames(STATES[state](), shots)
    for size, wanted in ((SMALL, AT_60X12[state]), (LARGE, AT_120X30[state])):
        rows = found["live", size].rows
        unanswered = {
            number: words
            for number, words in wanted.items()
            if not any(re.search(words, text) for text in rows)
        }
        assert unanswered == {}, found["live", size].text


def test_the_bold_ones_are_asked_at_both_sizes() -> None:
    assert {state for state, asked in AT_60X12.items() if {1, 2, 8} <= set(asked)} == set(STATES)
    for asked in (AT_60X12, AT_120X30):
        assert [state for state, each in asked.items() if 5 not in each] == ["loading"]
    assert set(AT_120X30["decode"]) | {4} == set(range(1, 13))
    assert set(AT_120X30["prefill"]) | {3} == set(range(1, 13))
