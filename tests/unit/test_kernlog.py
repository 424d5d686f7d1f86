"""The kernel log as a source: which way is open, what comes through it, what is said if none."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ds4top.core.kernlines import DriverNoMemory, OomKill, Xid
from ds4top.sources.base import Clock, SourceFault
from ds4top.sources.kernlog import COMMAND, KernelLines, KernelLog

OOM = "Out of memory: Killed process 5 (ds4-server) total-vm:8kB, anon-rss:4kB, file-rss:0kB"
KILL = OomKill(5.0, 5, "ds4-server", "kernel", 4096, 8192)
XID = "NVRM: Xid (PCI:000f:01:00): 43, pid=5, name=ds4-server, channel 0x2"
CLOCK = Clock(lambda: 100.0, lambda: 1_000_000.0)
DEADLINE_S = 20.0


class Place:
    """A machine with the three ways, each of which a test opens."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kmsg = root / "kmsg"
        self.kern_log = root / "kern.log"
        self.may_read = True
        self.journals = root / "journal"

    def with_journal(self) -> Place:
        (self.journals / "0f" / "system.journal").parent.mkdir(parents=True)
        (self.journals / "0f" / "system.journal").touch()
        (self.journals / "0f" / "user-1000.journal").touch()
        return self

    def source(self, script: str = "") -> KernelLog:
        return KernelLog(
            (sys.executable, "-c", script),
            journals=(self.root / "absent", self.journals),
            kmsg=self.kmsg,
            kern_log=self.kern_log,
            clock=CLOCK,
            may_read=lambda path: self.may_read and path.name == "system.journal",
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def events(samples: object) -> list[object]:
    """All events of one turn."""
    assert isinstance(samples, list | tuple)
    return [event for sample in samples for event in sample.events]


def until(source: KernelLog, enough: Callable[[list[object]], bool]) -> list[object]:
    """Turns until there is enough, or it raises."""
    found: list[object] = []
    end = time.monotonic() + DEADLINE_S
    while not enough(found):
        assert time.monotonic() < end, found
        found += events(source.read(3.0))
    return found


def record(text: str, wall_us: int = 5_000_000) -> str:
    return json.dumps({"MESSAGE": text, "__REALTIME_TIMESTAMP": str(wall_us)})


# The journal ----------------------------------------------------------------------------------


def test_the_journal_gives_events_and_its_end_is_told(place: Place) -> None:
    script = f"print({record(OOM)!r}); print({record('usb 1-1')!r}); print('{{torn'); exit(4)"
    source = place.with_journal().source(script)
    source.open()
    assert source.route == "journal"
    assert until(source, bool) == [KILL]
    with pytest.raises(SourceFault, match="ended with 4") as caught:
        until(source, lambda found: False)
    assert (caught.value.kind, caught.value.reopen) == ("error", True)
    source.close()
    assert source.route == ""


def test_a_record_may_come_in_pieces(place: Place) -> None:
    text = record(XID) + "\n"
    script = (
        f"import sys; text = {text!r}\n"
        "sys.stdout.write(text[:30]); sys.stdout.flush()\n"
        "sys.stdin.close(); import time; time.sleep(0.2)\n"
        "sys.stdout.write(text[30:]); sys.stdout.flush(); time.sleep(60)"
    )
    source = place.with_journal().source(script)
    source.open()
    assert until(source, bool) == [Xid(5.0, 43, 5, XID)]
    source.close()


def test_a_kill_in_the_journal_knows_who_asked(place: Place) -> None:
    asked = record("python3 invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0")
    source = place.with_journal().source(f"print({asked!r}); print({record(OOM)!r})")
    source.open()
    (kill,) = until(source, bool)
    assert isinstance(kill, OomKill)
    assert kill.asked_by == "python3"
    source.close()


def test_closing_ends_the_child_even_one_that_will_not(place: Place) -> None:
    script = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"print({record(OOM)!r}); sys.stdout.flush(); time.sleep(600)"
    )
    source = place.with_journal().source(script)
    source.open()
    until(source, bool)
    child = source._way._child
    source.close()
    assert child.returncode == -9


def test_the_journal_is_asked_for_the_killers_of_user_space_too() -> None:
    assert COMMAND[0] == "journalctl"
    assert {"-f", "-o", "json", "_TRANSPORT=kernel"} <= set(COMMAND)
    assert {"_SYSTEMD_UNIT=systemd-oomd.service", "_SYSTEMD_UNIT=earlyoom.service"} <= set(COMMAND)


# Rights ---------------------------------------------------------------------------------------


def test_without_rights_it_says_how_to_get_them(place: Place) -> None:
    place.with_journal().may_read = False
    with pytest.raises(SourceFault) as caught:
        place.source().open()
    assert caught.value.kind == "permission"
    assert "sudo usermod -aG adm $USER" in caught.value.message
    assert "journal" in caught.value.message


def test_a_hint_of_the_child_is_a_refusal_and_the_next_way_is_taken(place: Place) -> None:
    """An access list may promise what the journal then does not give."""
    hint = "Hint: You are currently not seeing messages from other users and the system."
    script = f"import sys, time; print({hint!r}, file=sys.stderr, flush=True); time.sleep(600)"
    source = place.with_journal().source(script)
    source.open()
    with pytest.raises(SourceFault, match="usermod") as caught:
        until(source, lambda found: False)
    assert (caught.value.kind, caught.value.reopen) == ("permission", True)
    source.close()
    place.kern_log.touch()
    source.open()
    assert source.route == str(place.kern_log)
    source.close()


def test_without_any_way_it_says_what_is_not_there(place: Place) -> None:
    with pytest.raises(SourceFault, match="no kernel log here: no journal") as caught:
        place.source().open()
    assert caught.value.kind == "unsupported"
    assert str(place.kern_log) in caught.value.message


def test_a_journal_without_its_program_is_no_way(place: Place) -> None:
    place.with_journal().kern_log.touch()
    source = KernelLog(
        ("/no/such/journalctl",),
        journals=(place.journals,),
        kmsg=place.kmsg,
        kern_log=place.kern_log,
        may_read=lambda path: True,
    )
    source.open()
    assert source.route == str(place.kern_log)
    source.close()


# The kernel's buffer --------------------------------------------------------------------------


def test_constructed_records_of_kmsg(place: Place) -> None:
    """A record a read, as the device gives them: here each through a named pipe."""
    os.mkfifo(place.kmsg)
    source = place.source()
    source.open()
    assert source.route == str(place.kmsg)
    writer = os.open(place.kmsg, os.O_WRONLY)
    for text in (
        f"4,339,98000000,-;{OOM}\n SUBSYSTEM=x\n",
        f"12,340,98000000,-;{OOM}\n",
        "nonsense",
        "4,x,y,-;z\n",
        f"4,341,99500000,-;{XID}\n",
    ):
        os.write(writer, text.encode())
        found = events(source.read(3.0))
        # 100 s after the boot by the clock; a facility that is not the kernel's does not count.
        if text.startswith("4,339"):
            assert found == [OomKill(999_998.0, 5, "ds4-server", "kernel", 4096, 8192)]
        elif text.startswith("4,341"):
            assert found == [Xid(999_999.5, 43, 5, XID)]
        else:
            assert found == []
    os.close(writer)
    assert source.read(3.0) == ()
    source.close()


# The file of syslog ---------------------------------------------------------------------------


def test_a_file_tells_dated_lines_of_before_and_all_that_come(place: Place) -> None:
    undated = "Nov 25 09:59:00 spark kernel: [   1.0] NVRM: x [NV_ERR_NO_MEMORY] returned from old"
    dated = f"2026-11-25T10:00:00+00:00 spark kernel: [   2.0] {OOM}"
    place.kern_log.write_text(f"{undated}\n{dated}\n")
    source = place.source()
    source.open()
    assert events(source.read(1.0)) == [
        OomKill(1_795_600_800.0, 5, "ds4-server", "kernel", 4096, 8192)
    ]
    with place.kern_log.open("a") as file:
        file.write(undated.replace("old", "new") + "\n" + "Nov 25 10:00:01 spark kernel: NVRM: to")
    assert events(source.read(2.0)) == [DriverNoMemory(1_000_000.0, "new")]
    with place.kern_log.open("a") as file:
        file.write("rn [NV_ERR_NO_MEMORY] returned from late\n")
    assert events(source.read(3.0)) == [DriverNoMemory(1_000_000.0, "late")]
    source.close()


def test_a_file_is_followed_through_its_rotation(place: Place) -> None:
    place.kern_log.touch()
    source = place.source()
    source.open()
    assert source.read(1.0) == ()
    place.kern_log.rename(place.root / "kern.log.1")
    place.kern_log.write_text(f"Nov 25 10:00:01 spark kernel: {OOM}\n")
    found: list[object] = []
    for _ in range(5):
        found += events(source.read(2.0))
    assert found == [OomKill(1_000_000.0, 5, "ds4-server", "kernel", 4096, 8192)]
    source.close()


def test_events_are_queued_and_never_overwritten() -> None:
    assert KernelLines.queued
