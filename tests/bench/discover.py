"""``python -m tests.bench.discover [ROUNDS]``: how soon a server is seen that comes or goes.

The server is a program that sleeps, under the exact name; nothing else of its name may run. The
source is read by its own thread, at its own pace, as in the dashboard.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from ds4top.sources.find import Finder, ServerGone, ServersSeen
from ds4top.sources.mailbox import Mailbox
from ds4top.sources.procfs import ProcFs
from ds4top.sources.supervisor import Supervisor

ROUNDS = 10
LONG_ABSENT_S = 25.0
"""After a while without one a server is looked for less often."""
DEADLINE_S = 30.0


def started(exe: Path, seconds: str = "600") -> subprocess.Popen[bytes]:
    """A process of the name; another ``seconds`` is another command line."""
    return subprocess.Popen([str(exe), seconds], stdin=subprocess.DEVNULL)


def seen(mailbox: Mailbox, wanted: Callable[[object], bool], since: float) -> float:
    """Seconds until a sample comes that is the wanted one. Raises ``TimeoutError``."""
    while time.monotonic() - since < DEADLINE_S:
        if any(wanted(sample) for sample in mailbox.drain()):
            return time.monotonic() - since
        time.sleep(0.002)
    raise TimeoutError("not seen")


def watched(pid: int) -> Callable[[object], bool]:
    """Whether a sample says that this process is the server that is watched."""
    return lambda sample: (
        isinstance(sample, ServersSeen)
        and sample.chosen is not None
        and sample.chosen.target.pid == pid
    )


def one_round(exe: Path, mailbox: Mailbox, took: dict[str, list[float]]) -> None:
    """It comes, is replaced at once by another command line, and goes."""
    begin = time.monotonic()
    first = started(exe)
    took["started"].append(seen(mailbox, watched(first.pid), begin))
    begin = time.monotonic()
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = started(exe, "601")
    took["killed, another started at once"].append(seen(mailbox, watched(second.pid), begin))
    begin = time.monotonic()
    second.send_signal(signal.SIGKILL)
    gone = seen(mailbox, lambda sample: isinstance(sample, ServerGone), begin)
    took["gone"].append(gone)
    second.wait()


def main() -> None:
    """Print seconds by what happens."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    names = ("started", "killed, another started at once", "gone", "started after a long absence")
    took: dict[str, list[float]] = {name: [] for name in names}
    mailbox = Mailbox()
    supervisor = Supervisor(mailbox)
    with tempfile.TemporaryDirectory() as place:
        exe = Path(place) / "ds4-server"
        shutil.copy(os.path.realpath(shutil.which("sleep") or "/bin/sleep"), exe)
        supervisor.add(Finder(ProcFs()))
        supervisor.start()
        try:
            for _ in range(rounds):
                one_round(exe, mailbox, took)
            time.sleep(LONG_ABSENT_S)
            begin = time.monotonic()
            last = started(exe)
            took[names[3]].append(seen(mailbox, watched(last.pid), begin))
            last.kill()
            last.wait()
        finally:
            supervisor.stop()
    print(f"{'':34}{'median s':>9}{'most s':>9}{'rounds':>8}")
    for name, values in took.items():
        print(f"{name:34}{median(values):>9.3f}{max(values):>9.3f}{len(values):>8}")


if __name__ == "__main__":
    main()
