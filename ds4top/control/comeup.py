"""Whether a start came up: its own answer on its port, or the reason why it never will.

The log since the start is read with the one parser; a start that nobody can explain ends with its
exit status.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from ds4top.control.executor import Started
from ds4top.core.derive import ServerState, reason_of, status_of
from ds4top.core.logread import LogReader
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.sources.base import SourceFault
from ds4top.sources.plainget import PlainGetter

_MOST_BYTES = 4 << 20
_ANSWER_S = 1.5
_DAY_S = 86_400.0


def answers(url: str, timeout_s: float = _ANSWER_S) -> bool:
    """Whether ``GET /v1/models`` is answered with 200. No proxy is asked."""
    try:
        return PlainGetter(url, total_s=timeout_s).get("/v1/models").status == 200
    except (SourceFault, ValueError):
        return False


def told(log_path: Path, offset: int, wall: float) -> LogState:
    """What the log tells from ``offset`` on; of a file that became shorter, all of it."""
    state = LogState()
    try:
        with log_path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = offset if size >= offset else 0
            file.seek(max(start, size - _MOST_BYTES))
            data = file.read(_MOST_BYTES)
    except OSError:
        return state
    reader = LogReader(StampClock(wall + _DAY_S))
    reducer = Reducer(state)
    reducer.apply(reader.feed(data))
    reducer.apply(reader.close())
    return state


def exit_words(status: int) -> str:
    """An exit status in words, as a shell counts it."""
    if status < 0:
        name = signal.Signals(-status).name if -status in list(signal.Signals) else str(-status)
        killed = " (the OOM killer sends this one)" if status == -signal.SIGKILL else ""
        return f"killed by {name}{killed}"
    return f"exit status {status}"


def why_failed(state: LogState, now: float, status: int | None) -> str:
    """The reason of a start that failed, from its log and its exit status."""
    said = ""
    if state.refused_starts:
        said = "another ds4 process is already running: the lock is held"
    elif state.life is not None and state.life.fatal is not None:
        said = reason_of(state.life.fatal)
    elif (found := status_of(state, now)).state in (ServerState.FAILED, ServerState.POISONED):
        said = found.why
    ended = exit_words(status) if status is not None else ""
    return ": ".join(part for part in (said, ended) if part) or "it ended and said nothing"


def watcher(
    url: str,
    log_path: Path,
    wall: Callable[[], float],
    *,
    failed: Callable[[], str | None] = lambda: None,
    find_pid: Callable[[], int | None] = lambda: None,
) -> Callable[[subprocess.Popen[bytes] | None, int], Started]:
    """How an executor asks. ``failed`` is the supervisor's own word that the start failed.

    Where somebody else's server answers instead (ours was refused by the lock), that is a success,
    and it is theirs: ``find_pid`` names it.
    """

    def started(child: subprocess.Popen[bytes] | None, offset: int) -> Started:
        status = child.poll() if child is not None else None
        if status is not None:
            state = told(log_path, offset, wall())
            if state.refused_starts and answers(url):
                return Started(True, pid=find_pid())
            return Started(failure=why_failed(state, wall(), status))
        if answers(url):
            return Started(True, pid=child.pid if child is not None else find_pid())
        if child is None and (word := failed()) is not None:
            state = told(log_path, offset, wall())
            reason = why_failed(state, wall(), None)
            silent = reason == "it ended and said nothing"
            return Started(failure=word if silent else f"{reason}: {word}")
        return Started()

    return started
