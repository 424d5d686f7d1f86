"""Everything about the machine under the model: process, memory, GPU, kernel. A mutable store.

Fed sample by sample by whoever owns it, with the log's state beside it, for residency and loading
are told by several sources at once. Views read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ds4top.core.derive import ServerState
from ds4top.core.gpu import GpuProcess, GpuSample, GpuTrack, server_bytes
from ds4top.core.helptext import Flag
from ds4top.core.kernlines import KernelTrack
from ds4top.core.kvfile import KvDirSample
from ds4top.core.launch_units import UnitSeen
from ds4top.core.loadtrack import BY_CACHE, BY_IO, BY_LOG, BY_NVML, BY_RSS, LoadTrack
from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import (
    GIB,
    NextPrefill,
    Parts,
    Residency,
    ServerMemory,
    context_bytes,
    largest_prefill,
    next_prefill,
    parts_of,
    residency_of,
)
from ds4top.core.memtrack import MINUTE_S, Loading, MemoryTrack
from ds4top.core.process import Life as LifeKey
from ds4top.core.process import ServerProcess, changes, life_of
from ds4top.core.serverinfo import MetricsSample, ModelsAnswer, PropsSample, SlotsSample
from ds4top.core.state import Life, LogState, Phase
from ds4top.core.target import Target
from ds4top.core.vitals import Vitals

if TYPE_CHECKING:
    from ds4top.core.autopsy import Autopsy

DEFAULT_CTX = 32_768
_PAST = 50
_COARSE_BYTES = 64 << 20
_CHUNK_ROWS = {2048: 2304, 4096: 4352}
AGENT_FLAGS = frozenset({"--no-mmap", "--max-batch-size"})


@dataclass(slots=True)
class Machine:
    """``read`` names the sources that have given anything; what no source gives is unknown."""

    servers: tuple[ServerProcess, ...] = ()
    server: ServerProcess | None = None
    before: ServerProcess | None = None
    gone: Target | None = None
    gone_wall: float | None = None
    changed: tuple[str, ...] = ()
    vitals: Vitals | None = None
    memory: MemoryTrack = field(default_factory=MemoryTrack)
    load: LoadTrack = field(default_factory=LoadTrack)
    gpus: dict[int, GpuTrack] = field(default_factory=dict)
    kernel: KernelTrack = field(default_factory=KernelTrack)
    flags: tuple[Flag, ...] | None = None
    variables: frozenset[str] | None = None
    unit: UnitSeen | None = None
    autopsy: Autopsy | None = None
    absent_pid: int | None = None
    """The process that was asked for and is not there."""
    demos: tuple[int, ...] = ()
    """Processes of somebody's demo: servers of nobody else's, unless they are named."""
    blind: str = ""
    """Why servers that run may not be seen from here, and what to do."""
    kernel_route: str = ""
    """Where the kernel's lines come from."""
    kv: KvDirSample | None = None
    models: ModelsAnswer | None = None
    metrics: MetricsSample | None = None
    slots: SlotsSample | None = None
    props: PropsSample | None = None
    prefills: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_PAST))
    unified: bool = True
    ours: Mapping[LifeKey, str] = field(default_factory=dict)
    """Who started the servers that ds4top started, by their lives."""
    ok_bytes: int = 6 * GIB
    critical_bytes: int = int(2.5 * GIB)
    version: int = 0
    _prefill: tuple[int, int, int] | None = None

    # taking -------------------------------------------------------------------------------

    def seen(self, servers: tuple[ServerProcess, ...], chosen: ServerProcess | None) -> None:
        """Who runs, and who is watched."""
        self.version += 1
        self.servers = servers
        if chosen is None:
            self.server = None
            return
        chosen = self._named(chosen)
        last = self.server or self.before
        if last is not None and last.target != chosen.target:
            self.changed = changes(last, chosen)
            self.before = last
            self.vitals = None
            self.prefills.clear()
        self.server = chosen
        self.gone = self.gone_wall = None

    def _named(self, server: ServerProcess) -> ServerProcess:
        words = self.ours.get(life_of(server.target), "")
        return replace(server, started_by_us=words) if words != server.started_by_us else server

    def took(self, ours: Mapping[LifeKey, str]) -> None:
        """Which servers ds4top started."""
        self.ours = ours
        if self.server is not None:
            self.server = self._named(self.server)

    def ended(self, target: Target, wall: float) -> None:
        """The watched server is gone."""
        self.version += 1
        self.gone, self.gone_wall = target, wall
        self.before, self.server, self.vitals = self.server or self.before, None, None
        self.models = self.metrics = self.slots = None

    def take_vitals(self, vitals: Vitals) -> None:
        """What the server uses."""
        self.version += 1
        if self.server is not None and vitals.pid == self.server.target.pid:
            self.vitals = vitals

    def take_gpu(self, sample: GpuSample, decoded_tokens: int, *, decoding: bool) -> None:
        """One GPU; ``decoding``: its energy goes into tokens now."""
        self.version += 1
        self.gpus.setdefault(sample.index, GpuTrack()).take(sample, decoded_tokens, decoding)
        self.unified = any(track.sample.unified for track in self.gpus.values() if track.sample)

    def lose_gpus(self) -> None:
        """The driver is gone: its rows go."""
        self.version += 1
        for track in self.gpus.values():
            track.lose()

    def take_memory(self, sample: MemorySample, log: LogState, state: ServerState) -> None:
        """Memory, judged by what is known of the server and its log."""
        self.version += 1
        server = self.server_memory(log) if self.server is not None else None
        loading = self.loading(log) if state is ServerState.LOADING and self.server else None
        self.memory.take(
            sample,
            server,
            loading,
            ok_bytes=self.ok_bytes,
            critical_bytes=self.critical_bytes,
        )
        if state is ServerState.LOADING and self.server is not None:
            self.load.take(sample.wall, self.server.target, self.loaded(log))
        parts = self.parts(log)
        if parts is not None:
            self.memory.take_parts(sample.wall, parts)
        self._watch_prefill(log)

    def _watch_prefill(self, log: LogState) -> None:
        """Keep by how much headroom fell in each prefill."""
        headroom = self.memory.headroom
        request = log.running
        active = request is not None and request.phase is Phase.PREFILL
        if self._prefill is not None:
            number, begin, lowest = self._prefill
            if request is None or request.number != number or not active:
                size = next((r.new_tokens for r in log.requests[-5:] if r.number == number), 0)
                if size:
                    self.prefills.append((size, max(begin - lowest, 0)))
                self._prefill = None
            elif headroom is not None:
                self._prefill = (number, begin, min(lowest, headroom))
        elif active and request is not None and headroom is not None:
            self._prefill = (request.number, headroom, headroom)

    # figures ------------------------------------------------------------------------------

    @property
    def gpu(self) -> GpuSample | None:
        """The first GPU's last sample."""
        return next(iter(self.samples()), None)

    def samples(self) -> list[GpuSample]:
        """The last sample of each GPU."""
        return [track.sample for _, track in sorted(self.gpus.items()) if track.sample]

    @property
    def held_bytes(self) -> int | None:
        """What the server holds on the GPU; ``None`` where NVML does not tell."""
        if self.server is None or not self.samples():
            return None
        return server_bytes(self.samples(), self.server.target.pid)

    def residency(self, log: LogState) -> tuple[Residency, str]:
        """How the weights are held: by where the bytes are, else by the start-up lines."""
        server, life = self.server, log.life
        told = log_residency(life)
        if server is None:
            known = told is not Residency.UNKNOWN
            return told, "by its start-up lines" if known else "no server is seen"
        cached = self.vitals.model_cached_bytes if self.vitals else None
        loading = life is not None and not (life.listened or life.served)
        return residency_of(server.model_bytes, self.held_bytes, cached, told=told, loading=loading)

    def server_memory(self, log: LogState) -> ServerMemory:
        """The server's own memory, as far as it is known."""
        server, vitals = self.server, self.vitals
        return ServerMemory(
            residency=self.residency(log)[0],
            file_bytes=server.model_bytes if server else None,
            gpu_bytes=self.held_bytes,
            anon_bytes=(vitals.anon_bytes or 0) if vitals else 0,
            shmem_bytes=(vitals.shmem_bytes or 0) if vitals else 0,
            cached_bytes=vitals.model_cached_bytes if vitals else None,
        )

    def loading(self, log: LogState) -> Loading | None:
        """What a load that goes on still takes; ``None`` where the model's size is not known."""
        server = self.server
        if server is None or server.model_bytes is None:
            return None
        told, held = told_bytes(log.life), self.held_bytes
        gpu = self.gpu
        sample = self.memory.sample
        # A demo's memory lives in a time of its own.
        near = gpu is not None and sample is not None and abs(gpu.t - sample.t) < MINUTE_S
        known = [size for size in (told, held) if size is not None]
        copies = log_residency(log.life) is not Residency.MMAP
        return Loading(
            server.model_bytes,
            max(known, default=None),
            self.context_bytes(log),
            copies,
            loaded_t=gpu.t if gpu is not None and held is not None and near else None,
        )

    def loaded(self, log: LogState) -> list[tuple[str, int | None]]:
        """Who tells how much of the weights is in place, by how they are held."""
        told = [(BY_LOG, told_bytes(log.life))]
        vitals, held = self.vitals, [(BY_NVML, self.held_bytes)]
        read = [(BY_IO, vitals.read_bytes if vitals else None)]
        mapped = [
            (BY_RSS, vitals.file_bytes if vitals else None),
            (BY_CACHE, vitals.model_cached_bytes if vitals else None),
        ]
        found = {
            Residency.COPY: told + held,
            Residency.MMAP: told + mapped,
        }.get(log_residency(log.life), told + held + read)
        return found if any(size for _, size in found) else read

    def context_bytes(self, log: LogState) -> int:
        """Context buffers: as printed, else by the formula for its ``--ctx``."""
        life = log.life
        if life is not None and life.buffers is not None:
            return int(life.buffers.size_mib * (1 << 20))
        ctx = self.server.context_tokens if self.server else None
        return context_bytes(ctx or DEFAULT_CTX, 2048, _CHUNK_ROWS[2048])

    def parts(self, log: LogState) -> Parts | None:
        """Who holds the machine's memory."""
        sample = self.memory.sample
        if sample is None:
            return None
        server = self.server_memory(log) if self.server else None
        others = sum(process.used_bytes or 0 for process in self.others())
        return parts_of(sample, server, others, unified=self.unified)

    def others(self) -> tuple[GpuProcess, ...]:
        """Other processes on the GPU, the largest first."""
        pid = self.server.target.pid if self.server else None
        found = [process for sample in self.samples() for process in sample.others(pid)]
        return tuple(sorted(found, key=lambda process: -(process.used_bytes or 0)))

    @property
    def _agent(self) -> bool:
        """Whether it is a build that takes working memory for a prefill."""
        argv = frozenset(self.server.argv or ()) if self.server else frozenset()
        return bool(argv & AGENT_FLAGS)

    def next_prefill(self, tokens: int, less_bytes: int = 0) -> NextPrefill:
        """What a prefill of so many tokens takes, and whether it fits; ``less_bytes``: beside
        something that takes so much.
        """
        left = self.memory.headroom
        left = None if left is None else left - less_bytes
        return next_prefill(tokens, left, self.prefills, agent=self._agent, ok_bytes=self.ok_bytes)

    def largest_prefill(self, limit_tokens: int, less_bytes: int = 0) -> NextPrefill | None:
        """The largest prefill within a window that leaves the reserve."""
        left = self.memory.headroom
        if left is None:
            return None
        # It tries each size; what changes within a step changes no verdict that matters.
        coarse = (left - less_bytes) // _COARSE_BYTES * _COARSE_BYTES
        return _largest(coarse, tuple(self.prefills), self._agent, limit_tokens)

    def waiting(self, log: LogState) -> int | None:
        """Requests that wait, by the server's connections."""
        return self.vitals.waiting(len(log.open)) if self.vitals else None


def told_bytes(life: Life | None) -> int | None:
    """Bytes of weights that the start-up lines tell as loaded."""
    stages = life.stages if life else []
    told = max((s.done_gib or 0.0 for s in stages if s.stage in ("tensors", "copy")), default=0.0)
    return int(told * GIB) or None


@lru_cache(maxsize=16)
def _largest(
    headroom: int, past: tuple[tuple[int, int], ...], agent: bool, limit_tokens: int
) -> NextPrefill | None:
    return largest_prefill(headroom, past, agent=agent, limit_tokens=limit_tokens)


def log_residency(life: Life | None) -> Residency:
    """How the weights are held as far as the start-up lines tell."""
    stages = {stage.stage for stage in life.stages} if life else set()
    if stages & {"copy", "artifacts"}:
        return Residency.COPY
    if stages & {"register", "prefetch"}:
        return Residency.MMAP
    if "tensors" in stages:
        return Residency.COPY
    return Residency.UNKNOWN
