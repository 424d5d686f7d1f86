"""Each rule over a launch: where it fires, with which figure and fix, and where it must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.helptext import names_of, parse_help
from ds4top.core.launch import LaunchSpec, settings
from ds4top.core.lint import (
    RULES,
    Finding,
    GpuServer,
    LintFacts,
    facts_of,
    judge,
    lint,
)
from ds4top.core.lint_rules import snapshot_bytes
from ds4top.core.units import GIB, MIB

HELP = Path(__file__).parent.parent / "data" / "help"
STOCK = parse_help((HELP / "ds4-stock-2026-05.txt").read_text(encoding="utf-8"))
AGENT = parse_help((HELP / "standin-daily-agent.txt").read_text(encoding="utf-8"))
LLAMA = parse_help((HELP / "llama-server.txt").read_text(encoding="utf-8"))

WEIGHTS = round(80.76 * GIB)
DS4: dict[str, Any] = {"flavour": "ds4"}
Q8 = frozenset({"DS4_CUDA_Q8_F16_CACHE_MB"})

FIRES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("ctx-large", {**DS4, "ctx_tokens": 262_144, "prefill_chunk": 4096}, "warning",
     "262,144 tokens: about 5.7 GiB of buffers, 2.7 GiB more than at 131,072", "--ctx 131072"),
    ("ctx-large", {"flavour": "llama.cpp", "ctx_tokens": 200_000}, "warning",
     "200,000 tokens", "--ctx-size 131072"),
    ("managed-kv", {**DS4, "ctx_tokens": 400_000, "managed_kv": True}, "bad",
     "KV cache in managed memory at 400,000 tokens (told by its log)", "--ctx 131072"),
    ("managed-kv", {**DS4, "ctx_tokens": 1_000_000}, "bad",
     "KV cache in managed memory at 1,000,000 tokens (8 GiB of KV or more)", "--ctx 131072"),
    ("kv-dir-missing", {**DS4, "kv_disk": False}, "bad",
     "no disk cache: a 4,011-token prompt takes 11.4 s, 6.5 s with one;"
     " a 50K prefix loads in 87 ms against about 150 s of prefill",
     "--kv-disk-dir ~/.cache/ds4-kv --kv-disk-space-mb 16384"),
    ("kv-budget-small",
     {"kv_disk": True, "kv_budget_bytes": 1024 * MIB, "mean_context_tokens": 46_507}, "warning",
     "1,024 MiB hold 1.6 contexts of 46,507 tokens", "--kv-disk-space-mb 5120"),
    ("kv-budget-small",
     {"kv_disk": True, "kv_budget_bytes": 512 * MIB, "mean_context_tokens": 46_507}, "bad",
     "512 MiB hold 0.8 contexts of 46,507 tokens", "--kv-disk-space-mb 5120"),
    ("kv-evicted-again", {"kv_budget_bytes": 4 * GIB, "evicted_turns": 7}, "warning",
     "7 turns were cold because their checkpoint had been evicted", "--kv-disk-space-mb 8192"),
    ("kv-budget-over-disk",
     {"kv_budget_bytes": 16 * GIB, "kv_used_bytes": 4 * GIB, "kv_disk_free_bytes": 6 * GIB},
     "warning", "budget 16.0 GiB, but 4.0 GiB used + 6.0 GiB free", "--kv-disk-space-mb 9216"),
    ("kv-dir-place", {"kv_fs_type": "tmpfs", "kv_dir": "/tmp/kv", "kv_used_bytes": 2 * GIB}, "bad",
     "/tmp/kv is on tmpfs: 2.0 GiB of memory", "--kv-disk-dir ~/.cache/ds4-kv"),
    ("kv-dir-place", {"kv_fs_type": "nfs4", "kv_dir": "/net/kv"}, "warning",
     "/net/kv is on nfs4", "--kv-disk-dir ~/.cache/ds4-kv (a local disk)"),
    ("cold-max",
     {"kv_disk": True, "cold_max_tokens": 30_000, "first_prompts_tokens": (9_000, 48_113, 31_000)},
     "warning", "2 of 3 first prompts above 30,000, the largest 48,113",
     "--kv-cache-cold-max-tokens 49152"),
    ("cold-max", {"kv_disk": True, "cold_max_tokens": 0}, "note",
     "0: cold saves are off", "--kv-cache-cold-max-tokens 30000"),
    ("power", {"power_pct": 75}, "warning", "75 %: 75 % costs 25 % of the speed", "--power 100"),
    ("batch", {"batch_size": 4}, "warning", "batches of up to 4 requests", "--max-batch-size 1"),
    ("batch", {**DS4, "batched_sessions": 3, "ctx_tokens": 131_072, "prefill_chunk": 4096},
     "warning", "3 sessions: 3 KV states stay resident, about 9.1 GiB",
     "leave --batched-session out"),
    ("batch", {"flavour": "llama.cpp", "batched_sessions": 4}, "warning",
     "4 sessions: 4 KV states stay resident", "--parallel 1"),
    ("kv-quantised", {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}, "bad",
     "--cache-type-k q8_0, --cache-type-v q4_0", "--cache-type-k f16 --cache-type-v f16"),
    ("kv-quantised", {"cache_type_k": "f16", "cache_type_v": "q8_0"}, "bad",
     "--cache-type-v q8_0", "--cache-type-v f16"),
    ("public-address", {**DS4, "hosts": ("0.0.0.0",), "api_key": False}, "bad",
     "listens on 0.0.0.0",
     "--host 127.0.0.1, and reach it by: ssh -L PORT:127.0.0.1:PORT MACHINE"),
    ("public-address", {**DS4, "hosts": ("127.0.0.1", "192.168.1.9")}, "warning",
     "listens on 192.168.1.9",
     "--host 127.0.0.1, and reach it by: ssh -L PORT:127.0.0.1:PORT MACHINE"),
    ("public-address", {"flavour": "llama.cpp", "hosts": ("[::]",), "api_key": False}, "bad",
     "listens on [::]", "--host 127.0.0.1, and reach it by: ssh -L PORT:127.0.0.1:PORT MACHINE"),
    ("dspark", {"dspark": True}, "warning",
     "--dspark: decode fell from 19.3 to 14.9 tok/s on a GB10", "leave --dspark out"),
    ("ssd-streaming", {"ssd_streaming": True, "model_bytes": WEIGHTS}, "warning",
     "--ssd-streaming with 80.8 GiB", "leave --ssd-streaming out where the model fits"),
    ("several-gpus", {"several_gpus": ("--gpu-vram", "--cuda-tensor-parallel")}, "bad",
     "--gpu-vram --cuda-tensor-parallel", "leave --gpu-vram and --cuda-tensor-parallel out"),
    ("simulated-memory", {"simulated_memory": "20GB", "total_bytes": 100 * 10**9}, "bad",
     "20GB locked on purpose, 20 % of the machine", "leave --simulate-used-memory out"),
    ("trace", {"trace": "/var/log/t.txt"}, "note",
     "/var/log/t.txt: every prompt and answer in clear, emptied at each start",
     "leave --trace out"),
    ("copy-headroom",
     {"residency": "copy", "headroom_bytes": 9 * GIB, "prefill_need_bytes": 14 * GIB,
      "prefill_need_tokens": 56_000, "prefill_need_from": "measured"}, "bad",
     "headroom 9.0 GiB, the largest prefill of 56,000 tokens takes 14.0 GiB (measured)",
     "ds4top restart --mmap, or a smaller --ctx"),
    ("copy-headroom",
     {"residency": "copy", "headroom_bytes": 15 * GIB, "prefill_need_bytes": 14 * GIB}, "warning",
     "headroom 15.0 GiB, the largest prefill takes 14.0 GiB (estimated)",
     "ds4top restart --mmap, or a smaller --ctx"),
    ("mmap-slow-start", {"residency": "mmap", "start_s": 433.0, "load_bytes_per_s": 200e6},
     "warning", "the last start took 7 m 13 s at 200 MB/s; a copy takes about 57 s",
     "ds4top restart --no-mmap"),
    ("mmap-slow-start",
     {"residency": "mmap", "start_s": 433.0, "headroom_bytes": 9 * GIB,
      "prefill_need_bytes": 14 * GIB}, "note",
     "the last start took 7 m 13 s; a copy takes about 57 s",
     "--warm-weights, or the model on a faster disk"),
    ("mapped-decode", {**DS4, "residency": "mmap"}, "note",
     "mapped: 12.65 tok/s against 14.2 copied at 2K, 11 % less", "ds4top restart --no-mmap"),
    ("slow-storage",
     {"residency": "copy", "load_bytes_per_s": 240e6, "load_from_disk": True,
      "model": "/mnt/usb/flash.gguf"}, "warning",
     "240 MB/s at the last start; a Spark's NVMe gives about 1,400",
     "-m ~/models/flash.gguf, copied to the internal NVMe first"),
    ("slow-storage", {"model_fs_type": "nfs4", "model": "flash.gguf"}, "warning",
     "the model is on nfs4", "-m ~/models/flash.gguf, copied to the internal NVMe first"),
    ("swap-on", {"residency": "copy", "swap_total_bytes": 16 * GIB}, "warning",
     "16.0 GiB of swap", "sudo swapoff -a"),
    ("oom-score", {"oom_score_adj": 0, "pid": 4711}, "warning",
     "0, below 500", "choom -n 1000 -p 4711"),
    ("oom-score",
     {"oom_score_adj": 200, "pid": 4711, "supervisor": "systemd-system", "unit": "ds4.service"},
     "warning", "200, below 500",
     "choom -n 1000 -p 4711, and OOMScoreAdjust=1000 in ds4.service"),
    ("log-lost", {"log_kind": "null"}, "warning", "its standard error goes to /dev/null",
     "2>> ~/ds4-server.log, or ds4top run -- ds4-server …"),
    ("log-lost", {"log_kind": "deleted"}, "warning",
     "its log file was deleted while it writes",
     "2>> ~/ds4-server.log, or ds4top run -- ds4-server …"),
    ("log-lost", {"log_kind": "tmux"}, "note", "a tmux pane",
     "2>> ~/ds4-server.log, or ds4top run -- ds4-server …"),
    ("stop-timeout",
     {"stop_timeout_s": 90.0, "drain_s": 426.7, "supervisor": "systemd-user",
      "unit": "ds4.service"}, "warning",
     "1 m 30 s for a stop; the longest prefill seen took 7 m 07 s",
     "TimeoutStopSec=600 in ds4.service"),
    ("stop-timeout",
     {"stop_timeout_s": 10.0, "drain_s": 60.0, "supervisor": "docker", "unit": "ds4"}, "warning",
     "10 s for a stop; the longest prefill seen took 1 m 00 s", "docker stop -t 600 ds4"),
    ("two-servers",
     {"pid": 7, "gpu_servers": (GpuServer(7, "ds4-server", 86 * GIB),
                                GpuServer(9, "llama-server", 20 * GIB))}, "bad",
     "ds4-server 7 86.0 GiB and llama-server 9 20.0 GiB", "kill -TERM 9 (once; it drains)"),
    ("copy-model",
     {"variables": {"DS4_CUDA_COPY_MODEL": "0"}, "model_bytes": WEIGHTS,
      "total_bytes": round(121.69 * GIB)}, "bad",
     "up to 161.5 GiB of 121.7 GiB while loading", "env -u DS4_CUDA_COPY_MODEL ds4-server …"),
    ("copy-model",
     {"variables": {"DS4_CUDA_COPY_MODEL": "1"}, "supervisor": "systemd-user", "unit": "d.service"},
     "bad", "up to 161.5 GiB while loading", "UnsetEnvironment=DS4_CUDA_COPY_MODEL in d.service"),
    ("keep-pages", {"variables": {"DS4_CUDA_KEEP_MODEL_PAGES": ""}}, "warning",
     "up to 80.8 GiB of page cache beside the copy",
     "env -u DS4_CUDA_KEEP_MODEL_PAGES ds4-server …"),
    ("q8-cache",
     {"variables": {}, "known_variables": Q8, "total_bytes": round(121.69 * GIB)}, "note",
     "expanded copies of weights may leave 512 MiB of 121.7 GiB",
     "DS4_CUDA_Q8_F16_CACHE_MB=2048, or DS4_CUDA_NO_Q8_F16_CACHE=1"),
    ("q8-cache",
     {"variables": {}, "known_variables": Q8, "total_bytes": 120 * GIB, "q8_failed": 3},
     "warning",
     "expanded copies of weights may leave 512 MiB of 120.0 GiB; 3 allocations failed",
     "DS4_CUDA_Q8_F16_CACHE_MB=2048, or DS4_CUDA_NO_Q8_F16_CACHE=1"),
    ("zero-is-on", {"variables": {"DS4_CUDA_DIRECT_MODEL": "0"}}, "warning",
     "DS4_CUDA_DIRECT_MODEL=0", "env -u DS4_CUDA_DIRECT_MODEL ds4-server …"),
    ("quiet-load", {"variables": {"DS4_CUDA_WEIGHT_CACHE_VERBOSE": "1"}}, "note",
     "DS4_CUDA_WEIGHT_CACHE_VERBOSE is set: no progress lines while loading",
     "env -u DS4_CUDA_WEIGHT_CACHE_VERBOSE ds4-server …"),
    ("exe-replaced", {"exe_replaced": True}, "note",
     "the executable was replaced since the start", "ds4top restart, when it suits"),
]  # fmt: skip

QUIET: list[tuple[str, dict[str, Any]]] = [
    ("ctx-large", {"ctx_tokens": 131_072}),
    ("ctx-large", {"ctx_tokens": 0}),
    ("managed-kv", {**DS4, "ctx_tokens": 131_072, "managed_kv": False}),
    ("managed-kv", {"flavour": "llama.cpp", "ctx_tokens": 1_000_000}),
    ("kv-dir-missing", {**DS4, "kv_disk": True, "kv_dir": "/var/cache/ds4"}),
    ("kv-dir-missing", {"flavour": "llama.cpp", "kv_disk": False}),
    ("kv-budget-small",
     {"kv_disk": True, "kv_budget_bytes": 4 * GIB, "mean_context_tokens": 46_507}),
    ("kv-budget-small",
     {"kv_disk": False, "kv_budget_bytes": 4, "mean_context_tokens": 46_507}),
    ("kv-evicted-again", {"evicted_turns": 2}),
    ("kv-budget-over-disk",
     {"kv_budget_bytes": 10 * GIB, "kv_used_bytes": 4 * GIB, "kv_disk_free_bytes": 6 * GIB}),
    ("kv-dir-place", {"kv_fs_type": "ext4"}),
    ("cold-max", {"kv_disk": True, "cold_max_tokens": 30_000, "first_prompts_tokens": (30_000,)}),
    ("cold-max", {"kv_disk": True, "cold_max_tokens": 30_000, "first_prompts_tokens": ()}),
    ("cold-max", {"kv_disk": False, "cold_max_tokens": 0}),
    ("power", {"power_pct": 100}),
    ("batch", {"batch_size": 1}),
    ("batch", {"batched_sessions": 1}),
    ("kv-quantised", {"cache_type_k": "F16", "cache_type_v": "bf16"}),
    ("public-address", {**DS4, "hosts": ("127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost")}),
    ("public-address", {"flavour": "llama.cpp", "hosts": ("0.0.0.0",), "api_key": True}),
    ("public-address", {"flavour": "llama.cpp", "hosts": ("0.0.0.0",)}),
    ("public-address", {**DS4, "hosts": ("some-name",)}),
    ("dspark", {"dspark": False}),
    ("ssd-streaming", {"ssd_streaming": False}),
    ("several-gpus", {"several_gpus": ()}),
    ("simulated-memory", {"simulated_memory": ""}),
    ("trace", {"trace": ""}),
    ("copy-headroom",
     {"residency": "copy", "headroom_bytes": 17 * GIB, "prefill_need_bytes": 14 * GIB}),
    ("copy-headroom",
     {"residency": "mmap", "headroom_bytes": 1 * GIB, "prefill_need_bytes": 14 * GIB}),
    ("mmap-slow-start", {"residency": "mmap", "start_s": 57.0}),
    ("mmap-slow-start", {"residency": "copy", "start_s": 433.0}),
    ("mapped-decode", {**DS4, "residency": "copy"}),
    ("mapped-decode", {"flavour": "llama.cpp", "residency": "mmap"}),
    ("slow-storage", {"residency": "copy", "load_bytes_per_s": 1.4e9, "load_from_disk": True}),
    ("slow-storage", {"residency": "mmap", "load_bytes_per_s": 200e6, "load_from_disk": True}),
    ("slow-storage", {"residency": "copy", "load_bytes_per_s": 200e6, "load_from_disk": False}),
    ("slow-storage", {"model_fs_type": "ext4"}),
    ("swap-on", {"residency": "copy", "swap_total_bytes": 0}),
    ("swap-on", {"residency": "mmap", "swap_total_bytes": 16 * GIB}),
    ("oom-score", {"oom_score_adj": 1000}),
    ("oom-score", {"oom_score_adj": 500}),
    ("log-lost", {"log_kind": "file", "log_path": "/var/log/ds4.log"}),
    ("log-lost", {"log_kind": "journal"}),
    ("stop-timeout", {"stop_timeout_s": 600.0, "drain_s": 426.7}),
    ("stop-timeout", {"stop_timeout_s": float("inf"), "drain_s": 426.7}),
    ("two-servers", {"gpu_servers": (GpuServer(7, "ds4-server"),)}),
    ("copy-model", {"variables": {"DS4_CUDA_COPY_MODEL": ""}}),
    ("copy-model", {"variables": {"DS4_CUDA_COPY_MODEL_CHUNKED": "1"}}),
    ("keep-pages", {"variables": {}}),
    ("q8-cache",
     {"variables": {"DS4_CUDA_NO_Q8_F16_CACHE": "1"}, "known_variables": Q8,
      "total_bytes": 121 * GIB}),
    ("q8-cache", {"variables": {}, "known_variables": frozenset(), "total_bytes": 121 * GIB}),
    ("q8-cache", {"variables": {}, "known_variables": Q8, "total_bytes": 80 * GIB}),
    ("zero-is-on", {"variables": {"DS4_CUDA_BUILD_ARTIFACTS": "0", "DS4_UNHEARD": "0"}}),
    ("zero-is-on", {"variables": {"DS4_CUDA_DIRECT_MODEL": "1"}}),
    ("quiet-load", {"variables": {}}),
    ("exe-replaced", {"exe_replaced": False}),
]  # fmt: skip


def found(rule: str, facts: Mapping[str, Any]) -> Finding | None:
    hits = [finding for finding in lint(LintFacts(**facts)) if finding.rule == rule]
    assert len(hits) <= 1
    return hits[0] if hits else None


@pytest.mark.parametrize(("rule", "facts", "severity", "figure", "fix"), FIRES)
def test_a_rule_fires_with_its_figure_and_its_fix(
    rule: str, facts: dict[str, Any], severity: str, figure: str, fix: str
) -> None:
    finding = found(rule, facts)
    assert finding is not None
    assert (finding.severity, finding.figure, finding.fix) == (severity, figure, fix)
    assert finding.why
    assert finding.source
    assert finding.figure in finding.text
    assert finding.fix in finding.text


@pytest.mark.parametrize(("rule", "facts"), QUIET)
def test_a_rule_stays_quiet_or_praises(rule: str, facts: dict[str, Any]) -> None:
    finding = found(rule, facts)
    assert finding is None or (finding.severity == "good" and finding.fix == "")
    if finding is not None:
        assert finding.figure


def test_every_rule_is_tested_both_ways() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert {rule for rule, *_ in FIRES} == set(ids)
    assert {rule for rule, _ in QUIET} == set(ids)


def test_what_is_unknown_is_no_finding() -> None:
    assert lint(LintFacts()) == ()


@pytest.mark.parametrize(("rule", "facts", "severity", "figure", "fix"), FIRES)
def test_a_rule_without_its_facts_says_nothing(
    rule: str, facts: dict[str, Any], severity: str, figure: str, fix: str
) -> None:
    """Some fact of each case is needed: without it the rule is quiet, or another case."""
    without = []
    for name in facts:
        finding = found(rule, {key: value for key, value in facts.items() if key != name})
        without.append(None if finding is None else (finding.severity, finding.figure, finding.fix))
    assert any(said != (severity, figure, fix) for said in without)


def test_the_worst_stands_first() -> None:
    facts = LintFacts(**{**DS4, "kv_disk": False, "power_pct": 75, "trace": "/t", "batch_size": 1})
    assert [(f.rule, f.severity) for f in lint(facts)] == [
        ("kv-dir-missing", "bad"),
        ("power", "warning"),
        ("trace", "note"),
        ("batch", "good"),
    ]


@pytest.mark.parametrize(
    ("tokens", "mib"),
    [(512, 29.6), (2048, 49.8), (4096, 76.7), (10240, 157.3), (32768, 453.0), (100000, 1335.5)],
)
def test_the_size_of_a_checkpoint(tokens: int, mib: float) -> None:
    assert snapshot_bytes(tokens) / MIB == pytest.approx(mib, abs=0.06)


def test_a_checkpoint_to_the_byte() -> None:
    assert snapshot_bytes(4096) == 80_373_132


ARGV = (
    "ds4-server", "-m", "/m/flash.gguf", "-c", "262144", "--power", "75", "--max-batch-size", "1",
    "--host", "0.0.0.0", "--kv-disk-dir", "/kv", "--kv-disk-space-mb", "1024", "--trace", "/t",
)  # fmt: skip


def test_facts_and_verdicts_of_a_launch() -> None:
    spec = LaunchSpec(ARGV, (("DS4_CUDA_DIRECT_MODEL", "0"),))
    rows = settings(spec, AGENT)
    facts = facts_of(rows, spec, LintFacts(mean_context_tokens=46_507.0, oom_score_adj=0, pid=9))
    assert facts == LintFacts(
        flavour="ds4", model="/m/flash.gguf", ctx_tokens=262_144, kv_disk=True, kv_dir="/kv",
        kv_budget_bytes=1024 * MIB, cold_max_tokens=30_000, power_pct=75, batch_size=1,
        hosts=("0.0.0.0",), api_key=False, trace="/t", oom_score_adj=0, pid=9,
        mean_context_tokens=46_507.0, variables={"DS4_CUDA_DIRECT_MODEL": "0"},
    )  # fmt: skip
    judged = {j.setting.name: j for j in judge(rows, lint(facts))}
    verdicts = {name: j.verdict for name, j in judged.items() if j.verdict is not None}
    assert verdicts == {
        "--ctx": "warning",
        "--power": "warning",
        "--max-batch-size": "good",
        "--host": "bad",
        "--kv-disk-dir": "good",
        "--kv-disk-space-mb": "warning",
        "--trace": "note",
        "DS4_CUDA_DIRECT_MODEL": "warning",
    }
    assert (judged["--power"].fix, judged["--max-batch-size"].fix) == ("--power 100", None)
    assert judged["--power"].why
    assert judged["--cors"].why is None
    # Only flags that this build lists stand in the fixes that name flags of its own.
    assert {"--power", "--max-batch-size", "--kv-disk-dir"} <= names_of(AGENT)


def test_what_cannot_be_read_is_not_judged() -> None:
    spec = LaunchSpec()
    facts = facts_of(settings(spec, STOCK), spec, LintFacts())
    assert facts == LintFacts(flavour="ds4", api_key=False)
    # Without its help a flag that was not given may have any default.
    bare = LaunchSpec(("ds4-server", "--port", "1"), None)
    facts = facts_of(settings(bare, None), bare, LintFacts())
    assert facts == LintFacts(flavour="ds4", api_key=False)


def test_a_server_without_a_disk_cache_is_known_by_its_help() -> None:
    spec = LaunchSpec(("ds4-server",), ())
    facts = facts_of(settings(spec, STOCK), spec, LintFacts())
    assert (facts.kv_disk, facts.ctx_tokens, facts.hosts) == (False, 32_768, ("127.0.0.1",))
    assert [f.rule for f in lint(facts) if f.severity != "good"] == ["kv-dir-missing"]


def test_facts_of_a_llama_server() -> None:
    argv = ("llama-server", "-c", "65536", "-ctk", "q8_0", "-np", "2", "--host", "0.0.0.0")
    spec = LaunchSpec(argv, (("LLAMA_API_KEY", "hidden"),))
    rows = settings(spec, LLAMA)
    facts = facts_of(rows, spec, LintFacts(), llama=True)
    assert (facts.ctx_tokens, facts.cache_type_k, facts.cache_type_v) == (65_536, "q8_0", "f16")
    assert (facts.batched_sessions, facts.api_key, facts.kv_disk) == (2, True, None)
    judged = {j.setting.name: j.verdict for j in judge(rows, lint(facts)) if j.verdict}
    assert judged == {"--ctx-size": "good", "--cache-type-k": "bad", "--parallel": "warning"}


def test_what_is_measured_wins_over_what_was_asked_for() -> None:
    spec = LaunchSpec(("ds4-server", "--host", "0.0.0.0"), ())
    base = LintFacts(hosts=("127.0.0.1",), ctx_tokens=65_536)
    facts = facts_of(settings(spec, STOCK), spec, base)
    assert (facts.hosts, facts.ctx_tokens) == (("127.0.0.1",), 65_536)


_NUMBERS = st.none() | st.integers(-10, 10**12)


@given(st.data())
def test_any_facts_are_judged_without_an_error(data: st.DataObject) -> None:
    drawn: dict[str, Any] = {}
    for field in fields(LintFacts):
        kind = str(field.type)
        if "bytes" in field.name or "int" in kind or "float" in kind:
            drawn[field.name] = data.draw(_NUMBERS) if "tuple" not in kind else None
        elif "bool" in kind:
            drawn[field.name] = data.draw(st.none() | st.booleans())
        elif field.name == "residency":
            drawn[field.name] = data.draw(st.sampled_from([None, "mmap", "copy", "mixed"]))
        elif kind == "str | None":
            drawn[field.name] = data.draw(st.none() | st.text(max_size=6))
    for finding in lint(replace(LintFacts(), **drawn)):
        assert finding.figure
        assert (finding.severity == "good") == (finding.fix == "")
