"""The source of the GPU: what a GB10 has, each call broken in each way, several GPUs, a hang."""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from ds4top.core.gpu import GpuSample
from ds4top.sources.base import Clock, SourceFault
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.nvml import NvmlSource
from ds4top.sources.samples import SourceError, SourceOk
from ds4top.sources.supervisor import Supervisor
from tests.fakes.nvml import CUDA_13_HEADER, DATA, DRIVER_580, SCENARIOS, SHAPES, FakeNvml

MEM_TOTAL = 127_600_748 * 1024
CALLS = (
    "nvmlDeviceGetName",
    "nvmlDeviceGetUUID",
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
FIRST_CALLS = ("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex")
NOT_ON_GB10 = (
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetMemoryBusWidth",
    "nvmlDeviceGetMemoryInfo",
)
FIGURES = {
    "memory_total_bytes", "memory_used_bytes", "utilisation_pct", "sm_clock_mhz",
    "sm_clock_most_mhz", "power_w", "power_limit_w", "energy_j", "temperature_c", "margin_c",
    "performance_state", "capability", "reasons", "processes", "name", "uuid",
}  # fmt: skip


def source_of(nvml: Any, machine_bytes: int | None = MEM_TOTAL) -> NvmlSource:
    return NvmlSource(
        nvml,
        machine_bytes=lambda: machine_bytes,
        comm_of=lambda pid: f"p{pid}",
        clock=Clock(wall=lambda: 1e9),
    )


def read(nvml: FakeNvml, now: float = 1.0) -> GpuSample:
    """One sample of a source over the fake."""
    source = source_of(nvml)
    source.open()
    (sample,) = source.read(now)
    return sample


def unknown(sample: GpuSample) -> set[str]:
    return {name for name in FIGURES if getattr(sample, name) is None}


def discrete(nvml: FakeNvml, total: int = 85_520_809_984, used: int = 600_000_000) -> FakeNvml:
    """The same module as of a card with memory of its own."""
    for name, value in (
        ("nvmlDeviceGetMemoryInfo", {"total": total, "used": used, "free": total - used}),
        ("nvmlDeviceGetMemoryBusWidth", 5120),
        ("nvmlDeviceGetName", b"NVIDIA H100 80GB HBM3"),
        ("nvmlDeviceGetEnforcedPowerLimit", 700_000),
    ):
        nvml.errors.pop(name, None)
        nvml.answers[name] = value
    return nvml


# What a GB10 has ------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_gb10_shows_nothing_that_it_does_not_have(scenario: str) -> None:
    found = read(FakeNvml(scenario))
    wanted = SCENARIOS[scenario]
    assert found.unified
    assert unknown(found) == {"memory_total_bytes", "memory_used_bytes", "power_limit_w"}
    assert found.missing == tuple((name, "not supported") for name in NOT_ON_GB10)
    assert found.name == "NVIDIA GB10"
    assert found.uuid is not None
    assert found.utilisation_pct == wanted["gpu_util"]
    assert found.sm_clock_mhz == wanted["sm_mhz"]
    assert found.power_w == wanted["power_mw"] / 1000
    assert found.temperature_c == wanted["temp_c"]
    assert found.performance_state == wanted["pstate"]
    assert found.reasons == wanted["reasons"]
    assert (found.margin_c, found.sm_clock_most_mhz, found.capability) == (36, 3003, (12, 1))
    assert found.energy_j == 123_456.789
    assert found.held_bytes(914871) == 92_266_299_392
    assert [(each.pid, each.comm) for each in found.others(914871)] == [
        (2101, "p2101"), (2188, "p2188"),
    ]  # fmt: skip
    assert (found.t, found.wall, found.gauge_key) == (1.0, 1e9, "gpu0")


def test_only_calls_that_a_gb10_is_known_by_are_asked() -> None:
    nvml = FakeNvml()
    source = source_of(nvml)
    source.open()
    source.read(0.0)
    told = {each["call"] for each in DATA["calls"]}
    assert set(nvml.calls) - told == {"nvmlDeviceGetHandleByIndex"}
    # Wrong on GB10 and so never asked: it has no bus, no fan and no memory clock.
    assert not [name for name in nvml.calls if "Pcie" in name or "Fan" in name or "BAR1" in name]


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if "value" in shape], ids=lambda shape: shape["shape"]
)
def test_other_shapes_of_the_memory_answer_are_unified_too(shape: dict[str, Any]) -> None:
    nvml = FakeNvml()
    del nvml.errors["nvmlDeviceGetMemoryInfo"]
    nvml.answers["nvmlDeviceGetMemoryInfo"] = shape["value"]
    nvml.answers["nvmlDeviceGetName"] = "a GPU of another name"
    found = read(nvml)
    assert found.unified
    assert (found.memory_total_bytes, found.memory_used_bytes) == (None, None)


def test_a_process_that_computes_and_draws_counts_once() -> None:
    nvml = FakeNvml()
    both = {"pid": 7, "usedGpuMemory": 20_434 << 20}
    nvml.answers["nvmlDeviceGetComputeRunningProcesses"] = [
        both, {"pid": 8, "usedGpuMemory": None}, {"pid": 9, "usedGpuMemory": (1 << 64) - 1},
    ]  # fmt: skip
    nvml.answers["nvmlDeviceGetGraphicsRunningProcesses"] = [both]
    found = read(nvml)
    assert found.processes is not None
    assert {each.pid: each.used_bytes for each in found.processes} == {
        7: 20_434 << 20, 8: None, 9: None,
    }  # fmt: skip


def test_a_name_that_cannot_be_read_is_no_fault() -> None:
    def comm(pid: int) -> str:
        raise PermissionError(pid)

    source = NvmlSource(FakeNvml(), comm_of=comm)
    source.open()
    processes = source.read(0.0)[0].processes
    assert processes is not None
    assert {each.comm for each in processes} == {""}


# Counters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [DRIVER_580, CUDA_13_HEADER])
def test_counters_are_found_wherever_this_driver_has_them(base: int) -> None:
    nvml = FakeNvml()
    nvml.field_base = base
    nvml.answers["nvmlDeviceGetFieldValues"]["hw_thermal_us"] = 403_805
    found = read(nvml)
    assert dict(found.slowed_us) == {
        "software power cap": 165_687,
        "sync boost": 0,
        "software thermal": 903_158,
        "hardware thermal": 403_805,
        "power brake": 0,
    }
    assert found.slowed_t == 1.0


def test_counters_that_cannot_be_told_apart_are_left_out() -> None:
    nvml = FakeNvml()
    values = nvml.answers["nvmlDeviceGetFieldValues"]
    both = {251: values["sw_thermal_us"], 269: values["sw_thermal_us"], 75: values["sw_thermal_us"]}

    def field_values(handle: str, ids: list[int]) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(ullVal=both.get(number, 9) * 1000))
            for number in ids
        ]

    nvml.nvmlDeviceGetFieldValues = field_values  # type: ignore[attr-defined]
    assert dict(read(nvml).slowed_us) == {
        "software power cap": 9, "sync boost": 9, "thermal": 903_158,
    }  # fmt: skip


def test_power_smoothing_under_the_same_numbers_is_no_counter() -> None:
    nvml = FakeNvml()
    nvml.field_base = 1000
    assert set(dict(read(nvml).slowed_us)) == {"software power cap", "sync boost", "thermal"}


# Each call broken -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "how",
    ["NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_FUNCTION_NOT_FOUND", "NVML_ERROR_UNKNOWN", "none"],
)
def test_each_call_may_fail_and_takes_its_row_alone(call: str, how: str) -> None:
    nvml = FakeNvml()
    nvml.break_call(call, how)
    whole, found = read(FakeNvml()), read(nvml)
    lost = {
        field.name
        for field in fields(GpuSample)
        if field.name != "missing" and getattr(whole, field.name) != getattr(found, field.name)
    }
    assert len(lost) <= 1
    for name in lost - {"processes"}:
        assert getattr(found, name) in (None, ())
    if how != "none":
        why = "Unknown Error" if how == "NVML_ERROR_UNKNOWN" else "not supported"
        assert dict(found.missing)[call] == why


def test_a_version_of_the_module_without_a_call_has_the_older_name() -> None:
    class Old(FakeNvml):
        def __getattr__(self, name: str) -> Any:
            if name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetMarginTemperature"):
                raise AttributeError(name)
            if name == "nvmlDeviceGetCurrentClocksThrottleReasons":
                return lambda handle: 0x20
            return super().__getattr__(name)

    found = read(Old())
    assert (found.reasons, found.margin_c) == (0x20, None)
    assert found.throttle == ("software thermal",)


@pytest.mark.parametrize("how", ["NVML_ERROR_UNKNOWN", "NVML_ERROR_NO_PERMISSION"])
def test_a_call_that_fails_is_asked_again_at_once_and_comes_back(how: str) -> None:
    nvml = FakeNvml()
    source = source_of(nvml)
    source.open()
    assert source.read(0.0)[0].power_w == 37.0
    nvml.break_call("nvmlDeviceGetPowerUsage", how)
    assert source.read(1.0)[0].power_w is None
    nvml.mend()
    assert source.read(2.0)[0].power_w == 37.0
    assert dict(source.read(3.0)[0].missing).keys() == set(NOT_ON_GB10)


def test_what_is_not_supported_is_asked_once_a_minute_and_after_an_error() -> None:
    nvml = FakeNvml()
    source = source_of(nvml)
    source.open()
    for second in range(70):
        source.read(float(second))
    assert nvml.calls.count("nvmlDeviceGetMemoryInfo") == 2
    assert nvml.calls.count("nvmlDeviceGetPowerUsage") == 70
    # The slow group is asked each ten seconds.
    assert nvml.calls.count("nvmlDeviceGetName") == 7
    nvml.break_call("nvmlDeviceGetPowerUsage", "NVML_ERROR_UNKNOWN")
    for second in range(70, 90):
        source.read(float(second))
    assert nvml.calls.count("nvmlDeviceGetMemoryInfo") == 4


def test_a_row_that_a_driver_learns_appears() -> None:
    nvml = FakeNvml()
    source = source_of(nvml)
    source.open()
    assert source.read(0.0)[0].power_limit_w is None
    del nvml.errors["nvmlDeviceGetEnforcedPowerLimit"]
    nvml.answers["nvmlDeviceGetEnforcedPowerLimit"] = 140_000
    assert source.read(59.0)[0].power_limit_w is None
    assert source.read(70.0)[0].power_limit_w == 140.0


@pytest.mark.parametrize("call", CALLS)
def test_a_lost_gpu_is_said_and_found_again(call: str) -> None:
    nvml = FakeNvml()
    nvml.break_call(call, "NVML_ERROR_GPU_IS_LOST")
    source = source_of(nvml)
    source.open()
    with pytest.raises(SourceFault, match=r"lost to its driver.*nvidia-smi.*reboot") as fault:
        source.read(1.0)
    assert fault.value.reopen
    source.close()
    nvml.mend()
    source.open()
    assert source.read(2.0)[0].name == "NVIDIA GB10"


def test_where_nothing_is_answered_the_driver_is_at_fault() -> None:
    nvml = FakeNvml()
    for call in CALLS:
        nvml.break_call(call, "NVML_ERROR_UNKNOWN")
    source = source_of(nvml)
    source.open()
    with pytest.raises(SourceFault, match="NVML: Unknown Error") as fault:
        source.read(1.0)
    assert (fault.value.kind, fault.value.reopen) == ("error", True)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "unsupported", "no NVIDIA driver here"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "unsupported", "not loaded; see nvidia-smi"),
        ("NVML_ERROR_NO_PERMISSION", "permission", "may not be used by this user"),
        ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", "error", "was updated.*reboot"),
        ("NVML_ERROR_GPU_IS_LOST", "error", "lost to its driver"),
        ("NVML_ERROR_UNKNOWN", "error", "NVML: Unknown Error"),
    ],
)
@pytest.mark.parametrize("call", FIRST_CALLS)
def test_without_a_driver(call: str, code: str, kind: str, said: str) -> None:
    nvml = FakeNvml()
    nvml.break_call(call, code)
    source = source_of(nvml)
    with pytest.raises(SourceFault, match=said) as fault:
        begin(source)
    assert (fault.value.kind, fault.value.reopen) == (kind, True)


def begin(source: NvmlSource) -> None:
    source.open()
    source.read(1.0)


def test_what_was_begun_is_ended_when_it_cannot_go_on() -> None:
    nvml = FakeNvml()
    nvml.break_call("nvmlDeviceGetCount", "NVML_ERROR_UNKNOWN")
    with pytest.raises(SourceFault):
        source_of(nvml).open()
    assert nvml.calls == ["nvmlInit", "nvmlDeviceGetCount", "nvmlShutdown"]


def test_a_driver_without_a_gpu() -> None:
    nvml = FakeNvml()
    nvml.answers["nvmlDeviceGetCount"] = 0
    with pytest.raises(SourceFault, match="sees no GPU"):
        source_of(nvml).open()


def test_the_real_module_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds4top.sources.nvml._DRIVER", ("/",))

    def no_library(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", no_library)
    with pytest.raises(SourceFault, match="no NVIDIA driver here") as fault:
        NvmlSource().open()
    assert fault.value.kind == "unsupported"


def test_without_a_driver_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds4top.sources.nvml._DRIVER", ("/nowhere",))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SourceFault, match="no NVIDIA driver here") as fault:
        NvmlSource().open()
    assert (fault.value.kind, fault.value.reopen) == ("unsupported", True)


def test_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds4top.sources.nvml._DRIVER", ("/",))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SourceFault, match="nvidia-ml-py is not installed"):
        NvmlSource().open()


# A discrete card, and several -----------------------------------------------------------------


def test_a_discrete_card_is_an_account_of_its_own() -> None:
    # Its size happens to be the machine's within 5 %; that it has a bus of its own tells.
    nvml = discrete(FakeNvml(), total=135_000_000_000, used=5)
    source = source_of(nvml, 134_000_000_000)
    source.open()
    (found,) = source.read(1.0)
    assert not found.unified
    assert (found.memory_total_bytes, found.memory_used_bytes) == (135_000_000_000, 5)
    assert (found.name, found.power_limit_w) == ("NVIDIA H100 80GB HBM3", 700.0)
    assert found.missing == ()


@pytest.mark.parametrize("how", ["NVML_ERROR_UNKNOWN", "none"])
@pytest.mark.parametrize("call", ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryBusWidth"])
def test_an_error_does_not_make_a_discrete_card_unified(call: str, how: str) -> None:
    nvml = discrete(FakeNvml(), total=8 << 30)
    source = source_of(nvml)
    source.open()
    assert not source.read(0.0)[0].unified
    nvml.break_call(call, how)
    for second in (1.0, 12.0, 75.0):
        assert not source.read(second)[0].unified
    nvml.mend()
    assert source.read(76.0)[0].memory_total_bytes == 8 << 30


@pytest.mark.parametrize("how", ["NVML_ERROR_UNKNOWN", "none"])
def test_nor_one_that_does_not_tell_its_bus(how: str) -> None:
    nvml = discrete(FakeNvml(), total=48 << 30)
    nvml.break_call("nvmlDeviceGetMemoryBusWidth", "NVML_ERROR_NOT_SUPPORTED")
    source = source_of(nvml)
    source.open()
    assert not source.read(0.0)[0].unified
    nvml.break_call("nvmlDeviceGetMemoryInfo", how)
    found = source.read(1.0)[0]
    assert (found.unified, found.memory_total_bytes) == (False, None)


def test_one_gpu_of_two_is_lost_and_comes_back() -> None:
    nvml = FakeNvml()
    nvml.answers["nvmlDeviceGetCount"] = 2
    source = source_of(nvml)
    source.open()
    assert [each.gauge_key for each in source.read(0.0)] == ["gpu0", "gpu1"]
    nvml.lost.add(0)
    assert [each.index for each in source.read(1.0)] == [1]
    assert [each.index for each in source.read(61.0)] == [1]
    nvml.lost.clear()
    assert [each.index for each in source.read(62.0)] == [1]
    assert [each.index for each in source.read(122.0)] == [0, 1]
    nvml.lost.update((0, 1))
    with pytest.raises(SourceFault, match="lost to its driver"):
        source.read(123.0)


# A hang ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*FIRST_CALLS, *CALLS])
def test_a_call_that_hangs_holds_up_nobody(call: str) -> None:
    nvml = FakeNvml()
    nvml.break_call(call, "hang")
    now = [100.0]
    mailbox = Mailbox()
    clock = Clock(monotonic=lambda: now[0], wall=lambda: 1e9 + now[0], cpu=lambda: 0.0)
    supervisor = Supervisor(mailbox, clock)
    other = Ticks()
    supervisor.add(source_of(nvml))
    supervisor.add(other)
    supervisor.start()
    try:
        assert nvml.hanging.wait(30)
        # Another source goes on and is delivered, while this one is seen to be stuck.
        assert other.twice.wait(30)
        assert any(isinstance(each, SourceOk) for each in mailbox.drain())
        now[0] += 5.5
        beat = supervisor.beats()["GPU (NVML)"]
        assert (beat.state, beat.t, beat.last_ok_t) == ("reading", 100.0, None)
        mailbox.set("key", "a key's effect")
        assert "a key's effect" in mailbox.drain()
    finally:
        nvml.mend()
        left = supervisor.stop(join_s=30)
    assert left == ()
    # What hung has answered after all, with every figure.
    (sample,) = [each for each in mailbox.drain() if isinstance(each, GpuSample)]
    assert unknown(sample) == {"memory_total_bytes", "memory_used_bytes", "power_limit_w"}


class Ticks:
    """Another source, that is read as fast as it goes until it was read twice."""

    name = "other"
    interval_s = 0.001

    def __init__(self) -> None:
        self.turns = 0
        self.twice = threading.Event()

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> tuple[object, ...]:
        self.turns += 1
        if self.turns >= 2:
            self.twice.set()
        return ()

    def close(self) -> None:
        """Nothing to do."""


def test_a_lost_driver_is_told_by_the_supervisor_and_tried_again() -> None:
    nvml = FakeNvml()
    nvml.break_call("nvmlDeviceGetPowerUsage", "NVML_ERROR_GPU_IS_LOST")
    mailbox = Mailbox()
    supervisor = Supervisor(mailbox, Clock(monotonic=lambda: 1.0, wall=lambda: 1e9))
    runner = supervisor.add(source_of(nvml))
    assert runner.turn() > 0
    (error,) = mailbox.drain()
    assert isinstance(error, SourceError)
    assert (error.name, error.kind) == ("GPU (NVML)", "error")
    assert "lost to its driver" in error.message
    nvml.mend()
    assert runner.turn() == pytest.approx(1.0)
    kinds = [type(each) for each in mailbox.drain()]
    assert kinds == [SourceOk, GpuSample]


def test_the_module_is_loaded_when_the_source_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds4top.sources.nvml._DRIVER", ("/",))
    monkeypatch.delitem(sys.modules, "pynvml")
    source = NvmlSource()
    assert "pynvml" not in sys.modules
    with contextlib.suppress(SourceFault):
        source.open()
    assert "pynvml" in sys.modules
    source.close()
