"""Which requests a table shows, in which order, and by which numbers."""

from __future__ import annotations

import pytest

from ds4top.core.state import End, LogState, Request
from ds4top.view.requests import numbers, select

COUNT = 330


def log() -> LogState:
    state = LogState(limit=5_000)
    for number in range(1, COUNT + 1):
        kind = "completion" if number % 3 == 0 else "chat"
        request = Request(number, 1, kind, 0, 5_000 - number, 9, 1e9 + number, 512, False)
        request.end = End.COMPLETED
        state.requests.append(request)
    state.requests.settle(100)
    return state


@pytest.mark.parametrize(
    ("limit", "sort", "descending", "text", "expected"),
    [
        (None, "TIME", True, "", [*range(COUNT, 0, -1)]),
        (None, "TIME", False, "", [*range(1, COUNT + 1)]),
        (250, "TIME", True, "", [*range(COUNT, 80, -1)]),
        (250, "TIME", False, "", [*range(81, COUNT + 1)]),
        (None, "TIME", True, "completion", [*range(COUNT, 0, -3)]),
        (12, "CACHED..PROMPT", True, "", [*range(319, COUNT + 1)]),
        (12, "CACHED..PROMPT", False, "chat", [329, 328, 326, 325, 323, 322, 320, 319]),
        (None, "TIME", True, "nothing", []),
    ],
)
def test_requests_and_their_numbers(
    limit: int | None, sort: str, descending: bool, text: str, expected: list[int]
) -> None:
    shown = select(log(), limit, sort, descending, text, None)
    assert [request.number for request in shown] == expected
    assert list(numbers(shown, sort, descending, text)) == expected
