"""What the user said of the server, and where it can be acted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said of the server; ``None`` is found out.

    ``asks``: its build and its supervisor are asked what they know; the answers of builds are kept
    under ``helps``, ``None`` for as long as it runs.
    """

    pid: int | None = None
    exe: str | None = None
    url: str | None = None
    log: str | None = None
    kv_dir: str | None = None
    demo: str = ""
    warning_bytes: int | None = None
    critical_bytes: int | None = None
    helps: Path | None = None
    asks: bool = True


@dataclass(frozen=True, slots=True)
class ActingPlace:
    """Where acting keeps its state, and on which servers. ``memory`` stands in for the machine's:
    bytes available, and whether a pid still holds memory of the GPU.

    ``plain``: its servers are nobody's, neither a supervisor's nor of the user's own commands.
    """

    state: Path
    demo: str = ""
    memory: Callable[[int], tuple[int | None, bool | None]] | None = None
    plain: bool = False
