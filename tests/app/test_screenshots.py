"""The committed pictures are what the code draws."""

from __future__ import annotations

from tests.screenshots import differences


def test_the_pictures_are_what_the_code_draws() -> None:
    assert differences() == [], "run: python -m tests.screenshots --png --tmux, and look at them"
