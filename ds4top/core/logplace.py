"""From what a server's standard error is to how it can be read. Pure: facts in, a place out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ds4top.core.process import LogPlace, Owner

_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class ErrorLink:
    """``target``: what /proc/PID/fd/2 points at. ``readers``: who has the other end of its pipe,
    by name, with the files that each has open for writing."""

    pid: int
    target: str
    readers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pane: str = ""
    pane_piped: bool = False


def place_of(link: ErrorLink, owner: Owner, *, user: bool = False) -> LogPlace:
    """How the log is read. ``user``: the server's unit is one of the user's own."""
    target = link.target
    if owner.kind in ("docker", "podman"):
        command = (owner.kind, "logs", "-f", "--tail", "5000", owner.name)
        return LogPlace("container", f"{owner.kind} logs {owner.name}", command=command)
    if target == "/dev/null":
        return LogPlace(
            "null", "its standard error goes to /dev/null", mend="start it with 2>> server.log"
        )
    if target.endswith(_DELETED) and target.startswith("/"):
        name = target.removesuffix(_DELETED)
        return LogPlace("deleted", f"{name}, deleted but still open", f"/proc/{link.pid}/fd/2")
    if target.startswith("/dev/"):
        return _terminal(link, target)
    if target.startswith("socket:"):
        return _journal(link, owner)
    if target.startswith("pipe:"):
        return _pipe(link, owner)
    if target.startswith("/"):
        return LogPlace("file", target, target)
    return LogPlace("unknown", f"its standard error is {target}", mend="ds4top --log FILE")


def _terminal(link: ErrorLink, target: str) -> LogPlace:
    if link.pane and not link.pane_piped:
        return LogPlace(
            "tmux", f"tmux pane {link.pane}", mend="press l: tmux copies the pane to a file",
            pane=link.pane,
        )  # fmt: skip
    if link.pane:
        return LogPlace(
            "tmux", f"tmux pane {link.pane}, piped elsewhere already", mend="ds4top --log FILE"
        )
    return LogPlace(
        "terminal", f"its log is on the terminal {target}", mend="start it with 2>> server.log"
    )


def _journal(link: ErrorLink, owner: Owner) -> LogPlace:
    command = ["journalctl"]
    if owner.kind == "systemd-user":
        command += ["--user", f"_SYSTEMD_USER_UNIT={owner.name}"]
    elif owner.kind == "systemd-system":
        command.append(f"_SYSTEMD_UNIT={owner.name}")
    else:
        command.append(f"_PID={link.pid}")
    command += ["-o", "json", "-f", "-n", "5000", "--no-pager"]
    where = owner.name or f"pid {link.pid}"
    return LogPlace("journald", f"journal of {where}", command=tuple(command))


def _pipe(link: ErrorLink, owner: Owner) -> LogPlace:
    for comm, files in link.readers:
        logs = [path for path in files if not path.startswith("/dev/") and path.startswith("/")]
        if logs:
            return LogPlace("tee", f"{logs[0]}, written by {comm}", logs[0])
    names = ", ".join(comm for comm, _ in link.readers)
    if any(comm in ("systemd-cat", "systemd-journal") for comm, _ in link.readers):
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


def pipe_command(pane: str, path: str) -> Sequence[str]:
    """What copies a pane's output to a file from now on, if nothing does yet.

    tmux runs the quoted command in a shell of its own; the path is ds4top's own and is plain.
    """
    return ("tmux", "pipe-pane", "-o", "-t", pane, f"exec cat >> '{path}'")
