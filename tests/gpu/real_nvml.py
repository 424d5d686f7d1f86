"""``python -m tests.gpu.real_nvml``: the GPU source on a machine with a real NVIDIA GPU.

Holds memory through the CUDA driver (no toolkit needed) and compares what NVML tells of it. Prints
"not run" without a driver. It is a check made by hand: no machine of the tests has a GPU.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

from ds4top.core.gpu import GpuSample
from ds4top.core.memory import Residency, ServerMemory, parts_of
from ds4top.sources.base import SourceFault
from ds4top.sources.host import HostMemory
from ds4top.sources.nvml import NvmlSource

HOLD_BYTES = 8 << 30
SLACK_BYTES = 64 << 20


class Cuda:
    """As much of the CUDA driver as it takes to hold memory. Raises ``OSError``."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libcuda.so.1")
        self._do("cuInit", 0)
        device = ctypes.c_int()
        self._do("cuDeviceGet", ctypes.byref(device), 0)
        self._context = ctypes.c_void_p()
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._do("cuCtxSetCurrent", self._context)

    def _do(self, name: str, *arguments: object) -> None:
        code = getattr(self._lib, name)(*arguments)
        if code:
            raise OSError(f"{name}: CUDA error {code}")

    def hold(self, size: int) -> None:
        """Allocate; it stays until the process ends."""
        pointer = ctypes.c_void_p()
        self._do("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))


def show(name: str, sample: GpuSample, pid: int) -> int:
    """One reading as lines; gives what this process holds."""
    held = sample.held_bytes(pid)
    print(f"-- {name}")
    print(f"name {sample.name}  unified {sample.unified}  capability {sample.capability}")
    print(f"memory total {sample.memory_total_bytes}  used {sample.memory_used_bytes}")
    print(f"this process {held}  processes {sample.processes}")
    print(
        f"util {sample.utilisation_pct} %  SM {sample.sm_clock_mhz} of {sample.sm_clock_most_mhz}"
    )
    print(f"power {sample.power_w} of {sample.power_limit_w} W  energy {sample.energy_j} J")
    print(
        f"temperature {sample.temperature_c}  margin {sample.margin_c}  P{sample.performance_state}"
    )
    print(f"reasons {sample.reasons} {sample.throttle}  slowed {sample.slowed_us}")
    return held or 0


def main() -> int:
    """Exit code 0 where NVML tells what was allocated, within 64 MiB."""
    host = HostMemory()
    host.open()
    memory = host.read(0.0)[0]
    source = NvmlSource(machine_bytes=lambda: memory.total_bytes)
    try:
        source.open()
        cuda = Cuda()
    except (SourceFault, OSError) as error:
        print(f"not run: {error}")
        return 0
    pid = os.getpid()
    before = show("with a context", source.read(time.monotonic())[0], pid)
    cuda.hold(HOLD_BYTES)
    begin = time.perf_counter()
    sample = source.read(time.monotonic())[0]
    took_ms = (time.perf_counter() - begin) * 1000
    after = show(f"and {HOLD_BYTES >> 30} GiB", sample, pid)
    print(f"one reading takes {took_ms:.1f} ms")
    grown = after - before
    print(f"grown by {grown} bytes, {HOLD_BYTES} were allocated")
    server = ServerMemory(Residency.COPY, HOLD_BYTES, after)
    parts = parts_of(host.read(1.0)[0], server, unified=sample.unified)
    print(f"the machine's account: {parts}")
    share = abs(parts.unaccounted) / parts.total
    print(f"unaccounted {share:.2%} of MemTotal")
    ok = abs(grown - HOLD_BYTES) <= SLACK_BYTES and not sample.unified and share < 0.01
    print("as it should be" if ok else "NOT as it should be")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
