"""`python -m ds4top.standin.keeper`: owns the demo's processes and files, and removes them all.

It reads a pipe whose other end only the demo holds: when that closes, however the demo ended, the
driver and every server of the demo are killed and the folder is removed. Servers that others
started in the folder end too, because the keeper holds the leash that their options name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_SERVER_GONE_S = 5
_REMOVE_TRIES = 20


@dataclass(frozen=True)
class Charge:
    """What the keeper is to keep. Durations are real seconds."""

    workdir: str
    remove: bool
    leash: str
    lock: str
    log: str
    server: Sequence[str]
    server_env: Mapping[str, str]
    driver: Sequence[str]
    restart_after_s: float | None

    def dumps(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


class Keeper:
    """One demo's processes."""

    def __init__(self, charge: Charge) -> None:
        """Takes the leash; nothing is started yet."""
        self._charge = charge
        self._leash = os.open(charge.leash, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._leash, fcntl.LOCK_EX)
        self._server: subprocess.Popen[bytes] | None = None
        self._driver: subprocess.Popen[bytes] | None = None
        self._restart_at: float | None = None
        self._again = False

    def run(self) -> None:
        """Start, watch, restart once, and clean up when the pipe on stdin closes."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        try:
            self._start_server()
            if self._charge.driver:
                self._driver = subprocess.Popen(
                    self._charge.driver,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=dict(self._charge.server_env),
                    cwd=self._charge.workdir,
                )
            if self._charge.restart_after_s is not None:
                self._restart_at = time.monotonic() + self._charge.restart_after_s
            self._watch(woken)
        finally:
            self._clean_up()

    def _watch(self, woken: int) -> None:
        while True:
            left = None
            if self._restart_at is not None:
                left = max(0.0, self._restart_at - time.monotonic())
            ready, _, _ = select.select([0, woken], [], [], left)
            if woken in ready:
                os.read(woken, 512)
            if 0 in ready and not self._obey(os.read(0, 512)):
                return
            if self._restart_at is not None and time.monotonic() >= self._restart_at:
                self._restart_at = None
                self._restart()
            for child in (self._server, self._driver):
                if child is not None:
                    child.poll()
            if self._again and self._server is not None and self._server.returncode is not None:
                self._again = False
                self._start_server()

    def _obey(self, words: bytes) -> bool:
        if b"restart" in words:
            self._restart()
        return bool(words)

    def _restart(self) -> None:
        """One SIGTERM to a server that is still ours; the new one follows when it has gone."""
        if self._server is not None and self._server.poll() is None and not self._again:
            self._server.send_signal(signal.SIGTERM)
            self._again = True

    def _start_server(self) -> None:
        with open(self._charge.log, "ab") as log:
            self._server = subprocess.Popen(
                self._charge.server,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=dict(self._charge.server_env),
                cwd=self._charge.workdir,
            )

    def _clean_up(self) -> None:
        for child in (self._driver, self._server):
            if child is not None and child.poll() is None:
                child.kill()
                child.wait()
        os.close(self._leash)
        self._wait_for_strangers()
        if not self._charge.remove:
            return
        for _ in range(_REMOVE_TRIES):
            shutil.rmtree(self._charge.workdir, ignore_errors=True)
            if not os.path.exists(self._charge.workdir):
                return
            time.sleep(0.05)  # somebody was still writing into it, and tells nobody when done

    def _wait_for_strangers(self) -> None:
        """Until no server holds the lock file: the leash ends those that others have started."""
        try:
            fd = os.open(self._charge.lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return

        def give_up(number: int, frame: object) -> None:
            raise TimeoutError

        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(_SERVER_GONE_S)
        with contextlib.suppress(OSError, TimeoutError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        signal.alarm(0)
        os.close(fd)


def main() -> None:
    """Read the charge from the argument file and keep it."""
    path = Path(sys.argv[1])
    Keeper(Charge(**json.loads(path.read_text(encoding="utf-8")))).run()


if __name__ == "__main__":
    main()
