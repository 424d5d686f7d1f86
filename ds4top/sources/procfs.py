"""The one reader of /proc/PID: everything about one process, field by field, as far as allowed."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from collections.abc import Sequence, Set
from pathlib import Path

from ds4top.core.process import (
    COMMS,
    DEFAULT_LOCK,
    DEFAULT_MODEL,
    DEMO_FLAG,
    DEMO_MARK,
    Owner,
    Parent,
    ServerProcess,
    flag_value,
    port_of,
    resolved,
)
from ds4top.core.proctext import (
    LISTEN,
    Socket,
    Stat,
    holder_of,
    parse_command_line,
    parse_environment,
    parse_locks,
    parse_sockets,
    parse_stat,
    parse_status,
)
from ds4top.core.secrets import shown_argv, shown_environment
from ds4top.core.supervision import INITS, owner_of, script_of
from ds4top.core.target import Target
from ds4top.sources.logfind import log_of
from ds4top.sources.look import (
    Look,
    address,
    blind,
    file_system,
    foreign,
    own_namespace,
    read_bytes,
    shown,
)
from ds4top.sources.mounts import mount_of

_TICKS = os.sysconf("SC_CLK_TCK")
_MOST_PARENTS = 12
TABLES = ("tcp", "tcp6")
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_DELETED = " (deleted)"


class ProcFs:
    """Reads under ``root``. Nothing is kept but the boot id and the time of the boot.

    ``run`` is where systemd keeps its transient units.
    """

    def __init__(self, root: Path = Path("/proc"), run: Path = Path("/run")) -> None:
        self.root = root
        self.run = run
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

    def blind(self) -> str:
        """Why servers that run may not be seen here, and what to do; empty where all are seen."""
        return blind(self.root)

    def comm(self, pid: int) -> str:
        """Its name; empty where it is gone."""
        try:
            return os.fsdecode(read_bytes(self.root / str(pid) / "comm")).removesuffix("\n")
        except OSError:
            return ""

    def stat(self, pid: int) -> Stat | None:
        """Its stat line; ``None`` where it is gone."""
        try:
            return parse_stat(read_bytes(self.root / str(pid) / "stat").decode("utf-8", "replace"))
        except (OSError, ValueError):
            return None

    def target(self, pid: int) -> Target | None:
        """Its identity, if it is alive."""
        stat = self.stat(pid)
        if stat is None or stat.state in "ZX":
            return None
        return Target(pid, stat.start_ticks, self.boot_id, stat.comm)

    def command_line(self, pid: int) -> tuple[str, ...]:
        """Its arguments, unmasked; empty where it is gone or has none."""
        try:
            return parse_command_line(os.fsdecode(read_bytes(self.root / str(pid) / "cmdline")))
        except OSError:
            return ()

    def program(self, pid: int) -> str | None:
        """The path of its program, where that may be read."""
        try:
            return os.readlink(self.root / str(pid) / "exe").removesuffix(_DELETED)
        except OSError:
            return None

    def forked_only(self, pid: int) -> bool:
        """Whether it may be a fork that has not become another program yet.

        It has its parent's name, program and command line until its exec.
        """
        stat = self.stat(pid)
        above = self.stat(stat.ppid) if stat is not None else None
        if stat is None or above is None or above.comm != stat.comm:
            return False
        return self.command_line(pid) == self.command_line(stat.ppid) and self.program(
            pid
        ) == self.program(stat.ppid)

    def parents(self, pid: int) -> tuple[Parent, ...]:
        """The chain above, the nearest first; pid 1 only where it is no init."""
        chain: list[Parent] = []
        stat = self.stat(pid)
        while stat is not None and stat.ppid > 0 and len(chain) < _MOST_PARENTS:
            parent = stat.ppid
            stat = self.stat(parent)
            if stat is not None and not (parent == 1 and stat.comm in INITS):
                script = shown(script_of(stat.comm, self.command_line(parent)))
                chain.append(Parent(parent, stat.comm, script))
        return tuple(chain)

    def sockets(self, pid: int, names: Sequence[str] = TABLES) -> list[Socket]:
        """All TCP sockets of its network namespace. Takes milliseconds: see ``portwatch``."""
        found: list[Socket] = []
        for name in names:
            with contextlib.suppress(OSError):
                text = read_bytes(self.root / str(pid) / "net" / name).decode("ascii", "replace")
                found += parse_sockets(text)
        return found

    def listeners(self, pid: int, inodes: Set[int]) -> tuple[tuple[str, int], ...]:
        """Where these sockets of a process listen; without sockets no table is read."""
        found: dict[int, tuple[str, int]] = {}
        left = set(inodes)
        for name in TABLES:
            for socket in self.sockets(pid, (name,)) if left else ():
                if socket.inode in left:
                    left.discard(socket.inode)
                    if socket.state == LISTEN:
                        found[socket.inode] = (socket.host, socket.port)
        return tuple(found.values())

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
        argv = parse_command_line(look.get("cmdline", lambda: look.text("cmdline")) or "") or None
        if argv is None:
            look.denied.setdefault("cmdline", "it has none")
        environ = look.get("environ", lambda: look.text("environ"))
        env = parse_environment(environ) if environ is not None else None
        known = dict(env or ())
        cwd = look.get("cwd", lambda: look.link("cwd").removesuffix(_DELETED))
        exe = look.get("exe", lambda: look.link("exe"))
        uid = _uid(look, status)
        parents = self.parents(pid)
        owner = owner_of(look.get("cgroup", lambda: look.text("cgroup")) or "", parents)
        owner = self._transient(owner, uid)
        root = file_system(look)
        owner, log = log_of(self, look, owner, known if env is not None else None, root)
        flavour = COMMS.get(target.comm, "ds4")

        def path(name: str, given: str | None) -> str | None:
            found = look.path(name, resolved(given, cwd))
            return root + found if found is not None and found.startswith("/") else found

        model = flag_value(argv or (), "-m", "--model")
        if model is None and argv is not None:
            model = DEFAULT_MODEL.get(flavour)
        model_path = path("model", model)
        budget = flag_value(argv or (), "--kv-disk-space-mb")
        context = flag_value(argv or (), "-c", "--ctx", "--ctx-size")
        locks = env is not None and flavour == "ds4"
        lock_path = path("lock", known.get("DS4_LOCK_FILE", DEFAULT_LOCK)) if locks else None
        # Read by another source each second; whether that is allowed is said here.
        look.get("io", lambda: look.text("io"))
        own_network = own_namespace(look, "net") is True
        found = ServerProcess(
            target=target,
            started_wall=self.booted_wall() + target.start_ticks / _TICKS,
            flavour=flavour,
            uid=uid,
            user=_user(uid),
            argv=shown_argv([shown(word) for word in argv]) if argv is not None else None,
            env=_readable(shown_environment(env)) if env is not None else None,
            cwd=shown(cwd) if cwd is not None else None,
            exe=shown(exe.removesuffix(_DELETED)) if exe is not None else None,
            exe_replaced=exe is not None and exe.endswith(_DELETED),
            exe_key=_key(look.folder / "exe"),
            parents=parents,
            owner=owner,
            listening=self._listening(look, uid, port_of(argv or (), flavour)),
            log=log,
            kv_dir=path("kv_dir", flag_value(argv or (), "--kv-disk-dir")),
            kv_budget_bytes=(int(budget) << 20) if budget and budget.isdecimal() else None,
            model_path=model_path,
            model_bytes=_size(model_path),
            model_fs_type=getattr(mount_of(model_path, self.root), "type", None),
            lock_path=lock_path,
            lock_holder=self.lock_holder(lock_path) if lock_path is not None else None,
            context_tokens=int(context) if context and context.isdecimal() else None,
            oom_score_adj=look.get("oom_score_adj", lambda: int(look.text("oom_score_adj"))),
            foreign_namespace=foreign(look, status),
            demo=_demo(known, argv if env is None else None),
            own_network=own_network,
            address=address(look) if own_network else None,
            denied=look.denied,
        )
        # What was read is of one process only if it is still the same one.
        return found if self.target(pid) == target else None

    def _transient(self, owner: Owner, uid: int) -> Owner:
        """A unit of systemd-run's that was given a name is known by where its file is."""
        places = {
            "systemd-system": self.run / "systemd" / "transient" / owner.name,
            "systemd-user": self.run / "user" / str(uid) / "systemd" / "transient" / owner.name,
        }
        place = places.get(owner.kind)
        with contextlib.suppress(OSError):
            if place is not None and place.exists():
                return Owner("transient", owner.name, owner.of_user)
        return owner

    def _listening(self, look: Look, uid: int, port: int | None) -> tuple[tuple[str, int], ...]:
        """Its listening sockets; of another user's process the one at the port it asks for."""
        inodes = look.get("fd", lambda: self.own_inodes(look.pid))
        if inodes is not None:
            return self.listeners(look.pid, inodes)
        return tuple(
            (socket.host, socket.port)
            for socket in self.sockets(look.pid)
            if (socket.state, socket.port, socket.uid) == (LISTEN, port, uid)
        )

    def lock_holder(self, path: str) -> int | None:
        """Who holds the lock on a file (/proc/locks). The file itself is never locked."""
        try:
            found = os.stat(path)
            locks = parse_locks((self.root / "locks").read_text(errors="replace"))
        except OSError:
            return None
        device = (os.major(found.st_dev), os.minor(found.st_dev))
        return holder_of(locks, device, found.st_ino)


def _readable(env: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((shown(name), shown(value)) for name, value in env)


def _uid(look: Look, status: dict[str, str]) -> int:
    words = status.get("Uid", "").split()
    return int(words[0]) if words else look.folder.stat().st_uid


def _demo(env: dict[str, str], argv: tuple[str, ...] | None) -> str:
    """The mark of a demo's server; by its command line where its environment may not be read."""
    leash = flag_value(argv, DEMO_FLAG) if argv is not None else None
    return shown(env.get(DEMO_MARK, "") or (os.path.dirname(leash) if leash else ""))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _size(path: str | None) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return os.stat(path).st_size if path is not None else None
    return None


def _key(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino, found.st_mtime_ns
    return None
