"""How weights are held and who owns a server, in the words of every view."""

from __future__ import annotations

from collections.abc import Mapping

from ds4top.core.plan import Mode, Supervisor

MODES: Mapping[str, str] = {Mode.MMAP: "mmap", Mode.COPY: "no-mmap (copy)"}
_SUPERVISORS: Mapping[str, str] = {
    "systemd-system": "systemd unit",
    "systemd-user": "systemd unit of the user",
    "transient": "transient systemd unit",
    "docker": "docker container",
    "podman": "podman container",
    "tmux": "tmux pane",
    "own": "commands",
    "none": "plain process",
}


def owner_words(supervisor: Supervisor) -> str:
    """Who starts and stops it."""
    return f"{_SUPERVISORS[supervisor.kind]} {supervisor.name}".strip()
