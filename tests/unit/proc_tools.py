"""A /proc made by hand: a folder with the files that ds4top reads of a process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path


class MadeProc:
    """Processes are added, changed and taken away; ``root`` is given to a ``ProcFs``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        boot = root / "sys" / "kernel" / "random"
        boot.mkdir(parents=True)
        (boot / "boot_id").write_text("boot\n")
        (root / "stat").write_text("cpu 1 2\nbtime 1000\n")
        for kind in ("pid", "net", "mnt"):
            self.namespace("self", kind, f"{kind}:[4026531836]")

    def add(
        self,
        pid: int,
        comm: str,
        argv: Sequence[str] | None = None,
        *,
        ppid: int = 1,
        start: int = 100,
        state: str = "S",
        flags: int = 0,
        env: Mapping[str, str] | None = None,
        cgroup: str = "0::/",
        exe: str | None = None,
        status: str = "Uid:\t1000\t1000\t1000\t1000\nNSpid:\t1\n",
        fds: Mapping[int, str] | None = None,
    ) -> Path:
        """Its folder. A second call replaces what was there."""
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True, exist_ok=True)
        (folder / "fdinfo").mkdir(exist_ok=True)
        (folder / "net").mkdir(exist_ok=True)
        words = argv if argv is not None else [comm]
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
        pairs = (env or {}).items()
        (folder / "environ").write_bytes(b"".join(f"{k}={v}\0".encode() for k, v in pairs))
        (folder / "cgroup").write_text(cgroup + "\n")
        (folder / "oom_score_adj").write_text("0\n")
        (folder / "io").write_text("read_bytes: 4096\n")
        (folder / "status").write_text(status)
        self.name(pid, comm, ppid=ppid, start=start, state=state, flags=flags)
        for kind in ("pid", "net", "mnt"):
            self.namespace(str(pid), kind, f"{kind}:[4026531836]")
        self.link(folder / "cwd", "/srv")
        self.link(folder / "exe", exe or f"/usr/bin/{comm}")
        for fd, target in (fds or {2: "/dev/null"}).items():
            self.open(pid, fd, target)
        return folder

    def name(
        self,
        pid: int,
        comm: str,
        *,
        ppid: int = 1,
        start: int = 100,
        state: str = "S",
        flags: int = 0,
    ) -> None:
        """Its name and its identity."""
        folder = self.root / str(pid)
        (folder / "comm").write_text(comm + "\n")
        rest = f"{ppid} 1 1 0 0 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0"
        (folder / "stat").write_text(f"{pid} ({comm}) {state} {rest}\n")

    def open(self, pid: int, fd: int, target: str, *, writes: bool = False) -> None:
        """One of its descriptors."""
        folder = self.root / str(pid)
        self.link(folder / "fd" / str(fd), target)
        flags = os.O_WRONLY if writes else os.O_RDONLY
        (folder / "fdinfo" / str(fd)).write_text(f"pos:\t0\nflags:\t0{flags:o}\n")

    def namespace(self, pid: str, kind: str, name: str) -> None:
        """One of its namespaces."""
        folder = self.root / pid / "ns"
        folder.mkdir(parents=True, exist_ok=True)
        self.link(folder / kind, name)

    def remove(self, pid: int) -> None:
        """It has ended."""
        (self.root / str(pid)).rename(self.root / f"gone-{pid}-{os.urandom(4).hex()}")

    @staticmethod
    def link(path: Path, target: str) -> None:
        """A link that may be there already."""
        path.unlink(missing_ok=True)
        path.symlink_to(target)
