"""What the rules over a launch are told of requests and starts, by log and history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ds4top.core.gpu import GpuProcess, GpuSample
from ds4top.core.kept import Kept, PastPrompts, PastStart
from ds4top.core.launch_units import UnitSeen, units_of
from ds4top.core.lint import Finding
from ds4top.core.lint_facts import LintFacts
from ds4top.core.lint_seen import machine_facts, with_seen
from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import GIB
from ds4top.core.model import Model
from ds4top.core.process import LogPlace, Owner, ServerProcess
from ds4top.core.state import LogState
from ds4top.view.launch import effective, findings
from tests.unit.keep_tools import BEGUN, WEIGHTS, log_of, vitals, watched

PAST = PastPrompts(155, 46_507.0, 44_871, 7)
BUFFERS = (
    b"1124 18:28:02 ds4-server: context buffers 2425.71 MiB (ctx=1"
    b"31072, backend=cuda, prefill_chunk=2048, raw_kv_rows=2304, compressed_kv_rows=32770)\n"
)
TURN = (
    b"1124 18:00:00 ds4-server: chat ctx=0..6000:6000 prompt start\n"
    b"1124 18:00:20 ds4-server: chat ctx=0..6000:6000 prompt done 20.000s\n"
    b"1124 18:00:25 ds4-server: chat ctx=0..6000:6000 gen=50 finish=stop 25.000s\n"
    b"1124 18:01:00 ds4-server: chat ctx=6000..8000:2000 prompt start\n"
    b"1124 18:01:09 ds4-server: chat ctx=6000..8000:2000 gen=50 finish=stop 9.000s\n"
)


def model_of(log: LogState, kept: Kept | None = None) -> Model:
    model = Model(log, BEGUN)
    if kept is not None:
        model.kept = kept
    return model


def test_the_log_alone() -> None:
    seen = with_seen(LintFacts(), model_of(log_of(TURN)))
    assert seen.mean_context_tokens == 7_000
    assert seen.first_prompts_tokens == (6_000,)
    assert (seen.prefill_need_tokens, seen.prefill_need_from) == (6_000, "estimated")
    assert (seen.evicted_turns, seen.drain_s) == (0, 20.0)


def test_a_longer_history_counts_for_more_than_two_requests() -> None:
    seen = with_seen(LintFacts(), model_of(log_of(TURN), Kept(prompts=PAST)))
    assert seen.mean_context_tokens == 46_507
    assert (seen.prefill_need_tokens, seen.evicted_turns) == (44_871, 7)


def test_nothing_seen_is_not_known() -> None:
    seen = with_seen(LintFacts(), model_of(LogState()))
    assert (seen.mean_context_tokens, seen.evicted_turns, seen.start_s) == (None, None, None)
    assert (seen.prefill_need_bytes, seen.drain_s, seen.load_bytes_per_s) == (None, None, None)


def test_a_start_that_was_not_seen_is_the_last_one_of_its_kind() -> None:
    starts = (PastStart("mmap", 418.0, BEGUN - 90), PastStart("copy", 57.0, BEGUN - 900))
    model = model_of(log_of(TURN), Kept(starts=starts))
    assert with_seen(LintFacts(residency="mmap"), model).start_s == 418.0
    assert with_seen(LintFacts(residency="unknown"), model).start_s is None


@pytest.mark.parametrize(("read_gib", "from_disk"), [(80, True), (2, False)])
def test_the_rate_of_a_load_and_where_its_bytes_came_from(read_gib, from_disk) -> None:
    model = watched()
    line = b"ds4: CUDA startup model cache prepared 80.76 GiB of tensor spans in 57.000s\n"
    model.log = log_of(line)
    model.machine.vitals = vitals(1.0, read_bytes=read_gib * GIB)
    seen = with_seen(LintFacts(model_bytes=WEIGHTS, residency="copy"), model)
    assert seen.load_bytes_per_s == pytest.approx(WEIGHTS / 57)
    assert seen.load_from_disk is from_disk


def test_the_rules_speak_once_they_are_told() -> None:
    """A copy whose largest prefill of late does not fit; mapped weights that came slowly."""
    model = watched(log_of(TURN))
    # An idle server of a build that takes memory for checkpoints.
    server = model.machine.server
    assert server is not None
    agent = replace(
        server,
        argv=("ds4-server", "--no-mmap", "--kv-disk-dir", "/kv", "--kv-disk-space-mb", "1024"),
    )
    model.machine.seen((agent,), agent)
    model.machine.take_memory(MemorySample(1.0, BEGUN, 120 * GIB, GIB, 10 * GIB), model.log, "idle")
    model.kept = Kept(prompts=PAST)
    said = {each.rule: each for each in findings(model, effective(model))}
    assert "the largest prefill of 44,871 tokens takes" in said["copy-headroom"].figure
    assert said["kv-budget-small"].figure.endswith("contexts of 46,507 tokens")
    assert said["kv-evicted-again"].severity == "warning"

    mapped = GpuProcess(7, 3 * GIB, "ds4-server")
    model.machine.take_gpu(
        GpuSample(0, 1.0, BEGUN, unified=True, processes=(mapped,)), 0, decoding=False
    )
    model.machine.vitals = vitals(1.0, model_cached_bytes=WEIGHTS)
    model.kept = Kept(starts=(PastStart("mmap", 418.0, BEGUN - 90),))
    model.log.lives.clear()
    said = {each.rule: each for each in findings(model, effective(model))}
    assert said["mmap-slow-start"].figure.startswith("the last start took 6 m 58 s")


def spoken(model: Model) -> dict[str, Finding]:
    """What the product says, by rule."""
    return {each.rule: each for each in findings(model, effective(model))}


def served_by(model: Model, **fields: object) -> ServerProcess:
    """The watched server, with other fields."""
    server = model.machine.server
    assert server is not None
    made = replace(server, **fields)
    model.machine.seen((made,), made)
    return made


def test_what_only_the_machine_tells_reaches_the_rules() -> None:
    """Each rule that needs more than settings and requests, fired by what the sources give."""
    model = watched(log_of(TURN))
    quiet = {"stop-timeout", "two-servers", "slow-storage", "exe-replaced", "q8-cache", "log-lost"}
    assert not quiet & {
        rule for rule, each in spoken(model).items() if each.severity in ("bad", "warning")
    }
    server = served_by(
        model,
        owner=Owner("systemd-system", "ds4.service"),
        model_fs_type="nfs4",
        exe_replaced=True,
        log=LogPlace("null", "/dev/null"),
        oom_score_adj=0,
        env=(),
    )
    model.machine.unit = UnitSeen(server.target, stop_timeout_s=15.0)
    other = GpuProcess(9, 20 * GIB, "llama-server")
    mine = GpuProcess(server.target.pid, 90 * GIB, "ds4-server")
    model.machine.take_gpu(
        GpuSample(0, 1.0, BEGUN, unified=True,
                  processes=(mine, other, GpuProcess(11, GIB, "Xorg"))),
        0, decoding=False,
    )  # fmt: skip
    model.machine.take_memory(MemorySample(1.0, BEGUN, 120 * GIB, GIB, 10 * GIB), model.log, "idle")
    model.machine.variables = frozenset({"DS4_CUDA_Q8_F16_CACHE_MB"})
    said = spoken(model)
    assert said["stop-timeout"].figure == "15 s for a stop; the longest prefill seen took 20 s"
    assert said["stop-timeout"].fix == "TimeoutStopSec=600 in ds4.service"
    assert said["oom-score"].fix.endswith("OOMScoreAdjust=1000 in ds4.service")
    assert said["slow-storage"].figure == "the model is on nfs4"
    assert said["exe-replaced"].severity == "note"
    assert said["log-lost"].figure == "its standard error goes to /dev/null"
    assert said["two-servers"].figure == (
        f"ds4-server {server.target.pid} 90.0 GiB and llama-server 9 20.0 GiB"
    )
    assert said["q8-cache"].severity == "note"


def test_no_limit_of_a_stop_is_good_and_an_unknown_one_says_nothing() -> None:
    model = watched(log_of(TURN))
    server = model.machine.server
    assert server is not None
    model.machine.unit = UnitSeen(server.target, stop_unlimited=True)
    assert spoken(model)["stop-timeout"].severity == "good"
    model.machine.unit = UnitSeen(server.target, why="Access denied")
    assert "stop-timeout" not in spoken(model)


def test_what_the_log_warned_of_reaches_the_rules() -> None:
    managed = (
        b"ds4: CUDA using managed KV cache for ctx=1000000 (kv cache 13.04 GiB, context buffers"
        b" 14.00 GiB)\n"
        b"ds4: CUDA q8 fp16 cache alloc failed (64.00 MiB)\n"
        b"ds4: CUDA q8 fp16 cache alloc failed (64.00 MiB)\n"
    )
    facts = machine_facts(watched(log_of(BUFFERS + managed)))
    assert (facts.managed_kv, facts.q8_failed) == (True, 2)
    assert machine_facts(watched(log_of(BUFFERS))).managed_kv is False
    # A log that begins later does not tell.
    assert machine_facts(watched(log_of(TURN))).managed_kv is None


def test_settings_come_from_the_unit_and_its_drop_in() -> None:
    model = watched(log_of(TURN))
    server = served_by(
        model,
        argv=("ds4-server", "--ctx", "131072", "--port", "8001", "--power", "80"),
        env=(("DS4_LOCK_FILE", "/run/ds4.lock"),),
        owner=Owner("systemd-system", "ds4.service"),
    )
    files = units_of(
        "# /etc/systemd/system/ds4.service\n[Service]\nEnvironment=DS4_LOCK_FILE=/run/ds4.lock"
        " CTX=131072\nExecStart=ds4-server --ctx $CTX --port 8001\n"
        "# /etc/systemd/system/ds4.service.d/50-ds4top.conf\n[Service]\nExecStart=\n"
        "ExecStart=ds4-server --ctx 131072 --port 8001\n"
    )
    origins = {each.name: each.origin for each in effective(model)}
    assert (origins["--ctx"], origins["DS4_LOCK_FILE"]) == ("argv", "environment")
    model.machine.unit = UnitSeen(server.target, files)
    found = {each.name: (each.origin, each.detail) for each in effective(model)}
    drop_in = ("drop-in", "/etc/systemd/system/ds4.service.d/50-ds4top.conf")
    assert found["--ctx"] == found["--port"] == drop_in
    assert found["--power"][0] == "argv"
    assert found["DS4_LOCK_FILE"] == ("unit file", "/etc/systemd/system/ds4.service")
