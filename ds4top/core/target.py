"""Which process is meant, and its environment: what watching and acting have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Env: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values in their order. Holds secrets: never shown, logged or recorded unmasked."""

SupervisorKind = Literal[
    "systemd-system", "systemd-user", "transient", "docker", "podman", "tmux", "own", "none"
]
"""``own``: start and stop commands of the config; ``none``: a plain process of a shell."""


@dataclass(frozen=True, slots=True)
class Target:
    """The process that is meant; the four together are its identity."""

    pid: int
    start_ticks: int
    boot_id: str
    comm: str
