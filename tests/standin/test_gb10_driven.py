"""The simulated machine brought into each state that an alert is about."""

from __future__ import annotations

import threading

import pytest
from gb10_kit import GIB, MODEL_GIB, PID, Box, looked
from standin_kit import DEADLINE_S

from ds4top.core.kernlines import DriverNoMemory, OomKill, Xid, parse_line
from ds4top.core.meminfo import (
    parse_vmstat,
)
from ds4top.core.memory import Residency, ServerMemory
from ds4top.core.memtrack import MemoryTrack
from ds4top.standin.gb10 import TENANT_PID
from ds4top.standin.gb10_files import PAGE_BYTES
from ds4top.standin.gb10_nvml import NVMLError


@pytest.fixture
def box() -> Box:
    return Box()


def test_an_unknown_kind_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="headroom-low"):
        box.gb10.drive("no such thing")


def levels(box: Box, seconds: float) -> list[str]:
    """The level of memory as ds4top judges it, twice a second, of a copy at work."""
    track = MemoryTrack()
    server = ServerMemory(Residency.COPY, int(MODEL_GIB * GIB), int(box.held_gib() * GIB))
    seen = []
    for _ in range(int(seconds * 2)):
        box.pass_s(0.5)
        track.take(box.sample(), server)
        seen.append(track.level)
    return seen


def test_a_normal_day_raises_nothing(box: Box) -> None:
    box.does("decode")
    assert set(levels(box, 60)) == {"ok"}


def test_a_collapse_falls_22_gib_in_11_s_and_is_critical_before_its_end(box: Box) -> None:
    box.does("decode", copied=False)
    hot = box.gb10.model_cached_bytes("") / GIB
    assert box.available_gib() - hot > 28
    box.gb10.drive("collapse")
    box.pass_s(11)
    end = box.available_gib() - box.gb10.model_cached_bytes("") / GIB
    assert end == pytest.approx(6.3, abs=0.2)
    box.gb10.drive("nothing")
    box.does("decode", copied=True)
    box.gb10.drive("collapse")
    assert "critical" in levels(box, 10.5)
    assert box.available_gib() > 6.3


def test_the_worst_of_a_collapse_is_13_gib_in_3_s(box: Box) -> None:
    box.pass_s(1)
    box.gb10.drive("collapse")
    box.pass_s(0.5)
    seen = []
    for _ in range(23):
        seen.append(box.available_gib())
        box.pass_s(0.5)
    assert seen[0] == pytest.approx(29.0, abs=0.7)
    worst = max(a - b for a, b in zip(seen, seen[6:], strict=False))
    assert worst == pytest.approx(13.2, abs=0.3)


def test_low_headroom_warns_and_never_becomes_critical(box: Box) -> None:
    box.does("decode")
    box.gb10.drive("headroom-low")
    seen = levels(box, 80)
    assert "warning" in seen
    assert "critical" not in seen
    assert box.available_gib() == pytest.approx(4.0, abs=0.3)
    box.pass_s(20)
    assert box.available_gib() > 24


def test_a_tenant_comes_by_name_and_goes(box: Box) -> None:
    box.does("decode")
    before = box.available_gib()
    box.gb10.drive("tenant")
    box.pass_s(10)
    assert box.held_gib(TENANT_PID) == 12.0
    assert box.gb10.comm(TENANT_PID, lambda pid: "other") == "ComfyUI"
    assert box.gb10.comm(PID, lambda pid: "ds4-server") == "ds4-server"
    assert before - box.available_gib() == pytest.approx(12.0, abs=0.2)
    box.pass_s(120)
    assert box.held_gib(TENANT_PID) == 0.0


def rate(box: Box, name: str) -> float:
    """Growth of a counter in bytes per second over ten seconds."""
    begin = parse_vmstat(box.gb10.text("vmstat"))[name]
    box.pass_s(10)
    return (parse_vmstat(box.gb10.text("vmstat"))[name] - begin) * PAGE_BYTES / 10


def test_swapping_is_over_1_mb_per_s(box: Box) -> None:
    box.does("decode")
    assert rate(box, "pswpin") == 0
    box.gb10.drive("swap")
    assert rate(box, "pswpin") > 2e6
    sample = box.sample()
    assert sample.swap_used_bytes == 2 * GIB
    assert (sample.psi_full_pct or 0) > 5


def test_refaults_are_over_50_mb_per_s(box: Box) -> None:
    box.does("decode", copied=False)
    assert rate(box, "workingset_refault_file") == 0
    box.gb10.drive("refault")
    assert rate(box, "workingset_refault_file") == pytest.approx(160e6, rel=0.01)


def test_mapped_weights_are_read_again_once_memory_is_short_of_them(box: Box) -> None:
    box.does("decode", copied=False)
    box.gb10.drive("tenant", 1e6)
    more = {"prompt_tokens": 56_000, "done_share": 1.0, "context_bytes": 10 * GIB}
    box.does("prefill", copied=False, **more)
    box.pass_s(20)
    assert box.gb10.model_cached_bytes("") < (MODEL_GIB - 1) * GIB
    assert rate(box, "workingset_refault_file") > 50e6


def test_big_blocks_go(box: Box) -> None:
    box.does("decode")
    before = box.sample().blocks
    assert before is not None
    assert before.big > 100
    box.gb10.drive("blocks")
    after = box.sample().blocks
    assert after is not None
    assert (after.big, after.huge) == (0, 0)


def test_an_oom_kill_is_counted_logged_and_done(box: Box) -> None:
    box.does("prefill", prompt_tokens=56_000)
    box.gb10.drive("oom")
    assert box.faults == ["oom"]
    assert box.gb10.driven == "oom"
    assert box.sample().oom_kills == 1
    events = [parse_line(line) for line in box.gb10.kernel_lines()]
    kills = [event for event in events if isinstance(event, OomKill)]
    assert [(kill.pid, kill.comm, kill.by) for kill in kills] == [(PID, "ds4-server", "kernel")]
    assert box.gb10.kernel_lines() == ()


def test_a_lost_context_is_told_by_the_driver(box: Box) -> None:
    box.does("decode")
    box.gb10.drive("poison")
    assert box.faults == ["cuda"]
    events = [parse_line(line) for line in box.gb10.kernel_lines()]
    assert [(e.number, e.pid) for e in events if isinstance(e, Xid)] == [(13, None), (43, PID)]


def test_a_burst_of_the_driver(box: Box) -> None:
    box.does("decode")
    box.gb10.drive("no-memory")
    events = [parse_line(line) for line in box.gb10.kernel_lines()]
    assert [type(event) for event in events] == [DriverNoMemory] * 75


def test_the_low_power_fault_shows_under_load_only(box: Box) -> None:
    box.does("idle")
    box.gb10.drive("low-power")
    box.does("idle")
    assert looked(box).sm_clock_mhz == 2223
    box.does("decode")
    found = looked(box)
    assert (found.sm_clock_mhz, found.power_w, found.reasons) == (695, 15.0, 0)
    assert found.utilisation_pct >= 90
    box.pass_s(100)
    assert looked(box).sm_clock_mhz > 2200


def test_heat_slows_it_down_and_is_counted(box: Box) -> None:
    box.does("decode")
    before = box.gb10.gpu().slowed_ns
    box.gb10.drive("thermal")
    box.pass_s(20)
    found = looked(box)
    assert (found.sm_clock_mhz, found.reasons) == (1900, 0x20)
    assert found.temperature_c >= 91
    grown = box.gb10.gpu().slowed_ns[1] - before[1]
    assert grown / 1e9 == pytest.approx(12.0, abs=0.7)
    assert dict(found.slowed_us)["software thermal"] >= 12_000_000


def test_a_lost_gpu_answers_nothing_and_comes_back(box: Box) -> None:
    box.does("decode")
    box.gb10.drive("gpu-lost")
    with pytest.raises(NVMLError, match="GPU is lost"):
        box.gb10.nvml.nvmlDeviceGetPowerUsage(0)
    xids = [parse_line(line) for line in box.gb10.kernel_lines()]
    assert [event.number for event in xids if isinstance(event, Xid)] == [79]
    assert box.available_gib() > 20
    box.pass_s(60)
    assert box.gb10.nvml.nvmlDeviceGetPowerUsage(0) > 0


def test_a_hung_driver_holds_up_its_own_calls_only(box: Box) -> None:
    box.does("decode")
    box.gb10.drive("nvml-hang", 1e9)
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: answers.append(box.gb10.nvml.nvmlDeviceGetPowerUsage(0)), daemon=True
    )
    asking.start()
    box.pass_s(5)
    assert box.available_gib() > 20
    assert answers == []
    box.gb10.drive("nothing")
    asking.join(DEADLINE_S)
    assert len(answers) == 1
