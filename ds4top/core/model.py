"""What a view is given: the state of the log, the time, and how the sources are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import tzinfo

from ds4top.core.alertlog import PastAlert
from ds4top.core.alerts import Alert
from ds4top.core.deeds import Deed, PastDeed, Startable
from ds4top.core.kept import NOTHING_KEPT, Kept, last_starts
from ds4top.core.keymap import DEFAULT_KEYS, Keys
from ds4top.core.machine import Machine
from ds4top.core.own import OwnCost
from ds4top.core.state import LogState


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """One source: ``ok``, ``missing``, ``denied``, ``error`` or ``stale``, why, and its age.

    ``cost_ms``: what its turns took of late; ``every_s``: its pace, 0 as soon as there is more.
    """

    name: str
    state: str
    detail: str
    age_s: float | None = None
    cost_ms: float | None = None
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """Where a replay stands; seconds of the recorded time."""

    position_s: float
    total_s: float
    speed: float
    paused: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class History:
    """How far the beginning of a big log has been read."""

    done_bytes: int
    total_bytes: int
    note: str = ""


@dataclass(slots=True)
class Model:
    """Everything a view may read. ``now`` is wall time: of the clock, or of the replay."""

    log: LogState
    now: float
    machine: Machine = field(default_factory=Machine)
    source: str = ""
    tz: tzinfo | None = None
    replay: Replay | None = None
    history: History | None = None
    health: tuple[SourceHealth, ...] = ()
    note: str = ""
    lines: int = 0
    acting: Deed | None = None
    """The action that goes on, or the last one of this run."""
    read_only: str = ""
    """Why nothing acts; empty where the acting keys are there."""
    past: tuple[PastDeed, ...] = ()
    startable: Startable | None = None
    """What there is to start, by what was kept."""
    demo: str = ""
    inside: str = ""
    """The kind of container that ds4top itself runs in, if it does."""
    speed: float = 1.0
    flags: frozenset[str] = frozenset()
    details: dict[str, str] = field(default_factory=dict)
    kept: Kept = NOTHING_KEPT
    alerts: tuple[Alert, ...] = ()
    """Those that stood at the last tick, the worst first."""
    past_alerts: tuple[PastAlert, ...] = ()
    """Those that the history holds, oldest first."""
    own: OwnCost | None = None
    """What ds4top itself costs: while somebody looks at it."""
    keys: Keys = DEFAULT_KEYS
    """What texts call a key: as bound now."""

    @property
    def past_starts_s(self) -> dict[str, float]:
        """Seconds of the last start by residency, of the log and of earlier runs."""
        found = last_starts(self.log, self.kept.starts)
        return {residency: start.load_s for residency, start in found.items()}
