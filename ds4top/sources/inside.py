"""Whether ds4top itself runs in a container, whose processes are then all that it sees.

docker makes ``/.dockerenv``; podman ``/run/.containerenv`` (podman-run(1)); systemd-nspawn and
others tell ``container=`` to the first process (systemd.io/CONTAINER_INTERFACE).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_MARKS = (("docker", ".dockerenv"), ("podman", "run/.containerenv"))


def container(environment: Mapping[str, str], root: Path = Path("/")) -> str:
    """The kind of container, empty outside of one."""
    for kind, mark in _MARKS:
        if (root / mark).exists():
            return kind
    return environment.get("container", "")
