"""Environment variables that change what the server does.

Names and effects: ds4_cuda.cu, ds4.c and ds4_server.c at 8d57664 (May 2026), d881f2a (June) and
b030961 (August). Most ``DS4_CUDA_*`` are tests of presence: set to 0 they still switch on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ZEROS = frozenset({"0", "false", "off", "no"})
"""Values that look like off, and are on where the presence alone counts."""


@dataclass(frozen=True, slots=True)
class Variable:
    """What a variable does. ``presence``: its value does not count, 0 is on as well."""

    effect: str
    presence: bool = True


_V = Variable

VARIABLES: Mapping[str, Variable] = {
    "DS4_LOCK_FILE": _V("where the lock of the ds4 family is", presence=False),
    "DS4_CUDA_COPY_MODEL": _V("copies the whole file to the GPU; needs it twice while loading"),
    "DS4_CUDA_COPY_MODEL_CHUNKED": _V("copies the model in chunks, dropping pages as it goes"),
    "DS4_CUDA_MODEL_COPY_CHUNK_MB": _V("MiB of a staging chunk, 16 to 4096; 64", presence=False),
    "DS4_CUDA_MODEL_COPY_VERBOSE": _V("prints the chunk copy every 2 s"),
    "DS4_CUDA_NO_MODEL_COPY": _V("refuses the chunked copy"),
    "DS4_CUDA_DIRECT_MODEL": _V("kernels read the mapping; no tensor cache at start"),
    "DS4_CUDA_WEIGHT_CACHE": _V("forces the device cache of weights instead of the mapping"),
    "DS4_CUDA_WEIGHT_PRELOAD": _V("forces the device cache of weights at start"),
    "DS4_CUDA_WEIGHT_CACHE_LIMIT_GB": _V("GB that the weight cache may take", presence=False),
    "DS4_CUDA_WEIGHT_ARENA_CHUNK_MB": _V("MiB of an arena block; 1792", presence=False),
    "DS4_CUDA_WEIGHT_PRELOAD_SPAN_MB": _V("MiB of a span; 1024", presence=False),
    "DS4_CUDA_STRICT_WEIGHT_CACHE": _V("fails where the arenas are full, never falls back"),
    "DS4_CUDA_NO_FD_CACHE": _V("no reading into arenas: registers or allocates by range"),
    "DS4_CUDA_NO_DIRECT_IO": _V("reads the model through the page cache"),
    "DS4_CUDA_KEEP_MODEL_PAGES": _V("keeps the file's pages cached beside the copy"),
    "DS4_CUDA_NO_MODEL_PREFETCH": _V("no prefetch of mapped weights"),
    "DS4_CUDA_MODEL_PREFETCH_SYNC": _V("waits for the prefetch"),
    "DS4_CUDA_HOST_REGISTER_PLAIN": _V("registers the mapping without the read-only flag"),
    "DS4_CUDA_WEIGHT_CACHE_VERBOSE": _V("a line a range; the load's progress lines are off"),
    "DS4_CUDA_Q8_F16_CACHE_MB": _V("MiB that expanded copies of weights may take", presence=False),
    "DS4_CUDA_Q8_F16_CACHE_RESERVE_MB": _V("MiB those copies leave free", presence=False),
    "DS4_CUDA_NO_Q8_F16_CACHE": _V("no expanded copies of weights"),
    "DS4_CUDA_Q8_F16_ALL": _V("expands every Q8 tensor"),
    "DS4_CUDA_Q8_F16_PRELOAD": _V("expands at start"),
    "DS4_CUDA_ATTENTION_OUTPUT_PRELOAD": _V("expands attention outputs at start"),
    "DS4_CUDA_BUILD_ARTIFACTS": _V("0: no repacking of experts at start", presence=False),
    "DS4_CUDA_NO_DERIVED_WEIGHTS": _V("no repacked weights"),
    "DS4_CUDA_DECODE_GRAPHS": _V("decode by CUDA graphs", presence=False),
    "DS4_METAL_PREFILL_CHUNK": _V("tokens of a prefill chunk, on CUDA too", presence=False),
    "DS4_METAL_RESUME_PREFILL_MIN": _V("shorter tails are decoded one by one; 4", presence=False),
    "DS4_METAL_GRAPH_RAW_CAP": _V("raw KV rows", presence=False),
    "DS4_METAL_MEMORY_REPORT": _V("prints memory reports"),
    "DS4_MTP_SPEC_DISABLE": _V("no speculative decoding"),
    "DS4_SERVER_BATCH_LOG": _V("a line for every decode batch"),
    "DS4_SERVER_DECODE_COALESCE_US": _V("how long decodes wait for each other", presence=False),
    "DS4_SSD_AUTO_CACHE_PCT": _V("share of memory for streamed experts", presence=False),
    "DS4_DSPARK_STATS": _V("prints the acceptance of drafts"),
    "DS4_DSPARK_CACHE_RESERVE_GB": _V("GB kept back from the DSpark cache", presence=False),
}  # fmt: skip
"""By name. A value of one that is no test of presence is taken as it stands."""
