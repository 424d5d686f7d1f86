"""``ds4top restart`` killed with -9 in each step: the next one tells the truth and goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_kit import Box, eventually

from ds4top.control.capture import capture
from ds4top.control.journal import Journal

# The command as it is, which kills itself at the very write that says so: nothing races.
KILLED = """
import json, os, signal, sys
from pathlib import Path
journal, state, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real = os.fsync
def fsync(fd):
    real(fd)
    if os.readlink(f"/proc/self/fd/{fd}") == str(journal):
        last = json.loads(journal.read_text().splitlines()[-1])
        if (last["kind"], last.get("state"), last.get("step")) == ("step", state, step):
            os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
from ds4top.cli import main
sys.exit(main(sys.argv[4:]))
"""
AGED_S = 60.0
SIGNAL, GONE, MEMORY, SPAWN, ANSWER = range(5)
STEPS = [
    ("begun", SIGNAL),
    ("done", SIGNAL),
    ("begun", GONE),
    ("begun", MEMORY),
    ("begun", SPAWN),
    ("done", SPAWN),
    ("begun", ANSWER),
]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box without a server yet."""
    made = Box(tmp_path)
    yield made
    made.close()


def killed(box: Box, state: str, step: int, *words: object) -> list[dict[str, Any]]:
    """``ds4top restart --yes``, killed once the journal has that line; gives what it wrote."""
    journal = box.state / "journal.jsonl"
    code = [sys.executable, "-c", KILLED, str(journal), state, str(step)]
    ended = subprocess.run(
        [*code, "restart", "--yes", "--force", *map(str, words)], env=box.environment(),
        cwd=box.home, capture_output=True, text=True, check=False, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == -9, ended.stdout + ended.stderr
    entries = list(Journal(journal).entries())
    assert [entry.kind for entry in entries] == ["begun", *["step"] * (len(entries) - 1)]
    for path in box.state.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600 or path.is_dir()
    return [entry.data for entry in entries]


def status(box: Box, pid: int | None) -> dict[str, Any]:
    """What ``ds4top status`` says of this server, or of the log of the one that is gone."""
    words = ("--pid", pid) if pid is not None else ("--log", box.log)
    done = box.ds4top("status", "--json", *words)
    found = json.loads(done.stdout)["server"]
    assert isinstance(found, dict), done.stdout
    return found


def age(box: Box) -> None:
    """Let what the journal tells have been a while ago."""
    path = box.state / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    text = "".join(json.dumps({**line, "wall": line["wall"] - AGED_S}) + "\n" for line in lines)
    path.write_text(text)


@pytest.mark.parametrize("switch", [False, True], ids=["restart", "switch"])
@pytest.mark.parametrize(("state", "step"), STEPS, ids=lambda value: str(value))
def test_killed_in_a_step(box: Box, state: str, step: int, switch: bool) -> None:
    first = box.start("--kv-disk-dir", box.home / "kv")
    before = capture(first)
    words = ("--no-mmap",) if switch else ()
    wrote = killed(box, state, step, *words)
    where = wrote[0]["steps"][step]
    told = f"ds4top was ended during restart, {'in' if state == 'begun' else 'after'} step"
    told += f" {step + 1} of 5, “{where}”."

    if (state, step) == ("begun", SIGNAL):
        # Nobody knows whether it was sent: at first it is taken to be, then its log is the word.
        assert status(box, first)["state"] == "idle"
        soon = box.ds4top("stop", "--yes")
        assert soon.returncode == 2
        assert told in soon.stderr
        assert f"{first} was told to stop, or may have been" in soon.stderr
        age(box)
        goes_on = box.ds4top("restart", "--yes", "--force", *words)
    else:
        eventually(lambda: box.children[0].poll() is not None, "its end")
        if step < ANSWER and (state, step) != ("done", SPAWN):
            assert box.servers() == []
            assert status(box, None)["state"] == "stopped"
        else:
            eventually(lambda: box.text().count("listening on") == 2, "it comes up by itself")
            (pid,) = box.servers()
            assert status(box, pid)["state"] == "idle"
        goes_on = box.ds4top("start", "--yes", "--force", *words)
        assert told in goes_on.stderr
    (now,) = box.servers()
    started = (state, step) in (("done", SPAWN), ("begun", ANSWER))
    assert goes_on.returncode == (2 if started else 0), goes_on.stdout + goes_on.stderr
    assert (f"ds4-server {now} runs now." in goes_on.stderr) == started
    assert ("how it was started is kept" in goes_on.stderr) == (
        not started and (state, step) != ("begun", SIGNAL)
    )
    assert now != first
    after = capture(now)
    assert after.argv == (*before.argv, *words)
    assert (after.env, after.cwd) == (before.env, before.cwd)
    assert box.text().count("shutdown requested, draining") == 1
    # It is settled: nobody tells of it again, and what was switched can be switched back.
    assert Journal(box.state / "journal.jsonl").unfinished() == []
    if switch:
        again = box.ds4top("restart", "--mmap", "--yes", "--force")
        assert (again.returncode, "was ended" in again.stderr) == (0, False), again.stderr
        (last,) = box.servers()
        assert capture(last) == before
