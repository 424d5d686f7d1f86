"""The control commands on real processes: exit codes, roll-back, refusals, ``run``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_kit import DEADLINE_S, SECRET, Box, eventually
from terminal import Terminal

from ds4top.control.capture import capture
from ds4top.control.hold import identity_of
from ds4top.control.journal import Journal
from ds4top.control.recover import started_by_us
from ds4top.control.turn import Turn
from ds4top.control.wayback import WayBack

# A server whose start fails in the other mode, as one that has no memory for a copy.
PICKY = """
import runpy, sys
if "--no-mmap" in sys.argv and "--help" not in sys.argv:
    print("ds4: CUDA error: out of memory", file=sys.stderr)
    sys.exit(1)
sys.argv[0] = "ds4-server"
runpy.run_module("ds4top.standin", run_name="__main__")
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box without a server yet."""
    made = Box(tmp_path)
    yield made
    made.close()


def picky(box: Box) -> tuple[str, ...]:
    """The program that starts in one mode only."""
    path = box.home / "picky.py"
    path.write_text(PICKY)
    return (sys.executable, str(path))


def test_a_dry_run_prints_the_plan_and_does_nothing(box: Box) -> None:
    pid = box.start("--kv-disk-dir", box.home / "kv")
    code, plan = box.plan("restart", "--no-mmap")
    assert code == 0
    assert plan["schema"] == "ds4top.plan/1"
    assert set(plan) >= {
        "action", "target", "supervisor", "steps", "argv_before", "argv_after", "env_set",
        "env_unset", "residency_before", "residency_after", "lost", "start_s_estimate",
        "headroom_after_bytes", "refused",
    }  # fmt: skip
    target = identity_of(pid)[0]
    assert plan["target"] | {"start_time": None} == {
        "pid": pid, "start_time": None, "start_ticks": target.start_ticks,
        "boot_id": target.boot_id, "comm": "ds4-server",
    }  # fmt: skip
    assert plan["target"]["start_time"].startswith("20")
    assert plan["argv_after"] == [*plan["argv_before"], "--no-mmap"]
    assert (plan["env_set"], plan["env_unset"], plan["refused"]) == ({}, [], None)
    assert plan["residency_after"] == "copy"
    assert plan["start_s_estimate"] == 57.0
    assert all(isinstance(step, str) for step in plan["steps"])
    assert SECRET not in json.dumps(plan)
    assert box.servers() == [pid]
    assert not (box.state / "journal.jsonl").exists()
    text = box.ds4top("restart", "--no-mmap", "--dry-run").stdout
    assert "+ --no-mmap" in text
    assert "one SIGTERM" in text


def test_switch_there_and_back_park_and_start(box: Box) -> None:
    pid = box.start("--kv-disk-dir", box.home / "kv")
    before = capture(pid)
    there = box.ds4top("restart", "--no-mmap", "--yes", "--force")
    assert there.returncode == 0, there.stdout + there.stderr
    (second,) = box.servers()
    assert capture(second).argv == (*before.argv, "--no-mmap")
    assert box.ds4top("restart", "--mmap", "--yes", "--force").returncode == 0
    (third,) = box.servers()
    assert capture(third) == before
    assert box.ds4top("stop", "--yes").returncode == 0
    assert box.servers() == []
    assert box.text().count("shutdown requested, draining") == 3
    none = box.ds4top("stop", "--yes")
    assert (none.returncode, "no server is running" in none.stderr) == (3, True)
    assert box.plan("restart")[0] == 3
    back = box.ds4top("start", "--yes", "--force")
    assert back.returncode == 0, back.stdout + back.stderr
    (fourth,) = box.servers()
    assert capture(fourth) == before
    told = started_by_us(Journal(box.state / "journal.jsonl"), identity_of(fourth)[0])
    assert told.startswith("ds4top start, by ")
    again = box.ds4top("start", "--yes")
    assert again.returncode == 2
    assert f"it runs already: ds4-server {fourth}" in again.stderr
    for path in box.state.glob("*.json*"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert SECRET not in path.read_text()


def test_nothing_is_done_without_a_yes(box: Box) -> None:
    pid = box.start()
    done = box.ds4top("stop")
    assert done.returncode == 64
    assert "--yes" in done.stderr
    assert box.ds4top("restart", "--json").returncode == 64
    assert box.servers() == [pid]
    assert "shutdown" not in box.text()


def test_on_a_terminal_only_yes_is_yes(box: Box) -> None:
    pid = box.start()
    for answer, code in (("", 2), ("n", 2), ("yess", 2), ("y", 0)):
        with Terminal(box.command("stop"), env=box.environment(TERM="xterm")) as screen:
            screen.wait_for(r"Do it\? \[y/N\]", DEADLINE_S)
            assert box.servers() == [pid]
            screen.type(f"{answer}\r")
            assert screen.wait_exit(DEADLINE_S) == code
    assert box.servers() == []


def test_read_only_refuses_by_flag_and_by_config(box: Box) -> None:
    pid = box.start()
    for words, more in (
        (("--read-only",), {}),
        ((), {"DS4TOP_CONTROL_READ_ONLY": "1"}),
    ):
        done = box.ds4top("restart", "--yes", *words, **more)
        assert done.returncode == 2
        assert "read-only" in done.stderr
        code, plan = box.plan("stop", *words, **more)
        assert (code, plan["steps"]) == (2, [])
        assert plan["refused"].startswith("read-only")
    assert box.ds4top("run", "--read-only", "--", *box.argv()).returncode == 2
    assert box.servers() == [pid]


def test_another_ds4top_has_the_turn(box: Box) -> None:
    pid = box.start()
    with Turn(box.state / "turn", "restart"):
        done = box.ds4top("stop", "--yes")
        assert done.returncode == 2
        assert f"pid {os.getpid()}, " in done.stderr
    assert box.servers() == [pid]


def test_a_start_that_fails_is_rolled_back(box: Box) -> None:
    pid = box.start(program=picky(box))
    before = capture(pid)
    done = box.ds4top("restart", "--no-mmap", "--yes", "--force")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "out of memory" in done.stdout
    assert "taken back" in done.stdout
    (now,) = box.servers()
    assert now != pid
    assert capture(now) == before
    last = [e for e in Journal(box.state / "journal.jsonl").entries() if e.kind == "outcome"]
    assert [entry.data["done"] for entry in last] == [False, True]


def test_without_roll_back_it_stays_down_and_start_brings_it_back(box: Box) -> None:
    before = capture(box.start(program=picky(box)))
    done = box.ds4top("restart", "--no-mmap", "--yes", "--force", "--no-rollback")
    assert done.returncode == 1
    assert box.servers() == []
    assert WayBack(box.state).parked() is not None
    assert box.ds4top("start", "--yes", "--force").returncode == 0
    (now,) = box.servers()
    assert capture(now) == before


def test_the_same_launch_is_not_tried_twice(box: Box) -> None:
    box.start()
    box.model.unlink()
    done = box.ds4top("restart", "--yes", "--force")
    assert done.returncode == 1
    assert "model not found" in done.stdout
    assert "ds4top start" in done.stdout
    assert box.text().count("shutdown requested, draining") == 1
    assert box.servers() == []


def test_a_stop_that_does_not_end_is_left_and_no_second_signal_is_sent(box: Box) -> None:
    pid = box.start("--standin-fail", "hang")
    send(box, "x")
    eventually(lambda: "prompt start" in box.text(), "a request")
    with subprocess.Popen(
        box.command("stop", "--yes"), env=box.environment(), cwd=box.home, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    ) as child:  # fmt: skip
        eventually(lambda: "shutdown requested" in box.text(), "the signal")
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == 1
    assert "goes on by itself" in out
    again = box.ds4top("stop", "--yes")
    assert again.returncode == 2
    assert "second signal" in again.stderr
    assert box.servers() == [pid]
    assert box.text().count("shutdown requested") == 1


def send(box: Box, prompt: str) -> None:
    """A completion whose answer nobody waits for."""
    import socket

    body = json.dumps({"prompt": prompt, "max_tokens": 4}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    sock = socket.create_connection(("127.0.0.1", box.port), DEADLINE_S)
    sock.sendall(head.encode() + body)
    KEPT.append(sock)


KEPT: list[object] = []


def test_a_server_of_another_user_gives_the_command_to_run_instead() -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        print("not run: needs root and setpriv to be another user")
        return
    home = Path(tempfile.mkdtemp(prefix="ds4top-other-"))
    box = Box(home)
    try:
        pid = box.start()
        other = home / "other"
        other.mkdir()
        os.chown(other, 65534, 65534)
        home.chmod(0o755)
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        env = box.environment(HOME=str(other), XDG_STATE_HOME=str(other / "state"))
        done = subprocess.run(
            [*words, *box.command("stop", "--yes", "--pid", pid)], env=env, cwd="/",
            capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        assert "it belongs to root; as that user: sudo -u root ds4top stop" in done.stderr
        assert box.servers() == [pid]
    finally:
        box.close()
        shutil.rmtree(home)


# run ----------------------------------------------------------------------------------------


def test_run_starts_one_that_outlives_ds4top_and_keeps_five_logs(box: Box) -> None:
    program = box.bin / "ds4-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ds4top.standin "$@"\n')
    program.chmod(0o755)
    argv = ["ds4-server", *box.argv()[3:]]
    logs = box.state / "logs"
    for number in range(7):
        done = box.ds4top("run", "--", *argv)
        assert done.returncode == 0, done.stdout + done.stderr
        (pid,) = box.servers()
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/fd/2") == str(logs / "ds4-server.log")
        assert "listening on" in (logs / "ds4-server.log").read_text()
        if number == 0:
            twice = box.ds4top("run", "--", *argv)
            assert twice.returncode == 2
            assert f"it runs already: ds4-server {pid}" in twice.stderr
            moved = box.ds4top("run", "--", *argv, "--port", "1")
            assert moved.returncode == 2
            assert f"being written by process {pid}" in moved.stderr
            assert (logs / "ds4-server.log").stat().st_size > 0
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not box.servers(), "its end")
    assert sorted(path.name for path in logs.iterdir()) == [
        "ds4-server.log", *(f"ds4-server.log.{n}" for n in range(1, 5)),
    ]  # fmt: skip
    assert all("listening on" in path.read_text() for path in logs.iterdir())


def test_a_restart_rotates_ds4tops_own_log(box: Box) -> None:
    assert box.ds4top("run", "--", *box.argv()).returncode == 0
    (first,) = box.servers()
    assert box.ds4top("restart", "--yes", "--force").returncode == 0
    (second,) = box.servers()
    assert first != second
    log = Path(os.readlink(f"/proc/{second}/fd/2"))
    assert "shutdown requested" in log.with_name(f"{log.name}.1").read_text()
    assert "shutdown requested" not in log.read_text()


def test_run_says_why_it_failed(box: Box) -> None:
    done = box.ds4top("run", "--", *box.argv("--no-such-flag"))
    assert done.returncode == 1
    assert "unknown option" in done.stdout
    assert box.ds4top("run", "--", "no-such-program").returncode == 2
    assert box.ds4top("run").returncode == 64
