"""The demo's session: a stand-in server, a busy agent, and a simulated GB10 under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from ds4top.archive.paths import HISTORY, machine_key
from ds4top.core.kernlines import KernelReader
from ds4top.core.meminfo import parse_meminfo
from ds4top.core.state import LogState
from ds4top.session import ActingPlace, Session, Wanted, live
from ds4top.sources.base import SYSTEM_CLOCK, Clock
from ds4top.sources.host import HostMemory
from ds4top.sources.kernlog import KernelLines
from ds4top.sources.logroute import LogRouter
from ds4top.sources.nvml import NvmlSource
from ds4top.sources.procfs import ProcFs
from ds4top.standin.demo import DemoServer
from ds4top.standin.gb10 import KINDS, TOTAL_BYTES, SimulatedGb10
from ds4top.standin.state import StateReader
from ds4top.watch import Watch

if TYPE_CHECKING:
    from ds4top.keep import Keep

FLAGS = frozenset({"--no-mmap", "--power", "--max-batch-size"})


class _Kernel:
    """The simulated kernel's log, in the kernel's own words."""

    name = "kernel log"
    interval_s = 1.0

    def __init__(self, gb10: SimulatedGb10) -> None:
        self._gb10 = gb10
        self._reader = KernelReader()

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now: float) -> Sequence[KernelLines]:
        """What the machine has logged since the turn before."""
        found = [self._reader.feed(line) for line in self._gb10.kernel_lines()]
        events = tuple(event for event in found if event is not None)
        return (KernelLines(events, now),) if events else ()

    def close(self) -> None:
        """Nothing to do."""


def memory_of(gb10: SimulatedGb10) -> Callable[[int], tuple[int | None, bool | None]]:
    """What is available on the simulated machine, and whether its driver lists a process."""

    def now(pid: int) -> tuple[int | None, bool | None]:
        listed = any(each == pid for each, _ in gb10.processes())
        return parse_meminfo(gb10.text("meminfo")).get("MemAvailable"), listed

    return now


def demo_session(speed: float, stack: ExitStack, record: str | None = None) -> Session:
    """Start the demo; it ends with ``stack``. Raises as ``live`` does."""
    demo = stack.enter_context(DemoServer(speed=speed))
    gb10 = SimulatedGb10(
        StateReader(demo.state_path), lambda: SYSTEM_CLOCK.monotonic() * speed, fail=demo.fail
    )
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
            kernel=_Kernel(gb10),
            cached=gb10.model_cached_bytes,
        )

    def keep() -> Keep:
        from ds4top.keep import Keep

        # It goes with the demo's folder.
        return Keep(demo.workdir / HISTORY, machine_key())

    wanted = Wanted(log=str(demo.log_path), demo=demo.mark)
    session = live(wanted, record=record, watch=watch, keep=keep)
    session.driven = {kind: partial(gb10.drive, kind) for kind in KINDS}
    session.acting_place = ActingPlace(
        demo.workdir / "ds4top", demo.mark, memory_of(gb10), plain=True
    )
    model = session.model
    model.demo = "demo" if speed == 1.0 else f"demo ×{speed:g}"
    model.speed, model.flags = speed, FLAGS
    return session
