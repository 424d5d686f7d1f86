"""``python -m tests.bench.kvdir``: 10,000 cache files, scanned whole, then one changed header."""

from __future__ import annotations

import os
import resource
import struct
import tempfile
import time
from pathlib import Path

from ds4top.core.kvfile import payload_bytes
from ds4top.core.kvpolicy import order
from ds4top.sources.kvdir import COMPARE_S, KvDirectory

FILES = 10_000
WRITTEN_S = 1_795_544_800


def fill(folder: Path, files: int) -> None:
    """Sparse files of 600 tokens and more, written as the server lays them out."""
    for number in range(files):
        tokens = 600 + number
        head = struct.pack("<3sBBBBBIIII", b"KVC", 1, 2, number % 5, 0, 0, tokens, 0, 131_072, 2)
        head += struct.pack("<QQQI", WRITTEN_S, WRITTEN_S + number, payload_bytes(tokens), 100)
        path = folder / f"{number:040x}.kv"
        path.write_bytes(head)
        os.truncate(path, 152 + payload_bytes(tokens))


def turns(source: KvDirectory, now: float) -> tuple[float, float, int, int]:
    """Wall and processor seconds until the scan has ended, how many turns, headers read so far."""
    begin, cpu, count = time.perf_counter(), time.process_time(), 0
    while True:
        (sample,) = source.read(now)
        count += 1
        if not sample.scanning:
            return (
                time.perf_counter() - begin,
                time.process_time() - cpu,
                count,
                sample.headers_read,
            )


def main() -> None:
    """Print seconds of each kind of turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, FILES)
        time.sleep(0.2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        source = KvDirectory(folder, budget_bytes=4 << 30)
        source.open()
        print(f"{FILES} files, page cache warm    wall s    cpu s  turns  headers")
        rows = [("first scan", turns(source, 0.0)), ("nothing changed", turns(source, 1.0))]
        path = folder / f"{5:040x}.kv"
        os.utime(path, ns=(1, 1))
        source.note_hit(str(path))
        rows.append(("one hit named by the log", turns(source, 2.0)))
        (folder / f"{7:040x}.kv").unlink()
        time.sleep(0.2)
        rows.append(("one file deleted", turns(source, 3.0)))
        rows.append(("look at every stat", turns(source, 3.0 + COMPARE_S)))
        read = 0
        for what, (wall_s, cpu_s, count, headers) in rows:
            print(f"{what:<30} {wall_s:9.4f} {cpu_s:8.4f} {count:6} {headers - read:8}")
            read = headers
        (sample,) = source.read(100.0)
        begin = time.perf_counter()
        ranked = order(sample.entries, float(WRITTEN_S + 20_000), sample.build)
        print(
            f"{'order of eviction':<30} {time.perf_counter() - begin:9.4f}  ({len(ranked)} files)"
        )
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"memory: {grown / 1024:.1f} MiB more at the peak")


if __name__ == "__main__":
    main()
