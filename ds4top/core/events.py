"""Typed events of the ds4-server log.

One class per fact the reducers act on, ``Note`` for any other known line, ``Unrecognised`` for what
no template knows. Sources: ds4_server.c, ds4_kvstore.c, ds4.c and ds4_cuda.cu of antirez/ds4.

``at`` is the wall-clock time of the line in seconds since the epoch, from the line's own stamp
(whole seconds) or the outer stamp of journald or docker; ``None`` where the line has none.
Rates are tokens per second, sizes MiB or GiB as the log prints them, times seconds or
milliseconds as the name says. ``extra`` keeps ``key=value`` pairs that this version of the
parser does not know, so that nothing of a newer build is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Flags = frozenset[str]
Extra = tuple[tuple[str, str], ...]
NO_FLAGS: Flags = frozenset()


class PromptStart(NamedTuple):
    """``KIND ctx=A..B:C [F]prompt start``: prefill begins; t0 of the request."""

    at: float | None
    kind: str
    cached_tokens: int
    prompt_tokens: int
    new_tokens: int
    flags: Flags
    extra: Extra = ()


class PrefillChunk(NamedTuple):
    """``prefill chunk done/total``: progress over the C new tokens; seconds since prompt start.

    ``rebuild`` marks ``tool checkpoint rebuild chunk``, a re-prefill after decoding.
    ``chunk_tps`` 0 means "no previous sample", not "stalled".
    """

    at: float | None
    kind: str
    cached_tokens: int
    prompt_tokens: int
    new_tokens: int
    flags: Flags
    rebuild: bool
    done_tokens: int
    total_tokens: int
    chunk_tps: float
    avg_tps: float
    elapsed_s: float
    extra: Extra = ()


class PromptDone(NamedTuple):
    """``prompt done``: prefill took ``elapsed_s``, key-value saves inside it included."""

    at: float | None
    kind: str
    cached_tokens: int
    prompt_tokens: int
    new_tokens: int
    flags: Flags
    elapsed_s: float
    extra: Extra = ()


class Decoding(NamedTuple):
    """``decoding``: every 50 tokens and once for the remainder.

    ``from_tokens`` and ``context_tokens`` are absolute positions, ``interval_tokens`` what was
    produced between them; ``elapsed_s`` counts from the start of decoding.
    """

    at: float | None
    kind: str
    from_tokens: int
    context_tokens: int
    interval_tokens: int
    generated_tokens: int
    flags: Flags
    chunk_tps: float
    avg_tps: float
    elapsed_s: float
    extra: Extra = ()


class Finish(NamedTuple):
    """``finish=WORD``: the end of a request; seconds of prefill and decode since prompt start."""

    at: float | None
    kind: str
    cached_tokens: int
    prompt_tokens: int
    new_tokens: int
    generated_tokens: int
    flags: Flags
    finish: str
    error: str | None
    elapsed_s: float
    extra: Extra = ()


class StreamLost(NamedTuple):
    """The client went away: a line that ends a stream.

    ``cause``: ``prefill_closed``, ``start_failed``, ``disconnected``: the request is over, though
    a finish line may follow the last; ``final_failed``: a finish=error line follows.
    """

    at: float | None
    kind: str
    cached_tokens: int
    prompt_tokens: int
    new_tokens: int
    flags: Flags
    cause: str
    text: str
    extra: Extra = ()


class ToolCalls(NamedTuple):
    """``tool calls``: the reply held ``n`` tool calls."""

    at: float | None
    cached_tokens: int
    prompt_tokens: int
    new_tokens: int
    n: int
    raw: int | None
    ids: tuple[str, ...]
    names: tuple[str, ...]
    extra: Extra = ()


class LiveMiss(NamedTuple):
    """``live kv cache miss``: nothing in RAM could be reused; ``common`` tokens are equal."""

    at: float | None
    responses: bool
    live_tokens: int
    prompt_tokens: int
    common_tokens: int
    reason: str
    extra: Extra = ()


class Continuation(NamedTuple):
    """``... live continuation`` of one protocol, or a ``responses replay`` without live state."""

    at: float | None
    protocol: str
    match: str
    ids: int | None
    cached_tokens: int
    prompt_tokens: int
    replay: bool
    extra: Extra = ()


class KvStored(NamedTuple):
    """``kv cache stored``: a checkpoint of ``tokens`` was written."""

    at: float | None
    tokens: int
    trimmed: int
    reason: str
    key: str
    size_mib: float
    save_ms: float
    extra: Extra = ()


class KvHit(NamedTuple):
    """``kv cache hit``: a checkpoint was read; ``consumed`` ones were deleted on load."""

    at: float | None
    tokens: int
    text_bytes: int
    quant_bits: int
    key: str
    load_ms: float
    consumed: bool
    file: str
    extra: Extra = ()


class KvEvicted(NamedTuple):
    """``kv cache evicted``: removed to keep the budget."""

    at: float | None
    reason: str
    tokens: int
    hits: int
    size_mib: float
    file: str
    extra: Extra = ()


class KvSkipped(NamedTuple):
    """``kv cache skipped``: a checkpoint was not saved, and why."""

    at: float | None
    tokens: int
    reason: str
    why: str


class KvStoreFailed(NamedTuple):
    """``kv cache store failed`` or ``failed to create``: disk or permission."""

    at: float | None
    what: str
    error: str
    save_ms: float


class KvLoadFailed(NamedTuple):
    """``kv cache load failed``: a file could not be used."""

    at: float | None
    file: str
    error: str
    load_ms: float


class Persisting(NamedTuple):
    """``persisting current|resident KV cache before shutdown``."""

    at: float | None
    tokens: int
    slot: int | None


class ContextBuffers(NamedTuple):
    """``context buffers``: what the context takes in memory; the session is about to exist."""

    at: float | None
    size_mib: float
    ctx_tokens: int
    backend: str
    prefill_chunk: int
    raw_kv_rows: int
    compressed_kv_rows: int
    extra: Extra = ()


class KvDiskCache(NamedTuple):
    """``KV disk cache DIR (...)``: the disk cache is on, with its settings."""

    at: float | None
    directory: str
    budget_mib: int
    cross_quant: str
    min_tokens: int
    cold_max_tokens: int
    continued_tokens: int
    trim_tokens: int
    align_tokens: int
    extra: Extra = ()


class Listening(NamedTuple):
    """``listening on http://HOST:PORT``: the one certain ready line."""

    at: float | None
    url: str


class ShutdownRequested(NamedTuple):
    """``shutdown requested, draining requests``."""

    at: float | None


class BatchedMode(NamedTuple):
    """``batched mode enabled``: several requests run at once and are told apart by ``ctx=``."""

    at: float | None
    sessions: int
    extra: Extra = ()


class LifeBegin(NamedTuple):
    """An engine line that only a starting server prints.

    ``what``: ``oom_score_adj``, ``warming`` or ``cuda_init``; ``device`` is the GPU's name, ``sm``
    and ``device_index`` its compute capability (``sm_121``) and number as printed.
    """

    at: float | None
    what: str
    value: float | None = None
    device: str | None = None
    sm: str | None = None
    device_index: int | None = None


class LoadProgress(NamedTuple):
    """A start-up stage: ``done_gib`` of ``total_gib`` where the line says so.

    ``stage`` is one of ``STAGES``; ``finished`` marks the line that ends it.
    """

    at: float | None
    stage: str
    done_gib: float | None = None
    total_gib: float | None = None
    elapsed_s: float | None = None
    finished: bool = False


STAGES: Mapping[str, str] = {
    "warm": "warming mapped pages",
    "artifacts": "building CUDA artifacts",
    "register": "registering the mapping",
    "copy": "copying the model to the GPU",
    "prefetch": "queueing the prefetch",
    "map": "preparing tensor mappings",
    "tensors": "loading tensors",
    "prepared": "weights ready",
    "engine": "engine ready",
    "buffers": "allocating the context",
    "disk-cache": "opening the disk cache",
}
"""Start-up stages in the order a server goes through them, in words."""


class StartFatal(NamedTuple):
    """A line after which a starting server exits.

    ``reason`` is a short name (``unknown_option``, ``port_in_use`` ...), ``detail`` what it names,
    ``exit_code`` what the process ends with (1 or 2) by ds4_server.c and ds4.c.
    """

    at: float | None
    reason: str
    detail: str
    text: str
    exit_code: int


class AlreadyRunning(NamedTuple):
    """A second instance was refused; the first, ``pid`` where printed, goes on."""

    at: float | None
    pid: int | None


class Note(NamedTuple):
    """Any other known line. ``name`` names its template, ``fields`` are its values, typed."""

    at: float | None
    name: str
    level: str
    text: str
    fields: Mapping[str, str | int | float]


class Unrecognised(NamedTuple):
    """A piece that no template knows; ``torn`` where the line had no end."""

    at: float | None
    text: str
    torn: bool = False


Event = (
    PromptStart
    | PrefillChunk
    | PromptDone
    | Decoding
    | Finish
    | StreamLost
    | ToolCalls
    | LiveMiss
    | Continuation
    | KvStored
    | KvHit
    | KvEvicted
    | KvSkipped
    | KvStoreFailed
    | KvLoadFailed
    | Persisting
    | ContextBuffers
    | KvDiskCache
    | Listening
    | ShutdownRequested
    | BatchedMode
    | LifeBegin
    | LoadProgress
    | StartFatal
    | AlreadyRunning
    | Note
    | Unrecognised
)
"""Everything a line of the log can become."""
