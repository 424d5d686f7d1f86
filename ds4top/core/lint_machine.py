"""Rules about the machine under a launch: residency, memory, storage, who kills, who stops."""

from __future__ import annotations

from ds4top.core.launch_env import VARIABLES, ZEROS
from ds4top.core.lint_facts import LintFacts, Rule, Said, good
from ds4top.core.lint_rules import RULES as FLAG_RULES
from ds4top.core.memory import CRITICAL_BYTES
from ds4top.core.units import GIB, fmt_duration, fmt_gib, fmt_tokens

SLOW_START_S = 120.0
SLOW_LOAD_BYTES_PER_S = 500e6
OOM_SCORE = 500
Q8_DEVICE_BYTES = 112 * GIB
"""From this size on only 512 MiB are kept free of expanded copies (ds4_cuda.cu)."""
_NETWORK_FS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "lustre"})
_TO_MMAP = "ds4top restart --mmap"
_TO_COPY = "ds4top restart --no-mmap"


def _without(f: LintFacts, name: str) -> str:
    """How this variable is left out."""
    if f.supervisor is not None and f.supervisor.startswith("systemd"):
        return f"UnsetEnvironment={name} in {f.unit or 'the unit'}"
    return f"env -u {name} ds4-server …"


def _fits(f: LintFacts) -> bool | None:
    """Whether the largest prefill leaves the reserve."""
    if f.headroom_bytes is None or f.prefill_need_bytes is None:
        return None
    return f.headroom_bytes - f.prefill_need_bytes >= CRITICAL_BYTES


def _copy_tight(f: LintFacts) -> Said | None:
    if f.residency != "copy" or f.headroom_bytes is None or f.prefill_need_bytes is None:
        return None
    tokens = f" of {fmt_tokens(f.prefill_need_tokens)} tokens" if f.prefill_need_tokens else ""
    told = f.prefill_need_from or "estimated"
    figure = (
        f"headroom {fmt_gib(f.headroom_bytes)} GiB, the largest prefill{tokens} takes"
        f" {fmt_gib(f.prefill_need_bytes)} GiB ({told})"
    )
    if _fits(f):
        return good(figure, "the weights are a copy, and the largest prefill still fits")
    left = f.headroom_bytes - f.prefill_need_bytes
    why = "copied weights cannot be reclaimed: at 56K tokens such a prefill ended in a global OOM"
    return Said("bad" if left < 0 else "warning", figure, why, f"{_TO_MMAP}, or a smaller --ctx")


def _mmap_slow(f: LintFacts) -> Said | None:
    if f.residency != "mmap" or f.start_s is None or f.start_s <= SLOW_START_S:
        return None
    rate = f" at {f.load_bytes_per_s / 1e6:,.0f} MB/s" if f.load_bytes_per_s else ""
    figure = f"the last start took {fmt_duration(f.start_s)}{rate}; a copy takes about 57 s"
    if _fits(f) is False:
        why = "page faults in no order; but the largest prefill would not fit beside a copy"
        return Said("note", figure, why, "--warm-weights, or the model on a faster disk")
    return Said("warning", figure, "mapped weights come by page faults in no order", _TO_COPY)


def _mapped_decode(f: LintFacts) -> Said | None:
    if f.residency != "mmap" or f.flavour != "ds4":
        return None
    figure = "mapped: 12.65 tok/s against 14.2 copied at 2K, 11 % less"
    return Said("note", figure, "the price of memory that can be given back", _TO_COPY)


def _moved(f: LintFacts) -> str:
    name = (f.model or "MODEL.gguf").rsplit("/", 1)[-1]
    return f"-m ~/models/{name}, copied to the internal NVMe first"


def _slow_disk(f: LintFacts) -> Said | None:
    if f.model_fs_type in _NETWORK_FS:
        why = "each start, and each page that is read again, waits for the network"
        return Said("warning", f"the model is on {f.model_fs_type}", why, _moved(f))
    rate = f.load_bytes_per_s
    if rate is None or f.residency != "copy" or not f.load_from_disk:
        return None
    figure = f"{rate / 1e6:,.0f} MB/s at the last start; a Spark's NVMe gives about 1,400"
    if rate >= SLOW_LOAD_BYTES_PER_S:
        return good(figure, "read from the disk in order")
    why = "a start waits for the disk"
    return Said("warning", figure, why, _moved(f))


def _swap(f: LintFacts) -> Said | None:
    if f.swap_total_bytes is None or f.residency not in ("copy", "mixed"):
        return None
    if f.swap_total_bytes == 0:
        return good("none", "nothing of the machine is swapped out for the model")
    figure = f"{fmt_gib(f.swap_total_bytes)} GiB of swap"
    why = "CUDA memory cannot be swapped: your shell and sshd are, and the box hangs before it dies"
    return Said("warning", figure, why, "sudo swapoff -a")


def _oom_score(f: LintFacts) -> Said | None:
    value = f.oom_score_adj
    if value is None:
        return None
    if value >= OOM_SCORE:
        return good(str(value), "out of memory, the kernel takes the server, not your session")
    fix = f"choom -n 1000 -p {f.pid or 'PID'}"
    if f.supervisor is not None and f.supervisor.startswith("systemd"):
        fix += f", and OOMScoreAdjust=1000 in {f.unit or 'the unit'}"
    why = "the kernel does not count CUDA memory: it would kill something else first"
    return Said("warning", f"{value}, below {OOM_SCORE}", why, fix)


_LOST_LOGS = {
    "null": "its standard error goes to /dev/null",
    "tty": "its standard error is a terminal that cannot be read",
    "deleted": "its log file was deleted while it writes",
    "pipe": "its standard error is a pipe whose reader is not known",
}


def _log(f: LintFacts) -> Said | None:
    if f.log_kind is None:
        return None
    if f.log_kind == "tmux":
        figure, why = "a tmux pane", "what scrolls out of the pane is gone"
        return Said("note", figure, why, "2>> ~/ds4-server.log, or ds4top run -- ds4-server …")
    lost = _LOST_LOGS.get(f.log_kind)
    if lost is None:
        return good(f.log_path or f.log_kind, "what happened can be read afterwards")
    why = "the log is the one place that tells requests, speeds and why it died"
    return Said("warning", lost, why, "2>> ~/ds4-server.log, or ds4top run -- ds4-server …")


def _stop_timeout(f: LintFacts) -> Said | None:
    limit, drain = f.stop_timeout_s, f.drain_s
    if limit is None or drain is None:
        return None
    least = "a stop has no limit" if limit == float("inf") else f"{fmt_duration(limit)} for a stop"
    figure = f"{least}; the longest prefill seen took {fmt_duration(drain)}"
    if limit > drain:
        return good(figure, "a stop may end its prefill and save the KV cache")
    contained = f.supervisor in ("docker", "podman")
    fix = (
        f"{f.supervisor} stop -t 600 {f.unit or 'NAME'}"
        if contained
        else f"TimeoutStopSec=600 in {f.unit or 'the unit'}"
    )
    why = "a stop in a prefill becomes a kill, and the KV cache is not saved"
    return Said("warning", figure, why, fix)


def _two_servers(f: LintFacts) -> Said | None:
    if f.gpu_servers is None or len(f.gpu_servers) < 2:
        return None
    words = [
        f"{server.comm} {server.pid}"
        + (f" {fmt_gib(server.used_bytes)} GiB" if server.used_bytes is not None else "")
        for server in f.gpu_servers
    ]
    others = [server for server in f.gpu_servers if server.pid != f.pid]
    least = min(others or f.gpu_servers, key=lambda server: server.used_bytes or 0)
    why = "two models share one memory and one bandwidth"
    return Said("bad", " and ".join(words), why, f"kill -TERM {least.pid} (once; it drains)")


def _copy_model(f: LintFacts) -> Said | None:
    # An empty value is none for this variable; any other one counts.
    if not (f.variables or {}).get("DS4_CUDA_COPY_MODEL"):
        return None
    size = f.model_bytes or round(80.76 * GIB)
    of = f" of {fmt_gib(f.total_bytes)} GiB" if f.total_bytes else ""
    why = "the whole file and its whole copy are held while loading"
    return Said(
        "bad",
        f"up to {fmt_gib(2 * size)} GiB{of} while loading",
        why,
        _without(f, "DS4_CUDA_COPY_MODEL"),
    )


def _keep_pages(f: LintFacts) -> Said | None:
    if "DS4_CUDA_KEEP_MODEL_PAGES" not in (f.variables or {}):
        return None
    size = f.model_bytes or round(80.76 * GIB)
    figure = f"up to {fmt_gib(size)} GiB of page cache beside the copy"
    why = "pages of the file are not dropped as they are copied"
    return Said("warning", figure, why, _without(f, "DS4_CUDA_KEEP_MODEL_PAGES"))


def _q8_cache(f: LintFacts) -> Said | None:
    bounds = ("DS4_CUDA_Q8_F16_CACHE_MB", "DS4_CUDA_NO_Q8_F16_CACHE")
    if f.variables is None or f.known_variables is None or f.total_bytes is None:
        return None
    if bounds[0] not in f.known_variables or f.total_bytes < Q8_DEVICE_BYTES:
        return None
    bounded = next((name for name in bounds if name in f.variables), None)
    if bounded is not None:
        return good(f"bounded by {bounded}", "it cannot eat the headroom", bounded)
    failed = f"; {f.q8_failed} allocations failed" if f.q8_failed else ""
    return Said(
        "warning" if f.q8_failed else "note",
        f"expanded copies of weights may leave 512 MiB of {fmt_gib(f.total_bytes)} GiB{failed}",
        "an optional cache may grow until nearly nothing is free",
        f"{bounds[0]}=2048, or {bounds[1]}=1",
    )


def _zero(f: LintFacts) -> Said | None:
    wrong = [
        name
        for name, value in (f.variables or {}).items()
        if (known := VARIABLES.get(name)) and known.presence and value.lower() in ZEROS
    ]
    if not wrong:
        return None
    figure = ", ".join(f"{name}={(f.variables or {})[name]}" for name in wrong)
    why = "its presence switches it on, whatever its value"
    return Said("warning", figure, why, _without(f, " ".join(wrong)), wrong[0])


def _quiet_load(f: LintFacts) -> Said | None:
    name = "DS4_CUDA_WEIGHT_CACHE_VERBOSE"
    if name not in (f.variables or {}):
        return None
    figure = f"{name} is set: no progress lines while loading"
    return Said("note", figure, "a line for every range stands in their place", _without(f, name))


def _exe_replaced(f: LintFacts) -> Said | None:
    if not f.exe_replaced:
        return None
    figure = "the executable was replaced since the start"
    why = "a restart runs another build than the one that is measured here"
    return Said("note", figure, why, "ds4top restart, when it suits")


MACHINE_RULES: tuple[Rule, ...] = (
    Rule(
        "copy-headroom",
        "--no-mmap",
        "no-mmap with too little headroom for the largest prefill seen",
        _copy_tight,
        "measured on one Spark (global OOM at 56K)",
    ),
    Rule(
        "mmap-slow-start",
        "--no-mmap",
        "mapped weights with a start above 2 minutes",
        _mmap_slow,
        "measured on one Spark: about 200 MB/s mapped, 1.4 GB/s copied",
    ),
    Rule(
        "mapped-decode",
        "--no-mmap",
        "mapped weights decode slower",
        _mapped_decode,
        "antirez/ds4#158 against #183",
    ),
    Rule(
        "slow-storage",
        "--model",
        "model on slow storage",
        _slow_disk,
        "measured on one Spark: 1.4 GB/s in order",
    ),
    Rule(
        "swap-on",
        None,
        "swap on with copied weights",
        _swap,
        "NVIDIA/open-gpu-kernel-modules#1358: 16 GiB of swap on DGX OS",
    ),
    Rule(
        "oom-score",
        "oom_score_adj",
        "oom_score_adj below 500",
        _oom_score,
        "mm/oom_kill.c; ds4 sets 1000 itself since 2026-06-14",
    ),
    Rule("log-lost", None, "log not kept", _log, "ds4_server.c logs to standard error only"),
    Rule(
        "stop-timeout",
        None,
        "stop timeout shorter than a drain",
        _stop_timeout,
        "ds4_server.c: a prefill is not interrupted; systemd.service(5)",
    ),
    Rule(
        "two-servers",
        None,
        "two servers on one GPU",
        _two_servers,
        "Entrpi/ds4-on-spark#6: two models made a Spark unreachable",
    ),
    Rule(
        "copy-model",
        "DS4_CUDA_COPY_MODEL",
        "weights twice in memory while loading",
        _copy_model,
        "ds4_cuda.cu; antirez/ds4#721",
    ),
    Rule(
        "keep-pages",
        "DS4_CUDA_KEEP_MODEL_PAGES",
        "pages kept beside the copy",
        _keep_pages,
        "ds4_cuda.cu; antirez/ds4#795",
    ),
    Rule(
        "q8-cache",
        "DS4_CUDA_Q8_F16_CACHE_MB",
        "q8 to f16 cache unbounded on a GPU of 112 GiB or more",
        _q8_cache,
        "ds4_cuda.cu; antirez/ds4#472",
    ),
    Rule("zero-is-on", None, "a presence test set to 0", _zero, "ds4_cuda.cu: getenv() != NULL"),
    Rule(
        "quiet-load",
        "DS4_CUDA_WEIGHT_CACHE_VERBOSE",
        "progress lines off",
        _quiet_load,
        "ds4_cuda.cu",
    ),
    Rule("exe-replaced", None, "executable replaced", _exe_replaced, "readlink /proc/PID/exe"),
)

RULES: tuple[Rule, ...] = FLAG_RULES + MACHINE_RULES
"""Every rule, in the order in which equals are shown."""
