"""What ds4top itself costs: read from a /proc made by hand, and of this very process."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ds4top.archive.paths import KEPT
from ds4top.core.config import settle
from ds4top.core.own import OwnCost, OwnFile
from ds4top.sources.own import OwnReader
from ds4top.view.ownview import file_rows, own_rows, setting_rows
from ds4top.view.text import row_text, row_width

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
STATUS = "Name:\tds4top\nVmHWM:\t   51200 kB\nVmRSS:\t   47104 kB\nThreads:\t3\n"
NAMES = {1: "MainThread", 2: "src-memory", 4: "src-log"}


class Proc:
    """A /proc with one process in it, this one, and a folder of files it keeps."""

    def __init__(self, root: Path) -> None:
        self.root, self.own = root / "proc", root / "proc" / "self"
        self.cpu_s = 0.0
        (self.own / "fd").mkdir(parents=True)
        for number in range(5):
            (self.own / "fd" / str(number)).touch()
        fields = ["S", *["0"] * 18, str(100 * TICKS), *["0"] * 30]
        (self.own / "stat").write_text(f"7 (ds4 (top)) {' '.join(fields)}\n")
        (self.own / "status").write_text(STATUS)
        (self.own / "io").write_text("rchar: 9\nwchar: 9\nread_bytes: 9\nwrite_bytes: 8192\n")
        (self.root / "uptime").write_text("460.00 900.00\n")
        self.folder = root / "state"
        self.reader = OwnReader(
            self.folder, KEPT, self.root, cpu=lambda: self.cpu_s, names=lambda: NAMES
        )

    def ran(self, **ns: int) -> None:
        """Threads with so many nanoseconds; one without a name of ours has its comm."""
        for name, each in ns.items():
            folder = self.own / "task" / name.removeprefix("t")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "schedstat").write_text(f"{each} 5 6\n")
            (folder / "comm").write_text("python3\n")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_the_first_look_has_what_needs_no_time(proc: Proc) -> None:
    proc.cpu_s = 7.2
    found = proc.reader.read(1000.0, 4096)
    assert found == OwnCost(
        cpu_s=7.2,
        up_s=360.0,
        thread_count=3,
        rss_bytes=46 * MIB,
        rss_peak_bytes=50 * MIB,
        open_files=5,
        written_bytes=4096,
        stored_bytes=8192,
        folder=str(proc.folder),
        files=tuple(OwnFile(name, holds, None) for name, holds in KEPT),
    )


def test_rates_are_over_the_last_minute(proc: Proc) -> None:
    for second in range(0, 121, 5):
        # Half as busy in the second minute; the log's thread begins in it.
        proc.cpu_s = second * 0.04 if second <= 60 else 2.4 + (second - 60) * 0.02
        later = {"t4": (second - 60) * 1_000_000} if second > 60 else {}
        proc.ran(t1=second * 10_000_000, t2=second * 500_000, t9=7, **later)
        found = proc.reader.read(1000.0 + second, 100 * second)
        if second == 30:
            assert (found.span_s, found.cpu_share) == (30.0, pytest.approx(0.04))
            assert found.written_per_min == pytest.approx(6000.0)
    assert (found.span_s, found.cpu_share) == (60.0, pytest.approx(0.02))
    assert found.threads == {
        "MainThread": pytest.approx(0.01),
        "src-memory": pytest.approx(0.0005),
        "src-log": pytest.approx(0.001),
        "python3": 0.0,
    }


def test_a_showing_of_long_ago_tells_nothing_of_now(proc: Proc) -> None:
    proc.reader.read(1000.0, 0)
    proc.cpu_s = 90.0
    found = proc.reader.read(1600.0, 50_000)
    assert (found.span_s, found.cpu_share, found.written_per_min) == (0.0, None, None)
    proc.cpu_s = 90.5
    assert proc.reader.read(1605.0, 50_000).cpu_share == pytest.approx(0.1)


def test_files_are_looked_at_now_and_then(proc: Proc) -> None:
    proc.folder.mkdir()
    (proc.folder / "history.sqlite").write_bytes(b"x" * 300)
    (proc.folder / "history.sqlite-wal").write_bytes(b"x" * 40)
    (proc.folder / "logs").mkdir()
    (proc.folder / "logs" / "a.log").write_bytes(b"x" * 7)

    def sizes(now: float) -> dict[str, int | None]:
        return {each.name: each.size_bytes for each in proc.reader.read(now, 0).files}

    assert (sizes(0.0)["history.sqlite"], sizes(0.0)["logs"], sizes(0.0)["panes"]) == (340, 7, None)
    (proc.folder / "logs" / "b.log").write_bytes(b"x" * 2)
    assert sizes(9.0)["logs"] == 7
    assert sizes(10.5)["logs"] == 9


def test_what_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    found = OwnReader(root=tmp_path / "none").read(1.0, None)
    assert (found.up_s, found.rss_bytes, found.open_files, found.stored_bytes) == (None,) * 4
    lines = [row_text(each) for each in own_rows(found, (), 98)]
    assert lines[4].split() == ["memory", "–", "MiB", "resident", "at", "most", "–"]


def test_this_very_process() -> None:
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        begun.set()
        done.wait()

    reader = OwnReader()
    first = reader.read(0.0, 0)
    worker = threading.Thread(target=work, name="src-busy")
    worker.start()
    begun.wait()
    found = reader.read(1.0, 0)
    done.set()
    worker.join()
    assert found.cpu_share is not None
    assert first.thread_count is not None
    assert found.thread_count == first.thread_count + 1
    # It ran for 50 ms at the least within what is called a second here, and all of it is counted.
    assert found.threads["src-busy"] >= 0.05
    assert found.cpu_share >= 0.05
    assert found.rss_bytes is not None
    assert found.rss_peak_bytes is not None
    assert 5 * MIB < found.rss_bytes <= found.rss_peak_bytes + MIB


def test_how_it_is_said() -> None:
    own = OwnCost(
        span_s=60.0, cpu_share=0.0124, cpu_s=51.2, up_s=4_350.0,
        threads={"MainThread": 0.0091, "src-log": 0.0021, "src-vitals": 0.0008, "x": 0.0001},
        thread_count=9, rss_bytes=45 * MIB, rss_peak_bytes=48 * MIB, open_files=19,
        written_bytes=6 * MIB, written_per_min=91_340.0, stored_bytes=4_096,
        folder="/home/spark/.local/state/ds4top", files=(OwnFile("a", "what", 2_048),),
    )  # fmt: skip
    assert [row_text(each).rstrip() for each in own_rows(own, ["log"], 98)] == [
        "",
        " DS4TOP   its own cost",
        "  cpu        1.2 % of a core over 60 s   51 s since its start 1 h 12 m ago, 1.2 %",
        "  threads    0.9 % screen   0.1 % vitals",
        "  memory      45.0 MiB resident   at most 48.0",
        "  terminal    89.2 KiB a minute over 60 s   6.00 MiB written in all",
        "  storage      4.0 KiB written in all",
        "  open          19 files   9 threads",
    ]
    assert [row_text(each).rstrip() for each in file_rows(own, 98)] == [
        "",
        " WHAT DS4TOP KEEPS   in /home/spark/.local/state/ds4top",
        "  a                    2.0 KiB what",
    ]
    assert all(row_width(each) <= 60 for each in own_rows(own, (), 60))
    assert row_text(own_rows(None, (), 98)[2]) == "  looked at while this view is shown"


def test_the_settings_say_where_they_come_from() -> None:
    config = settle(
        flags={"screen.theme": "light"},
        environment={"DS4TOP_MEMORY_WARNING_GIB": "8"},
        text='[screen]\nmouse = false\n[keys]\n"look.theme" = "T"\n',
        actions=("look.theme",),
    )
    lines = [row_text(each).rstrip() for each in setting_rows(config, 98)]
    found = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}
    assert found["screen.theme"] == ['"light"', "flag", "--theme"]
    assert found["memory.warning_gib"] == ["8", "environment", "DS4TOP_MEMORY_WARNING_GIB"]
    assert found["screen.mouse"][0] == "false"
    assert found["screen.mouse"][1] != "default"
    assert found["screen.ascii"] == ["false", "default"]
    assert found["look.theme"] == ['"T"', "file"]
    assert "    Headroom below this warns." in lines
