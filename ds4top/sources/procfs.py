"""The one reader of /proc/PID: everything about one process, field by field, as far as allowed."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ds4top.core.logplace import PANE_FORMAT, ErrorLink, panes_of, place_of
from ds4top.core.plan import Target
from ds4top.core.process import (
    COMMS,
    DEMO_MARK,
    LISTEN,
    LogPlace,
    Owner,
    Parent,
    ServerProcess,
    Socket,
    Stat,
    flag_value,
    owner_of,
    parse_environment,
    parse_sockets,
    parse_stat,
    parse_status,
    resolved,
    shown_argv,
    shown_environment,
)

T = TypeVar("T")

_TICKS = os.sysconf("SC_CLK_TCK")
_MOST_PARENTS = 12
_TMUX_S = 2.0
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_DELETED = " (deleted)"
DEFAULT_LOCK = "/tmp/ds4.lock"


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
            self.denied[name] = f"not ours to read; sudo ls -l /proc/{self.pid}/{name} shows it"
        except (OSError, ValueError) as error:
            self.denied[name] = str(error)
        return None

    def text(self, name: str) -> str:
        """A whole file."""
        return os.fsdecode((self.folder / name).read_bytes())

    def link(self, name: str) -> str:
        """Where a link points."""
        return os.readlink(self.folder / name)


class ProcFs:
    """Reads under ``root``. Nothing is kept but the boot id."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self.root = root
        self._boot_id = ""
        self._booted = 0.0

    @property
    def boot_id(self) -> str:
        """Of this boot of the machine."""
        if not self._boot_id:
            path = self.root / "sys" / "kernel" / "random" / "boot_id"
            self._boot_id = path.read_text().strip()
        return self._boot_id

    def booted_wall(self) -> float:
        """Epoch seconds of the boot (``btime`` of /proc/stat)."""
        if not self._booted:
            for line in (self.root / "stat").read_text().splitlines():
                if line.startswith("btime "):
                    self._booted = float(line.split()[1])
        return self._booted

    def pids(self) -> set[int]:
        """All processes that are seen."""
        return {int(name) for name in os.listdir(self.root) if name.isdecimal()}

    def comm(self, pid: int) -> str:
        """Its name; empty where it is gone."""
        try:
            return (self.root / str(pid) / "comm").read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError):
            return ""

    def stat(self, pid: int) -> Stat | None:
        """Its stat line; ``None`` where it is gone."""
        try:
            data = (self.root / str(pid) / "stat").read_bytes()
            return parse_stat(data.decode("utf-8", "replace"))
        except (OSError, ValueError):
            return None

    def target(self, pid: int) -> Target | None:
        """Its identity, if it is alive."""
        stat = self.stat(pid)
        if stat is None or stat.state in "ZX":
            return None
        return Target(pid, stat.start_ticks, self.boot_id, stat.comm)

    def forked_only(self, pid: int) -> bool:
        """Whether it may be a fork that has not become another program yet.

        It has its parent's name, program and command line until its exec.
        """
        stat = self.stat(pid)
        if stat is None:
            return False
        above = self.stat(stat.ppid)
        if above is None or above.comm != stat.comm:
            return False
        try:
            mine, theirs = (
                (self.root / str(each) / "cmdline").read_bytes() for each in (pid, stat.ppid)
            )
        except OSError:
            return False
        return mine == theirs

    def parents(self, pid: int) -> tuple[Parent, ...]:
        """The chain above, the nearest first; pid 1 is not named."""
        chain: list[Parent] = []
        stat = self.stat(pid)
        while stat is not None and stat.ppid > 1 and len(chain) < _MOST_PARENTS:
            parent = stat.ppid
            stat = self.stat(parent)
            if stat is not None:
                chain.append(Parent(parent, stat.comm))
        return tuple(chain)

    def sockets(self, pid: int) -> list[Socket]:
        """All TCP sockets of its network namespace."""
        found: list[Socket] = []
        for name in ("tcp", "tcp6"):
            try:
                text = (self.root / str(pid) / "net" / name).read_text()
            except OSError:
                continue
            found += parse_sockets(text)
        return found

    def own_inodes(self, pid: int) -> set[int]:
        """Inodes of its sockets. Raises ``PermissionError`` for another user's process."""
        folder = self.root / str(pid) / "fd"
        found: set[int] = set()
        for name in os.listdir(folder):
            try:
                target = os.readlink(folder / name)
            except OSError:
                continue
            if (match := _SOCKET.fullmatch(target)) is not None:
                found.add(int(match[1]))
        return found

    def server(self, pid: int) -> ServerProcess | None:
        """Everything that may be read of a server; ``None`` where it is none, or gone."""
        target = self.target(pid)
        if target is None:
            return None
        look = Look(self.root, pid)
        status = parse_status(look.get("status", lambda: look.text("status")) or "")
        uid = int(status.get("Uid", "0").split()[0])
        raw = look.get("cmdline", lambda: look.text("cmdline")) or ""
        argv = tuple(raw.removesuffix("\0").split("\0")) if raw else None
        environ = look.get("environ", lambda: look.text("environ"))
        env = parse_environment(environ) if environ is not None else None
        cwd = look.get("cwd", lambda: look.link("cwd").removesuffix(_DELETED))
        exe = look.get("exe", lambda: look.link("exe"))
        parents = self.parents(pid)
        owner = owner_of(look.get("cgroup", lambda: look.text("cgroup")) or "", parents)
        log = self._log(look, owner)
        if log.pane and owner.kind == "tmux":
            owner = Owner("tmux", log.pane)
        model = resolved(flag_value(argv or (), "-m", "--model"), cwd)
        budget = flag_value(argv or (), "--kv-disk-space-mb")
        kv_dir = resolved(flag_value(argv or (), "--kv-disk-dir"), cwd)
        context = flag_value(argv or (), "-c", "--ctx", "--ctx-size")
        adj = look.get("oom_score_adj", lambda: int(look.text("oom_score_adj")))
        namespaces = status.get("NSpid", "").split()
        known = dict(env or ())
        return ServerProcess(
            target=target,
            started_wall=self.booted_wall() + target.start_ticks / _TICKS,
            flavour=COMMS.get(target.comm, "ds4"),
            uid=uid,
            user=_user(uid),
            argv=shown_argv(argv) if argv is not None else None,
            env=shown_environment(env) if env is not None else None,
            cwd=cwd,
            exe=exe.removesuffix(_DELETED) if exe is not None else None,
            exe_replaced=exe is not None and exe.endswith(_DELETED),
            parents=parents,
            owner=owner,
            listening=self._listening(look),
            log=log,
            kv_dir=kv_dir,
            kv_budget_bytes=(int(budget) << 20) if budget and budget.isdecimal() else None,
            model_path=model,
            model_bytes=_size(model),
            lock_path=known.get("DS4_LOCK_FILE", DEFAULT_LOCK) if env is not None else None,
            context_tokens=int(context) if context and context.isdecimal() else None,
            oom_score_adj=adj,
            foreign_namespace=len(namespaces) > 1 and not _same_namespace(look),
            demo=known.get(DEMO_MARK, ""),
            denied=look.denied,
        )

    def _listening(self, look: Look) -> tuple[tuple[str, int], ...]:
        inodes = look.get("fd", lambda: self.own_inodes(look.pid))
        if inodes is None:
            return ()
        return tuple(
            (socket.host, socket.port)
            for socket in self.sockets(look.pid)
            if socket.state == LISTEN and socket.inode in inodes
        )

    def _log(self, look: Look, owner: Owner) -> LogPlace:
        target = look.get("fd/2", lambda: look.link("fd/2"))
        if target is None:
            why = look.denied.get("fd/2", "")
            return LogPlace("denied", f"fd 2: {why}", mend="run ds4top as its user, or give --log")
        readers: tuple[tuple[str, tuple[str, ...]], ...] = ()
        pane, piped = "", False
        if target.startswith("pipe:"):
            readers = self._readers(target, look.pid)
        elif target.startswith(("/dev/pts/", "/dev/tty")):
            pane, piped = tmux_panes().get(target, ("", False))
        return place_of(ErrorLink(look.pid, target, readers, pane, piped), owner)

    def _readers(self, pipe: str, writer: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Who has the other end of a pipe as its input, and what files each writes."""
        found: list[tuple[str, tuple[str, ...]]] = []
        for pid in self.pids() - {writer}:
            folder = self.root / str(pid) / "fd"
            try:
                if os.readlink(folder / "0") != pipe:
                    continue
                names = os.listdir(folder)
            except OSError:
                continue
            # Its own files come before its standard output; its errors are no log of the server's.
            order = sorted((int(name) for name in names), key=lambda fd: (fd < 3, fd))
            files = tuple(
                path for fd in order if fd != 2 and (path := self._written(folder, pid, str(fd)))
            )
            found.append((self.comm(pid), files))
        return tuple(found)

    def _written(self, folder: Path, pid: int, name: str) -> str:
        """A regular file that a descriptor writes; empty for anything else."""
        try:
            path = os.readlink(folder / name)
            info = (self.root / str(pid) / "fdinfo" / name).read_text()
        except OSError:
            return ""
        flags = next((int(x.split()[1], 8) for x in info.splitlines() if x.startswith("flags:")), 0)
        writes = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
        kept = path.startswith("/") and not path.endswith(_DELETED)
        return path if writes and kept else ""

    def lock_holder(self, path: str) -> int | None:
        """Who holds the lock on a file (/proc/locks). The file itself is never locked."""
        try:
            inode = os.stat(path).st_ino
            text = (self.root / "locks").read_text()
        except OSError:
            return None
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 6 and words[5].rpartition(":")[2] == str(inode):
                return int(words[4]) if words[4].isdecimal() else None
        return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _size(path: str | None) -> int | None:
    if path is None:
        return None
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _same_namespace(look: Look) -> bool:
    try:
        return look.link("ns/pid") == os.readlink(look.root / "self" / "ns" / "pid")
    except OSError:
        # Another user's: its namespaces are not shown. Only its own kernel could tell.
        return True


def tmux_panes(run: Sequence[str] = ("tmux",)) -> Mapping[str, tuple[str, bool]]:
    """Panes of the user's tmux by terminal; empty without one."""
    try:
        done = subprocess.run(
            [*run, "list-panes", "-a", "-F", PANE_FORMAT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TMUX_S,
            check=False,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return panes_of(done.stdout)
