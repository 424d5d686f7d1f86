"""The demo on a real terminal: it shows a busy server, and goes without a trace."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminal import Terminal, ds4top, environment, kill_quietly

DEMO = ds4top("--demo", "--speed", "60", "--interval", "0.25")


def processes_of(folder: Path) -> list[int]:
    """Processes with this folder in their command lines: keeper, server and clients."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words:
            found.append(int(entry.name))
    return found


@contextmanager
def demo(folder: Path) -> Iterator[Terminal]:
    """A demo whose temporary files are under ``folder``."""
    try:
        with Terminal(DEMO, env=environment(TMPDIR=str(folder))) as terminal:
            yield terminal
    finally:
        kill_quietly(processes_of(folder))


def seen(terminal: Terminal, pattern: str) -> bool:
    """Whether the first row ever held this."""
    return any(re.search(pattern, header) for header in terminal.headers)


def test_a_busy_server_then_nothing(tmp_path: Path) -> None:
    with demo(tmp_path) as terminal:
        for state in ("LOADING", "PREFILL", "DECODE"):
            terminal.wait_until(
                lambda state=state: seen(terminal, rf"^\W*{state}\b"),  # type: ignore[misc]
                state,
                30,
            )
        terminal.wait_for(r"\d tok/s")
        assert seen(terminal, "demo ×60")
        terminal.press("3")
        terminal.wait_for(r"differs after token", 30)
        terminal.wait_for(r"hit +[1-9]\d? %", 30)
        assert processes_of(tmp_path)
        for key, words in (
            ("2", "CACHED"),
            ("4", "MEMORY"),
            ("5", "LAUNCH"),
            ("6", "ds4-server|prompt|decoding|prefill"),
            ("7", "requests"),
            ("8", "SOURCES"),
            ("1", "tok/s"),
        ):
            before = terminal.cells()[1:-2]
            terminal.press(key)
            terminal.wait_until(lambda b=before: terminal.cells()[1:-2] != b, key)  # type: ignore[misc]
            terminal.wait_for(words)
            for moving in ("g", "j", "G"):
                terminal.press(moving)
                terminal.settle(0.02)
            terminal.press("space")
            terminal.wait_for("FROZEN|frozen")
            terminal.press("space")
            terminal.wait_until(lambda: "FROZEN" not in terminal.text, "it goes on")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.left() == []
        assert processes_of(tmp_path) == []
        assert list(tmp_path.iterdir()) == []


def test_every_acting_key_works_against_it_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    config = home / ".config" / "ds4top" / "config.toml"
    config.parent.mkdir(parents=True)
    # A command of the user's own is meant for the user's own server.
    config.write_text('[control]\nstart = ["/bin/false"]\nstop = ["/bin/false"]\n')
    try:
        with Terminal(DEMO, env=environment(TMPDIR=str(temporary), HOME=str(home))) as terminal:
            terminal.wait_until(lambda: seen(terminal, "PREFILL|DECODE"), "a request", 30)
            for key, action in (("R", "restart"), ("M", "restart"), ("P", "stop"), ("S", "start")):
                terminal.press(key)
                terminal.wait_for(r"Do it\?")
                assert "(plain process)" in terminal.text
                if key == "M":
                    assert "no-mmap (copy) → mmap" in terminal.text
                    assert re.search(r"- +--no-mmap", terminal.text)
                terminal.press("y")
                terminal.wait_for(f"{action} done", 40)
                terminal.press("escape")
                terminal.wait_for("1 live")
                if key == "P":
                    terminal.wait_for("S start")
            terminal.wait_for("R restart")
            terminal.wait_for(r"\bmmap\b")
            terminal.press("K")
            terminal.wait_for("Signal ds4-server")
            terminal.wait_for("only after a stop has had its time")
            terminal.press("enter")
            terminal.wait_for("1 live")
            terminal.press("q")
            assert terminal.wait_exit() == 0
            assert terminal.left() == []
        assert processes_of(temporary) == []
        assert list(temporary.iterdir()) == []
        assert not (home / ".local").exists()
    finally:
        kill_quietly(processes_of(temporary))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_when_it_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as terminal:
        terminal.wait_state("LOADING|IDLE|LOOKUP|PREFILL|DECODE")
        terminal.wait_until(lambda: len(processes_of(tmp_path)) >= 3, "keeper, server, clients")
        assert list(tmp_path.iterdir()) != []
        terminal.signal(number)
        assert terminal.wait_exit() == 128 + number
        terminal.wait_outside(lambda: not processes_of(tmp_path), "its processes end")
        terminal.wait_outside(lambda: not list(tmp_path.iterdir()), "its folder is removed")
