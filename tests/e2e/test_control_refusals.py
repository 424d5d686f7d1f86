"""Starts that fail and actions that are refused, by the commands: exit code, reason, way on."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from control_kit import Box, eventually

from ds4top.control.capture import capture
from ds4top.control.hold import identity_of
from ds4top.core.process import DEMO_MARK
from ds4top.standin.demo import free_port

# A build of before the flag, of which no variable is known: its own words name none.
OLD = """
import runpy, sys
sys.argv[0] = "ds4-server"
runpy.run_module("ds4top.standin", run_name="__main__")
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box without a server yet."""
    made = Box(tmp_path)
    yield made
    made.close()


@contextmanager
def no_model(box: Box) -> Iterator[None]:
    """The model is elsewhere for a while."""
    kept = box.model.rename(box.home / "kept")
    yield
    kept.rename(box.model)


@contextmanager
def port_taken(box: Box) -> Iterator[None]:
    """Somebody else listens on its port."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", box.port))
        sock.listen()
        yield


@contextmanager
def lock_held(box: Box) -> Iterator[None]:
    """Another server has the lock, on a port of its own, and is not listed here."""
    log = box.home / "other.log"
    with log.open("wb") as out:
        other = subprocess.Popen(
            box.argv("--port", free_port()), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=box.environment(**{DEMO_MARK: "another"}), cwd=box.home,
        )  # fmt: skip
    box.children.append(other)
    eventually(lambda: "listening on" in log.read_text(), "the other")
    yield
    other.kill()
    other.wait()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (no_model, "model not found: "),
        (port_taken, "Address already in use"),
        (lock_held, "another ds4 process is already running: the lock is held: exit status 2"),
    ],
    ids=["model", "port", "lock"],
)
def test_a_start_that_fails_ends_with_1_says_why_and_can_be_tried_again(
    box: Box, harm: Callable[[Box], AbstractContextManager[None]], said: str
) -> None:
    before = capture(box.start())
    assert box.ds4top("stop", "--yes").returncode == 0
    with harm(box):
        failed = box.ds4top("start", "--yes", "--force")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "start failed" in failed.stdout
    assert said in failed.stdout
    assert "Last lines of its log" in failed.stdout
    assert "It can be brought back by: ds4top start" in failed.stdout
    again = box.ds4top("start", "--yes", "--force")
    assert again.returncode == 0, again.stdout + again.stderr
    (now,) = box.servers()
    assert capture(now) == before


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--no-such-flag",), "unknown option.*: exit status 2"),
        (("--chdir", "/no/such/folder"), "exit status 1"),
        (("--standin-fail", "oom"), r"killed by SIGKILL \(the OOM killer sends this one\)"),
    ],
    ids=["option", "exit", "oom"],
)
def test_a_first_start_that_fails_ends_with_1_and_says_how_it_ended(
    box: Box, extra: tuple[str, ...], said: str
) -> None:
    import re

    done = box.ds4top("run", "--", *box.argv(*extra))
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(said, done.stdout), done.stdout
    assert box.servers() == []


def refused(box: Box, pid: int, *words: object) -> str:
    """Why these words are refused; it is seen that nothing was done."""
    done = box.ds4top(*words, "--yes")
    assert done.returncode == 2, done.stdout + done.stderr
    assert box.servers() == [pid]
    assert "shutdown" not in box.text()
    assert not (box.state / "journal.jsonl").exists()
    assert not (box.state / "parked.json").exists()
    return done.stderr


def test_without_headroom_yes_is_not_enough(box: Box) -> None:
    with box.model.open("r+b") as file:
        # No machine of these days has room for it; the file itself is a hole.
        file.truncate(4 << 40)
    pid = box.start("--standin-model-gib", "0.1")
    # Where nobody can tell what its stop gives back, what the machine has at all is the measure.
    why = refused(box, pid, "restart")
    assert "weights, context and 8 GiB to spare are 4,10" in why
    assert "; --force starts it all the same" in why
    code, plan = box.plan("restart")
    assert (code, plan["confirm"]) == (0, "START")
    assert box.ds4top("stop", "--yes").returncode == 0
    start = box.ds4top("start", "--yes")
    assert start.returncode == 2
    assert "8 GiB to spare do not fit; --force starts it all the same" in start.stderr
    assert box.servers() == []


def test_a_build_that_has_no_way_to_be_told_says_so(tmp_path: Path) -> None:
    box = Box(tmp_path, "stock-2026-05")
    with contextlib.closing(box):
        program = box.home / "old.py"
        program.write_text(OLD)
        pid = box.start(program=(sys.executable, str(program)))
        for flag in ("--mmap", "--no-mmap"):
            why = refused(box, pid, "restart", flag)
            assert "this ds4-server has no way to be told: neither --no-mmap nor" in why
            assert "nor DS4_CUDA_DIRECT_MODEL in its executable" in why
            code, plan = box.plan("restart", flag)
            assert (code, plan["steps"], plan["refused"] in why) == (2, [], True)
        assert box.plan("restart")[1]["refused"] is None


def test_a_process_that_only_calls_itself_so_is_never_signalled(box: Box) -> None:
    # exec -a gives any program the name in argv; its comm is another.
    child = subprocess.Popen(["bash", "-c", "exec -a ds4-server sleep 60"], env=box.environment())
    box.children.append(child)
    eventually(lambda: identity_of(child.pid)[0].comm == "sleep", "its name")
    for action in ("stop", "restart"):
        done = box.ds4top(action, "--yes", "--pid", child.pid)
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"{child.pid} is sleep, no ds4-server or llama-server" in done.stderr
    assert child.poll() is None
