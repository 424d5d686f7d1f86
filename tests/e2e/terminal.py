"""A terminal for end-to-end tests: a pseudo-terminal in front, an emulator's screen behind it.

Nothing runs in the background: every wait reads what the program wrote until the condition holds
or the deadline has passed. All bytes are kept, so that they can be counted and looked through.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import pyte

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
SIM_SHORT = DATA / "ds4" / "sim-short" / "server.log"
DEADLINE_S = 20.0

KEYS: Mapping[str, str] = {
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "enter": "\r",
    "escape": "\x1b",
    "space": " ",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "f1": "\x1bOP",
    "ctrl+c": "\x03",
    "ctrl+p": "\x10",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "plus": "+",
    "minus": "-",
    "question_mark": "?",
    "colon": ":",
}
"""What a terminal sends for the keys that are not a character by themselves."""

# What pyte takes for text: sequences whose parameters begin with <, = or >.
_NOT_FOR_PYTE = re.compile(rb"\x1b\[[<=>][0-9;:]*[ -/]*[@-~]")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
_TORN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*)?\Z")
_QUERIES = re.compile(rb"\x1b\[\?(2026|2048)\$p")
_PRIVATE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
_KITTY = re.compile(rb"\x1b\[([<>])[0-9;]*u")
_ON_BEFORE = frozenset({7, 25})
"""Modes that a terminal has on before a program starts: wrapping, a visible cursor."""


def modes_left(raw: bytes) -> list[str]:
    """Modes that these bytes leave other than they were; empty when all is as before."""
    state: dict[int, bool] = {}
    for found in _PRIVATE.finditer(raw):
        for number in found[1].split(b";"):
            state[int(number)] = found[2] == b"h"
    left = [
        f"?{number}{'h' if on else 'l'}"
        for number, on in sorted(state.items())
        if on != (number in _ON_BEFORE)
    ]
    depth = sum(1 if found[1] == b">" else -1 for found in _KITTY.finditer(raw))
    return left + ([f"keyboard protocol pushed {depth} times more than popped"] if depth else [])


_STATE = TemporaryDirectory(prefix="ds4top-state-")


def environment(**changes: str | None) -> dict[str, str]:
    """A plain environment in which ds4top runs from this checkout; ``None`` removes a name."""
    kept = ("PATH", "HOME", "TMPDIR", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "TZ")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    # What it keeps is not to land among what the user's own ds4top has kept.
    found["XDG_STATE_HOME"] = _STATE.name
    found |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    found |= {name: value for name, value in changes.items() if value is not None}
    return {name: value for name, value in found.items() if changes.get(name, "") is not None}


def ds4top(*arguments: object) -> list[str]:
    """The argument vector of ds4top under this Python."""
    return [sys.executable, "-m", "ds4top", *map(str, arguments)]


def plain(raw: bytes) -> str:
    """What a program wrote, without its escape sequences."""
    return _ESCAPES.sub(" ", raw.decode(errors="replace"))


def at_work(pid: int) -> bool:
    """Whether a thread of a process runs, or would if a core were free (proc_pid_stat(5))."""
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        # A thread that has ended meanwhile does not run.
        with contextlib.suppress(OSError):
            if task.read_text().rpartition(") ")[2][:1] == "R":
                return True
    return False


class Terminal:
    """One program in a terminal; a context manager that leaves no process behind.

    ``size``: columns and rows. ``stdin``: a descriptor instead of the terminal. ``answers``: reply
    to the queries for synchronized output and in-band resize as a modern terminal does.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        size: tuple[int, int] = (120, 30),
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        pass_fds: Sequence[int] = (),
        answers: bool = False,
    ) -> None:
        self.raw = bytearray()
        self.headers: set[str] = set()
        self._answers = answers
        self._pending = b""
        self._asked = 0
        columns, rows = size
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        self._slave: int | None = slave
        self._set_size(columns, rows)
        self._termios_before = self._termios()
        self.process = subprocess.Popen(
            list(argv),
            stdin=slave if stdin is None else stdin,
            stdout=slave,
            stderr=slave,
            env=dict(environment() if env is None else env),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
        )
        self._gone = os.pidfd_open(self.process.pid)

    def __enter__(self) -> Terminal:
        """Itself; the program runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the program if it has not ended, and close the terminal."""
        if error is not None:
            print(f"last screen:\n{self.text}\n{'=' * 40}")
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in (self._master, self._slave, self._gone):
            if fd is not None:
                os.close(fd)

    # what the program wrote ----------------------------------------------------------------

    def written(self, since: int = 0) -> tuple[int, str]:
        """How many bytes it has written, and those after ``since`` as text without escapes."""
        return len(self.raw), plain(bytes(self.raw[since:]))

    @property
    def lines(self) -> list[str]:
        """The rows of the screen."""
        return list(self.screen.display)

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def header(self) -> str:
        """The first row."""
        return self.screen.display[0]

    def cells(self) -> tuple[object, ...]:
        """Every cell with its colours: two of these differ where anything visible does."""
        buffer, columns = self.screen.buffer, range(self.screen.columns)
        return tuple(tuple(buffer[y][x] for x in columns) for y in range(self.screen.lines))

    def read(self, timeout_s: float) -> bool:
        """Take what comes within the time; whether anything came."""
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        return bool(ready) and self._take()

    def _take(self) -> bool:
        try:
            data = os.read(self._master, 65_536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            return False
        self.raw += data
        if self._answers:
            self._answer()
        data = _NOT_FOR_PYTE.sub(b"", self._pending + data)
        torn = _TORN.search(data)
        self._pending = torn[0] if torn else b""
        self._stream.feed(data[: torn.start()] if torn else data)
        self.headers.add(self.header.rstrip())
        return True

    def _answer(self) -> None:
        for found in _QUERIES.finditer(bytes(self.raw), self._asked):
            self._asked = found.end()
            os.write(self._master, b"\x1b[?" + found[1] + b";2$y")

    # waiting -------------------------------------------------------------------------------

    def wait_until(
        self, condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S
    ) -> None:
        """Read until the condition holds; fails, with the screen, after the deadline."""
        end = time.monotonic() + timeout_s
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"never: {what}\n{self.text}"
            over = self.process.poll() is not None
            if not self.read(min(left, 0.05)):
                assert not over, f"it ended before: {what}\n{self.text}"

    def wait_outside(
        self, condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S
    ) -> None:
        """Wait for something that others do; the program may have ended."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"never: {what}"
            select.select([], [], [], 0.02)

    def wait_for(self, pattern: str, timeout_s: float = DEADLINE_S) -> re.Match[str]:
        """Wait until a regular expression is found on the screen."""
        wanted = re.compile(pattern)
        self.wait_until(lambda: wanted.search(self.text), pattern, timeout_s)
        found = wanted.search(self.text)
        assert found is not None
        return found

    def wait_state(self, state: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait until the badge, at the left of the first row, is this word."""
        self.wait_until(
            lambda: re.match(rf"\W*{state}\b", self.header), f"badge {state}", timeout_s
        )

    def wait_change(self, before: object, what: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait until some cell is other than in ``before`` (a value of ``cells``)."""
        self.wait_until(lambda: self.cells() != before, f"a change by {what}", timeout_s)

    def settle(self, quiet_s: float = 0.06) -> None:
        """Read on until nothing has come for a moment, and the program waits."""
        while self.read(quiet_s) or at_work(self.process.pid):
            pass

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        """Read to the end; the exit status, 128 + N for an unhandled signal N."""
        end = time.monotonic() + timeout_s
        while True:
            left = end - time.monotonic()
            assert left > 0, f"did not end\n{self.text}"
            ready, _, _ = select.select([self._master, self._gone], [], [], left)
            if self._master in ready:
                self._take()
            elif ready:
                break
        status = self.process.wait()
        self.termios_after = self._termios()
        # With the last writer's side closed, reading ends with an error and nothing is missed.
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None
        while self._take():
            pass
        return status if status >= 0 else 128 - status

    # what the user does --------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Press keys: a character, or a name of ``KEYS``."""
        self.type("".join(KEYS.get(key, key) for key in keys))

    def type(self, text: str) -> None:
        """Send characters as they are."""
        os.write(self._master, text.encode())

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self.process.send_signal(number)

    def resize(self, columns: int, rows: int) -> None:
        """Another size; the kernel sends SIGWINCH."""
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def hang_up(self) -> None:
        """Send SIGHUP to the program, as a lost connection does."""
        self.signal(signal.SIGHUP)

    def _set_size(self, columns: int, rows: int) -> None:
        packed = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)

    # how it was left -----------------------------------------------------------------------

    def _termios(self) -> list[object]:
        assert self._slave is not None
        return list(termios.tcgetattr(self._slave))

    def left(self) -> list[str]:
        """What is other than before the start, after ``wait_exit``: modes, termios."""
        found = modes_left(bytes(self.raw))
        if self.termios_after != self._termios_before:
            found.append("termios")
        return found

    @property
    def after(self) -> str:
        """What was printed on the normal screen, after the dashboard's own screen was left."""
        return bytes(self.raw).rpartition(b"\x1b[?1049l")[2].decode(errors="replace")


def kill_quietly(pids: Iterable[int]) -> None:
    """Kill processes that may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
