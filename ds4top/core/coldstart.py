"""A start that goes on: how far it is, when it ends, and what the last ones took here.

How much is in place is told by the log, by NVML for a copy, by mapped pages and page cache for a
mapping; of several the largest counts. Of an unknown residency what the process read stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ds4top.core.derive import ServerState, Status
from ds4top.core.events import STAGES
from ds4top.core.kept import PastStart, last_starts
from ds4top.core.loadtrack import BY_CACHE
from ds4top.core.memory import GIB
from ds4top.core.model import Model

REFERENCE_S: Mapping[str, float] = {"copy": 57.0, "mmap": 418.0}
"""Starts of a q2 model on a Spark: read in sequence at 1.4 GB/s, and by page faults at 200 MB/s."""
WORDS: Mapping[str, str] = {"copy": "no-mmap", "mmap": "mmap"}
AT_THIS_RATE, AT_THE_MEAN, BY_LAST = "at this rate", "at the mean so far", "by the last such start"
_WHOLE = 0.995
_MEAN_FROM_S = 5.0
"""A mean over less says more of the process's start than of the disk."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Bytes, seconds; ``None`` is unknown. ``source``: who tells what is ``done_bytes``.

    ``is_mean``: the rate is that since the process began, for want of a second look. ``last``: the
    newest start of each residency that this machine is known to have had.
    """

    stage: str
    residency: str
    residency_from: str
    done_bytes: int | None
    total_bytes: int | None
    source: str
    bytes_per_s: float | None
    is_mean: bool
    eta_s: float | None
    eta_from: str
    elapsed_s: float | None
    last: Mapping[str, PastStart]

    @property
    def share(self) -> float | None:
        """Of the weights, what is in place."""
        if self.done_bytes is None or not self.total_bytes:
            return None
        return self.done_bytes / self.total_bytes


def cold_start(model: Model, status: Status) -> ColdStart | None:
    """The start that goes on; ``None`` for a server that does not load."""
    log, machine = model.log, model.machine
    life = log.life
    if status.state is not ServerState.LOADING or life is None:
        return None
    server, track = machine.server, machine.load
    residency, told_by = machine.residency(log)
    last = last_starts(log, model.kept.starts)
    begun = server.started_wall if server is not None else life.engine_at
    elapsed = None if begun is None else max(model.now - begun, 0.0)
    total = server.model_bytes if server is not None else None
    done, rate, source = None, None, ""
    if server is not None and track.target == server.target:
        done, rate, source = track.done_bytes, track.bytes_per_s(), track.source
    if done is None and server is not None:
        # One look alone: memory was looked at before the others had told anything.
        known = [(size, teller) for teller, size in machine.loaded(log) if size is not None]
        done, source = max(known, default=(None, ""))
    stage = life.stages[-1] if life.stages else None
    if total is None and stage is not None and stage.total_gib is not None:
        total = int(stage.total_gib * GIB)
    if done is None and stage is not None and stage.done_gib is not None:
        done, source = int(stage.done_gib * GIB), "its log"
    if done is not None and total is not None:
        done = min(done, total)
    # What lies in the page cache may be of an earlier life.
    is_mean = rate is None and done is not None and source != BY_CACHE
    if is_mean and done is not None and elapsed is not None and elapsed >= _MEAN_FROM_S:
        rate = done / elapsed
    eta, eta_from = _eta(done, total, rate, elapsed, last.get(residency.value))
    if is_mean and eta_from == AT_THIS_RATE:
        eta_from = AT_THE_MEAN
    words = STAGES.get(stage.stage, stage.stage) if stage is not None else "starting"
    return ColdStart(
        words, residency.value, told_by, done, total, source, rate,
        is_mean and rate is not None, eta, eta_from, elapsed, last,
    )  # fmt: skip


def _eta(
    done: int | None,
    total: int | None,
    rate: float | None,
    elapsed_s: float | None,
    last: PastStart | None,
) -> tuple[float | None, str]:
    """By what is left at the present rate; once all is in place, or nobody tells, by the last."""
    if done is not None and total and done < _WHOLE * total and rate:
        return (total - done) / rate, AT_THIS_RATE
    if last is not None and elapsed_s is not None and elapsed_s < last.load_s:
        return last.load_s - elapsed_s, BY_LAST
    return None, ""
