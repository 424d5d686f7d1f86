"""What the alert rules look at, and what a rule says.

Every field may be ``None``: unknown. An alert that stands is kept for a while when its facts become
unknown; it neither leaves at once nor stays for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ds4top.core.keymap import DEFAULT_KEYS, Keys
from ds4top.core.memory import CRITICAL_BYTES, OK_BYTES

Level = Literal["warning", "critical"]


@dataclass(frozen=True, slots=True)
class XidSeen:
    """An error of the GPU's driver by its number; ``ours`` where it names this server."""

    number: int
    ours: bool = False
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """One moment of a server and its machine. Rates are per second, ages in seconds.

    Log: ``state`` and ``state_why`` as in the status (``failed``, ``poisoned``, ``loading`` …);
    ``quiet_s`` with ``last_known`` where the log stopped in the middle of something;
    ``log_warnings`` how often each kind of warning came in this life.
    Memory: ``memory_level`` is a level that has its own hysteresis (``MemoryTrack.level``); where
    it is ``None`` the headroom itself is judged. While loading ``projected_bytes`` is judged.
    Decode: ``slow_samples`` in a row were below 0.8 of what is expected.
    GPU: ``low_power`` is the fault as somebody else judged it over time; where it is ``None`` clock
    and load themselves are judged. ``throttle`` are the active reasons in words,
    ``throttle_ms_per_s`` the growth of their counters.
    Recent events: counts and ages since they happened; those older than ten minutes are over.
    """

    state: str | None = None
    state_why: str = ""
    busy: bool | None = None
    loading: bool = False
    quiet_s: float | None = None
    last_known: bool | None = None
    log_warnings: Mapping[str, int] = field(default_factory=dict)
    poisoned: str | None = None
    divergence: tuple[int, int] | None = None
    store_failed: str | None = None

    context_tokens: int | None = None
    context_limit_tokens: int | None = None
    decode_tps: float | None = None
    expected_tps: float | None = None
    expected_from: str = ""
    slow_samples: int | None = None
    slow_core: bool | None = None
    power_pct: int | None = None

    memory_level: Literal["ok", "warning", "critical", "unknown"] | None = None
    headroom_bytes: int | None = None
    projected_bytes: int | None = None
    available_bytes: int | None = None
    free_bytes: int | None = None
    slope_bytes_per_s: float | None = None
    to_zero_s: float | None = None
    warning_bytes: int = OK_BYTES
    critical_bytes: int = CRITICAL_BYTES
    residency: str | None = None
    swap_in_bytes_per_s: float | None = None
    refault_bytes_per_s: float | None = None
    big_blocks: int | None = None
    huge_blocks: int | None = None
    oom_kills: int | None = None
    oom_victim: str = ""
    oom_age_s: float | None = None
    co_tenant: str = ""

    utilisation_pct: float | None = None
    sm_clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    margin_c: float | None = None
    clock_locked: bool | None = None
    low_power: bool | None = None
    throttle: tuple[str, ...] | None = None
    throttle_ms_per_s: float | None = None
    xids: tuple[XidSeen, ...] | None = None
    driver_no_memory: Literal["info", "warning", "critical"] | None = None
    driver_no_memory_count: int | None = None

    kv_free_bytes: int | None = None
    kv_used_bytes: int | None = None
    kv_budget_bytes: int | None = None

    gone: bool | None = None
    gone_why: str = ""
    gone_clean: bool = False
    clients_gone: int | None = None

    keys: Keys = DEFAULT_KEYS


@dataclass(frozen=True, slots=True)
class Said:
    """``level`` is ``None`` where all is well; else what is wrong, by which figure, and the fix."""

    level: Level | None
    what: str = ""
    figure: str = ""
    fix: str = ""


CLEAR = Said(None)
"""Looked at, and well: not the same as unknown."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """``check(facts, slack)``: with ``slack`` by the limits at which an alert leaves.

    ``None``: the facts do not tell. It enters after ``enter_looks`` looks in a row over
    ``enter_s``, and leaves ``leave_s`` after its facts became good.
    """

    id: str
    check: Callable[[AlertFacts, bool], Said | None]
    enter_looks: int = 1
    enter_s: float = 0.0
    leave_s: float = 5.0
