"""Rules about the server's own flags: context, disk cache, power, batching, what it listens on.

``RULES`` here and ``MACHINE_RULES`` of ``lint_machine`` are the whole table.
"""

from __future__ import annotations

import ipaddress
from math import ceil

from ds4top.core.lint_facts import LintFacts, Rule, Said, good
from ds4top.core.memory import context_bytes
from ds4top.core.units import GIB, MIB, fmt_gib, fmt_mib, fmt_pct, fmt_tokens

CTX_TOKENS = 131_072
MANAGED_CTX_TOKENS = 597_000
"""From about here the KV cache reaches 8 GiB and becomes managed memory (ds4_cuda.cu)."""
SNAPSHOTS = 3
"""Fewer conversations than this in the budget push each other out."""
_ROOMY = 8
_RAW_ROWS = {2048: 2304, 4096: 4352}
_MEMORY_FS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_NETWORK_FS = frozenset(
    {"nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs"}
    | {"fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "beegfs", "ncpfs"}
)
_PLAIN_TYPES = frozenset({"f32", "f16", "bf16"})


def snapshot_bytes(tokens: float) -> int:
    """Bytes of one checkpoint of this many tokens without its text (ds4.c session payload)."""
    return round(23_995_788 + 13_764 * tokens)


def _ctx_flag(f: LintFacts) -> str:
    return "--ctx-size" if f.flavour == "llama.cpp" else "--ctx"


def _ctx(f: LintFacts) -> Said | None:
    ctx = f.ctx_tokens
    if ctx is None or ctx <= 0:
        return None
    flag = _ctx_flag(f)
    if ctx <= CTX_TOKENS:
        return good(f"{fmt_tokens(ctx)} tokens", "no more than an agent's day needs", flag)
    more = ""
    if f.flavour != "llama.cpp":
        chunk = f.prefill_chunk or 4096
        rows = _RAW_ROWS.get(chunk, 4352)
        size = context_bytes(ctx, chunk, rows)
        extra = size - context_bytes(CTX_TOKENS, chunk, rows)
        more = f": about {fmt_gib(size)} GiB of buffers, {fmt_gib(extra)} GiB more than at 131,072"
    return Said(
        "warning",
        f"{fmt_tokens(ctx)} tokens{more}",
        "what is allocated is paid whether used or not: a short prompt's first token came after"
        " 0.41 s at 64K and 1.36 s at 256K, and decode gains nothing",
        f"{flag} {CTX_TOKENS}",
        flag,
    )


def _managed(f: LintFacts) -> Said | None:
    predicted = (
        f.flavour == "ds4" and f.ctx_tokens is not None and f.ctx_tokens >= MANAGED_CTX_TOKENS
    )
    if f.managed_kv is None and not predicted:
        return None
    if not (f.managed_kv or predicted):
        return None
    ctx = f"at {fmt_tokens(f.ctx_tokens)} tokens" if f.ctx_tokens else "at this context"
    told = "told by its log" if f.managed_kv else "8 GiB of KV or more"
    return Said(
        "bad",
        f"KV cache in managed memory {ctx} ({told})",
        "it grows as it is used, NVML does not see it, and decode may slow down",
        f"{_ctx_flag(f)} {CTX_TOKENS}",
        _ctx_flag(f),
    )


def _kv_dir(f: LintFacts) -> Said | None:
    if f.flavour == "llama.cpp" or f.kv_disk is None:
        return None
    if f.kv_disk:
        return good(f.kv_dir or "set", "a 50K prefix loads in 87 ms against about 150 s of prefill")
    return Said(
        "bad",
        "no disk cache: a 4,011-token prompt takes 11.4 s, 6.5 s with one;"
        " a 50K prefix loads in 87 ms against about 150 s of prefill",
        "every conversation that another one pushed out is prefilled again from the start",
        "--kv-disk-dir ~/.cache/ds4-kv --kv-disk-space-mb 16384",
    )


def _budget_small(f: LintFacts) -> Said | None:
    budget, mean = f.kv_budget_bytes, f.mean_context_tokens
    if not f.kv_disk or budget is None or mean is None or mean <= 0:
        return None
    one = snapshot_bytes(mean)
    holds = budget / one
    figure = f"{fmt_mib(budget)} MiB hold {holds:.1f} contexts of {fmt_tokens(mean)} tokens"
    if holds >= SNAPSHOTS:
        return good(figure, "conversations do not push each other out at once")
    want = ceil(_ROOMY * one / GIB) * 1024
    why = (
        "not one fits: nothing is saved at all"
        if holds < 1
        else "conversations push each other out, and come back cold"
    )
    return Said("bad" if holds < 1 else "warning", figure, why, f"--kv-disk-space-mb {want}")


def _budget_thrash(f: LintFacts) -> Said | None:
    if f.evicted_turns is None or f.evicted_turns < 3:
        return None
    want = ceil(max(2 * (f.kv_budget_bytes or 4 * GIB), 8 * GIB) / GIB) * 1024
    return Said(
        "warning",
        f"{f.evicted_turns} turns were cold because their checkpoint had been evicted",
        "the budget is smaller than what is asked for again",
        f"--kv-disk-space-mb {want}",
    )


def _budget_disk(f: LintFacts) -> Said | None:
    budget, free, used = f.kv_budget_bytes, f.kv_disk_free_bytes, f.kv_used_bytes
    if budget is None or free is None or used is None:
        return None
    room = used + free
    if budget <= room:
        return None
    want = max(int(room * 0.9 / MIB), 1)
    return Said(
        "warning",
        f"budget {fmt_gib(budget)} GiB, but {fmt_gib(used)} GiB used + {fmt_gib(free)} GiB free",
        "the server never looks at the free space: saves will fail with no space left",
        f"--kv-disk-space-mb {want}",
    )


def _kv_fs(f: LintFacts) -> Said | None:
    kind = f.kv_fs_type
    if kind is None:
        return None
    where = f.kv_dir or "the KV directory"
    if kind in _MEMORY_FS:
        used = f"{fmt_gib(f.kv_used_bytes)} GiB of memory" if f.kv_used_bytes else "memory"
        why = "the cache takes the memory that it is to save, and a reboot empties it"
        return Said("bad", f"{where} is on {kind}: {used}", why, "--kv-disk-dir ~/.cache/ds4-kv")
    if kind in _NETWORK_FS:
        why = "saves are synchronous: nothing is decoded until the network has taken them"
        return Said(
            "warning", f"{where} is on {kind}", why, "--kv-disk-dir ~/.cache/ds4-kv (a local disk)"
        )
    return None


def _cold_max(f: LintFacts) -> Said | None:
    limit, prompts = f.cold_max_tokens, f.first_prompts_tokens
    if not f.kv_disk or limit is None:
        return None
    if limit == 0:
        figure, why = "0: cold saves are off", "a first prompt is never saved before its answer"
        return Said("note", figure, why, "--kv-cache-cold-max-tokens 30000")
    over = [tokens for tokens in prompts or () if tokens > limit]
    if prompts is None or not prompts:
        return None
    if not over:
        return good(f"all {len(prompts)} first prompts within {fmt_tokens(limit)}", "all are saved")
    want = ceil(max(over) / 4096) * 4096
    return Said(
        "warning",
        f"{len(over)} of {len(prompts)} first prompts above {fmt_tokens(limit)},"
        f" the largest {fmt_tokens(max(over))}",
        "they are not saved before the answer; builds before August 2026 also delete a longer"
        " checkpoint once it was loaded",
        f"--kv-cache-cold-max-tokens {want}",
    )


def _power(f: LintFacts) -> Said | None:
    if f.power_pct is None:
        return None
    if f.power_pct >= 100:
        return good("100 %", "full speed")
    figure = f"{f.power_pct} %: 75 % costs 25 % of the speed"
    return Said("warning", figure, "the GPU pauses for the rest of the time", "--power 100")


def _batch(f: LintFacts) -> Said | None:
    sessions, size = f.batched_sessions, f.batch_size
    if sessions is not None and sessions > 1:
        flag = "--parallel" if f.flavour == "llama.cpp" else "--batched-session"
        fix = "--parallel 1" if f.flavour == "llama.cpp" else "leave --batched-session out"
        held = f": {sessions} KV states stay resident"
        if f.ctx_tokens and f.flavour != "llama.cpp":
            chunk = f.prefill_chunk or 4096
            one = context_bytes(f.ctx_tokens, chunk, _RAW_ROWS.get(chunk, 4352))
            held += f", about {fmt_gib(sessions * one)} GiB"
        why = "one agent asks one thing at a time; each further state takes memory"
        return Said("warning", f"{sessions} sessions{held}", why, fix, flag)
    if size is None:
        return None
    if size <= 1:
        return good("1", "one request at a time, each at full speed")
    why = "one request at a time is the fastest for one agent, and the safest for memory"
    return Said("warning", f"batches of up to {size} requests", why, "--max-batch-size 1")


def _kv_types(f: LintFacts) -> Said | None:
    wrong = [
        (flag, kind)
        for flag, kind in (
            ("--cache-type-k", f.cache_type_k),
            ("--cache-type-v", f.cache_type_v),
        )
        if kind is not None and kind.lower() not in _PLAIN_TYPES
    ]
    if not wrong:
        return None
    figure = ", ".join(f"{flag} {kind}" for flag, kind in wrong)
    fix = " ".join(f"{flag} f16" for flag, _ in wrong)
    why = "the llama.cpp fork aborts on the first inference with a quantised KV cache"
    return Said("bad", figure, why, fix, wrong[0][0])


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return found if mapped is None else mapped


def _host(f: LintFacts) -> Said | None:
    if f.hosts is None or not f.hosts:
        return None
    names = {"localhost": "127.0.0.1"}
    found = {host: _address_of(names.get(host, host)) for host in f.hosts}
    away = {host: ip for host, ip in found.items() if ip is not None and not ip.is_loopback}
    if not away:
        known = all(ip is not None for ip in found.values())
        return good(", ".join(f.hosts), "reached from this machine only") if known else None
    if f.api_key or (f.api_key is None and f.flavour != "ds4"):
        return None
    open_wide = any(ip.is_unspecified or ip.is_global for ip in away.values())
    tunnel = "and reach it by: ssh -L PORT:127.0.0.1:PORT MACHINE"
    return Said(
        "bad" if open_wide else "warning",
        f"listens on {', '.join(away)}",
        "there is no authentication: whoever reaches the port reads conversations and pushes"
        " yours out",
        f"--host 127.0.0.1, {tunnel}",
    )


def _speculative(f: LintFacts) -> Said | None:
    if not f.dspark:
        return None
    figure = "--dspark: decode fell from 19.3 to 14.9 tok/s on a GB10"
    return Said("warning", figure, "drafts cost more than they save here", "leave --dspark out")


def _streaming(f: LintFacts) -> Said | None:
    if not f.ssd_streaming:
        return None
    size = f"{fmt_gib(f.model_bytes)} GiB" if f.model_bytes else "an 80.76 GiB model"
    figure = f"--ssd-streaming with {size}"
    why = "experts are read from the SSD for as long as it decodes"
    return Said("warning", figure, why, "leave --ssd-streaming out where the model fits")


def _several(f: LintFacts) -> Said | None:
    if not f.several_gpus:
        return None
    why = "one Spark has one GPU; these are for layouts over several"
    return Said(
        "bad", " ".join(f.several_gpus), why, f"leave {' and '.join(f.several_gpus)} out",
        f.several_gpus[0],
    )  # fmt: skip


def _simulated(f: LintFacts) -> Said | None:
    if not f.simulated_memory:
        return None
    share = ""
    if f.total_bytes and f.simulated_memory[:-2].isdecimal():
        share = f", {fmt_pct(int(f.simulated_memory[:-2]) * 1e9 / f.total_bytes)} of the machine"
    figure = f"{f.simulated_memory} locked on purpose{share}"
    return Said("bad", figure, "a test aid", "leave --simulate-used-memory out")


def _trace(f: LintFacts) -> Said | None:
    if not f.trace:
        return None
    figure = f"{f.trace}: every prompt and answer in clear, emptied at each start"
    return Said("note", figure, "a file that only grows while it runs", "leave --trace out")


_KV_SOURCE = "ds4_kvstore.c"
RULES: tuple[Rule, ...] = (
    Rule("ctx-large", "--ctx", "ctx over 131,072", _ctx, "measured on one Spark; ds4.c"),
    Rule(
        "managed-kv",
        "--ctx",
        "KV cache in managed memory",
        _managed,
        "ds4_cuda.cu; antirez/ds4#125",
    ),
    Rule("kv-dir-missing", "--kv-disk-dir", "no KV disk dir", _kv_dir, "measured on one Spark"),
    Rule(
        "kv-budget-small",
        "--kv-disk-space-mb",
        "budget holds fewer than 3 contexts of the mean size",
        _budget_small,
        "ds4.c session payload; antirez/ds4#444",
    ),
    Rule(
        "kv-evicted-again",
        "--kv-disk-space-mb",
        "3 turns or more were cold for an evicted checkpoint",
        _budget_thrash,
        f"{_KV_SOURCE}; antirez/ds4#174",
    ),
    Rule(
        "kv-budget-over-disk",
        "--kv-disk-space-mb",
        "budget larger than what is used and free",
        _budget_disk,
        _KV_SOURCE,
    ),
    Rule("kv-dir-place", "--kv-disk-dir", "tmpfs or a network", _kv_fs, "ds4_server.c worker"),
    Rule(
        "cold-max",
        "--kv-cache-cold-max-tokens",
        "first prompts above cold_max",
        _cold_max,
        f"{_KV_SOURCE} before 2026-08-04 (consumed) and after",
    ),
    Rule("power", "--power", "power below 100", _power, "measured on one Spark"),
    Rule("batch", "--max-batch-size", "batch over 1", _batch, "owners of a Spark; ds4_server.c"),
    Rule(
        "kv-quantised",
        "--cache-type-k",
        "quantised KV cache",
        _kv_types,
        "owners of a Spark: the llama.cpp fork for DeepSeek V4",
    ),
    Rule("public-address", "--host", "bound beyond loopback", _host, "ds4_server.c: no auth"),
    Rule("dspark", "--dspark", "speculative decoding by DSpark", _speculative, "antirez/ds4#676"),
    Rule("ssd-streaming", "--ssd-streaming", "experts from SSD", _streaming, "ds4.c"),
    Rule("several-gpus", None, "flags for several GPUs", _several, "ds4_server.c options"),
    Rule(
        "simulated-memory", "--simulate-used-memory", "memory locked", _simulated, "ds4.c options"
    ),
    Rule("trace", "--trace", "a trace is written", _trace, "ds4_server.c trace"),
)
