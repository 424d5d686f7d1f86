"""The builds the stand-in can be: what each knows, how each logs, how fast each is on a GB10."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

GIB = 1024**3
NOMINAL_MODEL_BYTES = round(80.76 * GIB)
COPY_LOAD_S = 57.0
"""Seconds to copy the nominal model to the GPU (sequential reads, about 1.5 GB/s)."""
MMAP_LOAD_S = 433.0
"""Seconds to fault the nominal model in through the mapping (random reads, about 200 MB/s)."""
ARTIFACT_GIB = 68.58
ARTIFACT_S = 18.7


class Speed(Protocol):
    """How long one token takes at a context."""

    def seconds_per_token(self, context_tokens: int) -> float:
        """Seconds for one token at this context."""
        ...


@dataclass(frozen=True)
class LogLinearRate:
    """Tokens per second, linear in the logarithm of the context between measured points.

    Below the first point the first rate holds; above the last the last slope goes on, never under
    `floor_tps`.
    """

    points: tuple[tuple[int, float], ...]
    floor_tps: float = 2.0

    def tps(self, context_tokens: int) -> float:
        """Tokens per second at this context."""
        if context_tokens <= self.points[0][0]:
            return self.points[0][1]
        places = [context for context, _ in self.points]
        index = min(bisect_right(places, context_tokens), len(places) - 1)
        (x0, y0), (x1, y1) = self.points[index - 1], self.points[index]
        share = math.log(context_tokens / x0) / math.log(x1 / x0)
        return max(self.floor_tps, y0 + (y1 - y0) * share)

    def seconds_per_token(self, context_tokens: int) -> float:
        """Seconds for one token at this context."""
        return 1.0 / self.tps(context_tokens)


@dataclass(frozen=True)
class LinearTime:
    """Seconds per token as a straight line in the context."""

    base_s: float
    slope_s: float

    def seconds_per_token(self, context_tokens: int) -> float:
        """Seconds for one token at this context."""
        return self.base_s + self.slope_s * context_tokens


@dataclass(frozen=True)
class Profile:
    """One build: its options, the words of its log, its cache policy and its speeds."""

    name: str
    options: frozenset[str]
    """Options this build knows beyond those that every build has."""
    prefill_chunk: int
    decode: Speed
    prefill: Speed
    raw_tool_field: str = "raw_dsml"
    persists_by_slot: bool = False
    consumes_hits: bool = True
    evicts_before_writing: bool = False
    kv_abi: int = 0
    device_suffix: str = ""
    sets_oom_score: bool = False
    logs_memory_plan: bool = False
    builds_artifacts: bool = False
    logs_prepared: bool = False
    model_ids: tuple[str, ...] = ("deepseek-v4-flash",)


_DAILY = Profile(
    name="daily-agent",
    options=frozenset({"--no-mmap", "--power", "--max-batch-size"}),
    prefill_chunk=2048,
    decode=LogLinearRate(((64, 14.4), (4096, 11.1), (16384, 9.2), (65536, 5.2))),
    prefill=LogLinearRate(((4096, 222.6), (16384, 223.8), (65536, 153.6)), floor_tps=60.0),
)
_MAY = Profile(
    name="stock-2026-05",
    options=frozenset(),
    prefill_chunk=2048,
    decode=LinearTime(0.0705, 0.233e-6),
    prefill=LinearTime(2338e-6, 14.1e-9),
)
_AUGUST = Profile(
    name="stock-2026-08",
    options=frozenset(
        {
            "--power",
            "--prefill-chunk",
            "--rocm",
            "--ssd-streaming",
            "--ssd-streaming-cold",
            "--ssd-streaming-cache-experts",
            "--ssd-streaming-preload-experts",
            "--ssd-streaming-full-layers",
            "--simulate-used-memory",
            "--batched-session",
            "--mixed-prefill-quantum",
            "--dspark",
            "--dspark-confidence",
            "--dspark-strict",
            "--glm-mtp",
            "--glm-mtp-timing",
            "--gpu-vram",
            "--gpu-devices",
            "--cuda-tensor-parallel",
        }
    ),
    prefill_chunk=4096,
    decode=LinearTime(0.0529, 0.0839e-6),
    prefill=LogLinearRate(((2048, 825.8), (16384, 872.4), (32768, 855.9), (65536, 823.0)), 200.0),
    raw_tool_field="raw_tool_text",
    persists_by_slot=True,
    consumes_hits=False,
    evicts_before_writing=True,
    kv_abi=2,
    device_suffix=" dev=0",
    sets_oom_score=True,
    logs_memory_plan=True,
    builds_artifacts=True,
    logs_prepared=True,
    model_ids=("deepseek-v4-flash", "deepseek-v4-pro"),
)
PROFILES = {profile.name: profile for profile in (_DAILY, _MAY, _AUGUST)}
DEFAULT_PROFILE = _DAILY.name
PROFILE_ENV = "DS4TOP_STANDIN_PROFILE"
