"""The simulated machine's NVML: what a GB10 answers, and what its GPU does in each phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gb10_kit import Box, looked

from ds4top.standin.gb10_nvml import NVMLError, SimulatedNvml

GB10 = json.loads((Path(__file__).parents[1] / "data" / "nvml" / "gb10.json").read_text())


@pytest.fixture
def box() -> Box:
    return Box()


def arguments(call: dict[str, Any], module: SimulatedNvml) -> tuple[Any, ...]:
    """What a call of gb10.json is asked with."""
    name, args = call["call"], call.get("args") or {}
    if name.startswith(("nvmlInit", "nvmlSystem", "nvmlEventSet", "nvmlDeviceGetCount")):
        return ()
    if name == "nvmlDeviceGetFieldValues":
        return (0, [74, 75, 76])
    if name == "nvmlDeviceGetProcessUtilization":
        return (0, 0)
    word = next(iter(args.values()), None)
    return (0,) if word is None else (0, getattr(module, word, word))


@pytest.mark.parametrize(
    "call", GB10["calls"], ids=lambda call: f"{call['call']} {call.get('args')}"
)
def test_each_call_is_answered_as_by_a_gb10(box: Box, call: dict[str, Any]) -> None:
    box.does("decode")
    module = box.gb10.nvml
    function = getattr(module, call["call"])
    if call["result"] == "error":
        with pytest.raises(NVMLError) as raised:
            function(*arguments(call, module))
        assert raised.value.value == GB10["error_codes"][call["error"]]
        return
    answer = function(*arguments(call, module))
    if call["value"] is not None:
        wanted = type(call["value"])
        assert isinstance(answer, wanted) or wanted in (list, dict)
    if call["call"] in ("nvmlDeviceGetName", "nvmlSystemGetDriverVersion", "nvmlDeviceGetUUID"):
        assert answer == call["value"]


def test_errors_are_those_of_nvidia_ml_py(box: Box) -> None:
    import pynvml

    for ours in (
        box.gb10.nvml.NVMLError_NotSupported,
        box.gb10.nvml.NVMLError_GpuIsLost,
        box.gb10.nvml.NVMLError_NotFound,
        box.gb10.nvml.NVMLError_InvalidArgument,
    ):
        theirs = pynvml.NVMLError(ours.code)
        assert type(theirs).__name__ == ours.__name__
        assert str(theirs) == str(ours())
    for name in (
        "NVML_CLOCK_SM",
        "NVML_CLOCK_MEM",
        "NVML_TEMPERATURE_GPU",
        "NVML_ERROR_GPU_IS_LOST",
    ):
        assert getattr(box.gb10.nvml, name) == getattr(pynvml, name)
    assert not hasattr(box.gb10.nvml, "nvmlDeviceGetNoSuchThing")


@pytest.mark.parametrize(
    ("phase", "busy", "watts", "clock", "degrees"),
    [
        ("decode", (90, 96), (31, 39), (2200, 2405), (55, 70)),
        ("prefill", (95, 96), (60, 90), (2200, 2410), (70, 80)),
        ("idle", (0, 0), (10, 12), (2405, 2405), (38, 42)),
        ("loading", (11, 13), (15, 21), (2200, 2400), (45, 50)),
    ],
)
def test_the_gpu_does_what_the_phase_says(
    box: Box, phase: str, busy: Any, watts: Any, clock: Any, degrees: Any
) -> None:
    box.does(phase)
    box.pass_s(120)
    for _ in range(40):
        box.pass_s(1.7)
        found = looked(box)
        assert busy[0] <= found.utilisation_pct <= busy[1]
        assert watts[0] <= found.power_w <= watts[1]
        assert clock[0] <= found.sm_clock_mhz <= clock[1]
        assert degrees[0] <= found.temperature_c <= degrees[1]
        assert found.margin_c == 94 - found.temperature_c
        assert (found.performance_state, found.reasons) == (0, 0)


def test_without_a_server_it_rests_in_p8(box: Box) -> None:
    box.pass_s(60)
    found = looked(box)
    assert (found.performance_state, found.utilisation_pct, found.sm_clock_mhz) == (8, 0, 208)
    assert found.unified
    assert found.processes == ()


def test_energy_is_the_sum_of_power(box: Box) -> None:
    box.does("decode")
    begin = looked(box).energy_j
    box.pass_s(100)
    assert 31 <= (looked(box).energy_j - begin) / 100 <= 39


def test_noise_is_of_the_seed(box: Box) -> None:
    def watts(seed: int) -> list[float]:
        one = Box(seed)
        one.does("decode")
        return [one.gb10.gpu().power_w]

    assert watts(5) == watts(5) != watts(6)
