"""The whole life of one stand-in process, from its argument vector to its exit status."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ds4top.standin import options as opt
from ds4top.standin import proc
from ds4top.standin.clock import Pace
from ds4top.standin.engine import Limits
from ds4top.standin.faults import Faults, FaultSpecError
from ds4top.standin.grammar import GIB, Log
from ds4top.standin.kvstore import CacheOptions, KvStore
from ds4top.standin.options import ServerOptions, StandinOptions, UsageError
from ds4top.standin.profiles import DEFAULT_PROFILE, PROFILES
from ds4top.standin.server import Server, StopFlag
from ds4top.standin.startup import StartError, announce_context, chunk_tokens, start_engine
from ds4top.standin.state import StateWriter
from ds4top.standin.trace import Trace
from ds4top.standin.worker import Shared


def run(argv: Sequence[str], environ: Mapping[str, str], stop: StopFlag) -> int:
    """Serve until told to stop; the exit status."""
    log = Log()
    own = StandinOptions(PROFILES[DEFAULT_PROFILE])
    try:
        own, rest = opt.split_own(argv, environ)
        if own.die_with_parent:
            proc.die_with_parent()
        if own.leash is not None:
            proc.watch_leash(own.leash)
        options = opt.parse(rest, own.profile)
        faults = Faults(own.speed)
        for spec in own.fails:
            faults.arm(spec)
    except UsageError as error:
        for line in error.lines:
            log.server(line)
        if error.with_usage:
            log.raw(opt.help_text(own.profile))
        return 2
    except FaultSpecError as error:
        log.server(f"invalid value for --standin-fail: {error}")
        return 2
    if options.help:
        os.write(1, opt.help_text(own.profile).encode())
        return 0
    directory = options.optional("chdir")
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            log.server(f"failed to chdir to {directory}: {error.strerror}")
            return 1
    try:
        return _serve(options, own, environ, stop, log, faults)
    except StartError as error:
        return error.status


def _open_store(
    options: ServerOptions, own: StandinOptions, log: Log, faults: Faults
) -> KvStore | None:
    directory = options.optional("kv-disk-dir")
    if directory is None:
        return None
    context = options.number("ctx", 32768)
    try:
        store = KvStore(directory, CacheOptions.of(options), own.profile, context, log, faults)
    except OSError as error:
        log.server(f"failed to create KV cache directory {directory}: {error.strerror}")
        return None
    store.open()
    return store


def _serve(
    options: ServerOptions,
    own: StandinOptions,
    environ: Mapping[str, str],
    stop: StopFlag,
    log: Log,
    faults: Faults,
) -> int:
    pace = Pace(own.speed, own.seed)
    state = StateWriter(environ, agent="--no-mmap" in own.profile.options)
    loaded, _lock = start_engine(options, own, environ, log, pace, state)
    chunk = chunk_tokens(options, own, environ)
    plan = announce_context(options, own, loaded, chunk, log)
    sessions = options.number("batched-session", 0)
    if options.backend == "cuda":
        state.context(max(sessions, 1) * plan.total_bytes)
    if sessions > 1:
        total = sessions * plan.total_bytes / GIB
        log.server(
            f"{sessions} resident sessions request at least {total:.2f} GiB of context buffers"
        )
    store = _open_store(options, own, log, faults)
    if options.flag("disable-exact-dsml-tool-replay"):
        log.server("exact DSML tool replay disabled; tool history uses canonical JSON rendering")
    quantum = options.number("mixed-prefill-quantum", 128)
    if sessions:
        log.server(
            f"batched mode enabled resident_sessions={sessions} prefill_quantum={chunk} "
            f"mixed_prefill_quantum={quantum} decode_coalesce_us=0"
        )
    trace = None
    path = options.optional("trace")
    if path is not None:
        try:
            trace = Trace(path)
        except OSError as error:
            log.server(f"failed to open trace file {path}: {error.strerror}")
            return 1
        log.server(f"tracing session to {path}")
    shared = Shared(own.profile, log, store, faults, trace, lambda: stop.is_set, own.seed)
    limits = Limits(
        options.number("ctx", 32768), chunk, quantum, options.number("power", 100) / 100.0
    )
    server = Server(options, shared, stop, own.speed, limits, own.control, state)
    host, port = options.text("host", "127.0.0.1"), options.number("port", 8000)
    try:
        sock = server.listen()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "Invalid argument"
        log.server(f"failed to listen on {host}:{port}: {reason}")
        return 1
    log.server(f"listening on http://{host}:{port}")
    server.serve(sock)
    return 0
