"""A simulated GB10 under the demo: its /proc texts and its NVML follow what the stand-in does.

Figures of one DGX Spark: MemTotal 127,600,748 kB; 113.1 GiB available with nothing started; 80.76
GiB of weights, 5.2 GiB of arenas beside a copy (antirez/ds4#158), 1 GiB beside mapped weights; 14
GB of checkpoints in a large prefill of the daily-agent build; 31-39 W decoding
(vllm-project/vllm#41834), 60-90 W in prefill, 11 W idle with a model (XuehaiPan/nvitop#208).
``drive`` brings the machine into each state that an alert is about.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Condition, RLock

from ds4top.standin.gb10_files import (
    GIB,
    TOTAL_BYTES,
    Counters,
    Memory,
    buddyinfo,
    kernel_log,
    meminfo,
    pressure,
    vmstat,
)
from ds4top.standin.gb10_nvml import GpuFigures, SimulatedNvml
from ds4top.standin.state import Doing

__all__ = ["KINDS", "TOTAL_BYTES", "Doing", "SimulatedGb10"]

TOTAL_GIB = TOTAL_BYTES / GIB
WEIGHTS_GIB, ARENAS_GIB, MAPPED_GIB, CONTEXT_GIB = 80.76, 5.2, 1.0, 2.37
CHECKPOINTS = ((0, 0.0), (16_384, 2.0), (56_000, 14e9 / GIB))
"""Tokens to prefill, and GiB that a daily-agent build takes meanwhile."""
BASE_GIB = 1.1
"""Dark memory of a machine with nothing on it."""
TENANT_GIB, TENANT_S = 12.0, 6.0
LOW_GIB, LOW_TAU_S = 4.0, 12.0
COLLAPSE = ((0.0, 29.0), (4.0, 24.5), (7.0, 11.3), (11.0, 6.3))
"""Seconds and GiB left: 29.0 to 6.3 in 11 s, 13.2 of it within 3 s (vllm-project/vllm#56824)."""
_GIVEN_BACK_GIB_S = 12.0
_CHECKPOINTS_UP_GIB_S, _CHECKPOINTS_DOWN_GIB_S = 4.0, 8.0
_READ_AGAIN_GIB_S = 2.0
_FLOOR_GIB, _CACHE_FLOOR_GIB = 0.6, 0.6
_STEP_S = 0.1
_LAG_S, _HOT_LAG_S = 20.0, 4.0
TENANT_PID, TAKER_PID = 4_194_400, 4_194_401
"""Above every pid that Linux gives."""
_NAMES = {TENANT_PID: "ComfyUI", TAKER_PID: "python3"}
LASTS_S = {
    "headroom-low": 90.0, "collapse": 30.0, "tenant": 120.0, "swap": 60.0, "refault": 60.0,
    "blocks": 90.0, "oom": 5.0, "poison": 5.0, "no-memory": 5.0, "low-power": 90.0,
    "thermal": 90.0, "gpu-lost": 40.0, "nvml-hang": 30.0, "nothing": 0.0,
}  # fmt: skip
KINDS = tuple(LASTS_S)
_FAULTS = {"oom": "oom", "poison": "cuda"}
"""Those that the stand-in itself must fail with, by its own names."""
_PHASES: dict[str, tuple[float, float, float, float, float, int]] = {
    # Utilisation %, clock in MHz, watts and how far each goes up and down, degrees.
    "prefill": (95.5, 2350.0, 55.0, 75.0, 13.0, 74),
    "decode": (95.0, 2320.0, 85.0, 35.0, 3.5, 62),
    "draining": (94.0, 2320.0, 85.0, 35.0, 3.5, 62),
    "loading": (12.0, 2310.0, 20.0, 18.0, 2.0, 47),
    "idle": (0.0, 2405.0, 0.0, 11.2, 0.3, 40),
    "stopped": (0.0, 208.0, 0.0, 3.0, 0.2, 36),
}


@dataclass(frozen=True, slots=True)
class _Driven:
    since_s: float
    until_s: float
    room_gib: float


class SimulatedGb10:
    """Texts of /proc and a module like pynvml; nothing happens but when it is asked.

    ``doing`` tells the stand-in's state (``StateReader``), ``now`` time in simulated seconds,
    ``seed`` its noise; ``fail`` lets the stand-in fail (``DemoServer.fail``).
    """

    def __init__(
        self,
        doing: Callable[[], Doing],
        now: Callable[[], float],
        seed: int = 1,
        fail: Callable[[str], object] = lambda spec: None,
    ) -> None:
        self._ask, self._now, self._fail = doing, now, fail
        dice = random.Random(seed)
        self._phases = tuple(dice.uniform(0, 2 * math.pi) for _ in range(4))
        self._lock = RLock()
        self._mended = Condition(self._lock)
        self._t: float | None = None
        self._drives: dict[str, _Driven] = {}
        self._doing = Doing()
        self._pid: int | None = None
        self._lines: list[str] = []
        self._held = self._checkpoints = self._lingering = self._taken = 0.0
        self._file_cached = 0.0
        self._cache = 4.25
        self._swapped = 0.0
        self._memory = self._spread(0.0)
        self._counters = Counters()
        self._some = self._full = (0.0, 0.0, 0.0)
        self._energy_j = 123_456.789
        self._degrees = 36.0
        self._slowed_s = [0.165687, 0.903158, 0.0]
        self.nvml = SimulatedNvml(self)

    # driving ------------------------------------------------------------------------------

    def drive(self, kind: str, lasts_s: float | None = None) -> None:
        """Bring about one of ``KINDS`` for a while; ``nothing`` ends all. Raises ``ValueError``."""
        if kind not in LASTS_S:
            raise ValueError(f"{kind}: one of {', '.join(KINDS)}")
        with self._lock:
            self._advance()
            if kind == "nothing":
                self._drives.clear()
                self._mended.notify_all()
                return
            now = self._now()
            until = now + (LASTS_S[kind] if lasts_s is None else lasts_s)
            self._drives.pop(kind, None)
            self._drives[kind] = _Driven(now, until, self._margin(self._memory))
            self._lines += kernel_log(kind, self._ask().pid)
            if kind == "oom":
                kills = self._counters.oom_kills + 1
                self._counters = replace(self._counters, oom_kills=kills)
        if kind in _FAULTS:
            self._fail(_FAULTS[kind])

    @property
    def driven(self) -> str:
        """What is being brought about, the latest of it."""
        with self._lock:
            self._advance()
            return next(reversed(self._drives), "nothing")

    def kernel_lines(self) -> tuple[str, ...]:
        """What the kernel logged since the last call."""
        with self._lock:
            lines, self._lines = tuple(self._lines), []
            return lines

    # memory -------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """A file of /proc: meminfo, vmstat, pressure/memory or buddyinfo. Raises ``KeyError``."""
        with self._lock:
            self._advance()
            memory, counters = self._memory, self._counters
            some, full = self._some, self._full
            big = 0.0 if "blocks" in self._drives else 0.9
        return {
            "meminfo": lambda: meminfo(memory),
            "vmstat": lambda: vmstat(memory, counters),
            "pressure/memory": lambda: pressure(some, full, counters),
            "buddyinfo": lambda: buddyinfo(memory.free, big),
        }[name]()

    def model_cached_bytes(self, path: str) -> int:
        """Of the model file in page cache, as cachestat tells it."""
        with self._lock:
            self._advance()
            return int(self._file_cached * GIB)

    def _spread(self, others_gib: float) -> Memory:
        """Who has what, once the cache has made room as far as it can."""
        anon, shmem, fixed = 5.8 + self._wave(0, 61, 0.02) - self._swapped, 0.35, 1.34
        hard = BASE_GIB + self._held + self._lingering + others_gib + anon + shmem + fixed
        room = TOTAL_GIB - hard
        short = max(self._file_cached + self._cache + _FLOOR_GIB - room, 0.0)
        given = min(short, max(self._cache - _CACHE_FLOOR_GIB, 0.0))
        # What is read for each token goes last.
        self._cache -= given
        self._file_cached -= min(short - given, self._file_cached)
        free = max(room - self._file_cached - self._cache, 0.12)
        return Memory(
            free=free,
            cached=self._cache - 0.12 + shmem + self._file_cached,
            buffers=0.12,
            anon=anon,
            shmem=shmem,
            reclaimable=0.5,
            unreclaimable=0.7,
            stacks=0.03,
            tables=0.09,
            percpu=0.02,
            swap_total=16.0,
            swap_free=16.0 - self._swapped,
            mapped=0.6 + (self._file_cached if not self._doing.copied else 0.0),
        )

    def _margin(self, memory: Memory) -> float:
        """Available memory less what the server reads from page cache."""
        mapped = self._doing.pid is not None and not self._doing.copied
        return memory.available - (self._file_cached if mapped else 0.0)

    def _advance(self) -> None:
        """Let what has happened since the last look happen."""
        now = self._now()
        if self._t is not None and now - self._t < _STEP_S:
            return
        passed = 0.0 if self._t is None else now - self._t
        self._t = now
        self._drives = {kind: one for kind, one in self._drives.items() if now < one.until_s}
        before = self._doing
        self._doing = self._ask()
        self._hold(passed)
        self._take(now, passed)
        self._count(before, passed)
        self._warm(passed)

    def _hold(self, passed: float) -> None:
        """What the server holds, and what the driver has not given back yet of one that ended."""
        doing = self._doing
        self._lingering = max(self._lingering - _GIVEN_BACK_GIB_S * passed, 0.0)
        fresh = doing.pid != self._pid
        if fresh:
            self._lingering += self._held
            self._pid = doing.pid
        if doing.pid is None or doing.phase == "loading":
            self._checkpoints = 0.0
        wanted = 0.0
        if doing.phase == "prefill" and doing.agent:
            wanted = _between(CHECKPOINTS, doing.prompt_tokens) * doing.done_share
        step = wanted - self._checkpoints
        least, most = -_CHECKPOINTS_DOWN_GIB_S * passed, _CHECKPOINTS_UP_GIB_S * passed
        self._checkpoints += min(max(step, least), most)
        held = 0.0
        if doing.pid is not None and doing.phase != "stopped":
            weights = (doing.model_bytes or WEIGHTS_GIB * GIB) / GIB
            held = (weights + ARENAS_GIB if doing.copied else MAPPED_GIB) * doing.loaded
            if doing.phase != "loading":
                context = doing.context_bytes
                held += CONTEXT_GIB if context is None else context / GIB
            held += self._checkpoints
            self._fill_cache(weights, math.inf if fresh else passed)
        self._held = held

    def _fill_cache(self, weights: float, passed: float) -> None:
        doing = self._doing
        if doing.copied:
            return
        if doing.phase == "loading":
            # The stand-in loads as from a cold disk.
            self._file_cached = weights * doing.loaded
            return
        again = min(weights - self._file_cached, _READ_AGAIN_GIB_S * passed)
        if again > 0:
            self._file_cached += again
            if passed < math.inf:
                refaulted = self._counters.refaulted_bytes + again * GIB
                self._counters = replace(self._counters, refaulted_bytes=refaulted)

    def _take(self, now: float, passed: float) -> None:
        """Memory of other processes, and what is left."""
        self._swapped = 2.0 if "swap" in self._drives else 0.0
        busy = self._doing.phase in ("prefill", "decode")
        self._cache = min(self._cache + (0.02 * passed if busy else 0.0), 9.0)
        self._taken = 0.0
        plain = self._spread(self._tenant_gib(now))
        left = self._margin(plain)
        wanted = left
        if (one := self._drives.get("headroom-low")) is not None:
            fall = math.exp(-(now - one.since_s) / LOW_TAU_S)
            wanted = min(wanted, LOW_GIB + max(one.room_gib - LOW_GIB, 0.0) * fall)
        if (one := self._drives.get("collapse")) is not None:
            (_, top), (_, end) = COLLAPSE[0], COLLAPSE[-1]
            share = (_between(COLLAPSE, now - one.since_s) - end) / (top - end)
            begin = max(min(one.room_gib, top), end)
            wanted = min(wanted, end + (begin - end) * share)
        self._taken = max(left - wanted, 0.0)
        self._memory = self._spread(self._tenant_gib(now) + self._taken) if self._taken else plain

    def _tenant_gib(self, now: float) -> float:
        one = self._drives.get("tenant")
        return min((now - one.since_s) / TENANT_S, 1.0) * TENANT_GIB if one is not None else 0.0

    def _count(self, before: Doing, passed: float) -> None:
        """Counters grow with what was done."""
        doing, drives, c = self._doing, self._drives, self._counters
        busy = doing.phase in ("prefill", "decode", "loading")
        loaded = doing.loaded - before.loaded if doing.phase == before.phase == "loading" else 0.0
        swaps, again = "swap" in drives, "refault" in drives
        tight = self._memory.free < 2 * _FLOOR_GIB
        stall = 0.3 if tight and self._taken else 0.2 if swaps or again else 0.0
        refaulted = 160e6 * passed if again else 0.0
        self._counters = replace(
            c,
            read_bytes=c.read_bytes + max(loaded, 0.0) * WEIGHTS_GIB * GIB + refaulted,
            written_bytes=c.written_bytes + (3e6 if busy else 2e4) * passed,
            swapped_in_bytes=c.swapped_in_bytes + (2.9e6 * passed if swaps else 0.0),
            swapped_out_bytes=c.swapped_out_bytes + (5.8e6 * passed if swaps else 0.0),
            refaulted_bytes=c.refaulted_bytes + refaulted,
            faults=c.faults + (3000.0 if busy else 150.0) * passed,
            major_faults=c.major_faults + ((700.0 if swaps or again else 0.02) * passed),
            scanned_bytes=c.scanned_bytes + (4e8 if stall else 0.0) * passed,
            stalls=c.stalls + (40.0 if stall else 0.0) * passed,
            compactions=c.compactions + (25.0 if "blocks" in drives else 0.0) * passed,
            some_us=c.some_us + stall * 1.6 * passed * 1e6,
            full_us=c.full_us + stall * passed * 1e6,
        )
        self._some = _averages(self._some, stall * 160, passed)
        self._full = _averages(self._full, stall * 100, passed)

    # GPU ----------------------------------------------------------------------------------

    def gpu(self) -> GpuFigures:
        """The GPU now."""
        with self._lock:
            self._advance()
            power, software, hardware = (int(seconds * 1e9) for seconds in self._slowed_s)
            phase = self._doing.phase
            busy, clock, watts, _, reasons = self._load()
            return GpuFigures(
                busy, clock, watts, self._degrees, reasons, 8 if phase == "stopped" else 0,
                self._energy_j, (power, software, hardware),
            )  # fmt: skip

    def _load(self) -> tuple[int, int, float, float, int]:
        """Utilisation, MHz, watts, the degrees it tends to, reasons."""
        phase = self._doing.phase
        busy, clock, clock_swing, watts, swing, degrees = _PHASES[phase]
        utilisation = round(busy + (self._wave(1, 7, 0.49) if busy else 0))
        mhz = clock + self._wave(2, 11, clock_swing)
        power = watts + self._wave(3, 13, swing)
        reasons = 1 if phase == "stopped" else 0
        if "low-power" in self._drives and phase != "stopped":
            # Idle it looks well.
            mhz, power, degrees = (695.0, 15.0, 45) if utilisation >= 90 else (2223.0, 7.0, 40)
        if "thermal" in self._drives and utilisation >= 90:
            mhz, power, degrees, reasons = 1900.0, 60.0, 92, 0x20
        return utilisation, round(mhz), power, degrees, reasons

    def _warm(self, passed: float) -> None:
        _, _, watts, degrees, reasons = self._load()
        lag = _HOT_LAG_S if "thermal" in self._drives else _LAG_S
        self._degrees += (degrees - self._degrees) * (1 - math.exp(-passed / lag))
        self._energy_j += watts * passed
        if reasons & 0x20:
            self._slowed_s[1] += 0.6 * passed

    def processes(self) -> list[tuple[int, float]]:
        """Pid and GiB of everything on the GPU."""
        with self._lock:
            self._advance()
            found = [(self._doing.pid or 0, self._held)] if self._held else []
            others = ((TENANT_PID, self._tenant_gib(self._now())), (TAKER_PID, self._taken))
            return found + [(pid, gib) for pid, gib in others if gib > 0]

    def answers(self) -> bool:
        """Whether the GPU is on the bus; blocks while the driver hangs."""
        with self._lock:
            self._advance()
            while "nvml-hang" in self._drives:
                self._mended.wait(0.1)
                self._advance()
            return "gpu-lost" not in self._drives

    def comm(self, pid: int, otherwise: Callable[[int], str]) -> str:
        """The name of a process; those of the simulation have one."""
        return _NAMES.get(pid) or otherwise(pid)

    def _wave(self, which: int, period_s: float, size: float) -> float:
        return size * math.sin((self._t or 0.0) * 2 * math.pi / period_s + self._phases[which])


def _between(points: tuple[tuple[float, float], ...], at: float) -> float:
    """A line through points; beyond its ends it stays where it is."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if at < x1:
            return y0 + (y1 - y0) * max(at - x0, 0.0) / (x1 - x0)
    return points[-1][1]


def _averages(
    old: tuple[float, float, float], share_pct: float, passed: float
) -> tuple[float, float, float]:
    """The kernel's running averages over 10, 60 and 300 s."""
    ten, minute, five = (
        share_pct + (value - share_pct) * math.exp(-passed / span)
        for value, span in zip(old, (10, 60, 300), strict=True)
    )
    return ten, minute, five
