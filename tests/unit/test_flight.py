"""The black box of a session: a run that was cut off is told of at the next start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ds4top.archive.blackbox import BlackBox, BoxPast, BoxPump
from ds4top.archive.blackbox_read import read_box
from ds4top.core.boxrecord import BoxRecord
from ds4top.core.model import Model
from ds4top.core.state import LogState
from ds4top.flight import FlightRecorder, flight_recorder

BOOT, NEXT = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def ring(path: Path) -> None:
    """Ten seconds of a machine whose headroom falls, and no goodbye."""
    box = BlackBox.open(path, BOOT, 0.0)
    moment = BoxRecord(
        1_000.0, 0.0, "warning", "prefill", "copy", pid=4711, start_ticks=9,
        context_tokens=48_000, prompt_tokens=56_000,
    )  # fmt: skip
    for second in range(10):
        left = (20 - 2 * second) << 30
        box.add(
            replace(
                moment, wall=1_000.0 + second, t=float(second), headroom_bytes=left,
                available_bytes=left, free_bytes=left,
            ),
            float(second),
            True,
        )  # fmt: skip
    box.flush(10.0)


def test_the_end_of_the_last_boot_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "blackbox.ring"
    ring(path)
    past = read_box(path).past
    assert past is not None
    flight = FlightRecorder(BoxPump(BlackBox(path, NEXT)), NEXT)
    model = Model(LogState(), 2_000.0)
    assert flight.judge(model, {}, None) is None
    assert flight.take(BoxPast(past))
    assert not flight.take("anything else")
    found = flight.judge(model, {}, None)
    assert found is not None
    assert found.machine_died
    assert (found.phase, found.context_tokens) == ("prefill", 48_000)
    assert found.headroom_bytes == 2 << 30
    assert found.slope_bytes_per_s is not None
    assert found.slope_bytes_per_s < -1e9
    assert flight.judge(model, {}, None) is None


def test_the_box_lies_in_the_users_state_folder(tmp_path: Path) -> None:
    made = flight_recorder({"HOME": str(tmp_path)}, 6 << 30)
    assert made is not None
    assert made.pump.box.path.is_relative_to(tmp_path)
