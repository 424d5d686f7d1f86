"""The stages of a start: their lines in order, and how long they take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from standin_kit import DATA, Start, unstamped

NUMBERS = re.compile(r"(?<![A-Za-z])\d+(\.\d+)?")


def shape(line: str) -> str:
    """A line without its numbers."""
    return NUMBERS.sub("N", line)


def test_a_start_that_copies_the_model_as_recorded(start: Start) -> None:
    server = start(
        "--ctx",
        131072,
        "--kv-disk-dir",
        "kv",
        "--kv-disk-space-mb",
        1024,
        "--trace",
        "trace",
        "--standin-model-gib",
        "80.76",
        speed=2000,
        DS4_CUDA_COPY_MODEL="1",
    ).ready()
    real = unstamped((DATA / "start-copy.log").read_text()).splitlines()
    ours = server.lines()

    def comparable(line: str) -> str:
        line = re.sub(r"NVIDIA \S+ \(sm_\d+\)", "GPU", line)
        line = re.sub(r"(disk cache|session to) \S+", r"\1 PATH", line)
        return re.sub(r"complete in \S+|127.0.0.1:\d+", "", line)

    assert [comparable(line) for line in ours] == [comparable(line) for line in real]


CASES = {
    "stock copy": ("stock-2026-05", (), {}, [
        "ds4: CUDA host registration skipped: operation not supported",
        "ds4: CUDA loading model tensors into device cache",
        "ds4: CUDA startup model cache prepared N GiB of tensor spans in Ns",
    ]),
    "stock direct": ("stock-2026-05", (), {"DS4_CUDA_DIRECT_MODEL": "0"}, [
        "ds4: CUDA host registration skipped: operation not supported",
        "ds4: CUDA ATS/HMM prefetch queued N GiB of model tensors in Ns",
    ]),
    "daily mmap": ("daily-agent", (), {}, [
        "ds4: CUDA registered N GiB model mapping for device access",
        "ds4: CUDA loading model tensors into device cache",
        "ds4: CUDA startup model cache prepared N GiB of tensor spans in Ns",
    ]),
    "daily copy": ("daily-agent", ("--no-mmap",), {}, [
        "ds4: CUDA host registration skipped: operation not supported",
        "ds4: CUDA loading model tensors into device cache",
        "ds4: CUDA startup model cache prepared N GiB of tensor spans in Ns",
    ]),
    "august artifacts": ("stock-2026-08", (), {}, [
        "ds4: built N aligned CUDA artifacts (N GiB) in Ns; expert raw residency replaced",
        "ds4: CUDA aligned artifacts replace expert residency; leaving the N GiB model mmap "
        "unpinned",
        "ds4: CUDA preparing model tensor mappings",
        "ds4: CUDA loading model tensors into device cache",
        "ds4: CUDA prepared model tensor mappings N GiB",
        "ds4: CUDA startup model preparation covered N GiB of tensor spans in Ns",
    ]),
    "august cache": ("stock-2026-08", (), {"DS4_CUDA_BUILD_ARTIFACTS": "0"}, [
        "ds4: CUDA host registration skipped: operation not supported",
        "ds4: CUDA preparing model tensor mappings",
        "ds4: CUDA loading model tensors into device cache",
        "ds4: CUDA prepared model tensor mappings N GiB",
        "ds4: CUDA startup model preparation covered N GiB of tensor spans in Ns",
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_stages_by_build_and_residency(start: Start, name: str) -> None:
    profile, arguments, environment, expected = CASES[name]
    server = start(
        *arguments, "--standin-model-gib", "80.76", profile=profile, speed=4000, **environment
    ).ready()
    lines = [shape(line) for line in server.lines() if "GiB cached" not in line]
    first = next(i for i, line in enumerate(lines) if "CUDA backend initialized" in line)
    last = lines.index("ds4: cuda backend initialized for graph diagnostics")
    assert lines[first + 1 : last] == expected


def test_the_newer_builds_plan_of_memory(start: Start) -> None:
    server = start(
        "--ctx",
        100000,
        "--standin-model-gib",
        "80.76",
        "--batched-session",
        2,
        profile="stock-2026-08",
        speed=4000,
    ).ready()
    assert server.lines()[-6:-1] == [
        "ds4: memory: KV 1.64 GiB (raw 0.36 + compressed 1.28) + buffers 0.76 GiB + resident "
        "model 80.76 GiB = 83.16 GiB planned",
        "ds4: memory detail: ctx=100000 prefill_cap=4096 raw_kv_rows=4352 "
        "compressed_kv_rows=25002 backend=cuda",
        "ds4-server: context buffers 2459.24 MiB (ctx=100000, backend=cuda, prefill_chunk=4096, "
        "raw_kv_rows=4352, compressed_kv_rows=25002)",
        "ds4-server: 2 resident sessions request at least 4.80 GiB of context buffers",
        "ds4-server: batched mode enabled resident_sessions=2 prefill_quantum=4096 "
        "mixed_prefill_quantum=128 decode_coalesce_us=0",
    ]


@pytest.mark.parametrize(("arguments", "spark_s"), [((), 433.0), (("--no-mmap",), 57.0)])
def test_a_load_takes_what_it_takes_on_a_spark(
    start: Start, arguments: tuple[str, ...], spark_s: float
) -> None:
    speed = 400.0
    server = start(
        *arguments, "--standin-model-gib", "80.76", profile="daily-agent", speed=speed
    ).ready()
    line = next(line for line in server.lines() if "startup model cache prepared" in line)
    seconds = float(line.rsplit(" ", 1)[1].removesuffix("s"))
    assert spark_s / speed * 0.97 <= seconds <= spark_s / speed * 2
    progress = [line for line in server.lines() if line.endswith("GiB cached")]
    assert len(progress) >= 5


def test_a_sparse_file_counts_with_its_size(start: Start, tmp_path: Path) -> None:
    with open(tmp_path / "sparse.gguf", "wb") as file:
        file.truncate(3 * 1024**3)
    server = start("-m", "sparse.gguf", model_argument=False, speed=4000).ready()
    assert "prepared 3.00 GiB of tensor spans" in server.log
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert f"{tmp_path}/sparse.gguf" in maps
