"""The GPU by NVML: what a GB10 has, each call broken in each way, and faults that look normal."""

from __future__ import annotations

from dataclasses import fields, replace
from threading import Thread

import pytest

from ds4top.core.gpu import (
    GpuProcess,
    GpuSample,
    GpuTrack,
    is_unified,
    looks_low,
    merged,
    server_bytes,
    throttle_words,
)
from ds4top.sources.base import SourceFault
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.nvml import NvmlSource
from ds4top.sources.supervisor import Supervisor
from tests.fakes.nvml import SCENARIOS, SHAPES, FakeNvml

MEM_TOTAL = 127_600_748 * 1024
CALLS = (
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMemoryBusWidth",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
)


def read(nvml: FakeNvml, now: float = 1.0) -> GpuSample:
    """One sample of a source over the fake."""
    source = NvmlSource(nvml, machine_bytes=lambda: MEM_TOTAL, comm_of=lambda pid: f"p{pid}")
    source.open()
    return source.read(now)[0]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_gb10_shows_nothing_that_it_does_not_have(scenario: str) -> None:
    found = read(FakeNvml(scenario))
    wanted = SCENARIOS[scenario]
    assert found.unified
    assert found.name == "NVIDIA GB10"
    assert (found.memory_total_bytes, found.memory_used_bytes, found.power_limit_w) == (
        None, None, None,
    )  # fmt: skip
    assert found.utilisation_pct == wanted["gpu_util"]
    assert found.sm_clock_mhz == wanted["sm_mhz"]
    assert found.power_w == wanted["power_mw"] / 1000
    assert found.temperature_c == wanted["temp_c"]
    assert (found.margin_c, found.sm_clock_most_mhz, found.capability) == (36, 3003, (12, 1))
    assert found.held_bytes(914871) == 92_266_299_392
    assert [process.pid for process in found.others(914871)] == [2101, 2188]
    slowed = dict(found.slowed_us)
    assert slowed["software power cap"] == 165_687
    assert slowed["software thermal"] == 903_158


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", ["NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_UNKNOWN", "none"])
def test_each_call_may_fail_and_takes_its_row_alone(call: str, how: str) -> None:
    nvml = FakeNvml()
    nvml.break_call(call, how)
    whole, found = read(FakeNvml()), read(nvml)
    lost = {
        field.name
        for field in fields(GpuSample)
        if field.name not in ("t", "wall")
        and getattr(whole, field.name) != getattr(found, field.name)
    }
    assert len(lost) <= 1
    for name in lost - {"processes"}:
        assert getattr(found, name) in (None, ())


@pytest.mark.parametrize("call", CALLS)
def test_a_lost_gpu_is_said_and_found_again(call: str) -> None:
    nvml = FakeNvml()
    nvml.break_call(call, "NVML_ERROR_GPU_IS_LOST")
    source = NvmlSource(nvml)
    source.open()
    with pytest.raises(SourceFault, match="lost to its driver") as fault:
        source.read(1.0)
    assert fault.value.reopen
    source.close()
    nvml._broken.clear()
    source.open()
    assert source.read(2.0)[0].name == "NVIDIA GB10"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "no NVIDIA driver here"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "not loaded"),
        ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", "NVML"),
    ],
)
def test_without_a_driver(code: str, said: str) -> None:
    nvml = FakeNvml()
    nvml.break_call("nvmlInit", code)
    with pytest.raises(SourceFault, match=said):
        NvmlSource(nvml).open()


def test_what_is_not_supported_is_not_asked_each_second() -> None:
    nvml = FakeNvml()
    source = NvmlSource(nvml)
    source.open()
    for second in range(70):
        source.read(float(second))
    # Once at the start and once after a minute.
    assert nvml.calls.count("nvmlDeviceGetMemoryInfo") == 2
    assert nvml.calls.count("nvmlDeviceGetPowerUsage") == 70
    # The slow group is asked each ten seconds.
    assert nvml.calls.count("nvmlDeviceGetName") == 7


def test_a_call_that_hangs_holds_up_nobody() -> None:
    nvml = FakeNvml()
    nvml.break_call("nvmlDeviceGetPowerUsage", "hang")
    mailbox = Mailbox()
    supervisor = Supervisor(mailbox)
    supervisor.add(NvmlSource(nvml))
    supervisor.start()
    assert nvml.hanging.wait(30)
    # Others go on: the mailbox takes and gives, and the heartbeat tells who is stuck.
    mailbox.set("memory", "a sample")
    assert "a sample" in mailbox.drain()
    assert supervisor.beats()["GPU (NVML)"].state == "reading"
    assert supervisor.stop(join_s=0.01) == ("GPU (NVML)",)
    nvml.release.set()
    for thread in (each for each in _threads() if each.name == "src-GPU (NVML)"):
        thread.join(30)


def _threads() -> list[Thread]:
    import threading

    return threading.enumerate()


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if "value" in shape], ids=lambda shape: shape["shape"]
)
def test_other_shapes_of_the_memory_answer_are_unified_too(shape: dict[str, object]) -> None:
    nvml = FakeNvml()
    del nvml.errors["nvmlDeviceGetMemoryInfo"]
    nvml.answers["nvmlDeviceGetMemoryInfo"] = shape["value"]
    found = read(nvml)
    assert found.unified
    assert found.memory_total_bytes is None


def test_a_discrete_card_is_an_account_of_its_own() -> None:
    nvml = FakeNvml()
    for name, value in (
        ("nvmlDeviceGetMemoryInfo", {"total": 135_000_000_000, "used": 5, "free": 1}),
        ("nvmlDeviceGetMemoryBusWidth", 5120),
        ("nvmlDeviceGetName", b"NVIDIA H100"),
        ("nvmlDeviceGetEnforcedPowerLimit", 700_000),
    ):
        nvml.errors.pop(name, None)
        nvml.answers[name] = value
    source = NvmlSource(nvml, machine_bytes=lambda: 134_000_000_000)
    source.open()
    found = source.read(1.0)[0]
    # Its size happens to be the machine's within 5 %; that it has a bus of its own tells.
    assert not found.unified
    assert (found.memory_total_bytes, found.memory_used_bytes) == (135_000_000_000, 5)
    assert (found.name, found.power_limit_w) == ("NVIDIA H100", 700.0)


def test_unified_or_not() -> None:
    assert is_unified(None, MEM_TOTAL, bus_bits=None, name=None)
    assert is_unified(0, MEM_TOTAL, bus_bits=None, name=None)
    assert is_unified(MEM_TOTAL, MEM_TOTAL, bus_bits=None, name=None)
    assert not is_unified(24 << 30, MEM_TOTAL, bus_bits=None, name="NVIDIA L4")
    assert not is_unified(24 << 30, 24 << 30, bus_bits=384, name="NVIDIA L4")


def test_a_process_in_two_lists_counts_once() -> None:
    assert merged([[(1, 5), (2, None)], [(1, 5), (2, 7), (3, None)]]) == {1: 5, 2: 7, 3: None}
    sample = GpuSample(0, 0.0, 0.0, processes=(GpuProcess(1, 5), GpuProcess(2, None)))
    assert (sample.held_bytes(1), sample.held_bytes(2), sample.held_bytes(9)) == (5, None, 0)
    assert replace(sample, processes=None).held_bytes(1) is None
    assert server_bytes([sample, sample], 1) == 10
    assert server_bytes([], 1) is None


def test_reasons_in_words() -> None:
    assert throttle_words(0x1) == ()
    assert throttle_words(0x1 | 0x20 | 0x80) == ("software thermal", "power brake")
    assert throttle_words(0x2, all_of_them=True) == ("clocks set by the user",)


def track_of(*scenarios: str, seconds: int = 12) -> GpuTrack:
    """A track over scenarios, each for so many seconds."""
    track = GpuTrack()
    t = 0.0
    for scenario in scenarios:
        sample = read(FakeNvml(scenario))
        for _ in range(seconds):
            track.take(replace(sample, t=t, wall=t))
            t += 1.0
    return track


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_low_power_fault_and_nothing_else(scenario: str) -> None:
    words = track_of(scenario).low_power_words(12.0)
    assert (words is not None) == (scenario == "low_power_fault")


def test_the_fault_with_its_figures_and_its_repetitions() -> None:
    words = track_of("low_power_fault").low_power_words(7.0 + 420.0)
    assert words == "GPU 96 % busy at 695 MHz, 15 W for 7 min"
    again = track_of("low_power_fault", "decode", "decode", "decode", "decode", "low_power_fault")
    assert "2nd time today" in (again.low_power_words(72.0) or "")
    # A spell that ends for less than half a minute is the same spell.
    same = track_of("low_power_fault", "decode", "low_power_fault")
    assert "time today" not in (same.low_power_words(36.0) or "")
    assert track_of("low_power_fault", "decode").low_power_words(24.0) is None


def test_a_lock_of_the_user_is_no_fault() -> None:
    sample = read(FakeNvml("low_power_fault"))
    assert looks_low(sample)
    assert not looks_low(replace(sample, reasons=0x2))
    assert not looks_low(replace(sample, utilisation_pct=None))
    assert not looks_low(replace(sample, temperature_c=85))


def test_growth_of_the_throttle_counters_and_joules_per_token() -> None:
    track = GpuTrack()
    base = read(FakeNvml())
    track.take(replace(base, t=0.0, energy_j=100.0, slowed_us=(("power brake", 0),)), 0)
    assert track.joules_per_token() is None
    grown = (("power brake", 500_000),)
    track.take(replace(base, t=10.0, energy_j=500.0, slowed_us=grown), 100)
    assert track.slowed == {"power brake": 0.05}
    assert track.joules_per_token() == 4.0


def test_the_field_values_are_read_by_name() -> None:
    nvml = FakeNvml()
    nvml.answers["nvmlDeviceGetFieldValues"] = {"sw_power_cap_us": 7}
    assert dict(read(nvml).slowed_us) == {"software power cap": 7}
