"""Templates of the engine's lines, which begin ``ds4: `` and have no stamp.

Sources: ds4.c, ds4_cuda.cu and ds4_kvstore.c of antirez/ds4, and real logs quoted in its issues.
"""

from __future__ import annotations

from ds4top.core import events as ev
from ds4top.core.patterns import INT, NUM, Build, Groups, Template, fatal, number, row, rows


def _stage(stage: str, *, finished: bool = False) -> Build:
    def build(at: float | None, g: Groups) -> ev.Event:
        done, total, seconds = g.get("done"), g.get("total"), g.get("s")
        return ev.LoadProgress(
            at,
            stage,
            number(done) if done else None,
            number(total) if total else None,
            number(seconds) if seconds else None,
            finished,
        )

    return build


def _cuda_init(at: float | None, g: Groups) -> ev.Event:
    index = int(g["index"]) if g["index"] else None
    return ev.LifeBegin(at, "cuda_init", None, g["device"], g["sm"], index)


_GIB = rf"(?P<done>{NUM}) GiB"
_TOTAL = rf"(?P<total>{NUM}) GiB"
ENGINE: tuple[Template, ...] = (
    row("oom-score", rf"Linux \w+ backend set oom_score_adj=(?P<v>-?{INT})",
         lambda at, g: ev.LifeBegin(at, "oom_score_adj", float(g["v"]))),
    row("warming", rf"warming mapped tensor pages: (?P<v>{NUM}) GiB", lambda at, g: ev.LifeBegin(at, "warming", number(g["v"]))),
    row("cuda-init", rf"CUDA backend initialized on (?P<device>.*) \((?P<sm>sm_\d{{1,4}})\)(?: dev=(?P<index>{INT}))?", _cuda_init),
    row("already-running", rf"another ds4 process is already running \(pid (?P<pid>{INT})\); refusing to start",
         lambda at, g: ev.AlreadyRunning(at, int(g["pid"]))),
    row("warmed", rf"warmed tensor pages in (?P<s>{NUM})s(?: \(checksum=\S+\))?", _stage("warm", finished=True)),
    row("artifacts", rf"built {INT} aligned CUDA artifacts \({_GIB}\) in (?P<s>{NUM})s(?:; .*)?", _stage("artifacts", finished=True)),
    row("artifacts", rf"CUDA aligned artifacts replace expert residency; leaving the {_TOTAL} model mmap unpinned", _stage("artifacts", finished=True)),
    row("register", rf"CUDA registered {_GIB} model mapping for device access", _stage("register", finished=True)),
    row("copy", rf"CUDA copying {_TOTAL} model to device memory", _stage("copy")),
    row("copy", rf"CUDA chunk-copying {_TOTAL} model image", _stage("copy")),
    row("copy", rf"(?:CUDA|ROCm) model (?:chunk )?copy complete in (?P<s>{NUM})s(?: \({_GIB} tensors\))?", _stage("copy", finished=True)),
    row("copy", rf"(?:CUDA|ROCm) (?:model )?chunk copy (?P<done>{NUM})/(?P<total>{NUM}) GiB", _stage("copy")),
    row("prefetch", rf"CUDA ATS/HMM prefetch queued {_GIB} of model tensors in (?P<s>{NUM})s", _stage("prefetch", finished=True)),
    row("tensors", rf"(?:CUDA|ROCm) loading model tensors into device cache(?:: {_GIB})?", _stage("tensors")),
    row("tensors", rf"(?:CUDA|ROCm) loading model tensors {_GIB} cached", _stage("tensors")),
    row("map", rf"(?:CUDA|ROCm) preparing model tensor mappings(?:: {_GIB})?", _stage("map")),
    row("map", rf"(?:CUDA|ROCm) prepared model tensor mappings {_GIB}", _stage("map")),
    row("prepared", rf"CUDA startup model (?:cache prepared|preparation covered) {_GIB} of tensor spans in (?P<s>{NUM})s", _stage("prepared", finished=True)),
    row("engine", r"\w+ backend initialized for graph diagnostics", _stage("engine", finished=True)),
    row("model-missing", r"(?P<text>cannot open model '(?P<detail>.*)': .*)", fatal("model_missing", 1)),
    row("model-bad", r"(?P<text>model file is too small to be GGUF)", fatal("model_too_small", 1)),
    row("model-bad", r"(?P<text>model is not a GGUF file)", fatal("model_not_gguf", 1)),
    row("model-bad", r"(?P<text>tensor points outside GGUF file)", fatal("model_truncated", 1)),
    row("model-bad", r"(?P<text>(?:unsupported|unexpected) GGUF version.*)", fatal("model_version", 1)),
    row("model-bad", r"(?P<text>(?:missing|required) (?:tensor|metadata|model tensor).*)", fatal("model_incomplete", 1)),
    row("no-backend", r"(?P<text>(?P<detail>\w+) backend requested but this build has no graph backend support; aborting startup)", fatal("backend_missing", 1)),
    row("no-backend", r"(?P<text>(?P<detail>\w+) backend (?:is not available|initialization failed|failed to initialize|init failed).*)", fatal("backend_failed", 1)),
    row("span-failed", r"(?P<text>accelerator failed to (?:cache|prepare) (?P<detail>model tensor span .*))", fatal("weights_failed", 1)),
    row("too-large", rf"(?P<text>CUDA model {NUM} GiB exceeds the default single-GPU startup cache budget (?P<detail>{NUM} GiB).*)",
         fatal("model_too_large", 1)),
    row("no-backend", r"(?P<text>(?P<detail>\w+) backend (?:unavailable; aborting startup|requested but this build is linked with .*))", fatal("backend_missing", 1)),
    row("span-failed", r"(?P<text>(?P<detail>\w+) failed to (?:map (?:MTP )?model views; aborting startup|prepare startup model cache).*)", fatal("weights_failed", 1)),
    row("model-bad", r"(?P<text>(?:expected \S+ for DeepSeek4 Flash|metadata key has a non-).*)", fatal("model_incomplete", 1)),
    row("already-running", r"another ds4 process is already running; refusing to start", lambda at, g: ev.AlreadyRunning(at, None)),
    row("lock", r"(?P<text>failed to (?:open|truncate) lock file (?P<detail>.*))", fatal("lock_failed", 2)),
    row("lock", r"(?P<text>failed to lock (?P<detail>.*))", fatal("lock_failed", 2)),
    row("memory", r"(?P<text>out of memory)", fatal("out_of_memory", 1)),
    *rows(r"""
        support-model | MTP support model loaded: (?P<text>.*) \(draft=(?P<draft>{INT})\)
        support-model | DSpark support model detected: (?P<text>.*)
        distributed | distributed (?:coordinator|worker): (?P<text>.*)
        mtp | mtp (?:timing|probe|spec|conf|decode2)(?P<text>.*)
        cuda-detail | CUDA (?:cached|fd-cached|direct|mapped) (?P<text>.*)
        cuda-detail | CUDA model (?:direct I/O|arena allocated|allocation skipped|preferred-location|prefetch|read-mostly)(?P<text>.*)
        cuda-detail | CUDA (?:direct model read disabled|MoE profile)(?P<text>.*)
        steering | (?:CPU )?directional steering enabled: (?P<text>.*)
        timing | (?:gpu|metal|decode|comp|cache) (?:chunked|decode|graph|layer|trace|detail|eval|stage)(?P<text>.*)
        """, "info"),
    *rows(r"""
        memory-plan | memory: KV (?P<kv_gib>{NUM}) GiB \(raw (?P<raw_gib>{NUM}) \+ compressed (?P<compressed_gib>{NUM})\) \+ buffers (?P<buffers_gib>{NUM}) GiB \+ resident model (?P<model_gib>{NUM}) GiB(?: \+ .*)? = (?P<planned_gib>{NUM}) GiB planned
        memory-detail | memory detail: ctx=(?P<ctx>{INT}) prefill_cap=(?P<prefill_cap>{INT}) raw_kv_rows=(?P<raw_kv_rows>{INT}) compressed_kv_rows=(?P<compressed_kv_rows>{INT}) backend=(?P<backend>\w+)
        memory-report | CUDA memory report (?P<label>.*): free (?P<free_mib>{NUM}) MiB total (?P<total_mib>{NUM}) MiB
        layer-progress | (?:gpu )?prefill (?:token {INT}/{INT} )?layer (?P<layer>{INT})/(?P<layers>{INT})
        """, "info"),
    *rows(r"""
        register-skipped | CUDA host registration skipped: (?P<text>.*)
        managed-kv | CUDA using managed KV cache for ctx=(?P<ctx>{INT}) \(kv cache (?P<kv_gib>{NUM}) GiB, context buffers (?P<buffers_gib>{NUM}) GiB\)(?P<text>.*)
        arena-failed | CUDA model arena alloc failed for (?P<tensor>.*) \((?P<size_mib>{NUM}) MiB chunk\): (?P<text>.*)
        q8-budget | CUDA q8 (?:fp16|f16|fp32|f32) cache (?:budget exhausted|limit reached)(?P<text>.*)
        q8-failed | CUDA q8 (?:fp16|f16|fp32|f32) cache (?:alloc failed|disabled)(?P<text>.*)
        q8-failed | CUDA .*cache disabled after (?P<text>.*)
        """, "warning"),
    *rows(r"""
        temp-failed | CUDA temp alloc failed for (?P<what>.*) \((?P<size_mib>{NUM}) MiB\): (?P<text>.*)
        tensor-failed | CUDA tensor alloc failed: (?P<text>.*)
        cuda-error | CUDA (?P<what>.*) failed: (?P<text>.*)
        cuda-error | cuBLAS (?P<what>.*) failed: (?P<text>.*)
        """, "error"),
)  # fmt: skip
"""Lines after ``ds4: ``, in the order in which they are tried."""

BARE: tuple[Template, ...] = tuple(rows(r"""
    layer-progress | (?:gpu )?prefill (?:token {INT}/{INT} )?layer (?P<layer>{INT})/(?P<layers>{INT})
    """, "info"))  # fmt: skip
"""Progress that the engine prints without any prefix."""
