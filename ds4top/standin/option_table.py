"""Every option of ds4-server as a row: names, kind of value, section and line of the help text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Value(Enum):
    """What an option takes."""

    NONE = "none"
    TEXT = "text"
    POSITIVE = "positive"
    NONNEGATIVE = "nonnegative"
    REAL = "real"


@dataclass(frozen=True)
class Option:
    """One option; `low`..`high` bound a number."""

    names: tuple[str, ...]
    value: Value
    section: str
    argument: str
    help: str
    low: float = 0.0
    high: float = 2**31 - 1

    @property
    def name(self) -> str:
        """The long name."""
        return self.names[-1]


_RUN = "Model and runtime"
_HTTP = "HTTP API"
_KV = "Disk KV cache"
_N, _T, _P, _Z, _F = Value.NONE, Value.TEXT, Value.POSITIVE, Value.NONNEGATIVE, Value.REAL

OPTIONS: tuple[Option, ...] = (
    Option(("-m", "--model"), _T, _RUN, "FILE", "Model in GGUF format. Default: ds4flash.gguf"),
    Option(("--mtp",), _T, _RUN, "FILE", "Second GGUF for draft tokens."),
    Option(("--mtp-draft",), _P, _RUN, "N", "Draft tokens a step. Default: 1"),
    Option(("--mtp-margin",), _F, _RUN, "F", "Least draft confidence. Default: 3", 0, 1000),
    Option(("-c", "--ctx"), _P, _RUN, "N", "Context allocated at start. Default: 32768"),
    Option(("-n", "--tokens"), _P, _RUN, "N", "Output limit if none is asked. Default: 393216"),
    Option(("-t", "--threads"), _P, _RUN, "N", "CPU helper threads."),
    Option(("--chdir",), _T, _RUN, "DIR", "Change directory first."),
    Option(("--quality",), _N, _RUN, "", "Exact kernels, slower."),
    Option(("--dir-steering-file",), _T, _RUN, "FILE", "Direction vectors, one a layer."),
    Option(("--dir-steering-ffn",), _F, _RUN, "F", "Steering after FFN. Default: 1", -100, 100),
    Option(("--dir-steering-attn",), _F, _RUN, "F", "After attention. Default: 0", -100, 100),
    Option(("--warm-weights",), _N, _RUN, "", "Touch every mapped page before serving."),
    Option(("--no-mmap",), _N, _RUN, "", "Read the weights into GPU memory, do not map them."),
    Option(("--power",), _P, _RUN, "N", "GPU duty cycle in percent. Default: 100", 1, 100),
    Option(("--max-batch-size",), _P, _RUN, "N", "Largest batch of one step. Default: 1"),
    Option(("--prefill-chunk",), _P, _RUN, "N", "Tokens of a prefill chunk. Default: 4096"),
    Option(("--batched-session",), _P, _RUN, "N", "Resident sessions that run together."),
    Option(("--mixed-prefill-quantum",), _P, _RUN, "N", "Prefill beside decode. Default: 128"),
    Option(("--dspark",), _N, _RUN, "", "Speculative decoding with a DSpark model."),
    Option(("--dspark-confidence",), _F, _RUN, "F", "Least confidence. Default: 0.7", 0, 1),
    Option(("--dspark-strict",), _N, _RUN, "", "Strict verification."),
    Option(("--glm-mtp",), _N, _RUN, "", "MTP layers of GLM models."),
    Option(("--glm-mtp-timing",), _N, _RUN, "", "Print MTP timings."),
    Option(("--ssd-streaming",), _N, _RUN, "", "Read experts from SSD while decoding."),
    Option(("--ssd-streaming-cold",), _N, _RUN, "", "Start with an empty expert cache."),
    Option(("--ssd-streaming-cache-experts",), _T, _RUN, "N|NGB", "Size of the expert cache."),
    Option(("--ssd-streaming-preload-experts",), _P, _RUN, "N", "Experts to load at start."),
    Option(("--ssd-streaming-full-layers",), _P, _RUN, "N", "Layers kept whole."),
    Option(("--simulate-used-memory",), _T, _RUN, "NGB", "Lock memory on purpose."),
    Option(("--gpu-vram",), _T, _RUN, "N,N|auto", "Layout over several GPUs."),
    Option(("--gpu-devices",), _T, _RUN, "N,N", "GPUs to use."),
    Option(("--cuda-tensor-parallel",), _N, _RUN, "", "Split tensors over GPUs."),
    Option(("--metal",), _N, _RUN, "", "Metal backend."),
    Option(("--cuda",), _N, _RUN, "", "CUDA backend, the default here."),
    Option(("--rocm",), _N, _RUN, "", "ROCm backend."),
    Option(("--cpu",), _N, _RUN, "", "CPU backend."),
    Option(("--backend",), _T, _RUN, "NAME", "Backend by name."),
    Option(("--host",), _T, _HTTP, "HOST", "IPv4 address to bind. Default: 127.0.0.1"),
    Option(("--port",), _P, _HTTP, "N", "Port to bind. Default: 8000"),
    Option(("--cors",), _N, _HTTP, "", "Send Access-Control-Allow headers."),
    Option(("--trace",), _T, _HTTP, "FILE", "Write a session trace."),
    Option(("--kv-disk-dir",), _T, _KV, "DIR", "Keep checkpoints in DIR."),
    Option(("--kv-disk-space-mb",), _P, _KV, "N", "Budget in MiB. Default: 4096"),
    Option(("--kv-cache-min-tokens",), _P, _KV, "N", "Shortest checkpoint. Default: 512"),
    Option(("--kv-cache-cold-max-tokens",), _Z, _KV, "N", "Longest cold save. Default: 30000"),
    Option(("--kv-cache-continued-interval-tokens",), _Z, _KV, "N", "Spacing. Default: 10000"),
    Option(("--kv-cache-boundary-trim-tokens",), _Z, _KV, "N", "Tail to trim. Default: 32"),
    Option(("--kv-cache-boundary-align-tokens",), _Z, _KV, "N", "Alignment. Default: 2048"),
    Option(("--kv-cache-reject-different-quant",), _N, _KV, "", "Refuse other quantisations."),
    Option(("--disable-exact-dsml-tool-replay",), _N, _KV, "", "Render tool calls anew."),
    Option(("--tool-memory-max-ids",), _P, _KV, "N", "Tool calls remembered. Default: 100000"),
)

BY_BUILD = frozenset(
    {
        "--no-mmap",
        "--power",
        "--max-batch-size",
        "--prefill-chunk",
        "--batched-session",
        "--mixed-prefill-quantum",
        "--dspark",
        "--dspark-confidence",
        "--dspark-strict",
        "--glm-mtp",
        "--glm-mtp-timing",
        "--ssd-streaming",
        "--ssd-streaming-cold",
        "--ssd-streaming-cache-experts",
        "--ssd-streaming-preload-experts",
        "--ssd-streaming-full-layers",
        "--simulate-used-memory",
        "--gpu-vram",
        "--gpu-devices",
        "--cuda-tensor-parallel",
        "--rocm",
    }
)
"""Options that only some builds know; a profile lists its own."""


def known_options(extra: frozenset[str]) -> dict[str, Option]:
    """Options by every name, for a build that knows `extra` beyond the common ones."""
    return {
        name: option
        for option in OPTIONS
        if option.name not in BY_BUILD or option.name in extra
        for name in option.names
    }


def usage(extra: frozenset[str]) -> str:
    """The help text of such a build."""
    known = set(known_options(extra).values())
    lines = ["Usage: ds4-server [options]"]
    for section in (_RUN, _HTTP, _KV):
        lines += ["", f"{section}:"]
        for option in OPTIONS:
            if option.section == section and option in known:
                lines.append(f"  {', '.join(option.names)} {option.argument}".rstrip())
                lines.append(f"      {option.help}")
    lines += ["", "  -h, --help", "      Show this help.", ""]
    return "\n".join(lines)
