"""A real tmux with one pane: what is pressed there, and what it then shows."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyte
from terminal import DEADLINE_S, at_work, environment, plain

_NAMES: Mapping[str, str] = {
    "tab": "Tab",
    "shift+tab": "BTab",
    "enter": "Enter",
    "escape": "Escape",
    "space": "Space",
    "up": "Up",
    "down": "Down",
    "home": "Home",
    "end": "End",
    "pageup": "PageUp",
    "pagedown": "PageDown",
    "f1": "F1",
    "ctrl+c": "C-c",
    "ctrl+p": "C-p",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "plus": "+",
    "minus": "-",
    "question_mark": "?",
    "colon": ":",
}


COLUMNS, ROWS = 120, 30


def _seen(cell: Any) -> tuple[object, ...]:
    """What is visible of a cell: of a blank one no colour of text."""
    if cell.data != " ":
        return tuple(cell)
    return " ", cell.bg, cell.fg if cell.reverse else "", cell.underscore


class Pane:
    """A tmux server of its own with one pane of 120×30, in which a program runs.

    ``term`` is what tmux tells the program; ``env`` is set (``None``: unset) for the program alone.
    When it has ended the pane shows ``status=N`` and what is typed then.
    """

    def __init__(
        self,
        folder: Path,
        term: str,
        argv: Sequence[str],
        env: Mapping[str, str | None] | None = None,
    ) -> None:
        self._base = ["tmux", "-L", "ds4top-test", "-f", "/dev/null"]
        self._env = environment(
            TMUX_TMPDIR=str(folder), TERM="xterm-256color", XDG_STATE_HOME=str(folder)
        )
        self._parsed: tuple[str, tuple[object, ...]] = ("", ())
        given = env or {}
        words = ["env", *(f"--unset={name}" for name, value in given.items() if value is None)]
        words += [f"{name}={value}" for name, value in given.items() if value is not None]
        after = "; echo status=$?; exec cat"
        self.run(
            "set-option", "-g", "default-terminal", term, ";",
            "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS),
            shlex.join([*words, *argv]) + after,
            start=True,
        )  # fmt: skip
        self._stream = folder / "written"
        self._stream.touch()
        self.run("pipe-pane", "-O", f"exec cat >>{shlex.quote(str(self._stream))}")

    def run(self, *words: str, start: bool = False) -> str:
        """A tmux command; gives what it prints."""
        first = ["start-server", ";"] if start else []
        done = subprocess.run(
            [*self._base, *first, *words],
            env=self._env, capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        return done.stdout

    def close(self) -> None:
        """End the server and what runs in it."""
        self.run("kill-server")

    # what it shows -------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The pane as text."""
        return self.run("capture-pane", "-p")

    @property
    def lines(self) -> list[str]:
        """The rows of the pane."""
        return self.text.splitlines()

    def cells(self) -> tuple[object, ...]:
        """Every cell with its colours: two of these differ where anything visible does."""
        raw = self.coloured()
        if raw != self._parsed[0]:
            screen = pyte.Screen(COLUMNS, ROWS)
            pyte.Stream(screen).feed(raw.rstrip("\n").replace("\n", "\r\n"))
            buffer = screen.buffer
            cells = (tuple(_seen(buffer[y][x]) for x in range(COLUMNS)) for y in range(ROWS))
            self._parsed = raw, tuple(cells)
        return self._parsed[1]

    def coloured(self) -> str:
        """The pane as text with its escapes."""
        return self.run("capture-pane", "-p", "-e")

    def written(self, since: int = 0) -> tuple[int, str]:
        """How many bytes it has written, and those after ``since`` as text without escapes."""
        raw = self._stream.read_bytes()
        return len(raw), plain(raw[since:])

    def flags(self) -> str:
        """Alternate screen, mouse, cursor and cursor keys of the pane."""
        names = ("alternate_on", "mouse_any_flag", "cursor_flag", "keypad_cursor_flag")
        return self.run("display-message", "-p", " ".join(f"#{{{name}}}" for name in names)).strip()

    def program(self) -> int:
        """The pid of the program in the pane."""
        shell = self.run("list-panes", "-F", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="ascii")
        return int(children.split()[0])

    # waiting -------------------------------------------------------------------------------

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Until the condition holds; fails, with the screen, after the deadline."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > end:
                last = self.written()[1][-400:]
                raise AssertionError(f"never: {what}\n{self.text}\nlast written: {last!r}")

    def settle(self, quiet_s: float = 0.03) -> None:
        """Until nothing has come for a moment, and the program waits."""
        pid = self.program()
        size, since = -1, time.monotonic()

        def quiet() -> bool:
            nonlocal size, since
            now, old = self._stream.stat().st_size, size
            if now != old or at_work(pid):
                size, since = now, time.monotonic()
            # Other processes have no event that could be waited for.
            time.sleep(0.005)
            return time.monotonic() - since >= quiet_s

        self.wait_until(quiet, "a screen that holds still")

    def press(self, key: str) -> None:
        """Press a key by its name of the key table."""
        if key in _NAMES:
            self.run("send-keys", _NAMES[key])
        else:
            self.run("send-keys", "-l", key)
