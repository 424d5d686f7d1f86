"""From what a server's standard error is to how it can be read. Pure: facts in, a place out.

Sources: proc_pid_fd(5); systemd.exec(5) for ``JOURNAL_STREAM``; journalctl(1) and
systemd.journal-fields(7); docker-logs(1); tmux(1), ``list-panes`` and ``pipe-pane``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ds4top.core.process import LogPlace, Owner

_DELETED = " (deleted)"
_TO_JOURNAL = frozenset({"systemd-cat", "systemd-journal"})


@dataclass(frozen=True, slots=True)
class ErrorLink:
    """``target``: what /proc/PID/fd/2 points at.

    ``readers``: who has the other end of its pipe, by name, with the files that each has open for
    writing; what such a reader's own output is piped into comes after it. ``journal``: whether
    systemd said that this is a socket of the journal's, ``None`` where that may not be read.
    ``moved``: the name leads to another file than the descriptor. ``root``: what stands before a
    path where the server has a file system of its own. ``copies``: files that a pane is copied to.
    """

    pid: int
    target: str
    readers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pane: str = ""
    pane_piped: bool = False
    journal: bool | None = None
    moved: bool = False
    root: str = ""
    tmux: tuple[str, ...] = ("tmux",)
    copies: tuple[str, ...] = ()


def place_of(link: ErrorLink, owner: Owner) -> LogPlace:
    """How the log is read."""
    target = link.target
    if target == "/dev/null":
        return LogPlace(
            "null", "its standard error goes to /dev/null", mend="start it with 2>> server.log"
        )
    if target.startswith("/") and not target.startswith("/dev/"):
        return _file(link)
    if owner.kind in ("docker", "podman"):
        command = (owner.kind, "logs", "-f", "--tail", "5000", owner.name)
        return LogPlace("container", f"{owner.kind} logs {owner.name}", command=command)
    if target.startswith("/dev/"):
        return _terminal(link, target)
    if target.startswith("socket:"):
        return _socket(link, owner)
    if target.startswith("pipe:"):
        return _pipe(link, owner)
    return LogPlace("unknown", f"its standard error is {target}", mend="ds4top --log FILE")


COPY_PANE = "tmux copies the pane to a file"
"""What mends a log in a tmux pane, by the key ``log.copy_pane``."""


def _file(link: ErrorLink) -> LogPlace:
    name = link.target.removesuffix(_DELETED)
    through = f"/proc/{link.pid}/fd/2"
    if name != link.target:
        return LogPlace("deleted", f"{name}, deleted but still open", through)
    if link.root:
        return LogPlace("file", f"{name} in its own file system", link.root + name)
    if link.moved:
        return LogPlace("file", f"{name}, another file by that name now", through)
    return LogPlace("file", name, name)


def _terminal(link: ErrorLink, target: str) -> LogPlace:
    if not link.pane:
        return LogPlace(
            "terminal", f"its log is on the terminal {target}", mend="start it with 2>> server.log"
        )
    name = f"tmux pane {link.pane}"
    pane = {"pane": link.pane, "tmux": link.tmux}
    if len(link.copies) == 1:
        copy = link.copies[0]
        return LogPlace("tmux", f"{name}, copied to {copy}", copy, **pane)  # type: ignore[arg-type]
    if link.pane_piped:
        detail, mend = f"{name}, piped elsewhere already", "ds4top --log FILE"
    else:
        detail, mend = name, COPY_PANE
    return LogPlace("tmux", detail, mend=mend, **pane)  # type: ignore[arg-type]


def _socket(link: ErrorLink, owner: Owner) -> LogPlace:
    unit = owner.kind in ("systemd-system", "systemd-user", "transient")
    if link.journal is False and not unit:
        # Of sshd without a terminal, for one.
        return LogPlace("unknown", "its standard error is a socket that is not the journal's",
                        mend="start it with 2>> server.log")  # fmt: skip
    return _journal(link, owner)


def _journal(link: ErrorLink, owner: Owner) -> LogPlace:
    command = ["journalctl"]
    if owner.kind == "systemd-user":
        command += ["--user", f"_SYSTEMD_USER_UNIT={owner.name}"]
    elif owner.kind == "systemd-system":
        command.append(f"_SYSTEMD_UNIT={owner.name}")
    else:
        command.append(f"_PID={link.pid}")
    command += ["-o", "json", "-f", "-n", "5000", "--no-pager"]
    where = owner.name if command[1] != f"_PID={link.pid}" else f"pid {link.pid}"
    return LogPlace("journald", f"journal of {where}", command=tuple(command))


def _pipe(link: ErrorLink, owner: Owner) -> LogPlace:
    for comm, files in link.readers:
        logs = [path for path in files if not path.startswith("/dev/") and path.startswith("/")]
        if logs:
            return LogPlace("tee", f"{logs[0]}, written by {comm}", logs[0])
    names = ", ".join(comm for comm, _ in link.readers)
    if any(comm in _TO_JOURNAL for comm, _ in link.readers):
        return _journal(link, owner)
    return LogPlace(
        "pipe", f"a pipe into {names or 'a process that is not seen'}", mend="ds4top --log FILE"
    )


def panes_of(text: str) -> dict[str, tuple[str, bool]]:
    """Terminal → pane and whether it is piped, of ``tmux list-panes -a -F PANE_FORMAT``."""
    found: dict[str, tuple[str, bool]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            found[words[0]] = (words[1], words[2] == "1")
    return found


PANE_FORMAT = "#{pane_tty} #{pane_id} #{pane_pipe}"


def pipe_command(pane: str, path: str, tmux: Sequence[str] = ("tmux",)) -> Sequence[str]:
    """What copies a pane's output to a file from now on, if nothing does yet.

    tmux runs the quoted command in a shell of its own; the path is ds4top's own and is plain.
    """
    return (*tmux, "pipe-pane", "-o", "-t", pane, f"exec cat >> '{path}'")
