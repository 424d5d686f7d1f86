"""The demo's session: a stand-in server, a busy agent, and a simulated GB10 under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ds4top.core.derive import ServerState, status_of
from ds4top.core.kernlines import OomKill
from ds4top.core.model import Model
from ds4top.core.state import LogState, Phase
from ds4top.session import Session, Wanted, live
from ds4top.sources.base import SYSTEM_CLOCK, Clock
from ds4top.sources.host import HostMemory
from ds4top.sources.kernlog import KernelLines
from ds4top.sources.logroute import LogRouter
from ds4top.sources.nvml import NvmlSource
from ds4top.sources.procfs import ProcFs
from ds4top.standin.demo import DemoServer
from ds4top.standin.gb10 import TOTAL_BYTES, Doing, SimulatedGb10
from ds4top.watch import Watch

FLAGS = frozenset({"--no-mmap", "--power", "--max-batch-size"})
_MAPPED_LOAD_S = 418.0
_DIRECT = "DS4_CUDA_DIRECT_MODEL"
_PHASES = {
    ServerState.LOADING: "loading",
    ServerState.PREFILL: "prefill",
    ServerState.DECODE: "decode",
    ServerState.DRAINING: "draining",
}


class _Kernel:
    """The simulated kernel's log: it tells of the OOM kills that are brought about."""

    name = "kernel log"
    interval_s = 1.0

    def __init__(self, gb10: SimulatedGb10, pid: Callable[[], int | None]) -> None:
        self._gb10 = gb10
        self._pid = pid
        self._told = False

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> Sequence[KernelLines]:
        """An event where one is due."""
        due = self._gb10.driven == "oom"
        fresh, self._told = due and not self._told, due
        if not fresh:
            return ()
        return (KernelLines((OomKill(None, self._pid(), "ds4-server", "kernel"),), now),)

    def close(self) -> None:
        """Nothing to do."""


def doing_of(model: Model, speed: float) -> Doing:
    """What the stand-in does, as its log and its command line tell."""
    server, log = model.machine.server, model.log
    if server is None:
        return Doing()
    state = status_of(log, model.now).state
    argv, env = server.argv or (), dict(server.env or ())
    copied = "--no-mmap" in argv or ("stock" in " ".join(argv) and _DIRECT not in env)
    request = log.running
    prefill = request is not None and request.phase is Phase.PREFILL
    return Doing(
        pid=server.target.pid,
        phase=_PHASES.get(state, "idle"),
        copied=copied,
        loaded=_loaded(log, model.now, speed, copied=copied) if state is ServerState.LOADING else 1,
        prompt_tokens=request.prompt_tokens if request is not None and prefill else 0,
        done_share=request.prefill_done_tokens / request.new_tokens
        if request is not None and prefill and request.new_tokens
        else 0.0,
    )


def _loaded(log: LogState, now: float, speed: float, *, copied: bool) -> float:
    life = log.life
    if life is None:
        return 0.0
    if not copied:
        begun = life.engine_at
        return min((now - begun) * speed / _MAPPED_LOAD_S, 1.0) if begun is not None else 0.0
    shares = [s.done_gib / s.total_gib for s in life.stages if s.done_gib and s.total_gib]
    return max(shares, default=0.0)


def demo_session(speed: float, stack: ExitStack) -> Session:
    """Start the demo; it ends with ``stack``. Raises ``OSError``."""
    demo = stack.enter_context(DemoServer(speed=speed))
    found: list[Session] = []

    def doing() -> Doing:
        return doing_of(found[0].model, speed) if found else Doing()

    gb10 = SimulatedGb10(doing, lambda: SYSTEM_CLOCK.monotonic() * speed)
    procfs = ProcFs()

    def watch(
        wanted: Wanted, router: LogRouter, log: Callable[[], LogState], clock: Clock
    ) -> Watch:
        nvml = NvmlSource(
            gb10.nvml,
            machine_bytes=lambda: TOTAL_BYTES,
            comm_of=lambda pid: gb10.comm(pid, procfs.comm),
            clock=clock,
        )
        return Watch(
            wanted,
            router,
            log,
            clock,
            procfs=procfs,
            host=HostMemory(clock=clock, texts=gb10.text, scale=speed),
            nvml=nvml,
            kernel=_Kernel(gb10, lambda: doing().pid),
            cached=gb10.model_cached_bytes,
        )

    session = live(Wanted(log=str(demo.log_path), demo=demo.mark), watch=watch)
    found.append(session)
    session.drive = gb10.drive
    model = session.model
    model.demo = "demo" if speed == 1.0 else f"demo ×{speed:g}"
    model.speed, model.flags = speed, FLAGS
    return session
