"""Finding the server among everything that looks like one, on real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ds4top.core.logplace import pipe_command
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


def named(children: list[subprocess.Popen[bytes]], name: str) -> subprocess.Popen[bytes]:
    """A process that calls itself so."""
    child = spawn(children, [sys.executable, "-c", RENAME, name], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    return child


def pids_in(samples: list[object]) -> set[int]:
    """Every process that was ever listed as a server."""
    seen = [sample for sample in samples if isinstance(sample, ServersSeen)]
    return {server.target.pid for sample in seen for server in sample.servers}


def test_a_hundred_decoys(children: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    script = tmp_path / "ds4-server"
    script.write_text("#!/bin/sh\nread line\n")
    script.chmod(0o755)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for number in range(18):
        spawn(children, ["sh", "-c", f"read x; : vim ds4-server.c {number}"], **quiet)
        spawn(children, ["bash", "-c", "exec -a ds4-server cat"], **quiet)
        spawn(children, ["bash", "-c", "exec -a ds4-server tail -f /dev/null"], **quiet)
        spawn(children, ["tail", "-f", "/dev/null", "--pid", str(os.getpid())], **quiet)
        spawn(children, [sys.executable, "-c", "import sys; sys.stdin.read()", "ds4-server"],
              **quiet)  # fmt: skip
    for _ in range(4):
        spawn(children, [str(script)], **quiet)
    for name in ("ds4-server2", "ds4-serve", "DS4-SERVER", "ds4", "ds4-bench", " ds4-server",
                 "ds4-server\n"):  # fmt: skip
        named(children, name)
    zombie = spawn(children, [sys.executable, "-c", ZOMBIE], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    dead = int(zombie.stdout.readline())
    assert ProcFs().comm(dead) == "ds4-server"
    demo = standin(children, tmp_path, stderr=subprocess.DEVNULL, env={DEMO_MARK: "x"})
    eventually_named(demo.pid)
    decoys = {child.pid for child in children} | {dead}
    real = named(children, "ds4-server")
    assert len(decoys) >= 100
    finder, own = Finder(), Finder(demo="x")
    began = time.monotonic()
    samples: list[object] = []
    while time.monotonic() - began < 1.0:
        samples += finder.read(time.monotonic())
        time.sleep(finder.interval_s)  # The source's own pace.
    seen = pids_in(samples)
    assert real.pid in seen
    assert not seen & decoys
    # The demo itself sees its server, and that alone.
    assert pids_in(list(own.read(0.0))) == {demo.pid}
    finder.close()
    own.close()


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
    samples: list[object] = []
    for turn in range(4):
        # It stays a fork for longer than any exec takes.
        samples += finder.read(10.0 * turn)
    finder.close()
    assert fork not in pids_in(samples)
    assert parent.pid in pids_in(samples)


def test_a_script_that_becomes_the_server_after_a_while(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A start script prepares something, then ``exec``: the pid has been seen under its name."""
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF".ljust(64, b"\0"))
    argv = [sys.executable, "-m", "ds4top.standin", "--port", str(free_port()), "-m", str(model)]
    script = 'read line; exec "$0" "$@"'
    finder = Finder()
    finder.read(time.monotonic())
    env = {**python_environment(), "DS4_LOCK_FILE": str(tmp_path / "lock")}
    child = spawn(children, ["sh", "-c", script, *argv], env=env, cwd=tmp_path,
                  stderr=subprocess.DEVNULL)  # fmt: skip
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        finder.read(time.monotonic())
        time.sleep(min(finder.interval_s, 0.05))  # The source's own pace.
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.flush()
    until(finder, lambda found: child.pid in pids_in(found), "the script is the server")
    finder.close()


RECYCLED = """
import json, os, signal, sys, time
from ds4top.control.hold import Hold, NotTheTargetError
from ds4top.sources.find import Finder
from ds4top.sources.procfs import ProcFs

def server(last):
    open("/proc/sys/kernel/ns_last_pid", "w").write(str(last))
    pid = os.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], "ds4-server"])
    while ProcFs().comm(pid) != "ds4-server":
        time.sleep(0.01)
    return pid

first = server(4000)
finder = Finder()
seen = finder.read(0.0)[-1].chosen
held = Hold(seen.target)
os.kill(first, signal.SIGKILL)
os.waitpid(first, 0)
time.sleep(0.03)
second = server(first - 1)
said = [type(x).__name__ for x in finder.read(1.0)]
try:
    Hold(seen.target)
    refused = ""
except NotTheTargetError as error:
    refused = str(error)
try:
    held.send(signal.SIGTERM)
    sent = True
except NotTheTargetError:
    sent = False
found = ProcFs().target(second)
print(json.dumps([first, second, said, refused, sent, found == seen.target, held.gone()]))
"""


def test_recycled_pid_is_never_the_old_server() -> None:
    unshare = shutil.which("unshare")
    words = [str(unshare), "--pid", "--fork", "--mount-proc", "--kill-child"]
    probe = [*words, "sh", "-c", "echo 500 > /proc/sys/kernel/ns_last_pid"]
    if unshare is None or subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        print("not run: no pid namespace with a /proc of its own may be made here")
        return
    read, write = os.pipe()
    done = subprocess.run(
        [*words, sys.executable, "-c", RECYCLED, RENAME],
        env=python_environment(), capture_output=True, text=True, timeout=120, check=False,
        stdin=read,
    )  # fmt: skip
    os.close(read)
    os.close(write)
    assert done.returncode == 0, done.stderr
    line = re.search(r"\[.*\]", done.stdout)
    assert line, done
    first, second, said, refused, sent, same, gone = json.loads(line[0])
    assert first == second == 4001
    assert said == ["ServerGone", "ServersSeen"]
    assert "not ds4-server started at" in refused
    assert (sent, same, gone) == (False, False, True)


def test_another_pid_namespace(
    children: list[subprocess.Popen[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unshare = shutil.which("unshare")
    probe = [unshare or "", "--pid", "--fork", "true"]
    allowed = unshare and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    if not allowed:
        print("not run: no new pid namespace may be made here")
        return
    real = named(children, "ds4-server")
    inside = [sys.executable, "-c", RENAME, "ds4-server"]
    child = spawn(children, [str(unshare), "--pid", "--fork", "--kill-child", *inside],
                  stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    finder = Finder()
    names = pids_in(list(finder.read(0.0)))
    finder.close()
    assert real.pid in names
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
    # A rotation renames the file that is written; then it is deleted.
    log.rename(tmp_path / "server.log.1")
    log.touch()
    renamed = ProcFs().server(child.pid)
    assert renamed is not None
    assert (renamed.log.kind, renamed.log.path) == ("file", f"{log}.1")
    (tmp_path / "server.log.1").unlink()
    deleted = ProcFs().server(child.pid)
    assert deleted is not None
    assert (deleted.log.kind, deleted.log.path) == ("deleted", f"/proc/{child.pid}/fd/2")
    assert b"listening on" in Path(str(deleted.log.path)).read_bytes()


def the_server(procfs: ProcFs, parent: int) -> int:
    """The child of this process that has the server's name; waits for it."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        for pid in procfs.pids():
            stat = procfs.stat(pid)
            if stat is not None and (stat.ppid, stat.comm) == (parent, "ds4-server"):
                return pid
        time.sleep(0.02)  # Another process names itself.
    raise AssertionError("no server under it")


@pytest.mark.parametrize("filters", ["", "grep --line-buffered '' | "])
def test_found_with_its_log_through_tee(
    children: list[subprocess.Popen[bytes]], tmp_path: Path, filters: str
) -> None:
    """As typed in a shell: ``ds4-server … 2>&1 | tee server.log``."""
    log = tmp_path / "tee.log"
    line = f'"$0" "$@" 2>&1 | {filters}tee {log} > /dev/null'
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF".ljust(64, b"\0"))
    argv = [sys.executable, "-m", "ds4top.standin", "--standin-speed", "300"]
    argv += ["--port", str(free_port()), "-m", str(model)]
    env = {**python_environment(), "DS4_LOCK_FILE": str(tmp_path / "lock")}
    shell = spawn(children, ["bash", "-c", line, *argv], env=env, cwd=tmp_path)
    pid = the_server(ProcFs(), shell.pid)
    finder = Finder(pid=pid)
    found = chosen(until(finder, of(pid), "found")[0])
    finder.close()
    assert found is not None
    assert (found.log.kind, found.log.path) == ("tee", str(log))
    assert found.parents[0].pid == shell.pid
    assert found.started_by == f"bash {shell.pid}, {found.user}"


WATCHDOG = """\
while :; do
    "$@" $(cat settings) 2>> server.log
    echo $? >> ended
done
"""


def test_killed_restarted_by_a_script_and_replaced_by_another_command_line(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Each is seen, with who did it and what changed."""
    (tmp_path / "watchdog.sh").write_text(WATCHDOG)
    (tmp_path / "settings").write_text("--ctx 8192")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF".ljust(64, b"\0"))
    port = str(free_port())
    argv = [sys.executable, "-m", "ds4top.standin", "--standin-speed", "300"]
    argv += ["--port", port, "-m", str(model)]
    env = {**python_environment(), "DS4_LOCK_FILE": str(tmp_path / "lock")}
    script = spawn(children, ["bash", "watchdog.sh", *argv], env=env, cwd=tmp_path)
    first = the_server(ProcFs(), script.pid)
    finder = Finder(pid=first)
    before = chosen(until(finder, of(first), "the first")[0])
    assert before is not None
    assert before.starter == "bash watchdog.sh"
    assert before.context_tokens == 8192

    def next_life(kill: signal.Signals, settings: str) -> tuple[ServerProcess, float, float]:
        assert seen is not None
        (tmp_path / "settings").write_text(settings)
        os.kill(seen.target.pid, kill)
        gone, end_s = until(
            finder, lambda found: any(isinstance(x, ServerGone) for x in found), "its end"
        )
        ended = [x.target for x in gone if isinstance(x, ServerGone)]
        assert ended == [seen.target]
        found, back_s = until(finder, lambda found: chosen(gone + found) is not None, "the next")
        after = chosen(gone + found)
        assert after is not None
        assert after.target != seen.target
        return after, end_s, back_s

    seen: ServerProcess | None = before
    same, end_s, back_s = next_life(signal.SIGKILL, "--ctx 8192")
    assert changes(before, same) == ()
    assert same.started_by == f"bash watchdog.sh {script.pid}, {same.user}"
    print(f"its end was seen within {end_s:.2f} s, the next life {back_s:.2f} s later")
    seen = same
    other, *_ = next_life(signal.SIGKILL, "--ctx 16384 --kv-disk-dir kv")
    assert changes(same, other) == (
        "argv: without --ctx 8192",
        "argv: with --ctx 16384",
        "argv: with --kv-disk-dir kv",
    )
    # The script ends, the server goes; somebody starts one by hand at the same port.
    os.kill(script.pid, signal.SIGKILL)
    script.wait()
    os.kill(other.target.pid, signal.SIGKILL)
    until(finder, lambda found: any(isinstance(x, ServerGone) for x in found), "its end")
    child = spawn(children, [*argv, "--ctx", "16384"], env=env, cwd=tmp_path,
                  stderr=subprocess.DEVNULL)  # fmt: skip
    by_hand = chosen(until(finder, of(child.pid), "the one by hand")[0])
    finder.close()
    assert by_hand is not None
    told = changes(other, by_hand)
    assert told[0] == "argv: without --kv-disk-dir kv"
    assert told[1].startswith("started by ")
    assert told[1].endswith(f"before by bash watchdog.sh {script.pid}, {same.user}")


def as_nobody(look: Callable[[], object]) -> object:
    """What another user sees: a fork of this process that has given up its rights."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write, json.dumps(look()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def test_another_users_server_says_what_is_not_seen(
    children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        print("not run: only root can start a process of another user")
        return
    child = standin(children, tmp_path, stderr=subprocess.DEVNULL)
    finder = Finder(pid=child.pid)
    mine = chosen(until(finder, of(child.pid), "found")[0])
    finder.close()
    assert mine is not None
    assert mine.denied == {}

    def look() -> object:
        found = ProcFs().server(child.pid)
        assert found is not None
        return [sorted(found.denied), found.listening, found.log.kind, found.argv is None,
                found.denied["environ"]]  # fmt: skip

    denied, listening, log, no_argv, words = as_nobody(look)  # type: ignore[misc]
    assert denied == ["cwd", "environ", "exe", "fd", "fd/2", "io"]
    assert words == f"not ours to read; sudo cat /proc/{child.pid}/environ shows it"
    assert [tuple(each) for each in listening] == list(mine.listening)
    assert (log, no_argv) == ("denied", False)


def test_in_a_tmux_pane(
    children: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found, its log said to be a pane, and read once the pane is copied; whichever tmux it is."""
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    tmux = ["tmux", "-L", f"ds4top-find-{os.getpid()}", "-f", "/dev/null"]
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
        pid, socket = int(words[0]), words[1]
        finder = Finder(pid=pid)
        apart = chosen(until(finder, of(pid), "found")[0])
        finder.close()
        monkeypatch.setenv("TMUX", f"{socket},0,0")
        own = ProcFs().server(pid)
        assert apart is not None
        assert own is not None
        copy = tmp_path / "pane.log"
        subprocess.run(pipe_command(apart.log.pane, str(copy), apart.log.tmux), check=True)
        os.kill(pid, signal.SIGTERM)
        read = eventually(lambda: copy.exists() and b"shutdown requested" in copy.read_bytes())
        assert read
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
    assert (apart.log.kind, apart.log.path) == ("tmux", None)
    assert (apart.log.pane, apart.log.tmux) == ("%0", ("tmux", "-S", socket))
    assert apart.owner.kind == "tmux"
    # In that tmux itself no other is asked, and control may name the pane.
    assert (own.owner.name, own.log.pane, own.log.tmux) == ("%0", "%0", ("tmux",))


def test_a_pane_that_is_copied_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next ds4top reads the file that the one before had made."""
    tmux = ["tmux", "-L", f"ds4top-copy-{os.getpid()}", "-f", "/dev/null"]
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    copy = tmp_path / "pane.log"
    try:
        inside = [sys.executable, "-c", RENAME.replace("stdin.read()", "stdin.readline()")]
        subprocess.run([*tmux, "new-session", "-d", *inside, "ds4-server"], check=True)
        ask = [*tmux, "display-message", "-p", "#{pane_pid} #{pane_id}"]
        words = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()
        pid = int(words[0])
        eventually_named(pid)
        subprocess.run(pipe_command(words[1], str(copy), tmux), check=True)

        def path() -> str | None:
            found = ProcFs().server(pid)
            return found.log.path if found is not None else None

        assert eventually(lambda: path() == str(copy)), path()
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


def eventually(condition: Callable[[], object]) -> bool:
    """Whether it holds within the deadline; another process is waited for."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
