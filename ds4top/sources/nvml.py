"""The source ``GPU (NVML)``: nvidia-ml-py, each call allowed to be missing, wrong, slow or lost.

It has a thread of its own: a call that hangs holds up nobody, and its silence is seen by the
supervisor's heartbeat. Which calls are supported is found out once, and again each minute.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from ds4top.core.gpu import GpuProcess, GpuSample, is_unified, merged
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault

FAST_S = 1.0
SLOW_S = 10.0
AGAIN_S = 60.0
_COUNTERS = {
    "software power cap": "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP",
    "software thermal": "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN",
    "hardware thermal": "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
    "power brake": "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",
}


def _load() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise SourceFault("unsupported", "nvidia-ml-py is not installed") from error


class NvmlSource:
    """Source of one ``GpuSample`` per GPU. ``module`` stands in for pynvml (tests, the demo)."""

    name = "GPU (NVML)"
    interval_s = FAST_S

    def __init__(
        self,
        module: Any = None,
        *,
        machine_bytes: Callable[[], int | None] = lambda: None,
        comm_of: Callable[[int], str] = lambda pid: "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._given = module
        self._nvml: Any = None
        self._machine_bytes = machine_bytes
        self._comm_of = comm_of
        self._clock = clock
        self._handles: list[Any] = []
        self._unsupported: set[str] = set()
        self._asked_t = float("-inf")
        self._slow: dict[int, dict[str, Any]] = {}
        self._slow_t = float("-inf")

    def open(self) -> None:
        """Find the GPUs. Raises ``SourceFault`` where there is no driver."""
        nvml = self._given if self._given is not None else _load()
        try:
            nvml.nvmlInit()
            self._nvml = nvml
            count = nvml.nvmlDeviceGetCount()
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(count)]
        except Exception as error:
            raise self._fault(nvml, error) from error
        self._unsupported.clear()
        self._slow.clear()
        self._asked_t = self._slow_t = float("-inf")

    def read(self, now: float) -> Sequence[GpuSample]:
        """A sample of each GPU. Raises ``SourceFault`` when the GPU or its driver is lost."""
        if now - self._asked_t >= AGAIN_S:
            self._unsupported.clear()
            self._asked_t = now
        slow = now - self._slow_t >= SLOW_S
        if slow:
            self._slow_t = now
        return [self._sample(at, handle, now, slow=slow) for at, handle in enumerate(self._handles)]

    def close(self) -> None:
        """Let go of the library."""
        nvml, self._nvml = self._nvml, None
        self._handles = []
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except Exception:
                return

    def _fault(self, nvml: Any, error: Exception) -> SourceFault:
        kinds = {
            "NVMLError_LibraryNotFound": "no NVIDIA driver here",
            "NVMLError_DriverNotLoaded": "the NVIDIA driver is not loaded",
            "NVMLError_GpuIsLost": "the GPU is lost to its driver: only a reboot brings it back",
            "NVMLError_NoPermission": "NVML may not be used here",
        }
        name = type(error).__name__
        kind = "permission" if name == "NVMLError_NoPermission" else "unsupported"
        if name in kinds:
            fault_kind = "error" if name == "NVMLError_GpuIsLost" else kind
            return SourceFault(fault_kind, kinds[name], reopen=True)  # type: ignore[arg-type]
        return SourceFault("error", f"NVML: {error}", reopen=True)

    def _ask(self, name: str, *arguments: Any, key: str = "") -> Any:
        """The answer of a call, ``None`` where it is not supported. Raises ``SourceFault``."""
        key = key or name
        if key in self._unsupported:
            return None
        nvml = self._nvml
        try:
            return getattr(nvml, name)(*arguments)
        except AttributeError:
            # A wrapper that this version of nvidia-ml-py does not have.
            self._unsupported.add(key)
        except Exception as error:
            kind = type(error).__name__
            if kind in ("NVMLError_GpuIsLost", "NVMLError_Uninitialized"):
                raise self._fault(nvml, error) from error
            # One call that fails takes its row and no other; the next minute tries it again.
            self._unsupported.add(key)
        return None

    def _constant(self, name: str) -> Any:
        return getattr(self._nvml, name, None)

    def _number(self, name: str, *arguments: Any, key: str = "") -> int | None:
        value = self._ask(name, *arguments, key=key)
        return value if isinstance(value, int) else None

    def _sample(self, index: int, handle: Any, now: float, *, slow: bool) -> GpuSample:
        if slow or index not in self._slow:
            self._slow[index] = self._slow_of(index, handle)
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        milliwatts = self._number("nvmlDeviceGetPowerUsage", handle)
        millijoules = self._number("nvmlDeviceGetTotalEnergyConsumption", handle)
        sm = self._constant("NVML_CLOCK_SM")
        return GpuSample(
            index=index,
            t=now,
            wall=self._clock.wall(),
            utilisation_pct=getattr(rates, "gpu", None),
            sm_clock_mhz=self._number("nvmlDeviceGetClockInfo", handle, sm, key=f"clock {sm}"),
            power_w=None if milliwatts is None else milliwatts / 1000,
            energy_j=None if millijoules is None else millijoules / 1000,
            temperature_c=self._number(
                "nvmlDeviceGetTemperature", handle, self._constant("NVML_TEMPERATURE_GPU")
            ),
            margin_c=self._number("nvmlDeviceGetMarginTemperature", handle),
            reasons=self._number("nvmlDeviceGetCurrentClocksEventReasons", handle),
            processes=self._processes(handle),
            **self._memory(handle, self._slow[index]["name"]),
            **self._slow[index],
        )

    def _memory(self, handle: Any, name: str | None) -> dict[str, Any]:
        bus_bits = self._number("nvmlDeviceGetMemoryBusWidth", handle)
        info = self._ask("nvmlDeviceGetMemoryInfo", handle)
        total, used = getattr(info, "total", None), getattr(info, "used", None)
        unified = is_unified(total, self._machine_bytes(), bus_bits=bus_bits, name=name)
        return {
            "unified": unified,
            "memory_total_bytes": None if unified else total,
            "memory_used_bytes": None if unified else used,
        }

    def _processes(self, handle: Any) -> tuple[GpuProcess, ...] | None:
        lists = [
            self._ask(f"nvmlDeviceGet{kind}RunningProcesses", handle)
            for kind in ("Compute", "Graphics")
        ]
        if lists[0] is None and lists[1] is None:
            return None
        found = merged(
            [(each.pid, each.usedGpuMemory) for each in one] for one in lists if one is not None
        )
        return tuple(GpuProcess(pid, used, self._comm_of(pid)) for pid, used in found.items())

    def _slow_of(self, index: int, handle: Any) -> dict[str, Any]:
        name = self._ask("nvmlDeviceGetName", handle)
        sm = self._constant("NVML_CLOCK_SM")
        limit = self._number("nvmlDeviceGetEnforcedPowerLimit", handle)
        capability = self._ask("nvmlDeviceGetCudaComputeCapability", handle)
        return {
            "name": name.decode("utf-8", "replace") if isinstance(name, bytes) else name,
            "sm_clock_most_mhz": self._number(
                "nvmlDeviceGetMaxClockInfo", handle, sm, key=f"most {sm}"
            ),
            "power_limit_w": None if limit is None else limit / 1000,
            "performance_state": self._number("nvmlDeviceGetPerformanceState", handle),
            "capability": tuple(capability) if capability else None,
            "slowed_us": self._counters(handle),
        }

    def _counters(self, handle: Any) -> tuple[tuple[str, int], ...]:
        ids = {words: self._constant(name) for words, name in _COUNTERS.items()}
        asked = [(words, number) for words, number in ids.items() if number is not None]
        values = self._ask("nvmlDeviceGetFieldValues", handle, [number for _, number in asked])
        if values is None:
            return ()
        found = []
        for (words, _), value in zip(asked, values, strict=False):
            if getattr(value, "nvmlReturn", 1) == 0:
                found.append((words, int(value.value.ullVal)))
        return tuple(found)
