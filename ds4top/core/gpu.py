"""The GPU: one frozen sample, reasons in words, and faults that look normal when idle.

Sources: NVML as a GB10 answers it (gpud#1170, nvitop#208, all-smi#80, vllm#55828); the low-power
fault by hasso5703/dgx-spark-qwen38#8 and spark-gpu-throttle-check. ``None`` is "not supported" or
"not known" and is never shown as a number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

REASONS: tuple[tuple[int, str, bool], ...] = (
    (0x1, "idle", False),
    (0x2, "clocks set by the user", False),
    (0x4, "software power cap", True),
    (0x8, "hardware slowdown", True),
    (0x10, "sync boost", False),
    (0x20, "software thermal", True),
    (0x40, "hardware thermal", True),
    (0x80, "power brake", True),
    (0x100, "display clocks", False),
)
"""Bits of nvmlDeviceGetCurrentClocksEventReasons: what each says, and whether it slows."""
USER_CLOCKS = 0x2
THERMAL = 0x20 | 0x40


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """Memory that a process holds; ``used_bytes`` is ``None`` where NVML has no figure."""

    pid: int
    used_bytes: int | None
    comm: str = ""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at monotonic ``t``. ``unified``: its memory is the machine's, there is no other.

    ``reasons`` are NVML's bits; ``slowed_us`` microseconds by counter since the driver's start.
    """

    index: int
    t: float
    wall: float
    name: str | None = None
    unified: bool = False
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation_pct: int | None = None
    sm_clock_mhz: int | None = None
    sm_clock_most_mhz: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None
    temperature_c: int | None = None
    margin_c: int | None = None
    performance_state: int | None = None
    capability: tuple[int, int] | None = None
    reasons: int | None = None
    slowed_us: tuple[tuple[str, int], ...] = ()
    processes: tuple[GpuProcess, ...] | None = None

    @property
    def gauge_key(self) -> str:
        """Each GPU is a gauge of its own."""
        return f"gpu{self.index}"

    @property
    def throttle(self) -> tuple[str, ...]:
        """What slows it now, in words."""
        return throttle_words(self.reasons or 0)

    def held_bytes(self, pid: int) -> int | None:
        """What a process holds; ``None`` where that is not told."""
        for process in self.processes or ():
            if process.pid == pid:
                return process.used_bytes
        return None if self.processes is None else 0

    def others(self, pid: int | None) -> tuple[GpuProcess, ...]:
        """Every other process, the largest first."""
        found = [process for process in self.processes or () if process.pid != pid]
        return tuple(sorted(found, key=lambda process: -(process.used_bytes or 0)))


def throttle_words(reasons: int, *, all_of_them: bool = False) -> tuple[str, ...]:
    """Reasons in words; by default only those that slow."""
    return tuple(words for bit, words, slows in REASONS if reasons & bit and (slows or all_of_them))


def merged(lists: Iterable[Iterable[tuple[int, int | None]]]) -> dict[int, int | None]:
    """Memory by pid of several lists: a process in two of them counts once, by its larger figure.

    A process that computes and draws is in both lists with the same memory.
    """
    found: dict[int, int | None] = {}
    for each in lists:
        for pid, used in each:
            known = found.get(pid)
            found[pid] = used if known is None else known if used is None else max(known, used)
    return found


_INTEGRATED = ("NVIDIA GB10", "NVIDIA N1")


def is_unified(
    total_bytes: int | None, machine_bytes: int | None, *, bus_bits: int | None, name: str | None
) -> bool:
    """Whether GPU memory is the machine's.

    NOT_SUPPORTED (``None``) is the normal answer to its size there, and to the width of its bus; a
    total of 0, within 5 % of MemTotal, or of a small carve-out (8,128 MiB on an N1X) are seen too.
    """
    if not total_bytes:
        return True
    if bus_bits:
        return False
    if (name or "").startswith(_INTEGRATED):
        return True
    return machine_bytes is not None and abs(total_bytes - machine_bytes) < 0.05 * machine_bytes


# Faults ---------------------------------------------------------------------------------------

LOW_MHZ = 1400
"""Healthy is about 2,400 under load, the fault 500 to 900 (sparkview uses the same line)."""
_BUSY_PCT = 90
_COOL_C = 80
_OF = 10
_HITS = 8
_APART_S = 30.0
LOW_POWER_MEND = (
    "low-power state, known on GB10 (USB-PD negotiation): a reboot usually does not clear it;"
    " unplug the supply from wall and device for 60 s"
)


def looks_low(sample: GpuSample) -> bool:
    """Whether this sample has the marks of the low-power fault: busy, slow, cool, not capped.

    Power alone says nothing: waiting on a network is 96 % and 15 W at normal clocks.
    """
    return (
        sample.utilisation_pct is not None
        and sample.utilisation_pct >= _BUSY_PCT
        and sample.sm_clock_mhz is not None
        and sample.sm_clock_mhz < LOW_MHZ
        and (sample.temperature_c is None or sample.temperature_c < _COOL_C)
        and not (sample.reasons or 0) & (THERMAL | USER_CLOCKS)
    )


@dataclass(slots=True)
class GpuTrack:
    """One GPU over time: the last sample, what slowed it of late, and its faults."""

    sample: GpuSample | None = None
    watts: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=600))
    _marks: deque[bool] = field(default_factory=lambda: deque(maxlen=_OF))
    low_since_wall: float | None = None
    low_spells: list[tuple[float, float]] = field(default_factory=list)
    slowed: dict[str, float] = field(default_factory=dict)
    _energy: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=120))

    def take(self, sample: GpuSample, decoded_tokens: int = 0) -> None:
        """One sample; ``decoded_tokens`` counts what was generated so far."""
        before = self.sample
        self.sample = sample
        if sample.power_w is not None:
            self.watts.append((sample.t, sample.power_w))
        if sample.energy_j is not None:
            self._energy.append((sample.t, sample.energy_j, decoded_tokens))
        if before is not None and sample.slowed_us and before.slowed_us:
            span_s = sample.t - before.t
            old = dict(before.slowed_us)
            self.slowed = {
                name: (value - old[name]) / 1e6 / span_s
                for name, value in sample.slowed_us
                if span_s > 0 and name in old and value > old[name]
            }
        self._low_power(sample)

    def _low_power(self, sample: GpuSample) -> None:
        self._marks.append(looks_low(sample))
        if sum(self._marks) >= _HITS:
            if self.low_since_wall is None:
                self.low_since_wall = sample.wall
                last = self.low_spells[-1] if self.low_spells else None
                if last is not None and sample.wall - last[1] < _APART_S:
                    self.low_since_wall = last[0]
                    self.low_spells.pop()
        elif self.low_since_wall is not None and not any(self._marks):
            self.low_spells.append((self.low_since_wall, sample.wall))
            self.low_since_wall = None
            del self.low_spells[:-50]

    def low_power_words(self, now: float) -> str | None:
        """The fault, with its figures, while it lasts."""
        sample = self.sample
        if self.low_since_wall is None or sample is None:
            return None
        minutes = max(now - self.low_since_wall, 0.0) / 60
        times = sum(1 for begin, _ in self.low_spells if begin > now - 86_400) + 1
        power = "" if sample.power_w is None else f", {sample.power_w:.0f} W"
        again = f", {_ordinal(times)} time today" if times > 1 else ""
        return (
            f"GPU {sample.utilisation_pct} % busy at {sample.sm_clock_mhz:,} MHz{power}"
            f" for {minutes:.0f} min{again}"
        )

    def joules_per_token(self) -> float | None:
        """Energy of the last minutes over the tokens decoded in them; ``None`` below 50 tokens."""
        if len(self._energy) < 2:
            return None
        (_, first_j, first), (_, last_j, last) = self._energy[0], self._energy[-1]
        tokens = last - first
        return (last_j - first_j) / tokens if tokens >= 50 and last_j > first_j else None


def _ordinal(number: int) -> str:
    return (
        f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number if number < 20 else number % 10, 'th') }"
    )


def server_bytes(samples: Sequence[GpuSample], pid: int) -> int | None:
    """What a process holds on all GPUs; ``None`` where no GPU tells."""
    known = [held for sample in samples if (held := sample.held_bytes(pid)) is not None]
    return sum(known) if known else None
