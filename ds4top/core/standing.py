"""The server's state by everything that is known: the log, and whether its process is there.

A process that was killed says no goodbye, and its log goes on to look idle: the missing process
wins.
"""

from __future__ import annotations

from datetime import datetime

from ds4top.core.derive import ServerState, Status, status_of
from ds4top.core.model import Model

_OVER = frozenset({ServerState.STOPPED, ServerState.FAILED, ServerState.POISONED})


def standing(model: Model) -> Status:
    """State, since when, and why, at the model's time."""
    status = status_of(model.log, model.now)
    machine = model.machine
    if machine.gone is None or machine.server is not None or machine.gone_wall is None:
        return status
    if status.state in _OVER:
        return status
    at = datetime.fromtimestamp(machine.gone_wall, model.tz).strftime("%H:%M:%S")
    life = model.log.life
    told = life is not None and life.shutdown
    words = "ended" if told else "killed, or died without a word"
    kill = next(
        (kill for kill in reversed(machine.kernel.kills) if kill.pid == machine.gone.pid), None
    )
    if kill is not None:
        words = f"OOM-killed by {kill.by}"
    why = f"pid {machine.gone.pid} {words} at {at}"
    return Status(
        ServerState.STOPPED, machine.gone_wall, max(model.now - machine.gone_wall, 0.0), why=why
    )
