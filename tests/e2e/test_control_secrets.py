"""No secret of a server's command line or environment leaves an action: looked for everywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_kit import DEADLINE_S, SECRET, Box
from terminal import Terminal

from ds4top.control.capture import capture

# A server that takes a key, fails in the other mode, and repeats then what it was given.
TALKER = """
import os, runpy, sys
words = sys.argv[1:]
if "--api-key" in words:
    at = words.index("--api-key")
    key = words[at + 1]
    del words[at:at + 2]
    if "--no-mmap" in words and "--help" not in words:
        print("ds4: key", key, "password", os.environ["DB_PASSWORD"], file=sys.stderr)
        print("ds4: CUDA error: out of memory", file=sys.stderr)
        sys.exit(1)
sys.argv = ["ds4-server", *words]
runpy.run_module("ds4top.standin", run_name="__main__")
"""
KEY = "hush-of-the-command-line"
ENVIRONMENT = {
    "HF_TOKEN": SECRET,
    "DS4_API_KEY": "hush-of-a-variable-of-ds4",
    "DB_PASSWORD": "hush-of-a-variable-of-others",
}
SECRETS = (KEY, *ENVIRONMENT.values())
WAY_BACK = {"parked.json", "switched.json"}
"""The only files that may hold what a start needs."""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box without a server yet."""
    made = Box(tmp_path)
    yield made
    made.close()


def started(box: Box) -> int:
    """A server that was given secrets by both ways; they do arrive."""
    program = box.home / "talker.py"
    program.write_text(TALKER)
    pid = box.start("--api-key", KEY, program=(sys.executable, str(program)), **ENVIRONMENT)
    seen = capture(pid)
    assert KEY in seen.argv
    assert set(ENVIRONMENT.values()) <= set(dict(seen.env).values())
    return pid


def clean(text: str, where: str) -> None:
    """None of them stands in a text."""
    assert [secret for secret in SECRETS if secret in text] == [], where


def files_are_clean(box: Box) -> None:
    """Nothing that was kept holds one but the way back; nobody else may read any."""
    kept = [path for path in box.state.rglob("*") if path.is_file()]
    assert "journal.jsonl" in {path.name for path in kept}
    for path in kept:
        assert path.stat().st_mode & 0o777 == 0o600, path
        if path.name not in WAY_BACK:
            clean(path.read_bytes().decode("utf-8", "replace"), str(path))
    for folder in (box.state, *(path for path in box.state.rglob("*") if path.is_dir())):
        assert folder.stat().st_mode & 0o077 == 0, folder


def test_commands_tell_none(box: Box) -> None:
    pid = started(box)
    before = capture(pid)
    for words in (("restart",), ("restart", "--no-mmap"), ("stop",)):
        for form in ((), ("--json",)):
            done = box.ds4top(*words, "--dry-run", *form)
            assert done.returncode == 0, done.stderr
            assert ("***" in done.stdout) == (words != ("stop",) or bool(form))
            clean(done.stdout + done.stderr, f"{words} {form}")
    # It fails, says what it was given, and is taken back.
    failed = box.ds4top("restart", "--no-mmap", "--yes", "--force")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "ds4: key *** password ***" in failed.stdout
    assert "taken back" in failed.stdout
    clean(failed.stdout + failed.stderr, "the failure")
    files_are_clean(box)
    (now,) = box.servers()
    assert capture(now) == before
    assert box.ds4top("stop", "--yes").returncode == 0
    assert KEY in (box.state / "parked.json").read_text()
    files_are_clean(box)
    assert box.ds4top("start", "--yes", "--force").returncode == 0
    files_are_clean(box)
    assert not (box.state / "parked.json").exists()
    (now,) = box.servers()
    clean(box.ds4top("status", "--json", "--pid", now).stdout, "status")


def test_an_unknown_option_is_told_without_its_value(box: Box) -> None:
    done = box.ds4top("run", "--", *box.argv(f"--api-key={KEY}"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "unknown option --api-key=***" in done.stdout
    clean(done.stdout + done.stderr, "run")
    journal = (box.state / "journal.jsonl").read_text()
    assert json.loads(journal.splitlines()[-1])["done"] is False
    clean(journal, "the journal")


def test_the_screen_shows_none(box: Box) -> None:
    started(box)
    env = box.environment(TERM="xterm-256color", LC_ALL="C.UTF-8", **ENVIRONMENT)
    with Terminal(box.command("--interval", "0.25"), size=(120, 40), env=env) as terminal:
        terminal.wait_for("M no-mmap", DEADLINE_S)
        terminal.press("5")
        terminal.wait_for(r"--api-key")
        terminal.press("M")
        terminal.wait_for(r"Do it\?", DEADLINE_S)
        assert "--api-key '***'" in terminal.text
        terminal.press("y")
        terminal.wait_for(r"ds4: key \*\*\* password \*\*\*", DEADLINE_S)
        terminal.press("b")
        terminal.wait_for("restart failed; taken back", DEADLINE_S)
        terminal.press("escape")
        terminal.wait_for("1 live")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        clean(bytes(terminal.raw).decode("utf-8", "replace"), "the terminal")
    files_are_clean(box)
