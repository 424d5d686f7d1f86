"""Runs the dashboard over a replay, with a paint that raises once the screen has been drawn."""

from __future__ import annotations

import sys

from ds4top.cli import main
from ds4top.ui.app import Ds4top

GOOD_PAINTS = 5


def break_paint() -> None:
    """Let the paint after the first few raise."""
    good, count = Ds4top.paint, 0

    def paint(app: Ds4top) -> None:
        nonlocal count
        count += 1
        if count > GOOD_PAINTS:
            raise ZeroDivisionError("a fault made for this test")
        good(app)

    Ds4top.paint = paint  # type: ignore[method-assign]


if __name__ == "__main__":
    break_paint()
    sys.exit(main(["--replay", sys.argv[1], "--interval", "0.25"]))
