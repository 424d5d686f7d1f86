"""Kernel lines: OOM kills, the driver's errors, and when they mean something."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.kernlines import (
    DriverNoMemory,
    KernelReader,
    KernelTrack,
    OomKill,
    Xid,
    parse_line,
    record_text,
)

OOM = (
    "Out of memory: Killed process 914871 (ds4-server) total-vm:98234112kB, anon-rss:412340kB,"
    " file-rss:131072kB, shmem-rss:0kB, UID:1000 pgtables:188416kB oom_score_adj:1000"
)
OOM_KILL = OomKill(
    1.0, 914871, "ds4-server", "kernel", 412_340 * 1024, total_vm_bytes=98_234_112 * 1024
)
ASKED = (
    "ds4-server invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0,"
    " oom_score_adj=0"
)
CHOSEN = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/system.slice/ds4.service,task=ds4-server,pid=914871,uid=1000"
)
REAPED = "oom_reaper: reaped process 914871 (ds4-server), now anon-rss:0kB, file-rss:0kB"
NO_MEMORY = (
    "NVRM: nvCheckOkFailedNoLog: Check failed: Out of memory [NV_ERR_NO_MEMORY] (0x00000051)"
    " returned from _memdescAllocInternal(pMemDesc) @ mem_desc.c:1359"
)
XID_43 = "NVRM: Xid (PCI:000f:01:00): 43, pid=914871, name=ds4-server, channel 0x00000002"
XID_13 = (
    "NVRM: Xid (PCI:000f:01:00): 13, Graphics SM Warp Exception on (GPC 1, TPC 2, SM 0):"
    " Out Of Range Address"
)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (OOM, OOM_KILL),
        ("[ 12.3] " + OOM, OOM_KILL),
        ("2026-11-25T10:00:00.000001+01:00 spark kernel: " + OOM, OOM_KILL),
        (
            "Memory cgroup out of memory: Killed process 7 (a b) (c) total-vm:1kB, anon-rss:2kB,",
            OomKill(1.0, 7, "a b) (c", "cgroup", 2048, 1024),
        ),
        (
            "Out of memory (oom_kill_allocating_task): Killed process 9 (x) total-vm:4kB,"
            " anon-rss:1kB, file-rss:0kB, shmem-rss:0kB",
            OomKill(1.0, 9, "x", "kernel", 1024, 4096),
        ),
        ("Out of memory: Killed process 9 (x)", OomKill(1.0, 9, "x", "kernel")),
        (NO_MEMORY, DriverNoMemory(1.0, "_memdescAllocInternal")),
        ("NVRM: something failed: NV_ERR_NO_MEMORY", DriverNoMemory(1.0, "")),
        (XID_43, Xid(1.0, 43, 914871, XID_43)),
        (XID_13, Xid(1.0, 13, None, XID_13)),
        (
            "NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen",
            Xid(
                1.0, 79, None,
                "NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen",
            ),
        ),
        (
            "Killed /user.slice/x.scope due to memory pressure for /user.slice being 51.07% > 50%",
            OomKill(1.0, None, "/user.slice/x.scope", "systemd-oomd"),
        ),
        (
            "Killed /user.slice/x.scope due to memory used (7422640128) / total (8199176192) and"
            " swap used (1) / total (2) being more than 90.00%",
            OomKill(1.0, None, "/user.slice/x.scope", "systemd-oomd"),
        ),
        ("NVRM: Xid (PCI:000f:01:00): 13, Graphics Exception: ESR 0x517730=0xc12000e",
         Xid(1.0, 13, None,
             "NVRM: Xid (PCI:000f:01:00): 13, Graphics Exception: ESR 0x517730=0xc12000e")),
        (
            'sending SIGTERM to process 12 uid 1000 "ds4-server": oom_score 900, VmRSS 1 MiB',
            OomKill(1.0, 12, "ds4-server", "earlyoom"),
        ),
        # Who asked for memory is not the victim, and the choice is not yet the kill.
        (ASKED, None),
        (CHOSEN, None),
        (REAPED, None),
        ("Tasks in /a are going to be killed due to memory.oom.group set", None),
        ("usb 1-1: new device", None),
    ],
)  # fmt: skip
def test_lines(line: str, event: object) -> None:
    assert parse_line(line, 1.0) == event


def test_journal_records() -> None:
    stamp = "1795544835334000"
    record = {"MESSAGE": OOM, "__REALTIME_TIMESTAMP": stamp}
    assert record_text(json.dumps(record).encode()) == (OOM, 1795544835.334)
    bytes_record = {"MESSAGE": list(XID_43.encode()), "__REALTIME_TIMESTAMP": stamp}
    assert record_text(json.dumps(bytes_record).encode()) == (XID_43, 1795544835.334)
    for broken in (
        b"",
        b"{",
        b"[]",
        b'{"MESSAGE": 3}',
        b'{"MESSAGE": [999]}',
        b"null",
        b"[" * 9999,
    ):
        assert record_text(broken) is None
    assert record_text(b'{"MESSAGE": "x"}') == ("x", None)


PIECES = st.sampled_from(
    [ASKED, CHOSEN, OOM, NO_MEMORY, XID_43, " [nvidia]", "Killed ", "pid=", "NVRM: ", "9" * 30]
)


@given(st.lists(st.text() | PIECES).map("".join), st.binary())
def test_nothing_raises(text: str, data: bytes) -> None:
    parse_line(text)
    record_text(data)
    reader = KernelReader()
    for line in text.splitlines():
        reader.feed(line)


@given(
    st.integers(1, 4_194_304),
    st.text(st.characters(exclude_categories=("C", "Z")), max_size=15),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
def test_a_kill_is_read_back(pid: int, comm: str, vm_kb: int, anon_kb: int) -> None:
    line = f"Killed process {pid} ({comm}) total-vm:{vm_kb}kB, anon-rss:{anon_kb}kB, file-rss:0kB"
    wanted = OomKill(None, pid, comm, "kernel", anon_kb * 1024, vm_kb * 1024)
    assert parse_line("Out of memory: " + line) == wanted
    assert parse_line("Memory cgroup out of memory: " + line) == replace(wanted, by="cgroup")


# The report around a kill ---------------------------------------------------------------------


def fed(lines: list[str]) -> list[object]:
    """The events of lines."""
    reader = KernelReader()
    return [event for line in lines if (event := reader.feed(line, 1.0)) is not None]


def test_a_kill_takes_with_it_who_asked_and_what_was_chosen() -> None:
    frames = [
        "Call Trace:",
        " dump_stack_lvl+0x76/0xa0",
        " sysmemAllocResources+0x1a4/0x5d0 [nvidia]",
    ]
    asked = ASKED.replace("ds4-server", "kworker/3:1")
    assert fed([asked, *frames, CHOSEN, OOM, REAPED]) == [
        replace(
            OOM_KILL, cgroup="/system.slice/ds4.service", asked_by="kworker/3:1", by_driver=True
        )
    ]
    # Through a file each line has a stamp and a host before it.
    stamped = [f"Nov 25 10:00:00 spark kernel: [ 12.3] {line}" for line in (asked, CHOSEN, OOM)]
    assert fed(stamped) == [
        replace(OOM_KILL, cgroup="/system.slice/ds4.service", asked_by="kworker/3:1")
    ]


def test_a_kill_does_not_take_what_belongs_to_another() -> None:
    other = CHOSEN.replace("pid=914871", "pid=5")
    assert fed([ASKED, other, OOM]) == [replace(OOM_KILL, asked_by="ds4-server")]
    assert fed([ASKED, CHOSEN, OOM, OOM])[1] == OOM_KILL
    assert fed(["x [nvidia]", CHOSEN, OOM]) == [OOM_KILL]
    assert fed([ASKED, *["a frame"] * 1_000, CHOSEN, OOM]) == [OOM_KILL]


def test_one_refusal_of_the_driver_is_no_alarm_a_burst_is() -> None:
    track = KernelTrack()
    track.take([DriverNoMemory(None, "x")], 100.0)
    assert track.driver_level(100.0, 1 << 30, falling=True) == "info"
    track.take([DriverNoMemory(100.0 + n / 10, "x") for n in range(10)], 101.0)
    assert track.driver_level(101.0, 20 << 30, falling=False) == "warning"
    assert track.driver_level(101.0, 2 << 30, falling=False) == "critical"
    assert track.driver_level(101.0, 20 << 30, falling=True) == "critical"
    assert track.driver_level(200.0, 2 << 30, falling=True) == "info"
    assert track.no_memory == 11


def test_a_lost_context_is_the_servers_only_where_it_is_named() -> None:
    track = KernelTrack()
    track.take([Xid(1.0, 13, None, "")], 1.0)
    assert track.poisoned(914871) is None
    assert track.poisoned(914871, only_process=True) is not None
    track.take([Xid(2.0, 43, 914871, "")], 2.0)
    assert track.poisoned(914871) == Xid(2.0, 43, 914871, "")
    assert track.poisoned(5) is None
    assert track.poisoned(None) is None
    # Where it is the only process the one that names it still tells more.
    track.take([Xid(3.0, 31, None, "")], 3.0)
    assert track.poisoned(914871, only_process=True) == Xid(2.0, 43, 914871, "")


def test_what_befell_an_earlier_server_is_not_this_ones() -> None:
    track = KernelTrack()
    track.take([Xid(100.0, 13, None, ""), Xid(100.0, 43, 914871, "")], 100.0)
    assert track.poisoned(914871, only_process=True, since=90.0) is not None
    assert track.poisoned(914871, only_process=True, since=110.0) is None


def test_events_without_a_time_happened_when_they_came() -> None:
    track = KernelTrack()
    track.take([OomKill(None, 5, "x", "kernel"), Xid(None, 79, None, "")], 50.0)
    assert [kill.wall for kill in track.kills] == [50.0]
    assert [xid.wall for xid in track.xids] == [50.0]
    track.take([OomKill(7.0, n, "x", "kernel") for n in range(100)], 60.0)
    assert len(track.kills) == 50
