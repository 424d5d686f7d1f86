"""One process being looked at: its files under /proc, what may not be read, and its namespaces.

Sources: proc(5), namespaces(7), pid_namespaces(7).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ds4top.core.proctext import parse_addresses, parse_status

T = TypeVar("T")

_FIRST_NAMESPACE = "pid:[4026531836]"
"""``PROC_PID_INIT_INO`` of the kernel's proc_ns.h: the pid namespace of the machine itself."""
_SHOW = {
    "environ": "sudo cat /proc/{pid}/environ",
    "cwd": "sudo readlink /proc/{pid}/cwd",
    "exe": "sudo readlink /proc/{pid}/exe",
    "fd": "sudo ss -ltnp",
    "fd/2": "sudo readlink /proc/{pid}/fd/2",
}


@dataclass(slots=True)
class Look:
    """A process being looked at: fields that may not be read are noted, with why."""

    root: Path
    pid: int
    denied: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """/proc/PID."""
        return self.root / str(self.pid)

    def get(self, name: str, read: Callable[[], T]) -> T | None:
        """A field, or ``None`` with its reason noted."""
        try:
            return read()
        except PermissionError:
            command = _SHOW.get(name, f"sudo cat /proc/{{pid}}/{name}").format(pid=self.pid)
            self.denied[name] = f"not ours to read; {command} shows it"
        except (OSError, ValueError) as error:
            self.denied[name] = str(error)
        return None

    def text(self, name: str) -> str:
        """A whole file; bytes that are no UTF-8 are kept as surrogates."""
        return os.fsdecode(read_bytes(self.folder / name))

    def link(self, name: str) -> str:
        """Where a link points."""
        return os.readlink(self.folder / name)

    def path(self, name: str, path: str | None) -> str | None:
        """A path that can be shown and opened; one whose name is no UTF-8 is noted as unknown."""
        if path is not None and shown(path) != path:
            self.denied[name] = f"its name is not UTF-8: {shown(path)}"
            return None
        return path


def read_bytes(path: Path) -> bytes:
    """A whole file of /proc; these give no size. Raises ``OSError``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65_536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def shown(text: str) -> str:
    """Text as it may be shown and kept: what was no UTF-8 is replaced."""
    return text if text.isascii() else os.fsencode(text).decode("utf-8", "replace")


def blind(root: Path) -> str:
    """Why processes may run that are not seen, and what to do; empty where all are seen."""
    with contextlib.suppress(OSError):
        mounts = (root / "self" / "mounts").read_text(errors="replace")
        options = next(
            (x[3] for x in map(str.split, mounts.splitlines()) if x[1:3] == ["/proc", "proc"]), ""
        )
        if re.search(r"hidepid=(?!0|off)\w+", options) and os.geteuid() != 0:
            return "/proc is mounted with hidepid: only own processes are seen; run it with sudo"
    with contextlib.suppress(OSError):
        if os.readlink(root / "self" / "ns" / "pid") != _FIRST_NAMESPACE:
            return (
                "this is a container: only its own processes are seen; run ds4top on the host,"
                " or with docker run --pid host"
            )
    return ""


def own_namespace(look: Look, kind: str) -> bool | None:
    """Whether it has a namespace of its own; ``None`` where that may not be read."""
    try:
        return look.link(f"ns/{kind}") != os.readlink(look.root / "self" / "ns" / kind)
    except OSError:
        return None


def foreign(look: Look, status: Mapping[str, str]) -> bool:
    """Whether it is in another pid namespace than ds4top (``NSpid`` of proc_pid_status(5))."""
    depth = len(status.get("NSpid", "").split())
    if depth <= 1:
        return False
    other = own_namespace(look, "pid")
    if other is not None:
        return other
    with contextlib.suppress(OSError):
        ours = parse_status((look.root / "self" / "status").read_text(errors="replace"))
        return depth > len(ours.get("NSpid", "").split())
    return True


def file_system(look: Look) -> str:
    """What stands before its paths where its root is not ours; empty where it is.

    A unit with a /tmp of its own shares the root, and all but that.
    """
    if not own_namespace(look, "mnt"):
        return ""
    top = look.folder / "root"
    try:
        return "" if os.path.samefile(top, "/") else str(top)
    except OSError:
        return ""


def address(look: Look) -> str | None:
    """The first address of its own network namespace."""
    with contextlib.suppress(OSError):
        found = parse_addresses(look.text("net/fib_trie"))
        return found[0] if found else None
    return None
