"""The acting keys on a real terminal, on a real stand-in: what they ask, do, show and leave."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from control_kit import DEADLINE_S, Box, eventually
from terminal import Terminal

from ds4top.control.capture import capture
from ds4top.control.hold import identity_of
from ds4top.control.journal import Journal
from ds4top.control.turn import Turn
from ds4top.control.wayback import WayBack

SIZE = (120, 40)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box without a server yet."""
    made = Box(tmp_path)
    yield made
    made.close()


@contextmanager
def screen(box: Box, *words: object, **more: str) -> Iterator[Terminal]:
    """The dashboard over the box's server."""
    env = box.environment(TERM="xterm-256color", LC_ALL="C.UTF-8", **more)
    command = box.command("--interval", "0.25", *words)
    with Terminal(command, size=SIZE, env=env) as terminal:
        terminal.wait_for(r"1 live")
        yield terminal


def sees(terminal: Terminal, pid: int) -> None:
    """Wait until the header names this process."""
    terminal.wait_until(lambda: f"ds4-server {pid}" in terminal.header, f"pid {pid}", DEADLINE_S)


def agree(terminal: Terminal, key: str) -> str:
    """Press an acting key, see the plan, say yes; gives the plan as it stood on the screen."""
    terminal.press(key)
    terminal.wait_for(r"Do it\?|Type START", DEADLINE_S)
    shown = terminal.text
    if "Type START" in shown:
        terminal.settle()
        terminal.type("START\r")
    else:
        terminal.press("y")
    return shown


def done(terminal: Terminal, words: str) -> None:
    """Wait until the action has ended well, and close its screen."""
    terminal.wait_for(rf"{words} done", DEADLINE_S)
    terminal.press("escape")
    terminal.wait_for("1 live")


def post(box: Box, prompt: str, tokens: int = 4) -> dict[str, object]:
    """One completion, waited for."""
    body = json.dumps({"prompt": prompt, "max_tokens": tokens}).encode()
    url = f"http://127.0.0.1:{box.port}/v1/completions"
    with urllib.request.urlopen(url, body, DEADLINE_S) as reply:
        return dict(json.loads(reply.read()))


def send(box: Box, prompt: str, tokens: int) -> socket.socket:
    """A completion whose answer nobody waits for."""
    body = json.dumps({"prompt": prompt, "max_tokens": tokens}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    sock = socket.create_connection(("127.0.0.1", box.port), DEADLINE_S)
    sock.sendall(head.encode() + body)
    return sock


def outcomes(box: Box) -> list[dict[str, object]]:
    """How the actions of the journal ended."""
    entries = Journal(box.state / "journal.jsonl").entries()
    return [entry.data for entry in entries if entry.kind == "outcome"]


def test_restart_switch_park_and_start(box: Box) -> None:
    first = box.start("--kv-disk-dir", box.home / "kv")
    before = capture(first)
    with screen(box) as terminal:
        sees(terminal, first)
        terminal.wait_for(r"R restart +M \S+ +P park")
        plan = agree(terminal, "R")
        assert f"Restart: ds4-server {first} (plain process" in plan
        assert "one SIGTERM" in plan
        done(terminal, "restart")
        (second,) = box.servers()
        assert second != first
        assert capture(second) == before
        sees(terminal, second)
        terminal.wait_for(r"ds4top restart, by \w+, \d\d \w{3} \d\d:\d\d")
        # The other mode than the one it has: its log told mmap.
        terminal.wait_for("M no-mmap")
        plan = agree(terminal, "M")
        assert re.search(r"\+ +--no-mmap", plan)
        done(terminal, "restart")
        (third,) = box.servers()
        assert capture(third).argv == (*before.argv, "--no-mmap")
        sees(terminal, third)
        terminal.wait_for(r"ds4top restart mmap → copy, by")
        plan = agree(terminal, "P")
        assert "Park (stop, and keep the way back)" in plan
        done(terminal, "stop")
        assert box.servers() == []
        terminal.wait_state("STOPPED", DEADLINE_S)
        terminal.wait_for(rf"S starts  no-mmap \(copy\)  port {box.port}  parked \d\d:\d\d")
        assert "R restart" not in terminal.text
        agree(terminal, "S")
        done(terminal, "start")
        (fourth,) = box.servers()
        assert capture(fourth).argv == (*before.argv, "--no-mmap")
        sees(terminal, fourth)
        terminal.press("5")
        terminal.wait_for("LAST ACTIONS")
        for words in (r"restart mmap → copy", r"stop .*stop done", r"start .*start done, pid"):
            terminal.wait_for(words)
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.left() == []
    assert box.servers() == [fourth]
    assert box.text().count("shutdown requested, draining") == 3
    assert [each["done"] for each in outcomes(box)] == [True] * 4


def test_enter_escape_and_n_do_nothing(box: Box) -> None:
    pid = box.start()
    with screen(box) as terminal:
        sees(terminal, pid)
        for key in ("R", "P"):
            for no in ("enter", "escape", "n"):
                terminal.press(key)
                terminal.wait_for(r"Do it\?|Type START", DEADLINE_S)
                terminal.press(no)
                terminal.wait_for("1 live")
        # Yes before anything is shown is no yes.
        terminal.press("P", "y")
        terminal.wait_for(r"Do it\?", DEADLINE_S)
        terminal.settle(0.3)
        assert "Do it?" in terminal.text
        terminal.press("enter")
        terminal.wait_for("1 live")
        terminal.press("q")
        assert terminal.wait_exit() == 0
    assert box.servers() == [pid]
    assert "shutdown" not in box.text()
    assert outcomes(box) == []


def test_a_restart_during_decode_tells_what_is_lost_and_the_next_turn_is_a_disk_hit(
    box: Box,
) -> None:
    first = box.start("--kv-disk-dir", box.home / "kv", "--standin-speed", 2)
    prompt = "The quick brown fox reads a long and quiet letter. " * 300
    answer = post(box, prompt)
    words = answer["choices"][0]["text"]  # type: ignore[index]
    with screen(box) as terminal:
        sees(terminal, first)
        terminal.wait_state("IDLE", DEADLINE_S)
        sock = send(box, prompt + words + " Go on. ", 4000)
        terminal.wait_state("DECODE", DEADLINE_S)
        plan = agree(terminal, "R")
        assert re.search(r"lost: the request in flight \(decode of [\d,]+ tokens", plan)
        terminal.wait_for(r"saved [\d,]+ tokens, [\d.,]+ MiB, in [\d.,]+ ms", DEADLINE_S)
        done(terminal, "restart")
        sock.close()
        (second,) = box.servers()
        sees(terminal, second)
        assert box.text().count("shutdown requested, draining") == 1
        post(box, prompt + words + " Go on. ")
        terminal.wait_for(r"hot, disk", DEADLINE_S)
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_what_was_restarted_outlives_ds4top_and_the_next_one_says_who_did_it(box: Box) -> None:
    first = box.start()
    with screen(box) as terminal:
        sees(terminal, first)
        agree(terminal, "R")
        done(terminal, "restart")
        terminal.press("q")
        assert terminal.wait_exit() == 0
    (second,) = box.servers()
    assert os.getsid(second) == second
    size = box.log.stat().st_size
    post(box, "hello")
    assert box.log.stat().st_size > size
    with screen(box) as terminal:
        sees(terminal, second)
        terminal.wait_for(r"ds4top restart, by \w+, \d\d \w{3} \d\d:\d\d")
        terminal.press("5")
        terminal.wait_for(r"started by ds4top restart, by")
        terminal.press("q")
        assert terminal.wait_exit() == 0


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("--read-only",), {}),
        ((), {"DS4TOP_CONTROL_READ_ONLY": "1"}),
        (("--url", "http://192.0.2.7:8000"), {}),
    ],
    ids=["flag", "config", "url"],
)
def test_read_only_takes_the_keys_away(
    box: Box, words: tuple[str, ...], more: dict[str, str]
) -> None:
    pid = box.start()
    with screen(box, *words, **more) as terminal:
        sees(terminal, pid)
        terminal.wait_until(lambda: "read-only" in terminal.header, "read-only in the header")
        assert "restart" not in terminal.lines[-1]
        for key in "RMPSK":
            terminal.press(key)
            terminal.wait_until(
                lambda: terminal.lines[-2].strip().startswith("read-only: "), "why not"
            )
            terminal.settle(0.2)
            assert "1 live" in terminal.lines[-1]
        terminal.press("question_mark")
        terminal.wait_for("KEYS")
        terminal.press("G")
        terminal.settle(0.2)
        assert "Restart the server" not in terminal.text
        terminal.press("escape")
        terminal.wait_for("1 live")
        terminal.press("colon")
        terminal.settle(0.3)
        terminal.type("restart")
        terminal.settle(0.3)
        assert "Restart the server" not in terminal.text
        terminal.press("ctrl+c")
        assert terminal.wait_exit() == 0
    assert box.servers() == [pid]
    assert "shutdown" not in box.text()


def test_a_server_of_another_user_shows_the_command_to_run(tmp_path: Path) -> None:
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
        env = box.environment(
            HOME=str(other), XDG_STATE_HOME=str(other / "state"), TERM="xterm-256color",
            LC_ALL="C.UTF-8",
        )  # fmt: skip
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [*words, *box.command("--pid", pid, "--interval", "0.25")]
        with Terminal(command, size=SIZE, env=env) as terminal:
            sees(terminal, pid)
            terminal.wait_until(lambda: "read-only" in terminal.header, "read-only")
            terminal.press("P")
            terminal.wait_for(r"belongs to root; as that user: sudo -u root ds4top stop")
            terminal.press("5")
            terminal.wait_for(r"belongs to root; as that user: sudo -u root ds4top restart")
            terminal.press("q")
            assert terminal.wait_exit() == 0
        assert box.servers() == [pid]
    finally:
        box.close()
        shutil.rmtree(home)


def test_without_headroom_only_the_typed_word_starts_it(box: Box) -> None:
    with box.model.open("r+b") as file:
        # No machine of these days has room for it; the file itself is a hole.
        file.truncate(4 << 40)
    pid = box.start("--standin-model-gib", "0.1")
    with screen(box) as terminal:
        sees(terminal, pid)
        agree(terminal, "P")
        done(terminal, "stop")
        terminal.wait_for("S start")
        for word in ("y\r", "start\r"):
            terminal.press("S")
            terminal.wait_for("Type START and Enter", DEADLINE_S)
            terminal.settle()
            terminal.type(word)
            terminal.wait_for("is not (START|KILL): nothing is done")
            terminal.press("escape")
            terminal.wait_for("1 live")
        terminal.press("S")
        terminal.wait_for("Type START and Enter", DEADLINE_S)
        terminal.settle()
        terminal.press("enter")
        terminal.wait_for("1 live")
        assert box.servers() == []
        assert "Type START" in agree(terminal, "S")
        done(terminal, "start")
        terminal.press("q")
        assert terminal.wait_exit() == 0
    (second,) = box.servers()
    assert second != pid


def test_two_ds4tops_take_turns_on_the_screen(box: Box) -> None:
    pid = box.start()
    with screen(box) as terminal:
        sees(terminal, pid)
        with Turn(box.state / "turn", "restart"):
            terminal.press("R")
            terminal.wait_for(rf"another ds4top is acting.*pid {os.getpid()}, .*restart")
            terminal.press("y")
            terminal.press("enter")
            terminal.wait_for("1 live")
        terminal.press("q")
        assert terminal.wait_exit() == 0
    assert box.servers() == [pid]


PICKY = """
import runpy, sys
if "--no-mmap" in sys.argv and "--help" not in sys.argv:
    print("ds4: CUDA error: out of memory", file=sys.stderr)
    sys.exit(1)
sys.argv[0] = "ds4-server"
runpy.run_module("ds4top.standin", run_name="__main__")
"""


def test_a_start_that_fails_goes_back_by_one_key(box: Box) -> None:
    import sys

    program = box.home / "picky.py"
    program.write_text(PICKY)
    first = box.start(program=(sys.executable, str(program)))
    before = capture(first)
    with screen(box) as terminal:
        sees(terminal, first)
        terminal.wait_for("M no-mmap")
        agree(terminal, "M")
        terminal.wait_for("restart failed", DEADLINE_S)
        terminal.wait_for("out of memory")
        terminal.wait_for("b goes back to the last settings that worked")
        # Hidden, it stays until it was dealt with.
        assert box.servers() == []
        terminal.press("b")
        terminal.wait_for("restart failed; taken back", DEADLINE_S)
        terminal.press("escape")
        (second,) = box.servers()
        assert capture(second) == before
        sees(terminal, second)
        terminal.press("q")
        assert terminal.wait_exit() == 0


@contextmanager
def draining(box: Box) -> Iterator[tuple[Terminal, int]]:
    """A park that goes on: its server never comes to an end."""
    pid = box.start("--standin-fail", "hang")
    with contextlib.closing(send(box, "x", 4)):
        eventually(lambda: "prompt start" in box.text(), "a request")
        with screen(box) as terminal:
            sees(terminal, pid)
            agree(terminal, "P")
            terminal.wait_for(r"→ wait until it has drained", DEADLINE_S)
            yield terminal, pid


def test_what_goes_on_can_be_hidden_and_comes_back(box: Box) -> None:
    with draining(box) as (terminal, pid):
        terminal.press("escape")
        terminal.wait_for("1 live")
        terminal.wait_until(lambda: "park 2/2" in terminal.header, "the header says so")
        terminal.wait_for("R shows the park")
        for key in "RPK":
            terminal.press(key)
            terminal.wait_for(r"→ wait until it has drained")
            terminal.press("escape")
            terminal.wait_for("1 live")
        assert box.servers() == [pid]
        assert box.text().count("shutdown requested") == 1


@pytest.mark.parametrize("way", ["q", "ctrl+c", "SIGTERM", "SIGHUP", "terminal"])
def test_leaving_meanwhile_hangs_nothing_and_the_next_one_tells_the_truth(
    box: Box, way: str
) -> None:
    with draining(box) as (terminal, pid):
        if way in ("q", "ctrl+c"):
            terminal.press(way)
            terminal.wait_for(r"End ds4top now\?")
            terminal.wait_for("drains, saves its KV cache and ends by itself")
            terminal.press("enter")
            terminal.wait_for(r"→ wait until it has drained")
            terminal.press(way)
            terminal.wait_for(r"End ds4top now\?")
            terminal.press("y")
            assert terminal.wait_exit() == 0
            assert "park was left in step 2 of 2" in terminal.after
        elif way == "terminal":
            # Its other end is closed, as by a connection that is lost.
            os.close(terminal._master)
            terminal._master = os.open(os.devnull, os.O_RDWR)
            assert terminal.process.wait(DEADLINE_S) == 129
        else:
            terminal.signal(getattr(signal, way))
            assert terminal.wait_exit() == 128 + getattr(signal, way)
        if way != "terminal":
            assert terminal.left() == []
        assert box.servers() == [pid]
        assert [each["done"] for each in outcomes(box)] == [False]
        assert "told to stop waiting" in str(outcomes(box)[0]["reason"])
        with screen(box) as again:
            sees(again, pid)
            again.press("P")
            again.wait_for("a second signal would end it with nothing saved", DEADLINE_S)
            again.press("enter")
            again.wait_for("1 live")
            again.press("K")
            again.wait_for(r"KILL in \d", DEADLINE_S)
            again.press("q")
            assert again.wait_exit() == 0
        assert box.text().count("shutdown requested") == 1


def test_kill_after_the_time_of_term_by_the_typed_word_only(box: Box) -> None:
    pid = box.start("--standin-fail", "hang")
    with contextlib.closing(send(box, "x", 4)):
        eventually(lambda: "prompt start" in box.text(), "a request")
        with screen(box, DS4TOP_CONTROL_GRACE_S="10") as terminal:
            sees(terminal, pid)
            terminal.press("K")
            terminal.wait_for("only after a stop has had its time", DEADLINE_S)
            terminal.press("K")
            terminal.settle(0.3)
            terminal.wait_for("Signal ds4-server")
            terminal.press("t")
            terminal.wait_for(r"Do it\?", DEADLINE_S)
            terminal.press("y")
            terminal.wait_for("still there after 10 s; it was not killed", DEADLINE_S)
            terminal.press("K")
            terminal.wait_for("KILL   at once", DEADLINE_S)
            terminal.wait_until(lambda: "looking" not in terminal.text, "both were looked at")
            terminal.press("K")
            terminal.wait_for("Type KILL and Enter", DEADLINE_S)
            terminal.settle()
            terminal.type("kill\r")
            terminal.wait_for("is not (START|KILL): nothing is done")
            assert box.servers() == [pid]
            terminal.type("KILL\r")
            terminal.wait_for("kill done", DEADLINE_S)
            terminal.press("escape")
            terminal.wait_for("S start", DEADLINE_S)
            terminal.press("q")
            assert terminal.wait_exit() == 0
    assert box.servers() == []
    assert WayBack(box.state).parked() is not None


def test_a_kill_of_ds4top_in_the_middle_is_told_by_the_next(box: Box) -> None:
    with draining(box) as (terminal, pid):
        terminal.process.kill()
        terminal.process.wait()
        with screen(box) as again:
            sees(again, pid)
            again.wait_for("ds4top was ended during stop", DEADLINE_S)
            again.wait_for("it drains")
            again.press("q")
            assert again.wait_exit() == 0
    os.kill(pid, signal.SIGKILL)
    for child in box.children:
        child.wait()
    with screen(box) as last:
        last.wait_for("how it was started is kept", DEADLINE_S)
        last.wait_for("S start", DEADLINE_S)
        agree(last, "S")
        last.wait_for("start done", DEADLINE_S)
        last.press("q")
        assert last.wait_exit() == 0
    assert identity_of(box.servers()[0])[0].comm == "ds4-server"


def test_nothing_of_control_is_imported_before_the_first_paint() -> None:
    code = (
        "import sys, ds4top.launch, ds4top.ui.app, ds4top.demo\n"
        "print([name for name in sys.modules if name.startswith('ds4top.control')])\n"
    )
    found = subprocess.run(
        ["python", "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert found.stdout.strip() == "[]"
