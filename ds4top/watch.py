"""The machine's sources and what becomes of their samples: wiring between ``sources`` and ``core``.

A server that is found brings its log, its KV directory and its address with it; those sources are
pointed at it and follow it from one life to the next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ds4top.archive.codec import decode
from ds4top.core.derive import ServerState, status_of
from ds4top.core.gpu import GpuProcess, GpuSample
from ds4top.core.helptext import Flag, names_of
from ds4top.core.kernlines import DriverNoMemory, OomKill, Xid
from ds4top.core.kvfile import Filesystem, KvDirSample, KvEntry
from ds4top.core.kvpolicy import build_by_flags
from ds4top.core.launch_units import UnitSeen, UnitSource
from ds4top.core.machine import Machine
from ds4top.core.meminfo import Blocks, MemorySample
from ds4top.core.process import LogPlace, Owner, Parent, ServerProcess
from ds4top.core.serverinfo import (
    Metric,
    MetricsSample,
    ModelEntry,
    ModelsAnswer,
    PropsSample,
    Slot,
    SlotsSample,
)
from ds4top.core.state import LogState
from ds4top.core.target import Target
from ds4top.core.vitals import Vitals
from ds4top.sources.abilities import AbilitiesSeen, LaunchAbilities
from ds4top.sources.base import SYSTEM_CLOCK, Clock, Source
from ds4top.sources.find import Finder, ServerGone, ServersSeen
from ds4top.sources.host import HostMemory
from ds4top.sources.http import HttpGetter, ModelsSource
from ds4top.sources.kernlog import KernelLines, KernelLog
from ds4top.sources.kvdir import KvDirectory
from ds4top.sources.logroute import LogAddress, LogRouter
from ds4top.sources.metrics import MetricsSource
from ds4top.sources.nvml import NvmlSource
from ds4top.sources.plainget import PlainGetter
from ds4top.sources.procfs import ProcFs
from ds4top.sources.samples import SourceError
from ds4top.sources.vitals import VitalSigns
from ds4top.wanted import Wanted as Wanted

KV_NAME, MODELS_NAME, METRICS_NAME = "KV directory", "/v1/models", "/metrics"
_NEWEST = 20


class Watch:
    """Owns the machine's store and its sources. ``log`` is asked for the log's state."""

    def __init__(
        self,
        wanted: Wanted,
        router: LogRouter,
        log: Callable[[], LogState],
        clock: Clock = SYSTEM_CLOCK,
        *,
        procfs: ProcFs | None = None,
        host: HostMemory | None = None,
        nvml: NvmlSource | None = None,
        kernel: Source | None = None,
        cached: Callable[[str], int | None] | None = None,
        getter: Callable[[str], HttpGetter] = PlainGetter,
    ) -> None:
        """``host``, ``nvml``, ``kernel`` and ``cached`` stand in for the real ones (the demo)."""
        self._cached = cached
        self._getter = getter
        self.machine = Machine()
        if wanted.warning_bytes is not None:
            self.machine.ok_bytes = wanted.warning_bytes
        if wanted.critical_bytes is not None:
            self.machine.critical_bytes = wanted.critical_bytes
        self.wanted = wanted
        self._router = router
        self._log = log
        self._clock = clock
        self._procfs = procfs or ProcFs()
        self.attach: Callable[[Source], object] = lambda source: None
        self.detach: Callable[[str], None] = lambda name: None
        self.wake: Callable[[str], None] = lambda name: None
        self._kv: KvDirectory | None = None
        self._kv_path: str | None = None
        self._url: str | None = None
        self._metrics: MetricsSource | None = None
        self._generated: dict[int, int] = {}
        self._tokens = 0
        self._is_fast = False
        self.finder = Finder(
            self._procfs, pid=wanted.pid, exe=wanted.exe, demo=wanted.demo, clock=clock
        )
        self._host = host or HostMemory(fast=lambda: self._is_fast, clock=clock)
        self._nvml = nvml or NvmlSource(
            machine_bytes=self._machine_bytes, comm_of=self._procfs.comm, clock=clock
        )
        self._kernel = kernel or KernelLog()
        self._launch = LaunchAbilities(lambda: self.machine.server, helps=wanted.helps)
        if wanted.log is not None:
            router.point(LogAddress(wanted.log, wanted.log))

    def sources(self) -> list[Source]:
        """All that run for as long as ds4top does."""
        vitals = VitalSigns(
            lambda: self.machine.server, self._clock.wall, self._procfs, self._cached
        )
        found: list[Source] = [self.finder, self._host, vitals, self._nvml, self._kernel]
        return [*found, self._launch] if self.wanted.asks else found

    def take(self, sample: object) -> bool:
        """Move a sample into the store; ``False`` for one that is not the machine's."""
        machine = self.machine
        match sample:
            case MemorySample():
                machine.take_memory(sample, self._log(), self._state())
                self._is_fast = self._fast()
            case GpuSample():
                decoding = self._state() is ServerState.DECODE
                machine.take_gpu(sample, self._decoded(), decoding=decoding)
            case Vitals():
                machine.take_vitals(sample)
                if machine.memory.headroom is None and machine.memory.sample is not None:
                    # It waited for how the weights are held: judged now, not at the next sample.
                    machine.take_memory(machine.memory.sample, self._log(), self._state())
            case ServersSeen():
                chosen = sample.chosen if self._writes_it(sample.chosen) else None
                known = machine.server.target if machine.server is not None else None
                if known is not None and chosen is not None and chosen.target != known:
                    self._leave()
                machine.seen(sample.servers, chosen)
                machine.blind, machine.demos = sample.blind, sample.demos
                asked = self.wanted.pid
                pids = {each.target.pid for each in sample.servers}
                machine.absent_pid = asked if chosen is None and asked not in pids else None
                if chosen is not None:
                    self._follow(chosen)
                    if chosen.target != known:
                        for name in ("vitals", self._launch.name):
                            self.wake(name)
            case ServerGone():
                machine.ended(sample.target, sample.wall)
            case KernelLines():
                machine.kernel.take(sample.events, self._clock.wall())
            case AbilitiesSeen():
                machine.flags, machine.variables = sample.flags, sample.variables
                self._configure_kv()
            case UnitSeen():
                machine.unit = sample
            case KvDirSample():
                machine.kv = sample
            case ModelsAnswer():
                machine.models = sample
            case MetricsSample():
                machine.metrics = sample
            case SlotsSample():
                machine.slots = sample
            case PropsSample():
                machine.props = sample
            case SourceError() if sample.name == self._nvml.name:
                machine.lose_gpus()
                return False
            case _:
                return False
        return True

    def choose(self, server: ServerProcess) -> None:
        """Watch this one from now on, whatever was asked for before."""
        self.wanted = replace(self.wanted, pid=server.target.pid)
        self.finder.choose(server.target.pid)
        self.wake(self.finder.name)

    def _leave(self) -> None:
        """Another server is watched: nothing of the one before is kept beside it."""
        for name in (KV_NAME, MODELS_NAME, METRICS_NAME):
            self.detach(name)
        self._kv = self._kv_path = self._url = self._metrics = None
        machine = self.machine
        machine.kv = machine.models = machine.metrics = machine.slots = machine.props = None
        machine.flags = machine.variables = machine.unit = None
        if self.wanted.log is None:
            self._router.point(None)

    @property
    def has_asked(self) -> bool:
        """Whether build and supervisor have told what they know, or are not asked."""
        return not self.wanted.asks or self._launch.has_told

    @property
    def kernel_route(self) -> str:
        """Which way the kernel's log is read, empty while none is open."""
        return str(getattr(self._kernel, "route", ""))

    def _follow(self, server: ServerProcess) -> None:
        """Read this server's log, ask its port, look into its KV directory."""
        place = server.log
        if self.wanted.log is None and (place.path is not None or place.command):
            self._router.point(LogAddress(place.detail, place.path, place.command))
        self._point_kv(self.wanted.kv_dir or server.kv_dir, server.kv_budget_bytes)
        url = self.wanted.url or (server.url if server.listening else None)
        if url is not None:
            self._point_http(url)

    def _writes_it(self, server: ServerProcess | None) -> bool:
        """Whether a server goes with the log that was asked for: one that is known to write
        another is another one's machine.
        """
        wanted = self.wanted
        if server is None or wanted.log is None or wanted.pid is not None:
            return True
        path = server.log.path
        return path is None or os.path.realpath(path) == os.path.realpath(wanted.log)

    def _point_kv(self, path: str | None, budget_bytes: int | None) -> None:
        if path == self._kv_path or path is None:
            return
        self.detach(KV_NAME)
        self._kv_path = path
        self._kv = KvDirectory(Path(path), budget_bytes=budget_bytes, clock=self._clock)
        self._configure_kv()
        self.attach(self._kv)

    def _configure_kv(self) -> None:
        """Which build deletes there, as far as its help tells."""
        server, flags = self.machine.server, self.machine.flags
        if self._kv is not None and server is not None and flags is not None:
            build = build_by_flags(names_of(flags))
            self._kv.configure(budget_bytes=server.kv_budget_bytes, build=build)

    def _point_http(self, url: str) -> None:
        if url == self._url:
            if self._metrics is not None:
                self._metrics.retry()
            return
        for name in (MODELS_NAME, METRICS_NAME):
            self.detach(name)
        self._url = url
        getter = self._getter(url)
        self._metrics = MetricsSource(getter, self._clock)
        self.attach(ModelsSource(getter, self._clock))
        self.attach(self._metrics)

    def note_hit(self, file: str) -> None:
        """The log named a checkpoint that was loaded: its header has changed."""
        if self._kv is not None and file:
            self._kv.note_hit(file)

    def _state(self) -> ServerState:
        return status_of(self._log(), self._clock.wall()).state

    def _decoded(self) -> int:
        """Tokens generated since ds4top looks on; a count that never falls."""
        for request in self._log().requests[-_NEWEST:]:
            known = self._generated.get(request.number, 0)
            self._tokens += max(request.generated_tokens - known, 0)
            self._generated[request.number] = request.generated_tokens
        while len(self._generated) > 2 * _NEWEST:
            del self._generated[next(iter(self._generated))]
        return self._tokens

    def _fast(self) -> bool:
        """Whether memory is looked at more often: while it falls, or a model is loaded."""
        machine = self.machine
        return machine.memory.falling or (
            machine.server is not None and self._state() is ServerState.LOADING
        )

    def _machine_bytes(self) -> int | None:
        sample = self.machine.memory.sample
        return sample.total_bytes if sample is not None else None


_RECORDED: Mapping[str, type] = {
    of.__name__: of
    for of in (
        AbilitiesSeen, Blocks, DriverNoMemory, Filesystem, Flag, GpuProcess, GpuSample, KernelLines,
        KvDirSample, KvEntry, LogPlace, MemorySample, Metric, MetricsSample, ModelEntry,
        ModelsAnswer, OomKill, Owner, Parent, PropsSample, ServerGone, ServerProcess, ServersSeen,
        Slot, SlotsSample, Target, UnitSeen, UnitSource, Vitals, Xid,
    )
}  # fmt: skip


def recorded_sample(source: str, data: Mapping[str, Any], at: float) -> object | None:
    """A sample of a recording; ``None`` for one that this version does not know."""
    try:
        found: object = decode(data, _RECORDED)
    except ValueError:
        return None
    return found
