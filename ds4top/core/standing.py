"""The server's state by everything that is known: the log, and whether its process is there.

A process that was killed says no goodbye, and its log goes on to look idle: the missing process
wins.
"""

from __future__ import annotations

from datetime import datetime

from ds4top.core.derive import ServerState, Status, status_of
from ds4top.core.model import Model

_OVER = frozenset({ServerState.STOPPED, ServerState.FAILED, ServerState.POISONED})
_BEFORE_S, _BEHIND_S = 60.0, 5.0
"""A log whose last line lies so near an end is that life's; its stamps are whole seconds."""


def standing(model: Model) -> Status:
    """State, since when, and why, at the model's time."""
    status = status_of(model.log, model.now)
    machine = model.machine
    if (end := _told_end(model)) is not None and status.state not in _OVER:
        return end
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


def _told_end(model: Model) -> Status | None:
    """The end that the black box tells of, where nobody was there to see it."""
    machine, last_at = model.machine, model.log.last_at
    end = machine.autopsy
    if end is None or last_at is None or machine.server is not None or machine.gone is not None:
        return None
    if not -_BEFORE_S <= last_at - end.when_wall <= _BEHIND_S:
        return None
    return Status(
        ServerState.STOPPED,
        end.when_wall,
        max(model.now - end.when_wall, 0.0),
        why=end.lines[0],
    )
