"""What the stand-in does now, in a small file that the demo's simulated machine reads.

The server writes its record over the last one with one pwrite when its phase changes, never more
often than work goes on in steps; whoever reads needs no log and wakes nobody. ``STATE_ENV`` in the
server's environment names the file; without it nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

STATE_ENV = "DS4TOP_STANDIN_STATE"
PHASES = ("loading", "idle", "prefill", "decode", "draining", "stopped")
_SIZE = 192
_FIELDS = 12
_GONE = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class Doing:
    """One moment of the stand-in. The defaults are those of no server.

    ``loaded``: share of the weights that are in place; ``prompt_tokens`` (those to prefill)
    and ``done_share`` of the prefill that goes on; ``agent``: a build that takes memory for
    checkpoints while it prefills.
    """

    pid: int | None = None
    phase: str = "stopped"
    copied: bool = True
    loaded: float = 1.0
    prompt_tokens: int = 0
    done_share: float = 0.0
    model_bytes: int | None = None
    context_bytes: int | None = None
    agent: bool = True


def _start_ticks(pid: int, proc: Path) -> int | None:
    """When a process began, in ticks since the boot; ``None`` where it is gone or a zombie."""
    try:
        words = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return None if chr(words[0][0]) in _GONE else int(words[19])
    except (OSError, IndexError, ValueError):
        return None


class StateWriter:
    """The server's side. Several sessions may work at a time; a prefill comes before a decode."""

    def __init__(self, environ: Mapping[str, str], *, agent: bool) -> None:
        """Opens nothing yet: a second instance that is refused must not write."""
        self._path = environ.get(STATE_ENV)
        self._fd: int | None = None
        self._lock = threading.RLock()
        self._count = 0
        self._ticks = 0
        self._doing = Doing(agent=agent)
        self._working: dict[int, tuple[str, int, float]] = {}
        self._draining = False

    def loading(self, share: float, *, copied: bool, model_bytes: int) -> None:
        """So much of the model is in place."""
        self._put(phase="loading", loaded=share, copied=copied, model_bytes=model_bytes)

    def context(self, size_bytes: int) -> None:
        """The context buffers are there: the load is over."""
        self._put(phase="idle", loaded=1.0, context_bytes=size_bytes)

    def works(self, slot: int, phase: str, prompt_tokens: int = 0, done_share: float = 0.0) -> None:
        """A session prefills or decodes."""
        with self._lock:
            self._working[slot] = (phase, prompt_tokens, done_share)
            self._tell()

    def rests(self, slot: int) -> None:
        """A session has nothing to do."""
        with self._lock:
            if self._working.pop(slot, None) is not None:
                self._tell()

    def drains(self) -> None:
        """It was told to stop."""
        with self._lock:
            self._draining = True
            self._tell()

    def _tell(self) -> None:
        phase, tokens, share = max(
            self._working.values(),
            key=lambda one: (one[0] == "prefill", one[1]),
            default=("idle", 0, 0.0),
        )
        if self._draining and phase != "prefill":
            phase = "draining"
        self._put(phase=phase, prompt_tokens=tokens, done_share=share)

    def _put(self, **changed: object) -> None:
        if self._path is None:
            return
        with self._lock, contextlib.suppress(OSError):
            if self._fd is None:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._ticks = _start_ticks(os.getpid(), Path("/proc")) or 0
                self._doing = replace(self._doing, pid=os.getpid())
            new = replace(self._doing, **changed)  # type: ignore[arg-type]
            if new != self._doing or self._count == 0:
                self._doing = new
                self._count += 1
                os.pwrite(self._fd, _record(self._count, self._ticks, new), 0)


def _record(count: int, ticks: int, doing: Doing) -> bytes:
    """The count stands at both ends, so that half a record is known as such."""
    words = (
        count, doing.pid, ticks, doing.phase, int(doing.copied), f"{doing.loaded:.5f}",
        doing.prompt_tokens, f"{doing.done_share:.5f}", doing.model_bytes or 0,
        doing.context_bytes or 0, int(doing.agent), count,
    )  # fmt: skip
    return " ".join(map(str, words)).ljust(_SIZE - 1).encode("ascii") + b"\n"


class StateReader:
    """The machine's side: call it. A server that has ended, however it did, is ``Doing()``."""

    def __init__(self, path: str | os.PathLike[str], proc: Path = Path("/proc")) -> None:
        """The file need not be there yet."""
        self._path = path
        self._proc = proc
        self._fd: int | None = None
        self._last: tuple[int, Doing] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Doing:
        """What the stand-in does now."""
        with self._lock:
            found = self._read()
            if found is not None:
                self._last = found
            if self._last is None:
                return Doing()
            ticks, doing = self._last
        alive = doing.pid is not None and _start_ticks(doing.pid, self._proc) == ticks
        return doing if alive else Doing()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _read(self) -> tuple[int, Doing] | None:
        """The record; ``None`` where there is none, or half of one."""
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            words = os.pread(self._fd, _SIZE, 0).decode("ascii", "replace").split()
            if len(words) != _FIELDS or words[0] != words[-1] or words[3] not in PHASES:
                return None
            return int(words[2]), Doing(
                pid=int(words[1]),
                phase=words[3],
                copied=words[4] == "1",
                loaded=float(words[5]),
                prompt_tokens=int(words[6]),
                done_share=float(words[7]),
                model_bytes=int(words[8]) or None,
                context_bytes=int(words[9]) or None,
                agent=words[10] == "1",
            )
        except (OSError, ValueError):
            return None
