"""How the last life ended, on constructed collapses; figures of the cited ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest

from ds4top.core.autopsy import Autopsy, EndFacts, autopsy
from ds4top.core.boxrecord import BoxRecord, Past, boot_of
from ds4top.core.kernlines import OomKill, parse_line

GIB = 1 << 30
BOOT, NEXT = "0f9e8d7c-6b5a-4938-8271-605f4e3d2c1b", "11111111-2222-4333-8444-555555555555"
WALL = 1_764_000_000.0
PID = 914_871
STEADY = BoxRecord(
    WALL, 0.0, level="ok", phase="idle", residency="copy", free_bytes=2 * GIB,
    available_bytes=24 * GIB, headroom_bytes=24 * GIB, gpu_held_bytes=89 * GIB, oom_kills=0,
    power_w=11.2, sm_clock_mhz=2223, temperature_c=52, utilisation_pct=0,
    context_limit_tokens=131_072, pid=PID, start_ticks=42, told_wall=WALL,
)  # fmt: skip


def at(t: float, **changes: object) -> BoxRecord:
    """A record ``t`` seconds after the first."""
    memory = {"available_bytes": changes.get("headroom_bytes", STEADY.available_bytes)}
    return replace(STEADY, wall=WALL + t, t=t, **{"told_wall": WALL + t, **memory, **changes})


def collapse(**changes: object) -> tuple[BoxRecord, ...]:
    """29.0 to 6.3 GiB in 11 s (vllm#56824), during a prefill, two samples a second."""
    calm = [at(t, headroom_bytes=29 * GIB) for t in range(60)]
    prefill = {
        "phase": "prefill", "context_tokens": 56_320, "prompt_tokens": 61_000,
        **changes,
    }  # fmt: skip
    fall = [
        at(60 + step / 2, headroom_bytes=int((29.0 - 22.7 * step / 22) * GIB), **prefill)
        for step in range(23)
    ]
    return (*calm, *fall)


def past(records: tuple[BoxRecord, ...], *, closed: bool = False, boot: str = BOOT) -> Past:
    return Past(records, str(boot_of(boot)), closed, last_seq=len(records), last_run=1)


def found(records: tuple[BoxRecord, ...], facts: EndFacts, **options: bool) -> Autopsy:
    result = autopsy(past(records, **options), facts, UTC)
    assert result is not None
    return result


def test_a_machine_that_died_without_a_word_constructed():
    facts = EndFacts(NEXT, oom_kills=0, shutdown_seen=False, boot_wall=WALL + 371)
    result = found(collapse(), facts)
    assert result.machine_died
    assert (result.victim, result.evidence) == (None, "inferred")
    assert result.when_wall == WALL + 71
    assert (result.phase, result.context_tokens, result.prompt_tokens) == (
        "prefill",
        56_320,
        61_000,
    )
    assert result.headroom_bytes == int(6.3 * GIB)
    assert result.slope_bytes_per_s == pytest.approx(-22.7 / 11 * GIB, rel=1e-6)
    assert result.lines == (
        "the machine stopped uncleanly, last heard of at 2025-11-24 16:01:11,"
        " up again 5 m 00 s later",
        "phase prefill, at 56,320 tokens of context (prompt 61,000)",
        "headroom 6.3 GiB, falling 2.06 GiB/s (from 29.0 GiB in 11 s), 2.0 GiB free, 89.0 GiB held"
        " on the GPU",
        "GPU 11 W, 2,223 MHz, 52 °C, 0 %",
        "inferred: another boot, the records were never closed, no kill was found",
        "ds4top restart --mmap: mapped weights can be given back, a copy cannot",
    )
    assert result.advice == result.lines[-1]


def test_a_kill_in_the_kernel_log_is_read_constructed():
    line = (
        "Out of memory: Killed process 914871 (ds4-server) total-vm:98234112kB, anon-rss:412340kB,"
        " file-rss:131072kB, shmem-rss:0kB, UID:1000 pgtables:188416kB oom_score_adj:1000"
    )
    kill = parse_line(line, WALL + 72)
    assert isinstance(kill, OomKill)
    facts = EndFacts(BOOT, oom_kills=1, kills=(kill,), server_alive=False)
    result = found(collapse(), facts)
    assert (result.victim, result.evidence) == ("ds4-server (pid 914871)", "read")
    assert not result.machine_died
    assert result.lines[0] == "the server was killed at 2025-11-24 16:01:11"
    assert result.lines[-2].startswith("read: the kernel killed ds4-server (pid 914871)")


def test_a_grown_counter_alone_is_inferred_constructed():
    result = found(collapse(), EndFacts(BOOT, oom_kills=1, server_alive=False))
    assert (result.victim, result.evidence) == ("the server (pid 914871)", "inferred")
    assert "killed one process" in result.lines[-2]
    assert "was killed" in result.lines[0]


def test_a_kill_of_another_day_is_not_this_one_constructed():
    old = OomKill(WALL - 86_400, PID, "ds4-server", "kernel")
    result = found(collapse(), EndFacts(BOOT, oom_kills=0, kills=(old,), server_alive=False))
    assert (result.victim, result.evidence) == (None, "inferred")
    assert result.lines[-2] == "inferred: it is gone, and nobody saw how"
    assert result.lines[0] == "the server ended at 2025-11-24 16:01:11"


def test_the_wrong_victim_is_named_and_the_server_is_not_called_killed_constructed():
    kill = OomKill(WALL + 71, 4000, "gnome-shell", "kernel")
    result = found(collapse(), EndFacts(BOOT, kills=(kill,), server_alive=False))
    assert (result.victim, result.evidence) == ("gnome-shell (pid 4000)", "read")
    assert result.lines[0].startswith("the server ended")


def test_the_servers_own_kill_counts_before_a_nearer_one_constructed():
    kills = (
        OomKill(WALL + 71, 4000, "python3", "kernel"),
        OomKill(WALL + 75, PID, "ds4-server", "earlyoom"),
    )
    result = found(collapse(), EndFacts(BOOT, kills=kills, server_alive=False))
    assert result.victim == "ds4-server (pid 914871)"
    assert "read: earlyoom killed" in result.lines[-2]


def test_a_supervisors_word_is_read_constructed():
    result = found(collapse(), EndFacts(BOOT, server_alive=False, exit="Result=oom-kill"))
    assert (result.victim, result.evidence) == ("the server (pid 914871)", "read")
    other = found(collapse(), EndFacts(BOOT, server_alive=False, exit="exit status 1"))
    assert (other.victim, other.evidence) == (None, "read")


def test_a_death_that_was_seen_is_told_of_its_last_moment_constructed():
    after = tuple(
        at(71.5 + step, pid=None, phase="stopped", ended="died", headroom_bytes=110 * GIB,
           oom_kills=1)
        for step in range(20)
    )  # fmt: skip
    result = found((*collapse(), *after), EndFacts(BOOT), closed=True)
    assert (result.when_wall, result.phase) == (WALL + 71, "prefill")
    assert result.headroom_bytes == int(6.3 * GIB)
    assert (result.victim, result.evidence) == ("the server (pid 914871)", "inferred")


def test_a_crash_without_a_kill_is_a_death_constructed():
    quiet = tuple(at(t, phase="decode", context_tokens=9_000, prompt_tokens=8_900, decode_tps=11.1)
                  for t in range(30))  # fmt: skip
    after = (at(31, pid=None, phase="stopped", ended="died"),)
    result = found((*quiet, *after), EndFacts(BOOT), closed=True)
    assert (result.victim, result.evidence) == (None, "inferred")
    assert result.lines[1] == "phase decode, at 9,000 tokens of context (prompt 8,900), 11.1 tok/s"
    assert "log ends without a shutdown" in result.lines[-2]
    assert result.advice == (
        "memory was not short, no setting stands out: look at journalctl -k -n 50 -b 0"
    )


NO_END = {
    "closed, and the server ran": (collapse(), EndFacts(BOOT), True),
    "closed, the server ran, another boot now": (collapse(), EndFacts(NEXT), True),
    "closed, it was killed after that": (
        collapse(),
        EndFacts(BOOT, kills=(OomKill(WALL + 75, PID, "ds4-server", "kernel"),)),
        True,
    ),
    "closed, it had stopped cleanly": (
        (*collapse(), at(80, pid=None, phase="stopped", ended="clean")),
        EndFacts(BOOT, oom_kills=5),
        True,
    ),
    "closed, gone, and nobody knows how": ((*collapse(), at(80, pid=None)), EndFacts(BOOT), True),
    "killed, but the server runs on": (
        collapse(),
        EndFacts(BOOT, oom_kills=1, server_alive=True),
        False,
    ),
    "killed, nobody looked whether it runs": (collapse(), EndFacts(BOOT), False),
    "killed, and the server was stopped": (
        collapse(),
        EndFacts(BOOT, server_alive=False, clean_stop=True),
        False,
    ),
    "killed, and the machine shut down well": (
        collapse(),
        EndFacts(NEXT, shutdown_seen=True),
        False,
    ),
    "no server was there": ((at(1, pid=None),), EndFacts(BOOT, oom_kills=3), False),
    "no record": ((), EndFacts(NEXT), False),
}


@pytest.mark.parametrize("case", NO_END)
def test_no_end_no_autopsy_constructed(case):
    records, facts, closed = NO_END[case]
    assert autopsy(past(records, closed=closed), facts, UTC) is None


def test_a_boot_whose_end_cannot_be_read_is_said_to_be_unsure_constructed():
    result = found(collapse(), EndFacts(NEXT))
    assert result.lines[-2].endswith("nor could its journal's end be read")


def test_old_knowledge_carries_its_age_constructed():
    records = (*collapse()[:-1], at(71, phase="prefill", context_tokens=1, prompt_tokens=2,
                                    told_wall=WALL + 59))  # fmt: skip
    result = found(records, EndFacts(NEXT))
    assert result.lines[1].endswith(", as of 12 s before")


def test_unknown_headroom_is_said_constructed():
    records = tuple(at(t, headroom_bytes=None, power_w=None, sm_clock_mhz=None,
                       temperature_c=None, utilisation_pct=None) for t in range(5))  # fmt: skip
    result = found(records, EndFacts(NEXT))
    assert (result.headroom_bytes, result.slope_bytes_per_s) == (None, None)
    assert "headroom was not known" in result.lines
    assert not [line for line in result.lines if line.startswith("GPU")]


SHORT = {"headroom_bytes": 2 * GIB}


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        (
            SHORT | {"other_pid": 4242, "other_bytes": 14 * GIB, "other_comm": "comfyui"},
            "close comfyui (pid 4242): it held 14.0 GiB on the GPU",
        ),
        (SHORT | {"context_limit_tokens": 262_144}, "--ctx 131072, it was 262144"),
        (SHORT | {"context_limit_tokens": 200_000}, "--ctx 131072, it was 200000"),
        (SHORT, "ds4top restart --mmap"),
        (SHORT | {"residency": "mmap"}, "--ctx 65536, it was 131072"),
        (SHORT | {"residency": "mmap", "context_limit_tokens": None}, "a smaller --ctx"),
        ({"temperature_c": 92}, "it was 92 °C: cap the clock with nvidia-smi -lgc 0,2100"),
        ({}, "memory was not short"),
    ],
)
def test_one_setting_to_change_constructed(changes, advice):
    result = found((at(0.0, **changes),), EndFacts(NEXT))
    assert result.advice.startswith(advice)
    assert result.lines[-1] == result.advice


def test_a_fast_fall_is_short_of_memory_before_it_is_low_constructed():
    records = tuple(at(t, headroom_bytes=int((40 - 3 * t) * GIB)) for t in range(8))
    result = found(records, EndFacts(NEXT))
    assert result.headroom_bytes == 19 * GIB
    assert result.advice.startswith("ds4top restart --mmap")
