"""`python -m ds4top.standin.drive`: the driver as a process of its own."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import threading
from pathlib import Path

from ds4top.standin import proc
from ds4top.standin.client import CallRecord
from ds4top.standin.driver import run


def main() -> None:
    """Read the arguments and drive until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="drive")
    parser.add_argument("--url", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--record", type=Path, help="JSON Lines of what the client saw")
    parser.add_argument("--die-with-parent", action="store_true")
    parser.add_argument("--leash", help="end when nobody holds this file locked")
    given = parser.parse_args()
    if given.die_with_parent:
        proc.die_with_parent()
    if given.leash is not None:
        proc.watch_leash(given.leash)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    out = None
    if given.record is not None:
        out = os.open(given.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def record(call: CallRecord) -> None:
        if out is not None:
            os.write(out, (json.dumps(dataclasses.asdict(call)) + "\n").encode())

    run(given.url, seed=given.seed, speed=given.speed, stop=stop, record=record)


if __name__ == "__main__":
    main()
