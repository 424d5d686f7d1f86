"""A server in a tmux pane: whether the pane's command is the server, or a shell that runs it.

tmux gives what it starts ``TMUX`` (socket, server's pid, session) and ``TMUX_PANE`` (tmux(1),
"ENVIRONMENT"): they lead to the pane, and tmux itself is asked whether that is still so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ds4top.core.plan import Spec, Supervisor
from ds4top.core.process import ServerProcess
from ds4top.core.proctext import parse_environment
from ds4top.core.secrets import OF_MODEL, is_secret
from ds4top.core.supervision import SHELLS
from ds4top.sources.ask import Ask, ask
from ds4top.sources.procfs import ProcFs

PLAIN = Supervisor("none")
_FORMAT = "#{pane_id} #{pane_pid} #{pane_tty}"
BACK_LOOKS = 30
"""Looks in a row, ten a second."""


def tmux_of(server: ServerProcess, spec: Spec | None) -> tuple[tuple[str, ...], str]:
    """The words that reach its tmux, and the pane; an empty pane where neither is known."""
    if server.log.pane:
        return server.log.tmux, server.log.pane
    env = dict(spec.env) if spec is not None else {}
    socket = env.get("TMUX", "").partition(",")[0]
    return (("tmux", "-S", socket) if socket else ("tmux",)), env.get("TMUX_PANE", "")


def pane_pid(tmux: Sequence[str], pane: str, run: Ask = ask) -> tuple[int, str] | None:
    """The process and the terminal of a pane; ``None`` where tmux does not know it."""
    answer = run((*tmux, "display-message", "-p", "-t", pane, _FORMAT))
    words = answer.out.split()
    if not answer.good or len(words) != 3 or words[0] != pane or not words[1].isdecimal():
        return None
    return int(words[1]), words[2]


def supervisor_of(
    server: ServerProcess, spec: Spec | None, procfs: ProcFs, run: Ask = ask
) -> Supervisor:
    """The pane of a server; a plain process where the pane is not to be had."""
    tmux, pane = tmux_of(server, spec)
    found = pane_pid(tmux, pane, run) if pane else None
    pid = server.target.pid
    above = [parent.pid for parent in server.parents]
    if found is None or (found[0] != pid and found[0] not in above):
        return replace(PLAIN, notes=("its tmux pane is not to be found: a plain process",))
    first, terminal = found
    base = Supervisor("tmux", pane, tmux=tuple(tmux), pane_env=_missing(spec, procfs, first, pid))
    log = _error_target(procfs, pid)
    if log.startswith("pipe:"):
        base = replace(base, no_restart="its output goes into a pipe, which cannot be made again")
    elif log.startswith("/dev/") and log not in (terminal, "/dev/null"):
        base = replace(base, no_restart=f"its output goes to {log}, not to its pane")
    if first == pid:
        return replace(base, pane_runs_server=True)
    argv = procfs.command_line(first)
    given = argv[1:2] == ("-c",)
    if above[:1] != [first]:
        names = ", ".join(parent.words for parent in server.parents[: above.index(first)])
        why = f"in pane {pane} it is run by {names}: restart that there"
        return replace(base, no_restart=base.no_restart or why)
    if given:
        # tmux runs a pane's command by a shell of its own (tmux(1), "shell-command").
        return replace(base, pane_runs_server=True)
    shell = procfs.comm(first)
    if shell.removeprefix("-") not in SHELLS:
        why = f"in pane {pane} it is run by {shell}: restart that there"
        return replace(base, no_restart=base.no_restart or why)
    secrets = [name for name, _ in base.pane_env if is_secret(name)]
    if secrets and base.no_restart is None:
        why = f"{', '.join(secrets)} of its environment would be typed in plain sight"
        base = replace(base, no_restart=why)
    return replace(base, pane_cwd=_folder(procfs.root / str(first)))


def _folder(process: Path) -> str | None:
    try:
        return os.readlink(process / "cwd")
    except OSError:
        return None


class Failed:
    """The pane's own word that a start failed: its command ended, or its shell is back."""

    def __init__(self, pane: Supervisor, run: Ask = ask) -> None:
        self._pane = pane
        self._run = run
        self._back = 0

    def __call__(self) -> str | None:
        """``None`` while it has not said so."""
        pane = self._pane
        ask_for = "#{pane_dead} #{pane_dead_status} #{pane_current_command}"
        answer = self._run((*pane.tmux, "display-message", "-p", "-t", pane.name, ask_for))
        words = answer.out.split()
        if not answer.good or not words:
            return f"pane {pane.name} is gone"
        if words[0] == "1":
            return f"the pane's command ended: exit status {words[1] if words[1:] else '?'}"
        if pane.pane_runs_server:
            return None
        # A typed command takes a moment to begin; a shell that stays has its prompt back.
        self._back = self._back + 1 if words[-1].removeprefix("-") in SHELLS else 0
        return "the pane's shell is back at its prompt" if self._back >= BACK_LOOKS else None


def last_lines(pane: Supervisor, run: Ask = ask) -> tuple[str, ...]:
    """What the pane shows, empty lines at its end aside."""
    answer = run((*pane.tmux, "capture-pane", "-p", "-J", "-t", pane.name))
    return tuple(answer.out.rstrip().splitlines()) if answer.good else ()


def _error_target(procfs: ProcFs, pid: int) -> str:
    try:
        return os.readlink(procfs.root / str(pid) / "fd" / "2")
    except OSError:
        return ""


def _missing(
    spec: Spec | None, procfs: ProcFs, first: int, pid: int
) -> tuple[tuple[str, str], ...]:
    """Variables of the model's that the pane's own process was not started with."""
    if spec is None:
        return ()
    own: dict[str, str] = {}
    if first != pid:
        try:
            text = os.fsdecode((procfs.root / str(first) / "environ").read_bytes())
        except OSError:
            text = ""
        own = dict(parse_environment(text))
    return tuple(
        (name, value)
        for name, value in spec.env
        if name.startswith(OF_MODEL) and own.get(name) != value
    )
