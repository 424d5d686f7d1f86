"""``python -m tests.bench.report``: the report over a 100 MB log, beside grep and one regex."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LOG = ROOT / "ds4top" / "data" / "example.log"
SIZE_BYTES = 100_000_000

_LOOP = """
import re, sys
pattern = re.compile(rb"ctx=(\\d+)\\.\\.(\\d+):(\\d+)")
count = 0
with open(sys.argv[1], "rb") as file:
    for line in file:
        if pattern.search(line):
            count += 1
print(count)
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak RSS in MiB of a command, its children not counted."""
    begin = time.perf_counter()
    # A pipe: grep stops at the first match where its output goes to /dev/null.
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        status = Path(f"/proc/{process.pid}/status")
        peak_kib = 0
        # Not ru_maxrss: that of a child begins at what this process holds.
        while process.poll() is None:
            found = re.search(r"VmHWM:\s*(\d+)", status.read_text())
            peak_kib = max(peak_kib, int(found[1])) if found else peak_kib
            time.sleep(0.005)
        seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return seconds, peak_kib / 1024


def main() -> None:
    """Make the log, run the three, print a table."""
    block = LOG.read_bytes()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "big.log"
        with path.open("wb") as file:
            for _ in range(SIZE_BYTES // len(block) + 1):
                file.write(block)
        lines = len(re.findall(b"\n", block)) * (SIZE_BYTES // len(block) + 1)
        table = {
            "grep -c ctx=": ["grep", "-c", "ctx=", str(path)],
            "Python, one regex": [sys.executable, "-c", _LOOP, str(path)],
            "ds4top report --json": [
                sys.executable, "-m", "ds4top", "report", str(path), "--json", "--tz", "UTC",
            ],
        }  # fmt: skip
        print(f"{path.stat().st_size / 1e6:.0f} MB, {lines:,} lines")
        print(f"{'':24}{'s':>8}{'lines/s':>12}{'RSS MiB':>10}")
        for name, command in table.items():
            seconds, rss = measure(command)
            print(f"{name:24}{seconds:8.2f}{lines / seconds:12,.0f}{rss:10.1f}")


if __name__ == "__main__":
    main()
