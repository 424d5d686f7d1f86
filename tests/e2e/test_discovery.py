"""Finding the server among everything that looks like one, on real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ds4top.core.process import DEMO_MARK, ServerProcess, changes
from ds4top.sources.find import Finder, ServerGone, ServersSeen
from ds4top.sources.procfs import ProcFs
from ds4top.sources.vitals import VitalSigns
from ds4top.standin.demo import free_port, python_environment

DEADLINE_S = 30.0
RENAME = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
print("up", flush=True)
sys.stdin.read()
"""
ZOMBIE = """
import ctypes, os, sys
pid = os.fork()
if not pid:
    ctypes.CDLL(None).prctl(15, b"ds4-server", 0, 0, 0)
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print(pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def spawn(
    children: list[subprocess.Popen[bytes]], argv: list[str], **options: object
) -> subprocess.Popen[bytes]:
    """A process in a group of its own."""
    child = subprocess.Popen(
        argv,
        start_new_session=True,
        **({"stdin": subprocess.PIPE} | options),  # type: ignore[call-overload]
    )
    children.append(child)
    return child


def standin(
    children: list[subprocess.Popen[bytes]], home: Path, *extra: str, **options: object
) -> subprocess.Popen[bytes]:
    """A stand-in server."""
    model = home / "model.gguf"
    model.write_bytes(b"GGUF".ljust(64, b"\0"))
    env = {k: v for k, v in python_environment().items() if not k.startswith("DS4")}
    env |= {"DS4_LOCK_FILE": str(home / "lock")} | dict(options.pop("env", {}))  # type: ignore[call-overload]
    argv = [sys.executable, "-m", "ds4top.standin", "--standin-speed", "300"]
    argv += ["--port", str(free_port()), "-m", str(model), *extra]
    return spawn(children, argv, env=env, cwd=home, **options)


def until(
    finder: Finder, condition: Callable[[list[object]], object], what: str
) -> tuple[list[object], float]:
    """Samples until the condition holds, and how long that took."""
    begin = time.monotonic()
    found: list[object] = []
    while time.monotonic() - begin < DEADLINE_S:
        found += finder.read(time.monotonic())
        if condition(found):
            return found, time.monotonic() - begin
        time.sleep(min(finder.interval_s, 0.05))  # The source's own pace.
    raise AssertionError(f"never: {what}; {found}")


def chosen(samples: list[object]) -> ServerProcess | None:
    """The server watched by the last sample."""
    seen = [sample for sample in samples if isinstance(sample, ServersSeen)]
    return seen[-1].chosen if seen else None


def of(pid: int) -> Callable[[list[object]], bool]:
    """Whether this process is watched, and listens."""

    def holds(samples: list[object]) -> bool:
        found = chosen(samples)
        return found is not None and found.target.pid == pid and bool(found.listening)

    return holds


def test_a_hundred_decoys(children: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    script = tmp_path / "ds4-server"
    script.write_text("#!/bin/sh\nread line\n")
    script.chmod(0o755)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for number in range(20):
        spawn(children, ["sh", "-c", f"read x; : vim ds4-server.c {number}"], **quiet)
        spawn(children, ["bash", "-c", "exec -a ds4-server cat"], **quiet)
        spawn(children, ["tail", "-f", "/dev/null", "--pid", str(os.getpid())], **quiet)
        spawn(children, [sys.executable, "-c", "import sys; sys.stdin.read()", "ds4-server"],
              **quiet)  # fmt: skip
    for name in ("ds4-server2", "ds4-serve", "DS4-SERVER", "ds4", "ds4-bench", " ds4-server"):
        child = spawn(children, [sys.executable, "-c", RENAME, name], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
    zombie = spawn(children, [sys.executable, "-c", ZOMBIE], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    dead = int(zombie.stdout.readline())
    assert ProcFs().comm(dead) == "ds4-server"
    demo = standin(children, tmp_path, stderr=subprocess.DEVNULL, env={DEMO_MARK: "x"})
    eventually_named(demo.pid)
    # A script is run by its interpreter, and yet has the script's name: it is told by --pid alone
    # from a server of that name, and its program is named.
    decoys = {child.pid for child in children} | {dead}
    finder = Finder()
    began = time.monotonic()
    samples: list[object] = []
    while time.monotonic() - began < 1.0:
        samples += finder.read(time.monotonic())
        time.sleep(finder.interval_s)  # The source's own pace.
    finder.close()
    seen = {
        server.target.pid
        for sample in samples
        if isinstance(sample, ServersSeen)
        for server in sample.servers
    }
    assert len(decoys) >= 88
    assert not seen & decoys


def eventually_named(pid: int) -> None:
    """Until the process has the server's name."""
    end = time.monotonic() + DEADLINE_S
    while ProcFs().comm(pid) != "ds4-server":
        assert time.monotonic() < end
        time.sleep(0.01)  # Another process names itself.


def test_a_fork_before_its_exec_is_not_the_server(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    script = (
        "import ctypes, os, sys\n"
        "ctypes.CDLL(None).prctl(15, b'ds4-server', 0, 0, 0)\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    sys.stdin.readline(); os.execvp('cat', ['cat'])\n"
        "print(pid, flush=True)\n"
        "os.waitpid(pid, 0)\n"
    )
    parent = spawn(children, [sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    fork = int(parent.stdout.readline())
    procfs = ProcFs()
    assert procfs.comm(fork) == procfs.comm(parent.pid) == "ds4-server"
    assert procfs.forked_only(fork)
    assert not procfs.forked_only(parent.pid)
    finder = Finder()
    samples = list(finder.read(0.0))
    finder.close()
    pids = {s.target.pid for x in samples if isinstance(x, ServersSeen) for s in x.servers}
    assert fork not in pids
    assert parent.pid in pids


def test_constructed_recycled_pid_is_another_process(tmp_path: Path) -> None:
    """A /proc made by hand: the same pid with another start time is never the old server."""
    boot = tmp_path / "sys" / "kernel" / "random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text("boot\n")
    (tmp_path / "stat").write_text("btime 1000\n")
    pid = os.getpid()
    folder = tmp_path / str(pid)
    folder.mkdir()
    line = f"{pid} (ds4-server) S 1 1 1 0 0 0 0 0 0 0 0 0 0 0 20 0 1 0 {{}} 0 0"
    (folder / "comm").write_text("ds4-server\n")
    (folder / "cmdline").write_bytes(b"ds4-server\0")
    (folder / "stat").write_text(line.format(500))
    finder = Finder(ProcFs(tmp_path))

    def starts(now: float) -> list[int]:
        samples = [x for x in finder.read(now) if isinstance(x, ServersSeen)]
        return [server.target.start_ticks for x in samples for server in x.servers]

    assert starts(0.0) == [500]
    (folder / "stat").write_text(line.format(900))
    assert 500 not in starts(10.0)
    assert starts(20.0) == [900]
    finder.close()


def test_another_pid_namespace(
    children: list[subprocess.Popen[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unshare = shutil.which("unshare")
    probe = [unshare or "", "--pid", "--fork", "true"]
    allowed = unshare and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    if not allowed:
        print("not run: no new pid namespace may be made here")
        return
    inside = [sys.executable, "-c", RENAME, "ds4-server"]
    child = spawn(children, [str(unshare), "--pid", "--fork", "--kill-child", *inside],
                  stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    finder = Finder()
    samples = list(finder.read(0.0))
    finder.close()
    names = {s.target.pid for x in samples if isinstance(x, ServersSeen) for s in x.servers}
    inner = [p for p in ProcFs().pids() if ProcFs().stat(p) and ProcFs().stat(p).ppid == child.pid]  # type: ignore[union-attr]
    assert inner
    assert not names & set(inner)


def test_found_with_its_log_when_stderr_is_a_file(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        child = standin(children, tmp_path, "--kv-disk-dir", "kv", "--ctx", "65536", stderr=file)
    finder = Finder(pid=child.pid)
    found = chosen(until(finder, of(child.pid), "found")[0])
    assert found is not None
    assert (found.log.kind, found.log.path) == ("file", str(log))
    assert found.kv_dir == str(tmp_path / "kv")
    assert found.model_path == str(tmp_path / "model.gguf")
    assert (found.model_bytes, found.context_tokens) == (64, 65_536)
    assert found.url is not None
    assert found.url.startswith("http://127.0.0.1:")
    assert found.lock_path == str(tmp_path / "lock")
    assert ProcFs().lock_holder(found.lock_path) == child.pid
    vitals = VitalSigns(lambda: found, time.time).read(1.0)[0]
    assert (vitals.connections, vitals.queued, vitals.left) == (0, 0, 0)
    assert vitals.rss_bytes is not None
    assert vitals.rss_bytes > 1_000_000
    finder.close()


def test_found_with_its_log_through_tee(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    log = tmp_path / "tee.log"
    read, write = os.pipe()
    spawn(children, ["tee", str(log)], stdin=read, stdout=subprocess.DEVNULL)
    child = standin(children, tmp_path, stderr=write)
    os.close(read)
    os.close(write)
    finder = Finder(pid=child.pid)
    found = chosen(until(finder, of(child.pid), "found")[0])
    assert found is not None
    assert (found.log.kind, found.log.path) == ("tee", str(log))
    finder.close()


def test_killed_started_and_started_with_another_command_line(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first = standin(children, tmp_path, stderr=subprocess.DEVNULL)
    finder = Finder(exe=os.path.realpath(sys.executable))
    before = chosen(until(finder, of(first.pid), "the first")[0])
    assert before is not None
    first.send_signal(signal.SIGKILL)
    gone, took_s = until(
        finder, lambda found: any(isinstance(x, ServerGone) for x in found), "its end"
    )
    assert next(x for x in gone if isinstance(x, ServerGone)).target == before.target
    first.wait()
    second = standin(children, tmp_path, "--ctx", "16384", stderr=subprocess.DEVNULL)
    after = chosen(until(finder, of(second.pid), "the second")[0])
    assert after is not None
    assert "argv: with --ctx 16384" in changes(before, after)
    print(f"its end was seen within {took_s:.2f} s")
    finder.close()


def test_in_a_tmux_pane(children: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    socket = f"ds4top-find-{os.getpid()}"
    tmux = ["tmux", "-L", socket, "-f", "/dev/null"]
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF".ljust(64, b"\0"))
    env = {**python_environment(), "DS4_LOCK_FILE": str(tmp_path / "lock")}
    argv = [sys.executable, "-m", "ds4top.standin", "--standin-speed", "300"]
    argv += ["--port", str(free_port()), "-m", str(model)]
    try:
        subprocess.run(
            [*tmux, "new-session", "-d", "-x", "80", "-y", "24", *argv], check=True, env=env
        )
        ask = [*tmux, "display-message", "-p", "#{pane_pid} #{socket_path}"]
        words = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()
        pid = int(words[0])
        old = os.environ.get("TMUX")
        os.environ["TMUX"] = f"{words[1]},0,0"
        try:
            finder = Finder(pid=pid)
            found = chosen(until(finder, of(pid), "found")[0])
        finally:
            if old is None:
                del os.environ["TMUX"]
            else:
                os.environ["TMUX"] = old
        finder.close()
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    assert found is not None
    assert (found.owner.kind, found.log.kind) == ("tmux", "tmux")
    assert found.owner.name == found.log.pane == "%0"
