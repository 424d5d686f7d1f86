"""What goes into the black box: everything known of a machine and its server, as one record."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from ds4top.core.boxrecord import BoxRecord, Ended
from ds4top.core.derive import ServerState, Status
from ds4top.core.machine import Machine
from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import slope_bytes_per_s
from ds4top.core.memtrack import FAST_SLOPE_S
from ds4top.core.state import LogState


def record_of(machine: Machine, log: LogState, status: Status, wall: float) -> BoxRecord:
    """The record of this moment. ``status`` is of the log; a server that is not seen is absent."""
    memory, gpu, request = machine.memory, machine.gpu, log.running
    sample = memory.sample
    other = next(iter(machine.others()), None)
    held = [process.used_bytes for gpu in machine.samples() for process in gpu.processes or ()]
    target = machine.server.target if machine.server is not None else None
    residency = machine.residency(log)[0].value if target is not None else "unknown"
    return BoxRecord(
        wall=sample.wall if sample is not None else wall,
        t=sample.t if sample is not None else 0.0,
        level=memory.level,
        phase=phase_of(machine, status),
        residency=residency,
        ended=ended_of(machine, log),
        free_bytes=sample.free_bytes if sample is not None else None,
        available_bytes=sample.available_bytes if sample is not None else None,
        headroom_bytes=memory.headroom,
        slope_bytes_per_s=memory.slope(FAST_SLOPE_S),
        gpu_held_bytes=sum(used or 0 for used in held) if held else None,
        oom_kills=sample.oom_kills if sample is not None else None,
        big_blocks=sample.blocks.big if sample is not None and sample.blocks else None,
        power_w=gpu.power_w if gpu is not None else None,
        sm_clock_mhz=gpu.sm_clock_mhz if gpu is not None else None,
        temperature_c=gpu.temperature_c if gpu is not None else None,
        utilisation_pct=gpu.utilisation_pct if gpu is not None else None,
        request_number=request.number if request is not None else None,
        request_started_wall=request.started_at if request is not None else None,
        context_tokens=request.context_tokens if request is not None else None,
        prompt_tokens=request.prompt_tokens if request is not None else None,
        decode_tps=request.decode_tps if request is not None else None,
        context_limit_tokens=_limit(machine, log),
        pid=target.pid if target is not None else None,
        start_ticks=target.start_ticks if target is not None else None,
        other_pid=other.pid if other is not None else None,
        other_bytes=other.used_bytes if other is not None else None,
        other_comm=other.comm if other is not None else "",
        told_wall=wall,
    )


def phase_of(machine: Machine, status: Status) -> str:
    """The state of the log, unless no server is seen: then it is stopped, or was never there."""
    if machine.server is not None:
        return status.state.value
    if machine.gone is None:
        return "absent"
    failed = status.state is ServerState.FAILED
    return ServerState.FAILED.value if failed else ServerState.STOPPED.value


def ended_of(machine: Machine, log: LogState) -> Ended:
    """How a server that is gone went, by the last lines of its log; empty where they do not tell.

    A life that was asked to stop and has no request open went cleanly; one that listened and
    was not asked has died.
    """
    life = log.life
    if machine.server is not None or machine.gone is None or life is None:
        return ""
    if life.died is not None or life.poisoned is not None:
        return "died"
    if life.shutdown:
        return "died" if life.persist_open or log.open else "clean"
    return "died" if life.listened or life.served else ""


def _limit(machine: Machine, log: LogState) -> int | None:
    life = log.life
    if life is not None and life.buffers is not None:
        return life.buffers.ctx_tokens
    return machine.server.context_tokens if machine.server is not None else None


@dataclass(slots=True)
class Follower:
    """Memory as it comes, on top of the last look at everything else.

    Memory is sampled far more often than a screen is painted, and goes on while a screen hangs.
    """

    frame: BoxRecord | None = None
    _points: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))

    def memory(self, sample: MemorySample) -> BoxRecord:
        """The record of a memory sample; headroom leaves out what the last look left out.

        The slope is that of MemAvailable, as everywhere.
        """
        frame = self.frame
        if sample.available_bytes is not None:
            self._points.append((sample.t, sample.available_bytes))
        headroom = sample.available_bytes
        if headroom is not None and frame is not None:
            if frame.headroom_bytes is None or frame.available_bytes is None:
                headroom = None
            else:
                headroom -= frame.available_bytes - frame.headroom_bytes
        base = frame or BoxRecord(sample.wall, sample.t)
        return replace(
            base,
            wall=sample.wall,
            t=sample.t,
            free_bytes=sample.free_bytes,
            available_bytes=sample.available_bytes,
            headroom_bytes=headroom,
            slope_bytes_per_s=slope_bytes_per_s(self._points, FAST_SLOPE_S),
            oom_kills=sample.oom_kills,
            big_blocks=sample.blocks.big if sample.blocks is not None else None,
        )
