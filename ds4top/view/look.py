"""How the viewer wants to see it: one value for every view, changed by keys."""

from __future__ import annotations

from dataclasses import dataclass

from ds4top.view.text import UNICODE, Charset

WINDOWS_S: tuple[int, ...] = (60, 300, 900, 3600, 86_400)
"""Windows of the plots, in the order of the key."""


@dataclass(frozen=True, slots=True)
class Look:
    """``window_s`` bounds what plots show; ``history`` steps back from the newest request."""

    charset: Charset = UNICODE
    window_s: int = 86_400
    is_log: bool = True
    ms_per_token: bool = False
    frozen: bool = False
    interval_s: float = 1.0
    history: int = 0

    @property
    def window_name(self) -> str:
        """The window in a word."""
        return (
            f"{self.window_s // 3600} h" if self.window_s >= 3600 else f"{self.window_s // 60} min"
        )
