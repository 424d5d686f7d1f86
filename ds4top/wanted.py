"""What the user said of the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said of the server; ``None`` is found out."""

    pid: int | None = None
    exe: str | None = None
    url: str | None = None
    log: str | None = None
    kv_dir: str | None = None
    demo: str = ""
    warning_bytes: int | None = None
    critical_bytes: int | None = None
