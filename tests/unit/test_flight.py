"""The black box of a session: a run that was cut off is told of at the next start."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from pathlib import Path

from ds4top.archive.blackbox import BlackBox, BoxPast, BoxPump
from ds4top.archive.blackbox_read import read_box
from ds4top.core.boxrecord import BoxRecord
from ds4top.core.kernlines import OomKill
from ds4top.core.model import Model, SourceHealth
from ds4top.core.standing import standing
from ds4top.core.state import LogState
from ds4top.flight import FlightRecorder, flight_recorder
from ds4top.view.look import Look
from ds4top.view.now import now_rows
from ds4top.view.rates import RateBook
from ds4top.view.text import row_text
from tests.unit.keep_tools import server

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


def test_when_the_machine_was_up_again_is_said(tmp_path: Path) -> None:
    path = tmp_path / "blackbox.ring"
    ring(path)
    flight = FlightRecorder(BoxPump(BlackBox(path, NEXT)), NEXT, 1_140.0)
    flight.take(BoxPast(read_box(path).past))
    found = flight.judge(Model(LogState(), 2_000.0), {}, UTC)
    assert found is not None
    assert found.lines[0] == (
        "the machine stopped uncleanly, last heard of at 1970-01-01 00:16:49,"
        " up again 2 m 11 s later"
    )


def test_what_the_kernels_log_says_is_read_else_it_is_inferred(tmp_path: Path) -> None:
    path = tmp_path / "blackbox.ring"
    ring(path)
    said = []
    for kills in ([], [OomKill(1_009.5, 4711, "ds4-server", "kernel")]):
        flight = FlightRecorder(BoxPump(BlackBox(path, BOOT)), BOOT)
        flight.take(BoxPast(read_box(path).past))
        model = Model(LogState(), 1_020.0)
        model.machine.kernel.take(kills, 1_020.0)
        found = flight.judge(model, {}, UTC)
        assert found is not None
        said.append((found.evidence, found.victim, found.lines[0], found.lines[3]))
    assert said == [
        ("inferred", None, "the server ended at 1970-01-01 00:16:49",
         "inferred: it is gone, and nobody saw how"),
        ("read", "ds4-server (pid 4711)", "the server was killed at 1970-01-01 00:16:49",
         "read: the kernel killed ds4-server (pid 4711) for want of memory"),
    ]  # fmt: skip


def test_the_live_view_tells_the_end_until_a_server_runs_again(tmp_path: Path) -> None:
    path = tmp_path / "blackbox.ring"
    ring(path)
    flight = FlightRecorder(BoxPump(BlackBox(path, NEXT)), NEXT)
    flight.take(BoxPast(read_box(path).past))
    model = Model(LogState(), 2_000.0, tz=UTC)
    model.machine.autopsy = flight.judge(model, {}, UTC)
    model.health = (SourceHealth("log", "missing", ""),)

    def said() -> list[str]:
        rows = now_rows(model, standing(model), Look(), RateBook(), 100)
        return [row_text(each).rstrip() for each in rows]

    assert said()[:3] == [
        " NO SERVER",
        " the machine stopped uncleanly, last heard of at 1970-01-01 00:16:49"
        "  inferred; 4 tells more",
        " phase prefill, at 48,000 tokens of context (prompt 56,000)",
    ]
    running = server(1_500.0)
    model.machine.seen((running,), running)
    assert not any("stopped uncleanly" in line for line in said())


def test_the_box_lies_in_the_users_state_folder(tmp_path: Path) -> None:
    made = flight_recorder({"HOME": str(tmp_path)}, 6 << 30)
    assert made is not None
    assert made.pump.box.path.is_relative_to(tmp_path)
