"""Kernel lines: OOM kills, the driver's errors, and when they mean something."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.kernlines import (
    DriverNoMemory,
    KernelTrack,
    OomKill,
    Xid,
    parse_line,
    parse_record,
)
from ds4top.sources.base import SourceFault
from ds4top.sources.kernlog import KernelLog

OOM = (
    "Out of memory: Killed process 914871 (ds4-server) total-vm:98234112kB, anon-rss:412340kB,"
    " file-rss:131072kB, shmem-rss:0kB, UID:1000 pgtables:188416kB oom_score_adj:1000"
)
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
        (OOM, OomKill(1.0, 914871, "ds4-server", "kernel", 412340 * 1024)),
        ("[ 12.3] " + OOM, OomKill(1.0, 914871, "ds4-server", "kernel", 412340 * 1024)),
        (
            "Memory cgroup out of memory: Killed process 7 (a b) (c) total-vm:1kB, anon-rss:2kB,",
            OomKill(1.0, 7, "a b) (c", "cgroup", 2048),
        ),
        (NO_MEMORY, DriverNoMemory(1.0, "_memdescAllocInternal")),
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
            'sending SIGTERM to process 12 uid 1000 "ds4-server": oom_score 900, VmRSS 1 MiB',
            OomKill(1.0, 12, "ds4-server", "earlyoom"),
        ),
        ("ds4-server invoked oom-killer: gfp_mask=0x140cca, order=0, oom_score_adj=0", None),
        ("usb 1-1: new device", None),
    ],
)  # fmt: skip
def test_lines(line: str, event: object) -> None:
    assert parse_line(line, 1.0) == event


def test_journal_records() -> None:
    stamp = "1795544835334000"
    record = {"MESSAGE": OOM, "__REALTIME_TIMESTAMP": stamp}
    found = parse_record(json.dumps(record).encode())
    assert found == OomKill(1795544835.334, 914871, "ds4-server", "kernel", 412340 * 1024)
    bytes_record = {"MESSAGE": list(XID_43.encode()), "__REALTIME_TIMESTAMP": stamp}
    assert isinstance(parse_record(json.dumps(bytes_record).encode()), Xid)
    for broken in (b"", b"{", b"[]", b'{"MESSAGE": 3}', b'{"MESSAGE": [999]}', b"null"):
        assert parse_record(broken) is None


@given(st.text(), st.binary())
def test_nothing_raises(text: str, data: bytes) -> None:
    parse_line(text)
    parse_record(data)


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


def follow(script: str) -> KernelLog:
    """The source over a program that prints."""
    source = KernelLog((sys.executable, "-c", script))
    source.open()
    return source


def until_fault(source: KernelLog) -> tuple[list[object], SourceFault]:
    """Everything up to the end of the child."""
    found: list[object] = []
    for _ in range(1_000_000):
        try:
            for sample in source.read(3.0):
                found += sample.events
        except SourceFault as fault:
            source.close()
            return found, fault
    raise AssertionError("it never ended")


def test_the_source_gives_events_and_says_when_its_child_ends() -> None:
    record = json.dumps({"MESSAGE": OOM, "__REALTIME_TIMESTAMP": "5000000"})
    found, fault = until_fault(follow(f"print({record!r}); print('{{torn'); raise SystemExit(4)"))
    assert found == [OomKill(5.0, 914871, "ds4-server", "kernel", 412340 * 1024)]
    assert "ended with 4" in fault.message


def test_without_rights_it_says_how_to_get_them() -> None:
    hint = "Hint: You are currently not seeing messages from other users and the system."
    _, fault = until_fault(follow(f"import sys; print({hint!r}, file=sys.stderr)"))
    assert fault.kind == "permission"
    assert "usermod -aG adm" in fault.message


def test_without_a_journal() -> None:
    with pytest.raises(SourceFault, match="no journal here"):
        KernelLog(("/no/such/journalctl",)).open()
