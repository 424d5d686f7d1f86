"""Behind the standard error of a server: the facts from which ``core.logplace`` tells the place.

Nothing is opened for writing and nothing is changed; tmux is only asked for its panes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ds4top.core.logplace import PANE_FORMAT, ErrorLink, panes_of, place_of
from ds4top.core.process import LogPlace, Owner
from ds4top.core.proctext import parse_unix_listeners
from ds4top.sources.look import Look

if TYPE_CHECKING:
    from ds4top.sources.procfs import ProcFs

_TMUX_S = 2.0
_MOST_STAGES = 4
_DELETED = " (deleted)"
_TERMINALS = ("/dev/pts/", "/dev/tty")
Readers = tuple[tuple[str, tuple[str, ...]], ...]


def log_of(
    procfs: ProcFs, look: Look, owner: Owner, env: Mapping[str, str] | None, root: str
) -> tuple[Owner, LogPlace]:
    """Where the log of a process goes; and its owner, with the pane where that is tmux.

    ``env`` is its environment, ``None`` where that may not be read; ``root`` stands before its
    paths where it has a file system of its own.
    """
    target = look.get("fd/2", lambda: look.link("fd/2"))
    if target is None:
        why = look.denied.get("fd/2", "")
        return owner, LogPlace(
            "denied", f"fd 2: {why}", mend="run ds4top as its user, or give --log"
        )
    if look.path("log", target) is None:
        return owner, LogPlace("file", look.denied["log"], f"/proc/{look.pid}/fd/2")
    link = ErrorLink(look.pid, target, root=root)
    if target.startswith("pipe:"):
        readers = readers_of(procfs, target, look.pid)
        link = ErrorLink(look.pid, target, readers=readers)
    elif target.startswith("socket:"):
        link = ErrorLink(look.pid, target, journal=_of_journal(target, env))
    elif target.startswith(_TERMINALS):
        link = _on_terminal(procfs, look.pid, target)
        if owner.kind == "tmux" and link.tmux == ("tmux",):
            owner = Owner("tmux", link.pane)
    elif target.startswith("/") and not root:
        link = ErrorLink(look.pid, target, moved=_moved(look, target))
    return owner, place_of(link, owner)


def _of_journal(target: str, env: Mapping[str, str] | None) -> bool | None:
    """Whether systemd named this very socket (``JOURNAL_STREAM`` is device:inode)."""
    if env is None:
        return None
    inode = target.removeprefix("socket:[").removesuffix("]")
    return env.get("JOURNAL_STREAM", "").partition(":")[2] == inode


def _moved(look: Look, target: str) -> bool:
    """Whether the name leads elsewhere than the descriptor: a mount or a tree of its own."""
    if target.endswith(_DELETED):
        return False
    try:
        return not os.path.samefile(look.folder / "fd" / "2", target)
    except OSError:
        return not os.path.exists(target)


def readers_of(procfs: ProcFs, pipe: str, writer: int, stages: int = _MOST_STAGES) -> Readers:
    """Who has the other end of a pipe as its input, and what files each writes.

    One that writes no file and pipes its output on is followed by who reads that.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    for pid in sorted(procfs.pids() - {writer}):
        if _link(procfs, pid, 0) != pipe:
            continue
        files = tuple(written_by(procfs, pid))
        found.append((procfs.comm(pid), files))
        onward = _link(procfs, pid, 1)
        if not files and onward.startswith("pipe:") and onward != pipe and stages > 1:
            found += readers_of(procfs, onward, pid, stages - 1)
    return tuple(found)


def written_by(procfs: ProcFs, pid: int) -> Iterator[str]:
    """Files that a process writes: those it opened before its output; its errors are no log."""
    try:
        names = os.listdir(procfs.root / str(pid) / "fd")
    except OSError:
        return
    for fd in sorted((int(name) for name in names), key=lambda fd: (fd < 3, fd)):
        path = _link(procfs, pid, fd) if fd != 2 else ""
        if path.startswith("/") and _writes(procfs, pid, fd):
            deleted = path.endswith(_DELETED)
            yield f"{procfs.root}/{pid}/fd/{fd}" if deleted else path


def _link(procfs: ProcFs, pid: int, fd: int) -> str:
    try:
        return os.readlink(f"{procfs.root}/{pid}/fd/{fd}")
    except OSError:
        return ""


def _writes(procfs: ProcFs, pid: int, fd: int) -> bool:
    try:
        info = (procfs.root / str(pid) / "fdinfo" / str(fd)).read_text()
    except OSError:
        return False
    flags = next((int(x.split()[1], 8) for x in info.splitlines() if x.startswith("flags:")), 0)
    return flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)


def _on_terminal(procfs: ProcFs, pid: int, target: str) -> ErrorLink:
    """The user's tmux is asked first, then the one that the process runs under."""
    for tmux in (("tmux",), _tmux_above(procfs, pid)):
        panes = tmux_panes(tmux) if tmux else {}
        if target not in panes:
            continue
        pane, piped = panes[target]
        alone = sum(1 for _, other in panes.values() if other) == 1
        copies = _copies(procfs, pid) if piped and alone else ()
        return ErrorLink(pid, target, pane=pane, pane_piped=piped, tmux=tmux, copies=copies)
    return ErrorLink(pid, target)


def _server_above(procfs: ProcFs, pid: int) -> int | None:
    return next((x.pid for x in procfs.parents(pid) if x.comm.startswith("tmux: server")), None)


def _tmux_above(procfs: ProcFs, pid: int) -> tuple[str, ...]:
    """How the tmux server among its parents is reached; empty where there is none."""
    server = _server_above(procfs, pid)
    if server is None:
        return ()
    try:
        inodes = procfs.own_inodes(server)
        text = (procfs.root / str(server) / "net" / "unix").read_text(errors="replace")
    except OSError:
        return ()
    paths = [path for inode, path in parse_unix_listeners(text).items() if inode in inodes]
    return ("tmux", "-S", paths[0]) if len(paths) == 1 else ()


def _copies(procfs: ProcFs, pid: int) -> tuple[str, ...]:
    """Files that children of its tmux server copy a pane to (``pipe-pane`` gives them a socket)."""
    server = _server_above(procfs, pid)
    found: list[str] = []
    for child in sorted(procfs.pids()):
        stat = procfs.stat(child)
        if stat is None or stat.ppid != server or not _link(procfs, child, 0).startswith("socket:"):
            continue
        found += [path for path in written_by(procfs, child) if not path.startswith("/dev/")]
    return tuple(found)


def tmux_panes(run: Sequence[str] = ("tmux",)) -> Mapping[str, tuple[str, bool]]:
    """Panes of a tmux by terminal; empty without one."""
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
