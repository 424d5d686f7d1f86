"""Told to fail: what, after how many requests, by option, control file or private request."""

from __future__ import annotations

import os
import signal
import threading
import time

KINDS = ("cuda", "oom", "hang", "slow", "disk-full", "clear")
SLOW_FACTOR = 3.0
SLOW_LASTS_S = 60.0
CUDA_LINE = "CUDA end commands failed: an illegal memory access was encountered"


class CudaError(Exception):
    """The GPU context is lost: this call and every later one fails."""


class FaultSpecError(ValueError):
    """No such failure."""


class Faults:
    """Failures armed and failures in force; safe from every thread."""

    def __init__(self, speed: float) -> None:
        """`speed` scales how long a slow phase lasts."""
        self._speed = speed
        self._lock = threading.Lock()
        self._armed: list[tuple[int, str]] = []
        self._started = 0
        self._poisoned = False
        self._disk_full = False
        self._hang = False
        self._slow_until = 0.0
        self._control_seen: tuple[int, int] | None = None

    def arm(self, spec: str) -> None:
        """KIND or KIND@N: at once, or with the request after the next N. Raises FaultSpecError."""
        kind, _, count = spec.strip().partition("@")
        if kind not in KINDS or (count and not count.isdigit()):
            raise FaultSpecError(spec)
        with self._lock:
            if count and int(count) > 0:
                self._armed.append((self._started + int(count), kind))
                return
        self._trip(kind)

    def request_started(self) -> None:
        """A worker took a request; armed failures whose turn has come come into force."""
        with self._lock:
            due = [kind for at, kind in self._armed if at <= self._started]
            self._armed = [(at, kind) for at, kind in self._armed if at > self._started]
            self._started += 1
        for kind in due:
            self._trip(kind)

    def read_control(self, path: str) -> None:
        """Obey a control file when it has changed: one failure a line; no file, nothing to do."""
        try:
            status = os.stat(path)
            seen = (status.st_mtime_ns, status.st_size)
            if seen == self._control_seen:
                return
            with open(path, encoding="utf-8", errors="replace") as file:
                specs = file.read().split()
        except OSError:
            return
        self._control_seen = seen
        for spec in specs:
            try:
                self.arm(spec)
            except FaultSpecError:
                continue

    def step(self) -> float:
        """Called by a worker before each piece of work: the factor on its time.

        Raises CudaError when the context is lost; does not return when told to hang.
        """
        while self._hang:
            time.sleep(60.0)  # the fault itself: a worker that never comes back
        if self._poisoned:
            raise CudaError
        return SLOW_FACTOR if time.monotonic() < self._slow_until else 1.0

    @property
    def disk_full(self) -> bool:
        """Whether storing a checkpoint fails for want of space."""
        return self._disk_full

    def _trip(self, kind: str) -> None:
        if kind == "oom":
            os.kill(os.getpid(), signal.SIGKILL)
        self._poisoned = kind == "cuda" or (self._poisoned and kind != "clear")
        self._disk_full = kind == "disk-full" or (self._disk_full and kind != "clear")
        self._hang = kind == "hang" or (self._hang and kind != "clear")
        if kind == "slow":
            self._slow_until = time.monotonic() + SLOW_LASTS_S / self._speed
        elif kind == "clear":
            self._slow_until = 0.0
