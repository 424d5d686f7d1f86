"""A simulated GB10 under the demo: its /proc texts and its NVML follow what the stand-in does.

Figures of one DGX Spark: MemTotal 127,600,748 kB; 80.76 GiB of weights, 5.2 GiB of arenas beside a
copy, 4 GiB beside mapped weights; 31-39 W decoding, 60-90 W in prefill, 11 W idle with a model.
``drive`` brings the machine into each state that an alert is about.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

GIB = 1 << 30
TOTAL_BYTES = 127_600_748 * 1024
WEIGHTS_GIB = 80.76
ARENAS_GIB = 5.2
MAPPED_GIB = 4.0
CONTEXT_GIB = 2.37
CHECKPOINTS_GIB = 14.0 * 1e9 / GIB
"""What a daily-agent build takes for checkpoints at large contexts."""
BASE_GIB = 1.3
"""Dark memory of a machine with nothing on it."""
TENANT_GIB = 12.0
KINDS = (
    "collapse", "tenant", "swap", "refault", "blocks", "oom", "low-power", "thermal", "gpu-lost",
    "nothing",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Doing:
    """What the stand-in does now. ``loaded``: share of a load; ``prompt_tokens``: of a prefill."""

    pid: int | None = None
    phase: str = "stopped"
    copied: bool = True
    loaded: float = 1.0
    prompt_tokens: int = 0
    done_share: float = 0.0


class NVMLError(Exception):
    """An answer of the driver that is no value."""


class NVMLError_NotSupported(NVMLError):
    """What a GB10 says to much of NVML."""


class NVMLError_GpuIsLost(NVMLError):
    """The GPU fell off the bus."""


class SimulatedGb10:
    """Texts of /proc and a module like pynvml. ``doing`` tells the stand-in's state, ``now`` time
    in simulated seconds."""

    def __init__(self, doing: Callable[[], Doing], now: Callable[[], float]) -> None:
        self._doing = doing
        self._now = now
        self._kind = "nothing"
        self._since = 0.0
        self._kills = 0
        self._energy_j = 0.0
        self._energy_t: float | None = None
        self.nvml = _Nvml(self)

    def drive(self, kind: str) -> None:
        """Bring about one of ``KINDS``. Raises ``ValueError`` for another."""
        if kind not in KINDS:
            raise ValueError(f"{kind}: one of {', '.join(KINDS)}")
        self._kind, self._since = kind, self._now()
        if kind == "oom":
            self._kills += 1

    @property
    def driven(self) -> str:
        """What is being brought about."""
        return self._kind

    # memory -------------------------------------------------------------------------------

    def held_gib(self) -> float:
        """CUDA memory of the server."""
        doing = self._doing()
        if doing.pid is None or doing.phase == "stopped":
            return 0.0
        ready = doing.phase != "loading"
        own = WEIGHTS_GIB + ARENAS_GIB if doing.copied else MAPPED_GIB
        held = own * doing.loaded + (CONTEXT_GIB if ready else 0.0)
        if doing.phase == "prefill":
            share = min(doing.prompt_tokens / 56_000, 1.0) * doing.done_share
            held += CHECKPOINTS_GIB * share
        return held

    def cached_weights_gib(self) -> float:
        """The model file in page cache."""
        doing = self._doing()
        if doing.pid is None or doing.copied:
            return 0.0
        return WEIGHTS_GIB * doing.loaded

    def model_cached_bytes(self, path: str) -> int:
        """The same in bytes, as cachestat tells it of the file."""
        return int(self.cached_weights_gib() * GIB)

    def tenant_gib(self) -> float:
        """CUDA memory of another process."""
        if self._kind == "tenant":
            return TENANT_GIB
        if self._kind == "collapse":
            left = max(TOTAL_BYTES / GIB - self.held_gib() - self.cached_weights_gib() - 9.0, 0.0)
            # 29.0 to 6.3 GiB in 11 s, as it was seen.
            return max(left - 29.0, 0.0) + min(self._driven_s() * 22.7 / 11, 22.7)
        return 0.0

    def _driven_s(self) -> float:
        return max(self._now() - self._since, 0.0)

    def _wave(self, period_s: float, size: float) -> float:
        return size * math.sin(self._now() * 2 * math.pi / period_s)

    def text(self, name: str) -> str:
        """A file of /proc: meminfo, vmstat, pressure/memory or buddyinfo."""
        return {
            "meminfo": self._meminfo,
            "vmstat": self._vmstat,
            "pressure/memory": self._pressure,
            "buddyinfo": self._buddyinfo,
        }[name]()

    def _meminfo(self) -> str:
        swap_used = 2.0 if self._kind == "swap" else 0.0
        fields = {
            "Buffers": 0.12,
            "Cached": 4.1 + self._wave(97, 0.03) + self.cached_weights_gib(),
            "AnonPages": 1.9 + self._wave(61, 0.02),
            "Shmem": 0.2,
            "SReclaimable": 0.35,
            "SUnreclaim": 0.42,
            "KernelStack": 0.02,
            "PageTables": 0.09,
            "Percpu": 0.02,
        }
        used = sum(fields.values()) - fields["Shmem"]
        used += self.held_gib() + self.tenant_gib() + BASE_GIB
        free = max(TOTAL_BYTES / GIB - used, 0.35)
        fields["MemTotal"] = TOTAL_BYTES / GIB
        fields["MemFree"] = free
        given_back = fields["Cached"] - fields["Shmem"] + fields["Buffers"] - 0.35
        fields["MemAvailable"] = free + max(given_back, 0.0) * 0.98
        fields["SwapTotal"] = 16.0
        fields["SwapFree"] = 16.0 - swap_used
        fields["Slab"] = fields["SReclaimable"] + fields["SUnreclaim"]
        return "".join(
            f"{name + ':':<16}{int(v * GIB / 1024):>8} kB\n" for name, v in fields.items()
        )

    def _vmstat(self) -> str:
        seconds = self._driven_s()
        refaults = int(seconds * 9_000) if self._kind == "refault" else 0
        swap_in = int(seconds * 700) if self._kind == "swap" else 0
        return (
            f"pswpin {swap_in}\npswpout {swap_in * 2}\npgmajfault 1602\n"
            f"workingset_refault_file {refaults}\noom_kill {self._kills}\n"
        )

    def _pressure(self) -> str:
        full = 12.5 if self._kind in ("collapse", "refault", "swap") else 0.0
        return (
            f"some avg10={full * 1.6:.2f} avg60=0.00 avg300=0.00 total=1\n"
            f"full avg10={full:.2f} avg60=0.00 avg300=0.00 total=1\n"
        )

    def _buddyinfo(self) -> str:
        big = "0 0 0 0" if self._kind == "blocks" else "310 1417 782 96"
        return f"Node 0, zone   Normal   41 33 27 19 12 8 6 4 2 {big}\n"

    # GPU ----------------------------------------------------------------------------------

    def gpu(self) -> tuple[int, int, float, int, int]:
        """Utilisation %, SM MHz, watts, degrees, reasons."""
        table = {
            "prefill": (96, 2405, 78.0 + self._wave(17, 4), 74, 0),
            "decode": (94, 2405, 36.0 + self._wave(13, 2), 63, 0),
            "draining": (90, 2405, 34.0, 62, 0),
            "loading": (12, 2310, 18.0, 47, 0),
            "idle": (0, 2405, 11.2, 42, 0),
        }
        util, clock, watts, degrees, reasons = table.get(self._doing().phase, (0, 208, 3.0, 36, 1))
        if util >= 90 and self._kind == "low-power":
            clock, watts, degrees = 695, 15.0, 45
        if util >= 90 and self._kind == "thermal":
            clock, watts, degrees, reasons = 1900, 60.0, 92, 0x20
        return util, clock, watts, degrees, reasons

    def energy_j(self) -> float:
        """Energy so far."""
        now = self._now()
        if self._energy_t is not None:
            self._energy_j += self.gpu()[2] * max(now - self._energy_t, 0.0)
        self._energy_t = now
        return self._energy_j

    def processes(self) -> list[tuple[int, float]]:
        """Pid and GiB of everything on the GPU."""
        doing = self._doing()
        found = [(doing.pid, self.held_gib())] if doing.pid is not None else []
        tenant = self.tenant_gib()
        return found + ([(_TENANT_PID, tenant)] if tenant else [])

    def comm(self, pid: int, otherwise: Callable[[int], str]) -> str:
        """The name of a process; the simulated tenant has one."""
        return "ComfyUI" if pid == _TENANT_PID else otherwise(pid)


_TENANT_PID = 4_194_400
"""Above every pid that Linux gives."""


class _Nvml:
    """As much of pynvml as is asked for, answering as a GB10 does."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, machine: SimulatedGb10) -> None:
        self._machine = machine

    def nvmlInit(self) -> None:
        """Start."""

    def nvmlShutdown(self) -> None:
        """End."""

    def nvmlDeviceGetCount(self) -> int:
        """One."""
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """A handle."""
        return index

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)
        machine = self._machine
        lost = machine.driven == "gpu-lost"
        answers: dict[str, Callable[[], Any]] = {
            "nvmlDeviceGetName": lambda: "NVIDIA GB10",
            "nvmlDeviceGetCudaComputeCapability": lambda: (12, 1),
            "nvmlDeviceGetUtilizationRates": lambda: SimpleNamespace(
                gpu=machine.gpu()[0], memory=0
            ),
            "nvmlDeviceGetPowerUsage": lambda: int(machine.gpu()[2] * 1000),
            "nvmlDeviceGetTotalEnergyConsumption": lambda: int(machine.energy_j() * 1000),
            "nvmlDeviceGetClockInfo": lambda: machine.gpu()[1],
            "nvmlDeviceGetMaxClockInfo": lambda: 3003,
            "nvmlDeviceGetTemperature": lambda: machine.gpu()[3],
            "nvmlDeviceGetMarginTemperature": lambda: 94 - machine.gpu()[3],
            "nvmlDeviceGetPerformanceState": lambda: 0 if machine.gpu()[0] else 8,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda: machine.gpu()[4],
            "nvmlDeviceGetComputeRunningProcesses": lambda: [
                SimpleNamespace(pid=pid, usedGpuMemory=int(gib * GIB))
                for pid, gib in machine.processes()
            ],
            "nvmlDeviceGetGraphicsRunningProcesses": lambda: [],
        }

        def call(*_: object) -> Any:
            if lost:
                raise NVMLError_GpuIsLost
            if name not in answers:
                raise NVMLError_NotSupported
            return answers[name]()

        return call
