"""The GPU: one frozen sample, reasons in words, and faults that look normal when idle.

Sources: NVML as a GB10 answers it (gpud#1170, nvitop#208, all-smi#80, vllm#55828); the low-power
fault by hasso5703/dgx-spark-qwen38#8 and spark-gpu-throttle-check. ``None`` is "not supported" or
"not known" and is never shown as a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ds4top.core.gputrack import Energy, LowPower, Slowed
from ds4top.core.units import fmt_age

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
STALE_S = 2.0
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

    ``power_w`` is of the GPU's own rail, the box draws far more. ``reasons`` are NVML's bits;
    ``slowed_us`` microseconds by counter since the driver's start, read at ``slowed_t``.
    ``missing`` are NVML's calls without an answer and why: "not supported", or the error.
    """

    index: int
    t: float
    wall: float
    name: str | None = None
    uuid: str | None = None
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
    slowed_t: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def gauge_key(self) -> str:
        """Each GPU is a gauge of its own."""
        return f"gpu{self.index}"

    def stale(self, now_wall: float) -> bool:
        """Whether nothing came for two seconds: the driver is silent, these figures are old."""
        return now_wall - self.wall > STALE_S

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


def throttle_words(reasons: int) -> tuple[str, ...]:
    """Reasons that slow it, in words."""
    return tuple(words for bit, words, slows in REASONS if reasons & bit and slows)


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
_CARVE_OUT = 0.15
_SAME = 0.05


def is_unified(
    total_bytes: int | None, machine_bytes: int | None, *, bus_bits: int | None, name: str | None
) -> bool:
    """Whether GPU memory is the machine's.

    NOT_SUPPORTED (``None``) is the normal answer to its size there, and to the width of its bus; a
    total of 0, within 5 % of MemTotal (nvitop#208), or of a small carve-out (8,128 MiB on an N1X,
    unsloth#10283) are seen too. A card with a bus of its own is none of these, whatever its size.
    """
    if bus_bits:
        return False
    if not total_bytes:
        return True
    if (name or "").startswith(_INTEGRATED):
        return True
    if machine_bytes is None:
        return False
    return (
        abs(total_bytes - machine_bytes) < _SAME * machine_bytes
        or total_bytes < _CARVE_OUT * machine_bytes
    )


# Faults ---------------------------------------------------------------------------------------

LOW_MHZ = 1400
"""Healthy is about 2,400 under load, the fault 500 to 900 (sparkview uses the same line)."""
_BUSY_PCT = 90
_COOL_C = 80
_SEEN_S = 15.0
_LEAST_TOKENS = 50


def low_look(sample: GpuSample) -> bool | None:
    """Whether it has the marks of the low-power fault; ``None`` where it is idle or not told.

    Busy, slow, cool, not capped. Power alone says nothing: waiting on a network is 96 % and 15 W
    at normal clocks.
    """
    if sample.utilisation_pct is None or sample.sm_clock_mhz is None:
        return None
    if sample.utilisation_pct < _BUSY_PCT:
        return None
    return (
        sample.sm_clock_mhz < LOW_MHZ
        and (sample.temperature_c is None or sample.temperature_c < _COOL_C)
        and not (sample.reasons or 0) & (THERMAL | USER_CLOCKS)
    )


@dataclass(slots=True)
class GpuTrack:
    """One GPU over time: the last sample, what slowed it, its faults, what its tokens cost."""

    sample: GpuSample | None = None
    slow: Slowed = field(default_factory=Slowed)
    low_power: LowPower = field(default_factory=LowPower)
    energy: Energy = field(default_factory=Energy)
    _low: GpuSample | None = None

    def take(
        self, sample: GpuSample, decoded_tokens: int = 0, decoding: bool | None = None
    ) -> None:
        """One sample; ``decoded_tokens`` counts what was generated so far, ``decoding`` says
        whether that goes on, so that the energy of a prefill is not counted as a token's."""
        self.sample = sample
        t = sample.t
        self.energy.take(t, sample.energy_j, sample.power_w, decoded_tokens, decoding)
        read_t = t if sample.slowed_t is None else sample.slowed_t
        self.slow.take(t, read_t, sample.slowed_us)
        low = low_look(sample)
        self.low_power.take(t, sample.wall, low)
        if low:
            self._low = sample

    def lose(self) -> None:
        """The driver is gone: the row goes; what was seen of faults today is kept."""
        self.sample = None

    @property
    def slowed(self) -> dict[str, float]:
        """Share of the time in which the clocks were held down, by reason; only what grew."""
        return self.slow.share

    def low_power_words(self, now: float, midnight: float) -> str | None:
        """The fault while it lasts: for how long, how often since ``midnight``; where nothing was
        seen of it for a while, by which figures it was known. Times are seconds of the epoch.
        """
        low = self._low
        if not self.low_power.there or low is None:
            return None
        spell = self.low_power.spells[-1]
        times = self.low_power.count(midnight)
        again = f", {_ordinal(times)} time today" if times > 1 else ""
        words = f"low-power fault for {fmt_age(spell.last_wall - spell.begin_wall)}{again}"
        unseen_s = now - spell.last_wall
        if unseen_s <= _SEEN_S:
            return words
        power = "" if low.power_w is None else f", {low.power_w:.0f} W"
        figures = f"{low.utilisation_pct} % at {low.sm_clock_mhz:,} MHz{power}"
        return f"{words}, last seen {fmt_age(unseen_s)} ago ({figures})"

    def joules_per_token(self) -> float | None:
        """Energy of decode in the last ten minutes over its tokens; ``None`` below 50 of them."""
        return self.energy.per_token(_LEAST_TOKENS)


def _ordinal(number: int) -> str:
    teen = number // 10 % 10 == 1
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def server_bytes(samples: Sequence[GpuSample], pid: int) -> int | None:
    """What a process holds on all GPUs; ``None`` where no GPU tells."""
    known = [held for sample in samples if (held := sample.held_bytes(pid)) is not None]
    return sum(known) if known else None
