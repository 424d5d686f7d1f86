"""How many settings hurt, for the line that every view has: judged now and then, not each paint."""

from __future__ import annotations

from ds4top.core.model import Model
from ds4top.core.target import Target

_EVERY_S = 10.0
_HURTS = ("bad", "warning")


class VerdictBook:
    """Judges the launch of the watched server again when it is another, else every ten seconds."""

    def __init__(self) -> None:
        self._target: Target | None = None
        self._at = float("-inf")
        self._hurting = 0

    def hurting(self, model: Model) -> int:
        """Findings that are warnings or worse; 0 without a server."""
        server = model.machine.server
        target = server.target if server is not None else None
        if target != self._target or not 0 <= model.now - self._at < _EVERY_S:
            self._target, self._at = target, model.now
            self._hurting = self._judge(model) if target is not None else 0
        return self._hurting

    def _judge(self, model: Model) -> int:
        # The rules are loaded once there is something to judge.
        from ds4top.view.launch import judged

        return sum(1 for finding in judged(model)[1] if finding.severity in _HURTS)
