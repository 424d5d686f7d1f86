"""Plans run on real processes: the stand-in in its profiles, real signals, real files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ds4top.control.capture import capture
from ds4top.control.comeup import watcher
from ds4top.control.executor import Executor, MemoryNow, World
from ds4top.control.hold import Hold, NotTheTargetError, identity_of
from ds4top.control.journal import Journal
from ds4top.control.turn import HeldError, Turn, holder
from ds4top.control.wayback import WayBack
from ds4top.core.plan import (
    Action,
    Build,
    Facts,
    Flight,
    Mode,
    Outcome,
    Plan,
    Progress,
    Supervisor,
    Target,
)
from ds4top.core.planner import make_plan
from ds4top.core.switch import COPIES, DIRECT
from ds4top.standin.demo import free_port, python_environment
from ds4top.standin.proc import COMM

DEADLINE_S = 30.0
SECRET = "sk-do-not-show-me"
AGENT = Build(frozenset({"--no-mmap"}), frozenset())
STOCK = Build(frozenset(), frozenset({DIRECT, *COPIES}))
BUILDS = {"daily-agent": AGENT, "stock-2026-05": STOCK, "stock-2026-08": STOCK}


def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds; fail after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)  # A process of its own has no event to wait for.


@dataclass
class Box:
    """A machine with one server on it, and ds4top's own folder."""

    home: Path
    port: int
    profile: str
    pids: list[int]

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.home / "server.log"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def journal(self) -> Journal:
        """What was done."""
        return Journal(self.home / "state" / "journal.jsonl")

    @property
    def way_back(self) -> WayBack:
        """The way back."""
        return WayBack(self.home / "state")

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text() if self.log.exists() else ""

    def argv(self, *extra: object) -> list[str]:
        """The stand-in's command line."""
        words = ["-m", "ds4top.standin", "--standin-profile", self.profile]
        words += ["--standin-speed", "300", "--port", str(self.port), "-m"]
        return [sys.executable, *words, str(self.home / "model.gguf"), *map(str, extra)]

    def start(self, *extra: object) -> Target:
        """Start it as a shell would, and wait until it answers."""
        env = {k: v for k, v in python_environment().items() if not k.startswith("DS4")}
        env |= {"DS4_LOCK_FILE": str(self.home / "lock"), "HF_TOKEN": SECRET}
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                self.argv(*extra), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                cwd=self.home, umask=0o027,
            )  # fmt: skip
        self.pids.append(child.pid)
        eventually(lambda: "listening on" in self.text(), "listening")
        return self.target(child.pid)

    def target(self, pid: int) -> Target:
        """Its identity, once it has its name."""
        eventually(lambda: identity_of(pid)[0].comm == COMM, "its name")
        return identity_of(pid)[0]

    def facts(self, target: Target | None, **changes: object) -> Facts:
        """Facts as they are read from the running process."""
        spec = capture(target.pid) if target is not None else None
        base = Facts(target, spec, BUILDS[self.profile], Supervisor("none"), grace_s=DEADLINE_S)
        return replace(base, **changes)  # type: ignore[arg-type]

    def world(self) -> World:
        """The real machine, with memory enough."""
        return World(
            memory=lambda pid: MemoryNow(None, None),
            started=watcher(self.url, self.log, time.time),
            log_path=self.log,
        )

    def run(self, plan: Plan, emit: Callable[[Progress], None] = lambda p: None) -> Outcome:
        """Run a plan; what it starts is ended with the test."""
        executor = Executor(plan, self.world(), self.journal, self.way_back, emit)
        outcome = executor.run()
        if executor._child is not None:
            self.pids.append(executor._child.pid)
        return outcome

    def post(self, prompt: str, tokens: int = 4) -> dict[str, object]:
        """One completion."""
        import urllib.request

        body = json.dumps({"prompt": prompt, "max_tokens": tokens}).encode()
        with urllib.request.urlopen(f"{self.url}/v1/completions", body, DEADLINE_S) as reply:
            return dict(json.loads(reply.read()))

    def send(self, prompt: str, tokens: int) -> socket.socket:
        """A completion whose answer nobody waits for."""
        body = json.dumps({"prompt": prompt, "max_tokens": tokens}).encode()
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        head = f"POST /v1/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        return sock


@pytest.fixture(params=["daily-agent", "stock-2026-05", "stock-2026-08"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    """A box per profile."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF".ljust(64, b"\0"))
    made = Box(tmp_path, free_port(), request.param, [])
    yield made
    for pid in made.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


only_agent = pytest.mark.parametrize("box", ["daily-agent"], indirect=True)
PROMPT = "some words of a prompt. " * 700


def test_restart_starts_the_same_again(box: Box) -> None:
    target = box.start("--kv-disk-dir", "kv", "--ctx", 32768)
    before = capture(target.pid)
    box.post(PROMPT)
    seen: list[Progress] = []
    outcome = box.run(make_plan(Action.RESTART, box.facts(target)), seen.append)
    assert (outcome.done, outcome.reason) == (True, None), outcome.last_lines
    assert outcome.pid is not None
    assert outcome.pid != target.pid
    after = capture(outcome.pid)
    assert after == before
    assert after.umask == 0o027
    # In a session of its own: it outlives this process and its terminal.
    assert os.getsid(outcome.pid) == outcome.pid
    text = box.text()
    assert text.count("shutdown requested") == 1
    assert "reason=shutdown" in text
    assert [entry.kind for entry in box.journal.entries()][-1] == "outcome"
    assert box.way_back.parked() is None
    assert {progress.step for progress in seen} == set(range(5))
    # One signal drained and saved: the same prompt is a disk hit now.
    box.post(PROMPT)
    eventually(lambda: "kv cache hit" in box.text(), "a disk hit")


def test_both_switches_and_back_to_the_letter(box: Box) -> None:
    target = box.start()
    before = capture(target.pid)
    build = BUILDS[box.profile]
    first, second = (Mode.COPY, Mode.MMAP) if build is AGENT else (Mode.MMAP, Mode.COPY)
    there = box.run(make_plan(Action.RESTART, box.facts(target), first))
    assert there.done, (there.reason, there.last_lines)
    assert there.pid is not None
    switched = capture(there.pid)
    assert (switched.argv, switched.env) != (before.argv, before.env)
    new = box.target(there.pid)
    plan = make_plan(
        Action.RESTART, box.facts(new), second, previous=box.way_back.previous(switched)
    )
    back = box.run(plan)
    assert back.done, (back.reason, back.last_lines)
    assert back.pid is not None
    after = capture(back.pid)
    assert after.argv == before.argv
    assert dict(after.env) == dict(before.env)


def test_park_and_start(box: Box) -> None:
    target = box.start()
    before = capture(target.pid)
    stopped = box.run(make_plan(Action.STOP, box.facts(target)))
    assert stopped.done, stopped.reason
    parked = box.way_back.parked()
    assert parked is not None
    assert parked.spec == before
    path = box.home / "state" / "parked.json"
    assert path.stat().st_mode & 0o777 == 0o600
    plan = make_plan(Action.START, box.facts(None, spec=parked.spec, supervisor=parked.supervisor))
    started = box.run(plan)
    assert started.done, (started.reason, started.last_lines)
    assert started.pid is not None
    assert capture(started.pid) == before
    assert not path.exists()


@only_agent
def test_stop_during_prefill_waits_it_out(box: Box) -> None:
    target = box.start("--ctx", 65536)
    sock = box.send("words of a prompt " * 6000, 4)
    eventually(lambda: "prefill chunk 2048/" in box.text(), "a prefill")
    outcome = box.run(make_plan(Action.STOP, box.facts(target)))
    sock.close()
    assert outcome.done, outcome.reason
    text = box.text()
    assert "(100.0%)" in text
    assert text.count("shutdown requested, draining") == 1


@only_agent
def test_stop_during_decode_ends_at_the_next_token(box: Box) -> None:
    target = box.start()
    sock = box.send("go [[plan gen=9000]]", 9000)
    eventually(lambda: "gen=50 " in box.text(), "a decode")
    outcome = box.run(make_plan(Action.STOP, box.facts(target)))
    sock.close()
    assert outcome.done, outcome.reason
    assert 'error="shutdown requested"' in box.text()


@only_agent
def test_a_stop_that_never_ends_is_not_killed_then_kill_is_a_step_of_its_own(box: Box) -> None:
    target = box.start("--standin-fail", "hang")
    sock = box.send("x", 4)
    eventually(lambda: "prompt start" in box.text(), "a request")
    outcome = box.run(make_plan(Action.STOP, box.facts(target, grace_s=0.3)))
    assert not outcome.done
    assert "still there after 0 s; it was not killed" in (outcome.reason or "")
    assert not Hold(target).gone()
    again = make_plan(Action.STOP, box.facts(target, flight=Flight(shutdown_seen=True)))
    assert "second signal" in (again.refused or "")
    kill = make_plan(Action.KILL, box.facts(target, flight=Flight(shutdown_seen=True)))
    assert kill.confirm == "KILL"
    done = box.run(kill)
    sock.close()
    assert done.done
    with pytest.raises(NotTheTargetError):
        Hold(target)


def break_model(box: Box) -> None:
    """The model is missing at the next start."""
    (box.home / "model.gguf").unlink()


def take_port(box: Box) -> None:
    """Somebody else listens."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    eventually(lambda: _bound(sock, box.port), "the port")
    sock.listen()
    _KEPT.append(sock)


def _bound(sock: socket.socket, port: int) -> bool:
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


_KEPT: list[socket.socket] = []


@only_agent
@pytest.mark.parametrize(
    ("harm", "extra", "said"),
    [
        (break_model, (), "model not found: .*exit status 1"),
        (take_port, (), "port.*in use.*exit status 1|in use.*exit status 1"),
        (None, ("--no-such-flag",), "unknown option.*no-such-flag.*exit status 2"),
        (None, ("--chdir", "/no/such/folder"), "exit status 1"),
        (None, ("--standin-fail", "oom"), "killed by SIGKILL"),
    ],
    ids=["model", "port", "option", "chdir", "oom"],
)
def test_a_start_that_fails_says_why_and_the_way_back_brings_it_up(
    box: Box, harm: Callable[[Box], None] | None, extra: tuple[str, ...], said: str
) -> None:

    target = box.start()
    good = capture(target.pid)
    assert box.run(make_plan(Action.STOP, box.facts(target))).done
    if harm is not None:
        harm(box)
    bad = replace(good, argv=(*good.argv, *extra))
    failed = box.run(make_plan(Action.START, box.facts(None, spec=bad)))
    assert not failed.done
    assert re.search(said, failed.reason or "", re.IGNORECASE), failed.reason
    assert failed.last_lines or "SIGKILL" in said
    for sock in _KEPT:
        sock.close()
    _KEPT.clear()
    (box.home / "model.gguf").write_bytes(b"GGUF".ljust(64, b"\0"))
    parked = box.way_back.parked()
    assert parked is not None
    back = box.run(make_plan(Action.START, box.facts(None, spec=parked.spec)))
    assert back.done, (back.reason, back.last_lines)


@only_agent
def test_somebody_else_was_faster(box: Box) -> None:
    target = box.start()
    spec = capture(target.pid)
    outcome = box.run(make_plan(Action.START, box.facts(None, spec=spec)))
    # The lock refuses ours with 2; theirs answers: that is a success, and it is theirs.
    assert outcome.done, outcome.reason
    assert not Hold(target).gone()


@only_agent
def test_no_secret_is_written_but_in_the_way_back(box: Box) -> None:
    target = box.start()
    plan = make_plan(Action.STOP, box.facts(target))
    assert SECRET in dict(plan.before.env).values()  # type: ignore[union-attr]
    box.run(plan)
    for path in (box.home / "state").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert (SECRET in path.read_text()) == (path.name == "parked.json")


@only_agent
def test_only_the_target_is_ever_signalled(box: Box) -> None:
    target = box.start()
    plan = make_plan(Action.STOP, box.facts(target))
    for changed in (
        replace(target, start_ticks=target.start_ticks + 1),
        replace(target, boot_id="another boot"),
        replace(target, comm="ds4-server2"),
        replace(target, pid=os.getpid()),
        replace(target, pid=2**22 + 7),
    ):
        outcome = box.run(replace(plan, target=changed))
        assert not outcome.done
        assert "process" in (outcome.reason or "")
    assert "shutdown requested" not in box.text()
    assert not Hold(target).gone()


def test_two_ds4tops_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "state" / "turn"
    with Turn(path, "restart"):
        with pytest.raises(HeldError, match=f"pid {os.getpid()}, .*, restart"):
            Turn(path)
        assert f"pid {os.getpid()}" in (holder(path) or "")
    assert holder(path) is None
    assert path.stat().st_mode & 0o777 == 0o600
