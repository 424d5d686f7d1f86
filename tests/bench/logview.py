"""``python -m tests.bench.logview``: the Log view over a 100 MB file, its times and its memory."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ds4top.core.logtext import words_of
from ds4top.sources.logindex import LogPages

ROOT = Path(__file__).resolve().parent.parent.parent
LOG = ROOT / "ds4top" / "data" / "example.log"
SIZE_BYTES = 100_000_000
FIRST = b"1101 00:00:00 ds4-server: the first line of this file\n"


def rss_mib() -> float:
    """Resident memory of this process."""
    found = re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


class Bench:
    """Prints a line for each thing that is done."""

    def __init__(self, path: Path) -> None:
        self._changed = threading.Event()
        self.pages = LogPages(str(path), self._changed.set)
        print(f"{'':36}{'s':>8}{'RSS MiB':>10}{'more':>8}")
        self._before = rss_mib()

    def measure(self, name: str, act: Callable[[], object], until: Callable[[], bool]) -> None:
        begin = time.perf_counter()
        act()
        while not until():
            self._changed.wait(1.0)
            self._changed.clear()
        seconds, rss = time.perf_counter() - begin, rss_mib()
        print(f"{name:36}{seconds:8.3f}{rss:10.1f}{rss - self._before:+8.1f}")


def main() -> None:
    """Make the log, look through it."""
    block = LOG.read_bytes()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "big.log"
        with path.open("wb") as file:
            file.write(FIRST)
            for _ in range(SIZE_BYTES // len(block) + 1):
                file.write(block)
        bench = Bench(path)
        pages = bench.pages

        def indexed() -> bool:
            shape = pages.shape
            return bool(shape.size_bytes) and shape.indexed_bytes == shape.size_bytes

        def searched() -> bool:
            shape = pages.shape
            return indexed() and shape.searched_bytes == shape.size_bytes

        def first() -> bool:
            line = pages.line(pages.rows()[0])
            return line is not None and line.data == FIRST.rstrip()

        bench.measure("index all lines", lambda: (pages.start(), pages.wake()), indexed)
        print(f"{pages.shape.lines:,} lines of {path.stat().st_size / 1e6:.0f} MB")
        bench.measure("g: the first line", lambda: None, first)
        bench.measure(
            "search: its first match",
            lambda: pages.search(words_of("first line of this file")),
            lambda: bool(pages.shape.found),
        )
        bench.measure("search: all of the file", lambda: None, searched)
        bench.measure("filter by a word of many lines", lambda: pages.search((b"ctx",)), searched)
        print(f"{pages.shape.found:,} lines found")
        bench.measure("its last line", lambda: pages.line(pages.rows(found=True)[-1]), lambda: True)
        pages.close()


if __name__ == "__main__":
    main()
