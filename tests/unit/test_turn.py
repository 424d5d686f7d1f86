"""One acts at a time; those who only look are in nobody's way."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from ds4top.control.turn import HeldError, Turn, holder


def test_the_holder_is_named_and_the_turn_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "turn"
    assert holder(path) is None
    with Turn(path, "restart"):
        said = holder(path)
        assert said is not None
        assert said.startswith(f"pid {os.getpid()}, ")
        assert said.endswith(", restart")
        with pytest.raises(HeldError, match=r"restart"):
            Turn(path, "stop")
    assert holder(path) is None
    Turn(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_looks_is_not_taken_for_one_who_acts(tmp_path: Path) -> None:
    path = tmp_path / "turn"
    Turn(path).close()
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert holder(path) is None
    # A look is over in a moment, which one who acts waits for.
    timer = threading.Timer(0.05, os.close, (looking,))
    timer.start()
    with Turn(path):
        assert holder(path) is not None
    timer.join()


def test_what_a_killed_one_left_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "turn"
    path.write_text("pid 1, root, restart\n")
    assert holder(path) is None
