"""``python -m tests.bench.start``: time to the first word and to the first painted frame."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ds4top.standin.demo import free_port
from tests.bench.compiled import compiled

ROOT = Path(__file__).resolve().parent.parent.parent
COST = Path(__file__).with_name("tui_cost.py")
LOG = ROOT / "ds4top" / "data" / "example.log"
RUNS = 7

_ARGPARSE = "import argparse; argparse.ArgumentParser().parse_args([])"
_TEXTUAL = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("\\n".join(f"line {n}" for n in range(20)))
Bare().run()
"""


def seconds(command: list[str], env: dict[str, str], *, any_exit: bool = False) -> float:
    """Median wall time of a command; ``any_exit``: its exit code is an answer."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        subprocess.run(command, check=not any_exit, capture_output=True, env=env)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def first_frame(command: list[str], ready: str, env: dict[str, str]) -> object:
    """Seconds to the first painted frame, as tmux sees it."""
    found = subprocess.run(
        [sys.executable, str(COST), "--seconds", "1", "--settle", "0.2", "--repeat", "5",
         "--ready", ready, *command], capture_output=True, text=True, check=False, env=env,
    )  # fmt: skip
    result = json.loads(found.stdout or "{}")
    return result.get("first_frame_s", f"not run: {result.get('error', found.stderr)}")


def one_look(env: dict[str, str]) -> None:
    """``ds4top status`` beside a running stand-in, and what its libraries alone take."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as place:
        log, model = Path(place) / "server.log", Path(place) / "model.gguf"
        model.write_bytes(b"GGUF".ljust(64, b"\0"))
        argv = [python, "-m", "ds4top.standin", "--standin-speed", "300", "-m", str(model)]
        argv += ["--port", str(free_port()), "--kv-disk-dir", "kv"]
        own = env | {"DS4_LOCK_FILE": str(Path(place) / "lock")}
        with log.open("wb") as file:
            server = subprocess.Popen(argv, stdout=file, stderr=file, env=own, cwd=place)
        try:
            while b"listening on" not in log.read_bytes():
                time.sleep(0.02)
            look = [python, "-m", "ds4top", "status", "--pid", str(server.pid)]
            for name, command in {
                "python -c 'import pynvml'": [python, "-c", "import pynvml"],
                "import ds4top.reach.status": [python, "-c", "import ds4top.reach.status"],
                "ds4top status --line": [*look, "--line"],
                "ds4top status --json": [*look, "--json"],
            }.items():
                print(f"{name:34}{seconds(command, env, any_exit=True) * 1000:8.0f}")
        finally:
            server.kill()
            server.wait()


def main() -> None:
    """Print the table."""
    python = sys.executable
    with compiled() as env:
        print(f"{'median of ' + str(RUNS):34}{'ms':>8}")
        for name, command in {
            "python -c pass": [python, "-c", "pass"],
            "a bare argparse program": [python, "-c", _ARGPARSE],
            "ds4top --version": [python, "-m", "ds4top", "--version"],
        }.items():
            print(f"{name:34}{seconds(command, env) * 1000:8.0f}")
        one_look(env)
        print("first painted frame, s (median of 5)")
        with tempfile.TemporaryDirectory() as place:
            bare = Path(place) / "bare.py"
            bare.write_text(_TEXTUAL, encoding="utf-8")
            found = first_frame([python, str(bare)], "line 19", env)
            print(f"{'a bare Textual app':34}{found!s:>8}")
            live = [python, "-m", "ds4top", "--log", str(LOG)]
            print(f"{'ds4top --log':34}{first_frame(live, 'KV CACHE', env)!s:>8}")


if __name__ == "__main__":
    main()
