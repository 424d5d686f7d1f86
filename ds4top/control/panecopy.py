"""The log of a server in a tmux pane: copied to a file of ds4top's own for as long as it runs.

``pipe-pane -o`` opens a pipe only where the pane has none, ``pipe-pane`` alone closes it (tmux(1)).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ds4top.archive.paths import private_folder
from ds4top.core.logplace import COPY_PANE, pipe_command
from ds4top.core.plan import Target
from ds4top.core.process import ServerProcess
from ds4top.sources.ask import Answer, Ask, ask

_PLAIN = re.compile(r"/[\w./@+=,~-]*")
"""What stands in the command that tmux gives to a shell needs no quoting."""


def pane_to_copy(server: ServerProcess | None) -> str:
    """Why there is nothing to copy; empty where its pane can be."""
    if server is None:
        return "no server is watched"
    place = server.log
    if place.kind != "tmux" or not place.pane:
        return "its log is in no tmux pane"
    if place.path is not None:
        return f"its pane is copied to {place.path} already"
    return "" if place.mend == COPY_PANE else "its pane is piped elsewhere already"


def copy_path(folder: Path, target: Target) -> str | None:
    """The file for one life of a server; ``None`` for a folder with a name that a shell minds."""
    path = str(folder / "panes" / f"{target.pid}-{target.start_ticks}.log")
    return path if _PLAIN.fullmatch(path) else None


class PaneCopies:
    """What was opened, to be closed again."""

    def __init__(self, run: Ask = ask) -> None:
        self._run = run
        self._open: list[tuple[tuple[str, ...], str, str]] = []

    def start(self, tmux: Sequence[str], pane: str, path: str) -> str:
        """Copy from now on; why not, or empty. Blocks for as long as tmux does."""
        try:
            private_folder(Path(path).parent)
            # Made here, so that it is its owner's alone and there at once.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            return f"{path}: {error.strerror}"
        answer = self._run(pipe_command(pane, path, tmux))
        if not answer.good:
            return answer.trouble
        self._open.append((tuple(tmux), pane, path))
        return ""

    def close(self) -> None:
        """Undo all of it where it still stands. Never raises."""
        for tmux, pane, path in self._open:
            state = self._ask((*tmux, "display-message", "-p", "-t", pane, "#{pane_pipe}"))
            # A pipe that somebody else has opened since writes to another file.
            if state.good and state.out.strip() == "1" and _is_written(path):
                self._ask((*tmux, "pipe-pane", "-t", pane))
        self._open.clear()

    def _ask(self, argv: Sequence[str]) -> Answer:
        with contextlib.suppress(Exception):
            return self._run(argv)
        return Answer(None)


def _is_written(path: str) -> bool:
    """Whether a process of ours has the file open: the copy that is to be ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            for fd in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(fd) == path:
                        return True
    return False
