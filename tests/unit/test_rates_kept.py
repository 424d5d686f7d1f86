"""The own decode line over samples of the log and of earlier runs."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest

from ds4top.core.kept import Kept
from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.view.rates import RateBook

TURNS = Path(__file__).parents[1] / "data" / "standin" / "turns.log"


def log_of(data: bytes) -> LogState:
    reducer = Reducer(LogState())
    reducer.apply(LogReader(StampClock(1.8e9, UTC, 2026)).feed(data))
    return reducer.state


def line_points(first_at: float, count: int) -> tuple[tuple[float, int, float], ...]:
    """Samples of exactly 70 ms + 1 ms for each 1,000 tokens, one a second from ``first_at``."""
    contexts = [1_000 + 500 * n for n in range(count)]
    return tuple((first_at + n, c, 1000 / (70 + c / 1000)) for n, c in enumerate(contexts))


def test_samples_of_earlier_runs_make_the_line_and_are_said() -> None:
    log = log_of(TURNS.read_bytes())
    begin = log.decode.at[0]
    book = RateBook()
    book.update(log)
    assert book.decode is None
    kept = Kept(decode=line_points(begin - 40, 40))
    book.update(log, kept)
    assert book.decode is not None
    # 5 of the log, and 39 of 40: the first lies below 1,024 tokens.
    assert (book.decode.samples, book.recalled) == (44, 39)
    found = book.expected(16_000)
    assert found is not None
    assert found.source == "own samples (44, 39 of earlier runs)"
    assert found.tps == pytest.approx(1000 / 86, rel=0.02)


def test_what_the_log_holds_itself_is_not_counted_twice() -> None:
    log = log_of(TURNS.read_bytes())
    book = RateBook()
    samples = zip(log.decode.at, log.decode.context, log.decode.tps, strict=True)
    kept = Kept(decode=(*line_points(log.decode.at[0] - 40, 40), *samples))
    book.update(log, kept)
    assert book.decode is not None
    assert (book.decode.samples, book.recalled) == (44, 39)


def test_a_life_that_held_its_weights_otherwise_is_left_out() -> None:
    start = "1124 18:00:{:02} ds4-server: listening on http://127.0.0.1:8000\n"
    turn = "1124 18:{:02}:{:02} ds4-server: chat ctx=0..2000:2000 {}\n"

    def life(minute: int, engine: str) -> str:
        text = "ds4: CUDA backend initialized on NVIDIA GB10 (sm_121)\n" + engine
        text += start.format(minute) + turn.format(minute, 1, "prompt start")
        text += turn.format(minute, 2, "gen=5 finish=stop 0.200s")
        text += turn.format(minute, 3, "prompt start")
        for n in range(25):
            begin = 2_000 + 400 * n
            words = f"ctx={begin}..{begin + 400}:400 gen={400 * (n + 1)} decoding"
            text += (
                f"1124 18:{minute:02}:{n + 4:02} ds4-server: chat {words}"
                f" chunk={10 + minute:.2f} t/s avg=10.00 t/s 5.000s\n"
            )
        return text + turn.format(minute, 40, "gen=12000 finish=stop 99.000s")

    mapped = "ds4: CUDA registered 80.76 GiB model mapping for device access\n"
    copied = "ds4: CUDA loading model tensors into device cache\n"
    log = log_of((life(1, mapped) + life(2, copied)).encode())
    assert len(log.lives) == 2
    assert len(log.decode) == 50
    book = RateBook()
    book.update(log)
    assert book.decode is not None
    assert book.decode.samples == 25
    assert book.decode.tps(11_000) == pytest.approx(12.0)
