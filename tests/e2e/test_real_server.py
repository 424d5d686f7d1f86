"""What the controls know of a server's help and failures, on the stand-in and on a real binary.

``DS4TOP_REAL_SERVER`` names a real ``ds4-server``; no model and no GPU is needed for any of this.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ds4top.control.comeup import told, why_failed
from ds4top.sources.helpflags import HelpFlags
from ds4top.standin.demo import free_port, python_environment

STANDIN = (sys.executable, "-m", "ds4top.standin", "--standin-profile=daily-agent")
REAL = os.environ.get("DS4TOP_REAL_SERVER", "")
MOST_S = 60.0


@pytest.fixture(params=["stand-in", "real"])
def program(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The words that start one; none where no real one is given."""
    if request.param == "stand-in":
        return STANDIN
    if not REAL:
        print("not run: DS4TOP_REAL_SERVER names no ds4-server")
    return (REAL,) if REAL else ()


def failed(program: tuple[str, ...], home: Path, *words: object) -> tuple[int, str]:
    """Exit status of a start that must fail, and what ds4top makes of it."""
    log = home / "server.log"
    env = python_environment() | {"DS4_LOCK_FILE": str(home / "lock")}
    with log.open("wb") as out:
        done = subprocess.run(
            [*program, *map(str, words), "--port", str(free_port())], stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, env=env, cwd=home, check=False, timeout=MOST_S,
        )  # fmt: skip
    state = told(log, 0, time.time())
    return done.returncode, why_failed(state, time.time(), done.returncode)


def test_its_help_is_read(program: tuple[str, ...]) -> None:
    if not program:
        return
    env = tuple(python_environment().items())
    found = HelpFlags(None).read(program, program[0], env, "/")
    assert found.flags is not None, found.why
    names = {name for flag in found.flags for name in flag.names}
    assert names >= {"--ctx", "--port", "--host", "--kv-disk-dir", "--kv-disk-space-mb"}


def test_an_unknown_option_is_told(program: tuple[str, ...], tmp_path: Path) -> None:
    if program:
        code, why = failed(program, tmp_path, "--no-such-flag")
        assert code == 2
        assert why.startswith("unknown option --no-such-flag: this build does not have it")
        assert why.endswith(": exit status 2")


def test_a_missing_model_is_told(program: tuple[str, ...], tmp_path: Path) -> None:
    if program:
        code, why = failed(program, tmp_path, "-m", tmp_path / "none.gguf")
        assert code == 1, why
        assert why.endswith(": exit status 1")
        assert "none.gguf" in why


def test_a_held_lock_is_told(program: tuple[str, ...], tmp_path: Path) -> None:
    if not program:
        return
    (tmp_path / "model.gguf").write_bytes(b"GGUF".ljust(64, b"\0"))
    with (tmp_path / "lock").open("w") as lock:
        lock.write(str(os.getpid()))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, why = failed(program, tmp_path, "-m", tmp_path / "model.gguf")
    assert (code, why) == (
        2, "another ds4 process is already running: the lock is held: exit status 2",
    )  # fmt: skip
