"""A simulated machine whose stand-in and clock a test moves, and how ds4top sees it."""

from __future__ import annotations

from typing import Any

from ds4top.core.meminfo import (
    MemorySample,
    parse_buddyinfo,
    parse_meminfo,
    parse_pressure,
    parse_vmstat,
    sample_of,
)
from ds4top.sources.nvml import NvmlSource
from ds4top.standin.gb10 import TOTAL_BYTES, Doing, SimulatedGb10
from ds4top.standin.gb10_files import PAGE_BYTES

GIB = 1 << 30
MODEL_GIB = 80.76
PID = 914_871


class Box:
    """A machine whose stand-in and clock the test moves."""

    def __init__(self, seed: int = 1) -> None:
        self.t = 1000.0
        self.doing = Doing()
        self.faults: list[str] = []
        self.gb10 = SimulatedGb10(lambda: self.doing, lambda: self.t, seed, self.faults.append)

    def pass_s(self, seconds: float, step_s: float = 0.5) -> None:
        """Let time pass, looked at twice a second."""
        end = self.t + seconds
        while self.t < end:
            self.t = min(self.t + step_s, end)
            self.gb10.text("meminfo")

    def does(self, phase: str, **more: Any) -> Box:
        """The stand-in's phase, settled."""
        self.doing = Doing(PID, phase, **more)
        self.pass_s(5)
        return self

    def sample(self) -> MemorySample:
        """As the machine's source makes it."""
        text = self.gb10.text
        return sample_of(
            self.t,
            self.t,
            parse_meminfo(text("meminfo")),
            parse_vmstat(text("vmstat")),
            parse_pressure(text("pressure/memory")),
            parse_buddyinfo(text("buddyinfo"), PAGE_BYTES),
            PAGE_BYTES,
        )

    def available_gib(self) -> float:
        """MemAvailable."""
        return (self.sample().available_bytes or 0) / GIB

    def held_gib(self, pid: int = PID) -> float:
        """What NVML tells of a process."""
        return dict(self.gb10.processes()).get(pid, 0.0)

    def dark_gib(self) -> float:
        """Memory in no counter of the kernel."""
        m = parse_meminfo(self.gb10.text("meminfo"))
        told = ("MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Slab", "KernelStack")
        return (m["MemTotal"] - sum(m[name] for name in (*told, "PageTables", "Percpu"))) / GIB


def looked(box: Box) -> Any:
    """What the source makes of the module."""
    source = NvmlSource(box.gb10.nvml, machine_bytes=lambda: TOTAL_BYTES)
    source.open()
    return source.read(box.t)[0]
