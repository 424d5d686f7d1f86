"""``python -m tests.gpu.real_nvml [GiB]``: the GPU source on a machine with a real NVIDIA GPU.

Holds memory through the CUDA driver (no toolkit needed), writes it for some seconds, and compares
what NVML tells of it. Prints "not run" without a driver. It is a check made by hand: no machine of
the tests has a GPU.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from statistics import median

from ds4top.core.gpu import GpuSample, GpuTrack
from ds4top.core.memory import Residency, ServerMemory, parts_of
from ds4top.sources.base import SourceFault
from ds4top.sources.host import HostMemory
from ds4top.sources.nvml import NvmlSource
from ds4top.sources.procfs import ProcFs

HOLD_GIB = 8
SLACK_BYTES = 64 << 20
BUSY_S = 6.0
FIELD_IDS = (74, 75, 76, 251, 252, 253, 269, 270, 271)
"""Perf policy counters, and the two places where the other clock-event counters may be."""


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

    def hold(self, size: int) -> ctypes.c_void_p:
        """Allocate; it stays until the process ends."""
        pointer = ctypes.c_void_p()
        self._do("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def write(self, pointer: ctypes.c_void_p, size: int) -> None:
        """Write all of it eight times over, and wait for that."""
        for value in range(8):
            self._do("cuMemsetD32_v2", pointer, ctypes.c_uint(value), ctypes.c_size_t(size // 4))
        self._do("cuCtxSynchronize")


def show(name: str, sample: GpuSample, pid: int) -> None:
    """One reading as lines."""
    print(f"-- {name}")
    print(f"name {sample.name}  unified {sample.unified}  capability {sample.capability}")
    print(f"memory total {sample.memory_total_bytes}  used {sample.memory_used_bytes}")
    print(f"this process ({pid}) {sample.held_bytes(pid)}  processes {sample.processes}")
    print(
        f"util {sample.utilisation_pct} %  SM {sample.sm_clock_mhz} of {sample.sm_clock_most_mhz}"
    )
    print(f"power {sample.power_w} of {sample.power_limit_w} W  energy {sample.energy_j} J")
    print(
        f"temperature {sample.temperature_c}  margin {sample.margin_c}  P{sample.performance_state}"
    )
    print(f"reasons {sample.reasons} {sample.throttle}  slowed {sample.slowed_us}")
    print(f"missing {sample.missing}")


def show_counters() -> None:
    """The counters by id as the driver gives them, beside what nvidia-smi makes of them."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    print(f"-- driver {pynvml.nvmlSystemGetDriverVersion()}, counters by id")
    for number, field in zip(
        FIELD_IDS, pynvml.nvmlDeviceGetFieldValues(handle, list(FIELD_IDS)), strict=True
    ):
        print(f"{number}: {field.value.ullVal if field.nvmlReturn == 0 else field.nvmlReturn}")
    try:
        command = ["nvidia-smi", "-q", "-d", "PERFORMANCE", "-i", "0"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
        )
        print(done.stdout)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"nvidia-smi: {error}")


def grown(before: GpuSample, after: GpuSample, pid: int) -> tuple[int, str]:
    """By how much what is held grew, and by which account: the process's, else the card's."""
    old, new = before.held_bytes(pid), after.held_bytes(pid)
    if old and new:
        return new - old, "this process"
    # In a pid namespace NVML lists pids that are not ours, or none.
    used = (after.memory_used_bytes or 0) - (before.memory_used_bytes or 0)
    return used, "the card, for this process is not listed by its pid here"


def main(arguments: list[str]) -> int:
    """Exit code 0 where NVML tells what was allocated, within 64 MiB."""
    hold_bytes = (int(arguments[0]) if arguments else HOLD_GIB) << 30
    host = HostMemory()
    host.open()
    memory = host.read(0.0)[0]
    source = NvmlSource(machine_bytes=lambda: memory.total_bytes, comm_of=ProcFs().comm)
    begin = time.perf_counter()
    try:
        source.open()
        first = source.read(time.monotonic())[0]
        first_ms = (time.perf_counter() - begin) * 1000
        cuda = Cuda()
    except (SourceFault, OSError) as error:
        print(f"not run: {error}")
        return 0
    pid, track = os.getpid(), GpuTrack()
    show("before", first, pid)
    before = source.read(time.monotonic())[0]
    show("with a context", before, pid)
    pointer = cuda.hold(hold_bytes)
    after = source.read(time.monotonic())[0]
    show(f"and {hold_bytes >> 30} GiB", after, pid)
    took_ms: list[float] = []
    end = time.monotonic() + BUSY_S
    next_s = 0.0
    while (now := time.monotonic()) < end:
        cuda.write(pointer, hold_bytes)
        if now >= next_s:
            next_s = now + 1.0
            begin = time.perf_counter()
            sample = source.read(now)[0]
            took_ms.append((time.perf_counter() - begin) * 1000)
            track.take(sample)
    assert track.sample is not None
    show("written without a pause", track.sample, pid)
    show_counters()
    print(f"first reading {first_ms:.1f} ms with the library, then {median(took_ms):.2f} ms each")
    size, of = grown(before, after, pid)
    print(f"grown by {size} bytes, {hold_bytes} were allocated; by the account of {of}")
    server = ServerMemory(Residency.COPY, hold_bytes, after.held_bytes(pid) or 0)
    parts = parts_of(host.read(1.0)[0], server, unified=after.unified)
    print(f"the machine's account: {parts}")
    share = abs(parts.unaccounted) / parts.total
    print(f"unaccounted {share:.2%} of MemTotal")
    checks = {
        "memory of its own": not after.unified,
        "growth is the allocation": abs(size - hold_bytes) <= SLACK_BYTES,
        "busy while it writes": (track.sample.utilisation_pct or 0) > 0,
        "the machine's account adds up": share < 0.01,
    }
    for name, holds in checks.items():
        print(f"{'as it should be' if holds else 'NOT as it should be'}: {name}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
