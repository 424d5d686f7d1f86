"""A server whose log is read, its samples and a model of it, for tests of history and starts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ds4top.core.gpu import GpuProcess, GpuSample
from ds4top.core.logread import LogReader
from ds4top.core.memory import GIB
from ds4top.core.model import Model
from ds4top.core.plan import Target
from ds4top.core.process import ServerProcess
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.core.vitals import Vitals

DATA = Path(__file__).parents[1] / "data"
LOG = DATA / "ds4" / "h200-copy" / "server.log"
NOW = datetime(2026, 11, 24, 19, tzinfo=UTC).timestamp()
BEGUN = 1_795_544_800.0
WEIGHTS = int(80.76 * GIB)
MODEL = 86_720_111_616


def log_of(data: bytes, heard_at: float | None = None) -> LogState:
    """The state of a log's bytes; ``heard_at``: when its lines came in."""
    reducer = Reducer(LogState())
    reducer.apply(LogReader(StampClock(NOW + 1e6, UTC, 2026)).feed(data), heard_at)
    return reducer.state


def server(started_wall: float) -> ServerProcess:
    """One that may be read whole."""
    return ServerProcess(
        Target(7, 1, "b", "ds4-server"), started_wall, "ds4", 0, "u", exe="/opt/ds4-server",
        model_path="/models/q2.gguf", model_bytes=MODEL, exe_key=(1, 2, 1_779_000_000_000_000_000),
    )  # fmt: skip


def copied() -> GpuSample:
    """A GPU that holds the weights and what stands beside them."""
    held = GpuProcess(7, MODEL + 5 * GIB, "ds4-server")
    return GpuSample(0, 0.0, NOW, "NVIDIA GB10", unified=True, processes=(held,))


def watched(log: LogState | None = None) -> Model:
    """A model whose weights are on the GPU; its process began 57 s before it listened."""
    log = log_of(LOG.read_bytes()) if log is None else log
    assert log.life is not None
    model = Model(log, NOW)
    began = server((log.life.listening_at or NOW) - 57)
    model.machine.seen((began,), began)
    model.machine.take_gpu(copied(), 0, decoding=False)
    return model


def vitals(at_s: float, **sizes: int | None) -> Vitals:
    """Vitals of pid 7; sizes by name, others are not known."""
    known = {"file_bytes": None, "read_bytes": None, "model_cached_bytes": None} | sizes
    return Vitals(
        pid=7, t=at_s, wall=BEGUN + at_s, state="R", rss_bytes=None, anon_bytes=0, shmem_bytes=0,
        swap_bytes=0, cpu_s=1.0, threads=1, major_faults=0, connections=0, queued=0, left=0,
        oom_score_adj=0, **known,
    )  # fmt: skip
