"""From the lock to a loaded model: the stages of a start, their lines, and how each can fail."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ds4top.standin import proc
from ds4top.standin.clock import Pace
from ds4top.standin.grammar import GIB, MIB, Log
from ds4top.standin.options import ServerOptions, StandinOptions
from ds4top.standin.profiles import (
    ARTIFACT_GIB,
    ARTIFACT_S,
    COPY_LOAD_S,
    MMAP_LOAD_S,
    NOMINAL_MODEL_BYTES,
    Profile,
)
from ds4top.standin.sizes import ContextBuffers, context_buffers
from ds4top.standin.state import StateWriter

DEFAULT_LOCK = "/tmp/ds4.lock"
_LEAST_MODEL_BYTES = 32
_LOG_EVERY_BYTES = 16 * GIB
_LOG_EVERY_S = 10.0
_SILENT_STEPS = 50


class StartError(Exception):
    """The start has failed and said so; `status` is the exit status."""

    def __init__(self, status: int) -> None:
        """An exit status."""
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Loaded:
    """A loaded model: its mapping stays open as long as the server lives."""

    mapping: mmap.mmap | None
    size_bytes: int


def take_lock(log: Log, environ: Mapping[str, str]) -> int:
    """Lock the lock file and write the pid into it; the descriptor. Raises StartError(2)."""
    path = environ.get("DS4_LOCK_FILE") or DEFAULT_LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.engine(f"failed to open lock file {path}: {error.strerror}")
        raise StartError(2) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            log.engine(f"failed to lock {path}: {error.strerror}")
            raise StartError(2) from error
        owner = os.pread(fd, 63, 0).decode("ascii", "replace").strip()
        who = f" (pid {owner})" if owner.isdigit() else ""
        log.engine(f"another ds4 process is already running{who}; refusing to start")
        raise StartError(2) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def open_model(path: str, configured_bytes: int | None, log: Log) -> Loaded:
    """Map the model. A file of zeros (sparse) passes for a model. Raises StartError(1)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        log.engine(f"cannot open model '{path}': {error.strerror}")
        raise StartError(1) from error
    try:
        size = os.fstat(fd).st_size
        if size < _LEAST_MODEL_BYTES:
            log.engine("model file is too small to be GGUF")
            raise StartError(1)
        if os.pread(fd, 4, 0) not in (b"GGUF", b"\0\0\0\0"):
            log.engine("model is not a GGUF file")
            raise StartError(1)
        mapping = None
        with contextlib.suppress(OSError, ValueError):
            mapping = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    finally:
        os.close(fd)
    return Loaded(mapping, configured_bytes or size)


class Loader:
    """Lets the model load: the lines of a build, at the speed of a way to hold the weights."""

    def __init__(
        self,
        options: ServerOptions,
        own: StandinOptions,
        environ: Mapping[str, str],
        log: Log,
        pace: Pace,
        state: StateWriter,
    ) -> None:
        """Nothing happens before `load`; `state` hears how far it is."""
        self._options = options
        self._profile: Profile = own.profile
        self._environ = environ
        self._log = log
        self._pace = pace
        self._state = state
        self._copies = True
        self._whole = 0

    def load(self, size_bytes: int) -> None:
        """All stages of the GPU backend until it is ready. Raises StartError(1)."""
        backend = self._options.backend
        if backend == "cpu":
            return
        if backend != "cuda":
            self._log.engine(
                f"{backend.capitalize()} backend requested but this build is linked with CUDA, "
                f"not {backend.capitalize()}"
            )
            raise StartError(1)
        self._whole = size_bytes
        way = self._way()
        self._copies = way not in (self._registered, self._direct)
        self._reached(0)
        self._pace.begin()
        self._pace.wait(1.5)
        self._log.engine(
            f"CUDA backend initialized on NVIDIA GB10 (sm_121){self._profile.device_suffix}"
        )
        way(size_bytes)
        self._log.engine("cuda backend initialized for graph diagnostics")

    def _way(self) -> Callable[[int], None]:
        if "--no-mmap" in self._profile.options and not self._options.flag("no-mmap"):
            return self._registered
        if self._environ.get("DS4_CUDA_COPY_MODEL"):
            return self._whole_copy
        if "DS4_CUDA_DIRECT_MODEL" in self._environ:
            return self._direct
        return self._artifacts if self._builds_artifacts() else self._device_cache

    def _reached(self, done: float) -> None:
        share = min(done / self._whole, 1.0)
        self._state.loading(share, copied=self._copies, model_bytes=self._whole)

    def _take(self, size: float, seconds: float) -> None:
        """Let the first so many bytes come in, without a line."""
        for step in range(1, _SILENT_STEPS + 1):
            self._pace.wait(seconds / _SILENT_STEPS)
            self._reached(size * step / _SILENT_STEPS)

    def _builds_artifacts(self) -> bool:
        return (
            self._profile.builds_artifacts
            and self._environ.get("DS4_CUDA_BUILD_ARTIFACTS") != "0"
            and "DS4_CUDA_NO_DERIVED_WEIGHTS" not in self._environ
            and "DS4_CUDA_WEIGHT_CACHE" not in self._environ
        )

    def _registered(self, size: int) -> None:
        self._log.engine(f"CUDA registered {size / GIB:.2f} GiB model mapping for device access")
        self._spans(size, 0, MMAP_LOAD_S * size / NOMINAL_MODEL_BYTES, size)

    def _device_cache(self, size: int) -> None:
        self._log.engine("CUDA host registration skipped: operation not supported")
        self._spans(size, 0, COPY_LOAD_S * size / NOMINAL_MODEL_BYTES, size)

    def _whole_copy(self, size: int) -> None:
        self._log.engine(f"CUDA copying {size / GIB:.2f} GiB model to device memory")
        started = time.monotonic()
        self._take(size, COPY_LOAD_S * size / NOMINAL_MODEL_BYTES)
        self._log.engine(f"CUDA model copy complete in {time.monotonic() - started:.3f}s")
        self._log.engine(self._prepared(size, 0.0))

    def _direct(self, size: int) -> None:
        self._log.engine("CUDA host registration skipped: operation not supported")
        started = time.monotonic()
        self._take(size, MMAP_LOAD_S * size / NOMINAL_MODEL_BYTES)
        self._log.engine(
            f"CUDA ATS/HMM prefetch queued {size / GIB:.2f} GiB of model tensors in "
            f"{time.monotonic() - started:.3f}s"
        )

    def _artifacts(self, size: int) -> None:
        built = size * ARTIFACT_GIB * GIB / NOMINAL_MODEL_BYTES
        started = time.monotonic()
        self._take(built, ARTIFACT_S * size / NOMINAL_MODEL_BYTES)
        self._log.engine(
            f"built 456 aligned CUDA artifacts ({built / GIB:.2f} GiB) in "
            f"{time.monotonic() - started:.1f}s; expert raw residency replaced"
        )
        self._log.engine(
            f"CUDA aligned artifacts replace expert residency; leaving the {size / GIB:.2f} GiB "
            "model mmap unpinned"
        )
        rest = size - built
        self._spans(rest, 0, COPY_LOAD_S * rest / NOMINAL_MODEL_BYTES, size)

    def _spans(self, size: float, start: float, seconds: float, covered: int) -> None:
        """Cache tensor spans: a line every 16 GiB or ten seconds, as to a file."""
        verbose = "DS4_CUDA_WEIGHT_CACHE_VERBOSE" not in self._environ
        if self._profile.logs_prepared and verbose:
            self._log.engine("CUDA preparing model tensor mappings")
        if verbose:
            self._log.engine("CUDA loading model tensors into device cache")
        began = last_line = time.monotonic()
        next_bytes = float(_LOG_EVERY_BYTES)
        steps = max(1, round(size / GIB))
        done = start
        for step in range(1, steps + 1):
            self._pace.wait(seconds / steps)
            done = start + size * step / steps
            self._reached(covered - size + size * step / steps)
            now = time.monotonic()
            late = now - last_line >= _LOG_EVERY_S / self._pace.speed
            if verbose and (done >= next_bytes or late) and step < steps:
                self._log.engine(f"CUDA loading model tensors {done / GIB:.2f} GiB cached")
                last_line = now
                while next_bytes <= done:
                    next_bytes += _LOG_EVERY_BYTES
        if self._profile.logs_prepared and verbose:
            self._log.engine(f"CUDA prepared model tensor mappings {done / GIB:.2f} GiB")
        self._log.engine(self._prepared(covered, time.monotonic() - began))

    def _prepared(self, size: int, seconds: float) -> str:
        words = "preparation covered" if self._profile.logs_prepared else "cache prepared"
        return f"CUDA startup model {words} {size / GIB:.2f} GiB of tensor spans in {seconds:.3f}s"


def start_engine(
    options: ServerOptions,
    own: StandinOptions,
    environ: Mapping[str, str],
    log: Log,
    pace: Pace,
    state: StateWriter,
) -> tuple[Loaded, int]:
    """Lock, model, load; the loaded model and the lock's descriptor. Raises StartError."""
    lock = take_lock(log, environ)
    if own.profile.sets_oom_score and options.backend != "cpu" and proc.set_oom_score_adj(1000):
        log.engine("Linux cuda backend set oom_score_adj=1000")
    loaded = open_model(options.text("model", "ds4flash.gguf"), own.model_bytes, log)
    if options.flag("warm-weights"):
        started = time.monotonic()
        log.engine(f"warming mapped tensor pages: {loaded.size_bytes / GIB:.2f} GiB")
        pace.wait(COPY_LOAD_S * loaded.size_bytes / NOMINAL_MODEL_BYTES)
        log.engine(f"warmed tensor pages in {time.monotonic() - started:.3f}s (checksum=0)")
    mtp = options.optional("mtp")
    if mtp is not None:
        draft = options.number("mtp-draft", 1)
        log.engine(f"MTP support model loaded: {mtp} (draft={draft})")
    Loader(options, own, environ, log, pace, state).load(loaded.size_bytes)
    return loaded, lock


def chunk_tokens(options: ServerOptions, own: StandinOptions, environ: Mapping[str, str]) -> int:
    """Tokens of a prefill chunk."""
    given = environ.get("DS4_METAL_PREFILL_CHUNK", "")
    fallback = int(given) if given.isdigit() and int(given) > 0 else own.profile.prefill_chunk
    return options.number("prefill-chunk", fallback)


def announce_context(
    options: ServerOptions, own: StandinOptions, loaded: Loaded, chunk: int, log: Log
) -> ContextBuffers:
    """The memory plan of newer builds, and the context line of all."""
    context = options.number("ctx", 32768)
    gpu = options.backend == "cuda"
    plan = context_buffers(context, chunk if gpu else 0)
    if own.profile.logs_memory_plan and gpu:
        kv = plan.raw_bytes + plan.compressed_bytes
        total = plan.total_bytes + loaded.size_bytes
        log.engine(
            f"memory: KV {kv / GIB:.2f} GiB (raw {plan.raw_bytes / GIB:.2f} + compressed "
            f"{plan.compressed_bytes / GIB:.2f}) + buffers {plan.buffer_bytes / GIB:.2f} GiB + "
            f"resident model {loaded.size_bytes / GIB:.2f} GiB = {total / GIB:.2f} GiB planned"
        )
        log.engine(
            f"memory detail: ctx={context} prefill_cap={plan.prefill_chunk} "
            f"raw_kv_rows={plan.raw_rows} compressed_kv_rows={plan.compressed_rows} "
            f"backend={options.backend}"
        )
    log.server(
        f"context buffers {plan.total_bytes / MIB:.2f} MiB (ctx={context}, "
        f"backend={options.backend}, prefill_chunk={plan.prefill_chunk}, "
        f"raw_kv_rows={plan.raw_rows}, compressed_kv_rows={plan.compressed_rows})"
    )
    return plan
