"""The source ``GPU (NVML)``: nvidia-ml-py, each call allowed to be missing, wrong, slow or lost.

It has a thread of its own: a call that hangs holds up nobody, and its silence is seen by the
supervisor's heartbeat.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ds4top.core.gpu import GpuProcess, GpuSample, is_unified, merged
from ds4top.sources.base import SYSTEM_CLOCK, Clock, SourceFault
from ds4top.sources.nvmlprobe import AGAIN_S, Calls, GpuLost, counters_us, fault_of

FAST_S = 1.0
SLOW_S = 10.0
_NO_FIGURE = 1 << 63
"""NVML_VALUE_NOT_AVAILABLE is 2^64 - 1, which some versions of nvidia-ml-py let through."""


_DRIVER = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg")
"""What NVML opens, what the kernel's module shows, and what stands for both in WSL."""


def _load() -> Any:
    if not any(map(os.path.exists, _DRIVER)):
        # The library would say the same, after 2 MiB of its bindings were loaded.
        raise SourceFault("unsupported", "no NVIDIA driver here", reopen=True)
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise SourceFault("unsupported", "nvidia-ml-py is not installed") from error


@dataclass(slots=True)
class _Gpu:
    """One GPU: its calls, what is asked each ten seconds, and the last word on its memory."""

    index: int
    calls: Calls
    slow: dict[str, Any] = field(default_factory=dict)
    slow_t: float = float("-inf")
    bus_bits: int | None = None
    unified: bool | None = None


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
        self._gpus: dict[int, _Gpu | None] = {}
        self._found_t = float("-inf")

    def open(self) -> None:
        """Find the GPUs. Raises ``SourceFault`` where there is no driver or no GPU."""
        nvml = self._given if self._given is not None else _load()
        try:
            nvml.nvmlInit()
        except Exception as error:
            raise fault_of(error) from error
        self._nvml = nvml
        try:
            count = nvml.nvmlDeviceGetCount()
        except Exception as error:
            self.close()
            raise fault_of(error) from error
        self._gpus = dict.fromkeys(range(count or 0))
        if not self._gpus:
            self.close()
            raise SourceFault("unsupported", "the NVIDIA driver sees no GPU", reopen=True)
        self._found_t = float("-inf")

    def read(self, now: float) -> Sequence[GpuSample]:
        """A sample of each GPU. Raises ``SourceFault`` when all are lost, or their driver is."""
        lost: SourceFault | None = None
        if now - self._found_t >= AGAIN_S:
            self._found_t = now
            lost = self._find()
        samples: list[GpuSample] = []
        for index, gpu in self._gpus.items():
            if gpu is None:
                continue
            try:
                samples.append(self._sample(gpu, now))
            except GpuLost as fault:
                lost = fault
                self._gpus[index] = None
        if not samples:
            raise lost or GpuLost("error", "no GPU answers; see nvidia-smi", reopen=True)
        return samples

    def close(self) -> None:
        """Let go of the library."""
        nvml, self._nvml = self._nvml, None
        self._gpus = {}
        if nvml is not None:
            with contextlib.suppress(Exception):
                nvml.nvmlShutdown()

    def _find(self) -> SourceFault | None:
        """Get hold of the GPUs that are not held; why that failed for one of them."""
        lost: SourceFault | None = None
        for index in [index for index, gpu in self._gpus.items() if gpu is None]:
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            except Exception as error:
                lost = fault_of(error)
                continue
            self._gpus[index] = _Gpu(index, Calls(self._nvml, handle))
        return lost

    def _sample(self, gpu: _Gpu, now: float) -> GpuSample:
        calls = gpu.calls
        calls.turn(now)
        if now - gpu.slow_t >= SLOW_S:
            gpu.slow = self._slow_of(calls, now)
            gpu.bus_bits = calls.number("nvmlDeviceGetMemoryBusWidth") or gpu.bus_bits
            gpu.slow_t = now
        rates = calls.ask("nvmlDeviceGetUtilizationRates")
        milliwatts = calls.number("nvmlDeviceGetPowerUsage")
        millijoules = calls.number("nvmlDeviceGetTotalEnergyConsumption")
        values = {
            **gpu.slow,
            **self._memory(gpu),
            "utilisation_pct": _percent(rates),
            "sm_clock_mhz": calls.number("nvmlDeviceGetClockInfo", calls.constant("NVML_CLOCK_SM")),
            "power_w": None if milliwatts is None else milliwatts / 1000,
            "energy_j": None if millijoules is None else millijoules / 1000,
            "temperature_c": calls.number(
                "nvmlDeviceGetTemperature", calls.constant("NVML_TEMPERATURE_GPU")
            ),
            "margin_c": calls.number("nvmlDeviceGetMarginTemperature"),
            "reasons": calls.first(
                "nvmlDeviceGetCurrentClocksEventReasons",
                "nvmlDeviceGetCurrentClocksThrottleReasons",
            ),
            "processes": self._processes(calls),
        }
        calls.done()
        wall = self._clock.wall()
        return GpuSample(index=gpu.index, t=now, wall=wall, missing=calls.missing, **values)

    def _memory(self, gpu: _Gpu) -> dict[str, Any]:
        call = "nvmlDeviceGetMemoryInfo"
        info = gpu.calls.ask(call)
        total, used = getattr(info, "total", None), getattr(info, "used", None)
        told = info is not None or gpu.calls.unsupported(call)
        if told or gpu.unified is None:
            unified = is_unified(
                total, self._machine_bytes(), bus_bits=gpu.bus_bits, name=gpu.slow["name"]
            )
        else:
            # An error says nothing of the kind of memory.
            unified = gpu.unified
        if told:
            gpu.unified = unified
        return {
            "unified": unified,
            "memory_total_bytes": None if unified else total,
            "memory_used_bytes": None if unified else used,
        }

    def _processes(self, calls: Calls) -> tuple[GpuProcess, ...] | None:
        lists = [
            calls.ask(f"nvmlDeviceGet{kind}RunningProcesses") for kind in ("Compute", "Graphics")
        ]
        if lists[0] is None and lists[1] is None:
            return None
        found = merged(
            [(each.pid, _figure(each)) for each in one] for one in lists if one is not None
        )
        return tuple(GpuProcess(pid, used, self._comm(pid)) for pid, used in found.items())

    def _comm(self, pid: int) -> str:
        try:
            return self._comm_of(pid)
        except OSError:
            return ""

    def _slow_of(self, calls: Calls, now: float) -> dict[str, Any]:
        limit = calls.number("nvmlDeviceGetEnforcedPowerLimit")
        capability = calls.ask("nvmlDeviceGetCudaComputeCapability")
        return {
            "name": _text(calls.ask("nvmlDeviceGetName")),
            "uuid": _text(calls.ask("nvmlDeviceGetUUID")),
            "sm_clock_most_mhz": calls.number(
                "nvmlDeviceGetMaxClockInfo", calls.constant("NVML_CLOCK_SM")
            ),
            "power_limit_w": None if limit is None else limit / 1000,
            "performance_state": calls.number("nvmlDeviceGetPerformanceState"),
            "capability": tuple(capability) if capability else None,
            "slowed_us": counters_us(calls),
            "slowed_t": now,
        }


def _percent(rates: Any) -> int | None:
    """Of the GPU alone: the other rate, of memory, is always 0 on GB10 and is never shown."""
    value = getattr(rates, "gpu", None)
    return value if isinstance(value, int) and 0 <= value <= 100 else None


def _figure(process: Any) -> int | None:
    value = getattr(process, "usedGpuMemory", None)
    return value if isinstance(value, int) and 0 <= value < _NO_FIGURE else None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None
