"""Every line of the engine, and the event it becomes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ds4top.core import events as ev
from ds4top.core.logread import LogReader
from ds4top.core.stamps import StampClock

LATEST = datetime(2026, 11, 25, tzinfo=UTC).timestamp()


def read(data: bytes) -> tuple[list[ev.Event], LogReader]:
    reader = LogReader(StampClock(LATEST, UTC))
    return [*reader.feed(data), *reader.close()], reader


ENGINE = [
    ("Linux cuda backend set oom_score_adj=1000", ev.LifeBegin(None, "oom_score_adj", 1000.0)),
    ("warming mapped tensor pages: 80.76 GiB", ev.LifeBegin(None, "warming", 80.76)),
    (
        "warmed tensor pages in 12.500s (checksum=991)",
        ev.LoadProgress(None, "warm", None, None, 12.5, True),
    ),
    (
        "CUDA backend initialized on NVIDIA GB10 (sm_121)",
        ev.LifeBegin(None, "cuda_init", None, "NVIDIA GB10", "sm_121", None),
    ),
    (
        "CUDA backend initialized on NVIDIA GB10 (sm_121) dev=0",
        ev.LifeBegin(None, "cuda_init", None, "NVIDIA GB10", "sm_121", 0),
    ),
    (
        "built 456 aligned CUDA artifacts (68.58 GiB) in 18.7s; expert raw residency replaced",
        ev.LoadProgress(None, "artifacts", 68.58, None, 18.7, True),
    ),
    (
        "CUDA aligned artifacts replace expert residency; leaving the 80.76 GiB model mmap"
        " unpinned",
        ev.LoadProgress(None, "artifacts", None, 80.76, None, True),
    ),
    (
        "CUDA registered 80.76 GiB model mapping for device access",
        ev.LoadProgress(None, "register", 80.76, None, None, True),
    ),
    (
        "CUDA copying 80.76 GiB model to device memory",
        ev.LoadProgress(None, "copy", None, 80.76),
    ),
    (
        "CUDA model copy complete in 46.257s",
        ev.LoadProgress(None, "copy", None, None, 46.257, True),
    ),
    (
        "CUDA chunk-copying 80.76 GiB model image",
        ev.LoadProgress(None, "copy", None, 80.76),
    ),
    (
        "CUDA model chunk copy 12.00/80.76 GiB", ev.LoadProgress(None, "copy", 12.0, 80.76),
    ),
    (
        "CUDA model chunk copy complete in 30.000s (80.76 GiB tensors)",
        ev.LoadProgress(None, "copy", 80.76, None, 30.0, True),
    ),
    (
        "CUDA ATS/HMM prefetch queued 80.76 GiB of model tensors in 0.100s",
        ev.LoadProgress(None, "prefetch", 80.76, None, 0.1, True),
    ),
    ("CUDA loading model tensors into device cache", ev.LoadProgress(None, "tensors")),
    (
        "CUDA loading model tensors into device cache: 2.00 GiB",
        ev.LoadProgress(None, "tensors", 2.0),
    ),
    ("CUDA loading model tensors 16.02 GiB cached", ev.LoadProgress(None, "tensors", 16.02)),
    ("CUDA preparing model tensor mappings", ev.LoadProgress(None, "map")),
    ("CUDA prepared model tensor mappings 16.37 GiB", ev.LoadProgress(None, "map", 16.37)),
    (
        "CUDA startup model cache prepared 80.76 GiB of tensor spans in 24.310s",
        ev.LoadProgress(None, "prepared", 80.76, None, 24.31, True),
    ),
    (
        "CUDA startup model preparation covered 80.76 GiB of tensor spans in 24.310s",
        ev.LoadProgress(None, "prepared", 80.76, None, 24.31, True),
    ),
    (
        "cuda backend initialized for graph diagnostics",
        ev.LoadProgress(None, "engine", None, None, None, True),
    ),
    (
        "another ds4 process is already running (pid 19205); refusing to start",
        ev.AlreadyRunning(None, 19205),
    ),
]  # fmt: skip

ENGINE_FATAL = [
    ("cannot open model '/m.gguf': No such file or directory", "model_missing", "/m.gguf"),
    ("model file is too small to be GGUF", "model_too_small", ""),
    ("model is not a GGUF file", "model_not_gguf", ""),
    ("tensor points outside GGUF file", "model_truncated", ""),
    (
        "cuda backend requested but this build has no graph backend support; aborting startup",
        "backend_missing", "cuda",
    ),
    (
        "accelerator failed to cache model tensor span 3 at offset 99",
        "weights_failed", "model tensor span 3 at offset 99",
    ),
    (
        "CUDA model 120.00 GiB exceeds the default single-GPU startup cache budget 96.00 GiB;"
        " set a limit",
        "model_too_large", "96.00 GiB",
    ),
    ("out of memory", "out_of_memory", ""),
]  # fmt: skip

ENGINE_NOTES = [
    (
        "MTP support model loaded: /m/mtp.gguf (draft=2)",
        "support-model", "info", "/m/mtp.gguf", {"draft": 2},
    ),
    (
        "DSpark support model detected: /m/d.gguf (stages=2 block=4)",
        "support-model", "info", "/m/d.gguf (stages=2 block=4)", {},
    ),
    (
        "CUDA host registration skipped: operation not supported",
        "register-skipped", "warning", "operation not supported", {},
    ),
    (
        "memory: KV 1.64 GiB (raw 0.36 + compressed 1.28) + buffers 0.76 GiB + resident model"
        " 80.76 GiB + expert cache 2.00 GiB = 85.16 GiB planned",
        "memory-plan", "info", "",
        {
            "kv_gib": 1.64, "raw_gib": 0.36, "compressed_gib": 1.28, "buffers_gib": 0.76,
            "model_gib": 80.76, "planned_gib": 85.16,
        },
    ),
    (
        "memory detail: ctx=100000 prefill_cap=4096 raw_kv_rows=4352 compressed_kv_rows=25002"
        " backend=cuda",
        "memory-detail", "info", "",
        {
            "ctx": 100000, "prefill_cap": 4096, "raw_kv_rows": 4352, "compressed_kv_rows": 25002,
            "backend": "cuda",
        },
    ),
    (
        "CUDA using managed KV cache for ctx=700000 (kv cache 9.10 GiB, context buffers"
        " 3.00 GiB); this may degrade performance",
        "managed-kv", "warning", "; this may degrade performance",
        {"ctx": 700000, "kv_gib": 9.1, "buffers_gib": 3.0},
    ),
    (
        "CUDA model arena alloc failed for blk.3.ffn (1792.00 MiB chunk): out of memory",
        "arena-failed", "warning", "out of memory", {"tensor": "blk.3.ffn", "size_mib": 1792.0},
    ),
    (
        "CUDA q8 fp16 cache budget exhausted; using q8 kernels (request=1 cached=2)",
        "q8-budget", "warning", "; using q8 kernels (request=1 cached=2)", {},
    ),
    (
        "CUDA q8 fp16 cache alloc failed (12.00 MiB): out of memory",
        "q8-failed", "warning", " (12.00 MiB): out of memory", {},
    ),
    (
        "CUDA temp alloc failed for logits (12.00 MiB): out of memory",
        "temp-failed", "error", "out of memory", {"what": "logits", "size_mib": 12.0},
    ),
    ("CUDA tensor alloc failed: out of memory", "tensor-failed", "error", "out of memory", {}),
    (
        "CUDA decode failed: an illegal memory access was encountered",
        "cuda-error", "error", "an illegal memory access was encountered", {"what": "decode"},
    ),
    ("cuBLAS gemm failed: status 13", "cuda-error", "error", "status 13", {"what": "gemm"}),
    (
        "CUDA memory report after load: free 100.00 MiB total 200.00 MiB",
        "memory-report", "info", "",
        {"label": "after load", "free_mib": 100.0, "total_mib": 200.0},
    ),
    (
        "mtp probe token=5 draft=2 hit=1/2", "mtp", "info", " token=5 draft=2 hit=1/2", {},
    ),
    (
        "distributed worker: connected to coordinator 10.0.0.1:9000",
        "distributed", "info", "connected to coordinator 10.0.0.1:9000", {},
    ),
    ("gpu prefill layer 7/43", "layer-progress", "info", "", {"layer": 7, "layers": 43}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "event"), ENGINE)
def test_an_engine_line_becomes_its_event(body: str, event: ev.Event) -> None:
    events, _ = read(f"ds4: {body}\n".encode())
    assert events == [event]
    assert type(events[0]) is type(event)


@pytest.mark.parametrize(("body", "reason", "detail"), ENGINE_FATAL)
def test_an_engine_that_gives_up(body: str, reason: str, detail: str) -> None:
    events, _ = read(f"ds4: {body}\n".encode())
    assert events == [ev.StartFatal(None, reason, detail, body, 1)]


@pytest.mark.parametrize(("body", "name", "level", "text", "fields"), ENGINE_NOTES)
def test_an_engine_note(
    body: str, name: str, level: str, text: str, fields: dict[str, object]
) -> None:
    events, _ = read(f"ds4: {body}\n".encode())
    assert events == [ev.Note(None, name, level, text, fields)]  # type: ignore[arg-type]


@pytest.mark.parametrize("origin", ["ds4-server", "ds4-kvstore"])
def test_out_of_memory_has_no_stamp(origin: str) -> None:
    events, _ = read(f"{origin}: out of memory\n".encode())
    assert events == [ev.StartFatal(None, "out_of_memory", "", "out of memory", 1)]
