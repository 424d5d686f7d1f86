"""``python -m tests.bench.cost [SECONDS]``: CPU, memory and bytes of the Live view at 200x50.

ds4top follows the log of the stand-in server, which runs outside with its driver, from its first
decode sample on, and then a log that does not grow; htop, btop and glances run beside it, one after
the other, where they are installed. Under the busy row stands what the log got in that time: a
window of prefill alone is cheap. Exit status 1 where one of its processes is left.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ds4top.core.process import DEMO_MARK
from ds4top.standin.demo import DemoServer
from tests.bench.compiled import compiled

ROOT = Path(__file__).resolve().parent.parent.parent
COST = Path(__file__).with_name("tui_cost.py")
LOG = ROOT / "ds4top" / "data" / "example.log"
COLUMNS = (
    "cpu_pct",
    "rss_mib",
    "first_frame_s",
    "bytes_per_min",
    "client_bytes_per_min",
    "wakeups_per_s",
    "other_cpu_pct",
)


def row(
    name: str, command: list[str], seconds: float, env: dict[str, str], ready: str | None = None
) -> None:
    """Measure one program and print its row."""
    if shutil.which(command[0]) is None:
        print(f"{name:28}not run: {command[0]} is not installed")
        return
    words = [sys.executable, str(COST), "--seconds", str(seconds), "--size", "200x50"]
    words += ["--ready", ready] if ready else []
    found = subprocess.run([*words, *command], capture_output=True, text=True, env=env, check=False)
    result = json.loads(found.stdout or "{}")
    if "cpu_pct" not in result:
        print(f"{name:28}not run: {result.get('error', found.stderr)}")
        return
    print(f"{name:28}" + "".join(f"{result[column]!s:>22}" for column in COLUMNS), flush=True)


def wait_for(path: Path, word: bytes, seconds: float) -> bool:
    """Whether a file holds a word before that time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and word in path.read_bytes():
            return True
        time.sleep(0.2)  # another process writes it
    return False


def left_behind(folder: Path, wait_s: float = 10.0) -> list[str]:
    """Processes that still name a demo's folder, in their words or their environment, after that
    time at the most.
    """
    end = time.monotonic() + wait_s
    while found := [words for words in map(_words, Path("/proc").glob("[0-9]*"))
                    if str(folder).encode() in words]:  # fmt: skip
        if time.monotonic() >= end:
            break
        time.sleep(0.1)  # they are nobody's children by then
    return [
        words.split(b"\0\0")[0].replace(b"\0", b" ").decode(errors="replace") for words in found
    ]


def _words(place: Path) -> bytes:
    try:
        return b"\0".join((place / name).read_bytes() for name in ("cmdline", "environ"))
    except OSError:
        return b""


def busy(seconds: float, env: dict[str, str]) -> list[str]:
    """The row of a server at work; gives the processes that were left."""
    arguments = ("--standin-model-gib", "1")
    with DemoServer(speed=1.0, restart_after_s=None, arguments=arguments) as demo:
        if not wait_for(demo.log_path, b" decoding ", 180):
            print(f"{'ds4top, busy':28}not run: the stand-in decoded nothing in 180 s")
            return []
        before = len(demo.log_path.read_bytes())
        command = [sys.executable, "-m", "ds4top", "--log", str(demo.log_path)]
        # Else it would be somebody else's server, and none of its figures would be looked at.
        env = {**env, DEMO_MARK: demo.mark}
        row("ds4top, busy", command, seconds, env, "KV CACHE")
        new = demo.log_path.read_bytes()[before:]
        words = {"lines": b"\n", "decode samples": b" decoding ", "prefill chunks": b" chunk "}
        words["requests ended"] = b" finish="
        print("    " + ", ".join(f"{new.count(word)} {name}" for name, word in words.items()))
    left = left_behind(demo.workdir)
    for each in left:
        print(f"    left behind: {each}")
    return left


def main() -> int:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    print(f"{'':28}" + "".join(f"{column:>22}" for column in COLUMNS))
    with compiled() as env:
        left = busy(seconds, env)
        idle = [sys.executable, "-m", "ds4top", "--log", str(LOG)]
        row("ds4top, idle", idle, seconds, env, "KV CACHE")
        row("htop -d 10", ["htop", "-d", "10"], seconds, env)
        row("btop", ["btop"], seconds, env)
        row("glances -t 1", ["glances", "-t", "1", "--disable-check-update"], seconds, env)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
