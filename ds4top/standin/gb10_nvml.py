"""A double of the module pynvml that answers as a GB10 does, with the simulated machine's figures.

What a GB10 answers, refuses and gets wrong is public: NOT_SUPPORTED for memory, limits, fans and
memory clocks, 0 % for memory utilisation, a PCIe link of one lane (XuehaiPan/nvitop#208,
leptonai/gpud#1170, Syllo/nvtop#426, niklasfrick/spark-dashboard#35).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

GIB = 1 << 30
LIMIT_C = 94
"""81 degrees leave 13 (ollama/ollama#13552)."""
MOST_MHZ = 3003


class NVMLError(Exception):
    """An answer of the driver that is no value; ``value`` is its code, as in pynvml."""

    code: ClassVar[int] = 999
    words: ClassVar[str] = "Unknown Error"

    def __init__(self) -> None:
        super().__init__(self.code)
        self.value = self.code

    def __str__(self) -> str:
        """What the driver's library says."""
        return self.words


class NVMLError_NotSupported(NVMLError):
    """What a GB10 says to much of NVML."""

    code, words = 3, "Not Supported"


class NVMLError_InvalidArgument(NVMLError):
    """A GPU that is not there."""

    code, words = 2, "Invalid Argument"


class NVMLError_NotFound(NVMLError):
    """No sample since then."""

    code, words = 6, "Not Found"


class NVMLError_GpuIsLost(NVMLError):
    """The GPU fell off the bus."""

    code, words = 15, "GPU is lost"


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One moment of the GPU. ``slowed_ns``: by the power cap, by heat (software, hardware)."""

    utilisation_pct: int
    clock_mhz: int
    power_w: float
    temperature_c: float
    reasons: int
    state: int
    energy_j: float
    slowed_ns: tuple[int, int, int]


class GpuSide(Protocol):
    """What is asked of the machine."""

    def gpu(self) -> GpuFigures:
        """The GPU now."""
        ...

    def processes(self) -> Sequence[tuple[int, float]]:
        """Pid and GiB of everything on the GPU."""
        ...

    def answers(self) -> bool:
        """Whether the GPU is on the bus; blocks while the driver hangs."""
        ...


_FIXED: Mapping[str, Any] = {
    "nvmlDeviceGetName": "NVIDIA GB10",
    "nvmlDeviceGetUUID": "GPU-00000000-0000-0000-0000-000000000010",
    "nvmlDeviceGetMinorNumber": 0,
    "nvmlDeviceGetCudaComputeCapability": (12, 1),
    "nvmlDeviceGetArchitecture": 10,
    "nvmlDeviceGetNumGpuCores": 6144,
    "nvmlDeviceGetBrand": None,
    "nvmlDeviceGetVbiosVersion": "00.00.00.00.00",
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetComputeMode": 0,
    "nvmlDeviceGetGraphicsRunningProcesses": [],
    "nvmlDeviceGetEncoderUtilization": [0, 0],
    "nvmlDeviceGetDecoderUtilization": [0, 0],
    "nvmlDeviceGetSupportedClocksEventReasons": 511,
    "nvmlDeviceGetCurrPcieLinkGeneration": 1,
    "nvmlDeviceGetCurrPcieLinkWidth": 1,
    "nvmlDeviceGetMaxPcieLinkGeneration": 1,
    "nvmlDeviceGetMaxPcieLinkWidth": 1,
    "nvmlDeviceGetAddressingMode": 2,
}
_SYSTEM: Mapping[str, Any] = {
    "nvmlSystemGetDriverVersion": "580.173.02",
    "nvmlSystemGetCudaDriverVersion": 13000,
    "nvmlSystemGetNVMLVersion": "13.580.173.02",
    "nvmlInit": None,
    "nvmlShutdown": None,
    "nvmlDeviceGetCount": 1,
    "nvmlEventSetCreate": None,
}
_UNSUPPORTED = frozenset(
    f"nvmlDevice{name}"
    for name in (
        "GetSerial", "GetMigMode", "GetEccMode", "GetMemoryInfo", "GetBAR1MemoryInfo",
        "GetMemoryBusWidth", "GetPowerManagementLimit", "GetEnforcedPowerLimit",
        "GetPowerManagementDefaultLimit", "GetPowerManagementLimitConstraints",
        "GetTemperatureThreshold", "GetFanSpeed", "GetNumFans", "GetApplicationsClock",
        "GetSupportedMemoryClocks", "GetViolationStatus", "GetPcieThroughput", "GetRemappedRows",
        "GetRetiredPages", "RegisterEvents",
    )
)  # fmt: skip
_POWER, _THERMAL, _SYNC, _MOVED = 74, 75, 76, 251
"""Ids of counters; ``_MOVED`` and the two after it are those of driver 580's nvml.h."""


class SimulatedNvml:
    """The module. A function that a GB10's driver does not have is an AttributeError, as there."""

    NVML_CLOCK_GRAPHICS = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_CLOCK_VIDEO = 3
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SHUTDOWN = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_GPU_IS_LOST = 15
    nvmlEventTypeXidCriticalError = 8
    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_InvalidArgument = NVMLError_InvalidArgument
    NVMLError_NotFound = NVMLError_NotFound
    NVMLError_GpuIsLost = NVMLError_GpuIsLost

    def __init__(self, machine: GpuSide) -> None:
        self._machine = machine
        self._asked: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetHandleByIndex": self._handle,
            "nvmlDeviceGetPciInfo": lambda _: SimpleNamespace(
                busId="0000000F:01:00.0", domain=15, bus=1, device=0
            ),
            "nvmlDeviceGetProcessUtilization": self._no_sample,
            "nvmlDeviceGetComputeRunningProcesses": lambda _: [
                SimpleNamespace(pid=pid, usedGpuMemory=int(gib * GIB))
                for pid, gib in machine.processes()
            ],
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(
                gpu=machine.gpu().utilisation_pct, memory=0
            ),
            "nvmlDeviceGetPowerUsage": lambda _: int(machine.gpu().power_w * 1000),
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: int(machine.gpu().energy_j * 1000),
            "nvmlDeviceGetTemperature": lambda _, sensor: round(machine.gpu().temperature_c),
            "nvmlDeviceGetMarginTemperature": lambda _: (
                LIMIT_C - round(machine.gpu().temperature_c)
            ),
            "nvmlDeviceGetPerformanceState": lambda _: machine.gpu().state,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda _: machine.gpu().reasons,
            "nvmlDeviceGetClockInfo": self._clock,
            "nvmlDeviceGetMaxClockInfo": self._most,
            "nvmlDeviceGetFieldValues": self._fields,
        }

    def __getattr__(self, name: str) -> Any:
        """A function of the module."""
        if name in _SYSTEM:
            return lambda *_: self._told(lambda: _SYSTEM[name])
        if name in _FIXED:
            return lambda _: self._told(lambda: _FIXED[name])
        if name in _UNSUPPORTED:
            return lambda *_, **__: self._told(self._refuse)
        asked = self.__dict__.get("_asked", {})
        if name not in asked:
            raise AttributeError(name)
        return lambda *arguments: self._told(lambda: asked[name](*arguments))

    def _told(self, answer: Callable[[], Any]) -> Any:
        if not self._machine.answers():
            raise NVMLError_GpuIsLost
        return answer()

    @staticmethod
    def _refuse() -> Any:
        raise NVMLError_NotSupported

    @staticmethod
    def _no_sample(handle: int, since: int) -> Any:
        raise NVMLError_NotFound

    @staticmethod
    def _handle(index: int) -> int:
        if index != 0:
            raise NVMLError_InvalidArgument
        return index

    def _clock(self, handle: int, kind: int) -> int:
        if kind == self.NVML_CLOCK_MEM:
            raise NVMLError_NotSupported
        clock = self._machine.gpu().clock_mhz
        return 2000 if kind == self.NVML_CLOCK_VIDEO else clock

    def _most(self, handle: int, kind: int) -> int:
        if kind == self.NVML_CLOCK_MEM:
            raise NVMLError_NotSupported
        return MOST_MHZ

    def _fields(self, handle: int, ids: Sequence[int]) -> list[Any]:
        power, software, hardware = self._machine.gpu().slowed_ns
        values = {
            _POWER: power, _THERMAL: software, _SYNC: 0,
            _MOVED: software, _MOVED + 1: hardware, _MOVED + 2: 0,
        }  # fmt: skip
        return [
            SimpleNamespace(
                fieldId=number,
                nvmlReturn=0 if number in values else NVMLError_NotSupported.code,
                value=SimpleNamespace(ullVal=values.get(number, 0)),
            )
            for number in ids
        ]
