"""However it ends, the terminal is as it was, and the exit code says how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import (
    DEADLINE_S,
    ROOT,
    SIM_SHORT,
    Terminal,
    ds4top,
    environment,
    modes_left,
)

import ds4top as package

REPLAY = ds4top("--replay", SIM_SHORT, "--speed", "10")
CRASH = [sys.executable, str(Path(__file__).with_name("crash_in_tick.py")), str(SIM_SHORT)]
SET = (b"?1049h", b"?1000h", b"?1003h", b"?1006h", b"?2004h", b"?1004h", b"?25l")


def test_what_counts_as_left() -> None:
    assert modes_left(b"") == []
    assert modes_left(b"\x1b[?1049h\x1b[?25l\x1b[>1u") == [
        "?25l",
        "?1049h",
        "keyboard protocol pushed 1 times more than popped",
    ]
    assert modes_left(b"\x1b[?1049;2004h\x1b[?7l\x1b[?7h\x1b[?1049l") == ["?2004h"]


@pytest.mark.parametrize("answers", [True, False], ids=["modern", "plain"])
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("q", 0),
        ("ctrl+c", 0),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGINT, 130),
    ],
    ids=["q", "ctrl+c", "SIGTERM", "SIGHUP", "SIGINT"],
)
def test_nothing_is_left(end: str | signal.Signals, status: int, answers: bool) -> None:
    with Terminal(REPLAY, answers=answers) as terminal:
        terminal.wait_for(r"tok/s")
        if answers:
            terminal.wait_until(lambda: b"\x1b[?2048h" in terminal.raw, "in-band resize is on")
        if isinstance(end, str):
            terminal.press(end)
        else:
            terminal.signal(end)
        assert terminal.wait_exit() == status
        for mode in (*SET, *((b"?2026h", b"?2048h") if answers else ())):
            assert b"\x1b[" + mode in terminal.raw
        assert re.search(rb"\x1b\[>\d+u", terminal.raw)
        assert terminal.left() == []
        assert re.sub(r"\x1b\[[?<>0-9;]*[a-z]", "", terminal.after).strip() == ""


def test_no_mouse_sets_no_mouse_mode() -> None:
    with Terminal([*REPLAY, "--no-mouse"], answers=True) as terminal:
        terminal.wait_for(r"tok/s")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert not re.search(rb"\x1b\[\?(?:1000|1002|1003|1006|1015|1016)h", terminal.raw)
        assert terminal.left() == []


@pytest.mark.parametrize("answers", [True, False], ids=["modern", "plain"])
def test_a_crash_in_a_tick(answers: bool) -> None:
    with Terminal(CRASH, answers=answers) as terminal:
        assert terminal.wait_exit() == 70
        assert b"\x1b[?1049h" in terminal.raw
        assert terminal.left() == []
        assert "a fault made for this test" in terminal.after
        assert "ZeroDivisionError" in terminal.after


def run(*arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Run ds4top away from any terminal."""
    return subprocess.run(
        ds4top(*arguments),
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        start_new_session=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [("--replay", str(SIM_SHORT)), ("--log", str(SIM_SHORT)), ("--demo",)],
    ids=["replay", "log", "demo"],
)
def test_no_terminal(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr.startswith("ds4top: ")
    assert "terminal" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_pipe_without_any_terminal() -> None:
    done = run("--log", "-")
    assert done.returncode == 64
    assert "/dev/tty" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("term", ["dumb", "", None])
def test_no_screen_can_be_drawn(term: str | None) -> None:
    with Terminal(REPLAY, env=environment(TERM=term)) as terminal:
        assert terminal.wait_exit() == 64
        assert terminal.left() == []
        assert b"\x1b" not in terminal.raw
        assert "TERM" in terminal.raw.decode()


def test_wrong_usage_and_missing_files() -> None:
    assert run("--speed", "2").returncode == 64
    assert run("--no-such-option").returncode == 64
    assert run().returncode == 64
    with Terminal(ds4top("--replay", "/no/such/file")) as terminal:
        assert terminal.wait_exit() == 64
        assert b"\x1b" not in terminal.raw
        assert "/no/such/file" in terminal.raw.decode()


def test_a_log_from_a_terminal_is_refused() -> None:
    with Terminal(ds4top("--log", "-")) as terminal:
        assert terminal.wait_exit() == 64
        assert "pipe a log" in terminal.raw.decode()


def test_version_is_one_line_without_a_screen() -> None:
    done = run("--version", TERM=None)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"ds4top {package.__version__}\n"
    code = (
        "import sys; from ds4top.cli import main; code = main(['--version']);"
        "print(code, [m for m in ('textual', 'rich', 'asyncio', 'plotext') if m in sys.modules])"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert seen.stdout.splitlines()[1] == "0 []"


def test_no_process_stays_when_its_tmux_is_killed(tmp_path: Path) -> None:
    """Eight at once: the end is told and the terminal is gone in no certain order."""
    command = shlex.join(["exec", *REPLAY])
    servers = [tmp_path / f"tmux-{number}" for number in range(8)]
    env = environment(LC_ALL="C.UTF-8")

    def tmux(server: Path, *arguments: str) -> str:
        argv = ["tmux", "-S", str(server), "-f", "/dev/null", *arguments]
        done = subprocess.run(
            argv, env=env, check=True, capture_output=True, text=True, timeout=DEADLINE_S
        )
        return done.stdout

    pidfds: list[int] = []
    try:
        for server in servers:
            tmux(server, "new-session", "-d", "-x", "100", "-y", "30", command)
            pid = int(tmux(server, "display-message", "-p", "#{pane_pid}"))
            pidfds.append(os.pidfd_open(pid))
        for server in servers:
            wait_for(lambda server=server: "tok/s" in tmux(server, "capture-pane", "-p"))  # type: ignore[misc]
        for server in servers:
            tmux(server, "kill-server")
        left = list(pidfds)
        end = time.monotonic() + DEADLINE_S
        while left and time.monotonic() < end:
            gone, _, _ = select.select(left, [], [], end - time.monotonic())
            for pidfd in gone:
                left.remove(pidfd)
        assert not left
    finally:
        for pidfd in pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


def wait_for(condition: Callable[[], bool]) -> None:
    """Look again until it holds: a tmux pane tells nobody that it was drawn."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)  # nothing to wait on
