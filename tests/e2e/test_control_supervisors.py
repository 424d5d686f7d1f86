"""The controls under each supervisor: real tmux, and executables that answer as documented."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from control_kit import SECRET, Box, environment_of, eventually, recorded

from ds4top.control.act import Controller
from ds4top.control.capture import capture
from ds4top.control.executor import MemoryNow
from ds4top.control.facts import Gatherer, Situation
from ds4top.core.config import settle
from ds4top.core.plan import Action, Mode, Outcome
from ds4top.core.process import Owner, ServerProcess
from ds4top.sources.procfs import ProcFs

UNIT = "ds4-server.service"
SYSTEMCTL = """
import json, pathlib, re, shlex, signal, subprocess, time
home = pathlib.Path({home!r})
unit = json.loads((home / "unit.json").read_text())
verb = next(word for word in sys.argv[1:] if not word.startswith("--"))
conf = pathlib.Path(unit["drop_in"])
text = conf.read_text() if conf.exists() else ""
if verb == "show":
    found = re.search(r"TimeoutStopSec=(\\d+)", text)
    stop = f"{{int(found[1]) // 60}}min" if found else "45s"
    print("LoadState=loaded\\nActiveState=active\\nSubState=running\\nRestart=on-failure")
    print(f"TimeoutStopUSec={{stop}}\\nNeedDaemonReload=no\\nMainPID=0\\nResult=success")
    print("ExecStart={{ path=/x ; argv[]=" + " ".join(unit["argv"]) + " ; ignore_errors=no }}")
elif verb == "stop":
    if unit.get("refuses"):
        sys.exit(print(unit["refuses"], file=sys.stderr) or 1)
    pid = int((home / "pid").read_text())
    os.kill(pid, signal.SIGTERM)
    while pathlib.Path(f"/proc/{{pid}}/stat").exists() and (
        pathlib.Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    ):
        time.sleep(0.02)
elif verb == "start":
    lines = re.findall(r"^ExecStart=(.+)$", text, re.M)
    argv = shlex.split(lines[-1]) if lines else unit["argv"]
    env = dict(unit["env"])
    for line in re.findall(r'^Environment="(.+?)=(.*)"$', text, re.M):
        env[line[0]] = line[1]
    for line in re.findall(r"^UnsetEnvironment=(.+)$", text, re.M):
        for name in line.split():
            env.pop(name, None)
    with open(unit["log"], "ab") as log:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                 cwd=unit["cwd"], start_new_session=True)
    (home / "pid").write_text(str(child.pid))
"""
DOCKER = """
import json, pathlib, subprocess
home = pathlib.Path({home!r})
if sys.argv[1] == "inspect":
    print((home / "inspect.json").read_text())
else:
    sys.argv[0] = "systemctl"
    subprocess.run([{systemctl!r}, sys.argv[1]], check=True)
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box whose constructed executables are the first on this process's PATH as well."""
    made = Box(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    yield made
    made.close()


class Desk:
    """A controller of one box; ``owner`` stands in for what the control group says."""

    def __init__(self, box: Box, owner: Owner | None = None) -> None:
        self.box = box
        self.owner = owner
        self.procfs = ProcFs()
        config = settle(environment={}, text="[control]\ngrace_s = 60\n")
        gatherer = Gatherer(config, box.state, environment=box.environment(), root=box.home)
        self.controller = Controller(
            gatherer, self.see, memory=lambda pid: MemoryNow(None, None), demo=box.mark
        )

    def server(self) -> ServerProcess | None:
        """The box's server."""
        pids = self.box.servers()
        found = self.procfs.server(pids[0]) if pids else None
        if found is None or self.owner is None:
            return found
        return replace(found, owner=self.owner)

    def see(self) -> Situation:
        """What is seen."""
        return Situation(self.server())

    def do(self, action: Action, want: Mode | None = None) -> Outcome:
        """Plan and run."""
        plan = self.controller.plan(action, want)
        assert plan.refused is None, plan.refused
        return self.controller.run(plan)


def as_unit(box: Box, **more: object) -> Path:
    """Put the running server under the constructed systemctl; gives its record."""
    (pid,) = box.servers()
    drop_in = box.home / "etc/systemd/system" / f"{UNIT}.d" / "50-ds4top.conf"
    unit = {
        "argv": list(capture(pid).argv), "env": dict(environment_of(pid)), "log": str(box.log),
        "cwd": str(box.home), "drop_in": str(drop_in),
    }  # fmt: skip
    (box.home / "unit.json").write_text(json.dumps(unit | more))
    (box.home / "pid").write_text(str(pid))
    return box.fake("systemctl", SYSTEMCTL.format(home=str(box.home)))


def verbs(record: Path) -> list[str]:
    """What systemctl was asked to do, looks aside."""
    calls = [[word for word in call if not word.startswith("--")] for call in recorded(record)]
    return [" ".join(call) for call in calls if call[0] != "show"]


def test_constructed_systemctl_switches_by_drop_in_and_back(box: Box) -> None:
    pid = box.start()
    before = capture(pid)
    record = as_unit(box)
    desk = Desk(box, Owner("systemd-system", UNIT))
    there = desk.do(Action.RESTART, Mode.COPY)
    assert there.done, (there.reason, there.last_lines)
    assert verbs(record) == ["daemon-reload", f"stop {UNIT}", f"start {UNIT}"]
    (second,) = box.servers()
    assert capture(second).argv[1:] == (*before.argv[1:], "--no-mmap")
    path = box.home / "etc/systemd/system" / f"{UNIT}.d" / "50-ds4top.conf"
    text = path.read_text()
    assert "TimeoutStopSec=120\n" in text
    assert '"--no-mmap"' in text
    assert path.stat().st_mode & 0o777 == 0o644
    # It runs now what the drop-in says; systemd would show that.
    unit = json.loads((box.home / "unit.json").read_text())
    shown = unit | {"argv": list(capture(second).argv)}
    (box.home / "unit.json").write_text(json.dumps(shown))
    plan = desk.controller.plan(Action.RESTART, Mode.MMAP)
    (box.home / "unit.json").write_text(json.dumps(unit))
    back = desk.controller.run(plan)
    assert back.done, (back.reason, back.last_lines)
    (third,) = box.servers()
    assert capture(third).argv == before.argv
    assert "ExecStart" not in path.read_text()
    # One signal each, and none of ds4top's own beside it.
    assert box.text().count("shutdown requested, draining") == 2


def test_constructed_systemctl_park_and_start(box: Box) -> None:
    box.start()
    record = as_unit(box)
    desk = Desk(box, Owner("systemd-user", UNIT))
    assert desk.do(Action.STOP).done
    assert box.servers() == []
    started = desk.do(Action.START)
    assert started.done, (started.reason, started.last_lines)
    assert verbs(record)[-2:] == [f"stop {UNIT}", f"start {UNIT}"]
    assert all("--user" in call for call in recorded(record))
    assert started.pid == box.servers()[0]


def test_constructed_polkit_refusal_is_explained_and_leaves_no_trace(box: Box) -> None:
    pid = box.start()
    as_unit(box, refuses="Failed to stop ds4-server.service: Interactive authentication required.")
    desk = Desk(box, Owner("systemd-system", UNIT))
    plan = desk.controller.plan(Action.RESTART, Mode.COPY)
    outcome = desk.controller.run(plan)
    assert not outcome.done
    assert "Interactive authentication required" in (outcome.reason or "")
    assert "sudo" in (outcome.reason or "")
    path = box.home / "etc/systemd/system" / f"{UNIT}.d" / "50-ds4top.conf"
    assert path.exists()
    back = desk.controller.back(plan, outcome)
    assert back is not None
    assert desk.controller.run(back).done
    assert not path.exists()
    assert box.servers() == [pid]
    assert "shutdown requested" not in box.text()
    # It was not told to stop, and can be asked again.
    assert desk.controller.plan(Action.STOP).refused is None


def test_constructed_docker_stops_with_time_and_never_recreates(box: Box) -> None:
    pid = box.start()
    as_unit(box)
    argv = list(capture(pid).argv)
    inspect = {
        "Name": "/ds4", "Path": argv[0], "Args": argv[1:], "State": {"Status": "running"},
        "Config": {"Image": "ds4:q2", "Entrypoint": argv[:1], "Cmd": argv[1:],
                   "Env": [f"HF_TOKEN={SECRET}", "DS4_X=1"]},
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}},
    }  # fmt: skip
    (box.home / "inspect.json").write_text(json.dumps([inspect]))
    script = DOCKER.format(home=str(box.home), systemctl=str(box.bin / "systemctl"))
    record = box.fake("docker", script)
    desk = Desk(box, Owner("docker", "0123456789ab"))
    refused = desk.controller.plan(Action.RESTART, Mode.COPY).refused or ""
    assert "docker run -d --name ds4 --restart unless-stopped -e HF_TOKEN -e DS4_X=1" in refused
    assert refused.endswith(" --no-mmap")
    assert SECRET not in refused
    done = desk.do(Action.RESTART)
    assert done.done, (done.reason, done.last_lines)
    acts = [call for call in recorded(record) if call[0] != "inspect"]
    assert acts == [["stop", "-t", "60", "0123456789ab"], ["start", "0123456789ab"]]


# tmux ---------------------------------------------------------------------------------------


class Tmux:
    """A tmux server of its own."""

    def __init__(self, box: Box) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ds4top-tmux-"))
        self.words = ["tmux", "-S", str(self.folder / "s"), "-f", "/dev/null"]
        self.env = box.environment(TERM="xterm", SHELL="/bin/bash")
        self.home = box.home

    def run(self, *words: str) -> str:
        """A command of tmux."""
        done = subprocess.run(
            [*self.words, *words], env=self.env, cwd=self.home, capture_output=True, text=True,
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    def close(self) -> None:
        """End it."""
        subprocess.run([*self.words, "kill-server"], capture_output=True, check=False)
        shutil.rmtree(self.folder)


@pytest.fixture
def tmux(box: Box) -> Iterator[Tmux]:
    """A tmux."""
    made = Tmux(box)
    yield made
    made.close()


def answering(box: Box) -> int:
    """Wait until the box's server answers."""
    from ds4top.control.comeup import answers

    eventually(lambda: answers(f"http://127.0.0.1:{box.port}"), "an answer")
    eventually(box.servers, "its name")
    return box.servers()[0]


def test_a_pane_whose_command_is_the_server(box: Box, tmux: Tmux) -> None:
    tmux.run("new-session", "-d", "-x", "200", "-y", "50", *box.argv())
    pane = tmux.run("list-panes", "-aF", "#{pane_id} #{pane_pid}").split()
    pid = answering(box)
    assert pane[1] == str(pid)
    before = capture(pid)
    desk = Desk(box)
    plan = desk.controller.plan(Action.RESTART, Mode.COPY)
    assert (plan.supervisor.kind, plan.supervisor.pane_runs_server) == ("tmux", True)
    outcome = desk.controller.run(plan)
    assert outcome.done, (outcome.reason, outcome.last_lines)
    now = tmux.run("list-panes", "-aF", "#{pane_id} #{pane_pid}").split()
    assert now == [pane[0], str(box.servers()[0])]
    after = capture(box.servers()[0])
    assert after.argv == (*before.argv, "--no-mmap")
    assert dict(after.env) == dict(before.env)
    assert "on" not in tmux.run("show-options", "-p", "-t", pane[0], "remain-on-exit")


def test_a_pane_whose_shell_runs_the_server(box: Box, tmux: Tmux) -> None:
    tmux.run("new-session", "-d", "-x", "200", "-y", "50", "bash", "--norc")
    pane, shell = tmux.run("list-panes", "-aF", "#{pane_id} #{pane_pid}").split()
    line = "DS4_MARK='a b' " + " ".join(box.argv()) + f" 2>> {box.log}"
    tmux.run("send-keys", "-t", pane, "-l", line)
    tmux.run("send-keys", "-t", pane, "Enter")
    before = capture(answering(box))
    desk = Desk(box)
    plan = desk.controller.plan(Action.RESTART, Mode.COPY)
    assert (plan.supervisor.kind, plan.supervisor.pane_runs_server) == ("tmux", False)
    assert plan.supervisor.name == pane
    typed = next(step.words for step in plan.steps if "type into pane" in step.words)
    assert "'DS4_MARK=a b'" in typed
    assert typed.endswith(f" --no-mmap 2>> {box.log}")
    outcome = desk.controller.run(plan)
    assert outcome.done, (outcome.reason, outcome.last_lines)
    (now,) = box.servers()
    after = capture(now)
    assert after.argv == (*before.argv, "--no-mmap")
    assert dict(after.env)["DS4_MARK"] == "a b"
    assert after.log_path == before.log_path == str(box.log)
    assert ProcFs().parents(now)[0].pid == int(shell)


def test_a_typed_start_that_fails_is_seen_at_the_prompt(box: Box, tmux: Tmux) -> None:
    tmux.run("new-session", "-d", "-x", "200", "-y", "50", "bash", "--norc")
    pane = tmux.run("list-panes", "-aF", "#{pane_id}").strip()
    tmux.run("send-keys", "-t", pane, "-l", " ".join(box.argv()))
    tmux.run("send-keys", "-t", pane, "Enter")
    answering(box)
    box.model.unlink()
    outcome = Desk(box).do(Action.RESTART)
    assert not outcome.done
    assert "back at its prompt" in (outcome.reason or "")
    assert "model" in "".join(outcome.last_lines)


def test_a_script_in_a_pane_is_not_typed_over(box: Box, tmux: Tmux) -> None:
    script = box.home / "start.sh"
    script.write_text("#!/bin/bash\n" + " ".join(box.argv()) + "\necho over\n")
    script.chmod(0o755)
    tmux.run("new-session", "-d", "-x", "200", "-y", "50", "bash", "--norc")
    tmux.run("send-keys", "-l", str(script))
    tmux.run("send-keys", "Enter")
    answering(box)
    desk = Desk(box)
    assert "run by start.sh" in (desk.controller.plan(Action.RESTART).refused or "")
    assert desk.controller.plan(Action.STOP).refused is None


# killed in the middle -----------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from control_kit import Box
from test_control_supervisors import Desk
from ds4top.core.plan import Action
box = Box.__new__(Box)
home = Path(sys.argv[1])
box.home, box.mark, box.state, box.profile = home, str(home), home / "xdg" / "ds4top", "daily-agent"
left, real = [int(sys.argv[2])], os.fsync
def fsync(fd):
    real(fd)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
box.bin = home / "bin"
print(Desk(box).do(Action.RESTART))
"""


@pytest.mark.parametrize("write", [1, 3, 4, 5, 6, 8, 10, 11, 13, 14])
def test_killed_at_a_write_the_next_one_tells_the_truth_and_goes_on(box: Box, write: int) -> None:
    pid = box.start()
    before = capture(pid)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(box.home), str(write), str(Path(__file__).parent)],
        env=box.environment(), cwd=box.home, capture_output=True, text=True, check=False,
        timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == -9, ended.stdout + ended.stderr
    for path in box.state.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert SECRET not in path.read_text() or path.name in ("parked.json",)
    desk = Desk(box)
    box.children[0].poll()
    # Told twice while it drains, the same; the truth is what the processes say.
    told = desk.controller.recovered()
    assert told is not None
    assert told.words.startswith("ds4top was ended during restart, ")
    if f"{pid} was told to stop" in told.words:
        assert not told.settled
        assert desk.controller.plan(Action.STOP).refused is not None
        if write <= 4:
            # The signal never left: only its begin was written. A log that stays silent says so.
            assert box.servers() == [pid]
            return
        eventually(lambda: box.children[0].poll() is not None, "its end")
        told = desk.controller.recovered()
        assert told is not None
    if f"{pid} was not told" in told.words:
        assert box.servers() == [pid]
        assert desk.do(Action.STOP).done
    eventually(lambda: box.children[0].poll() is not None, "its end")
    if "no server yet" in told.words:
        assert not told.settled
        eventually(box.servers, "its name")
        told = desk.controller.recovered()
        assert told is not None
        assert "runs now" in told.words
    if not box.servers() and "runs now" not in told.words:
        assert desk.do(Action.START).done
    eventually(lambda: len(box.servers()) == 1, "a server")
    assert desk.controller.recovered() is None
    (now,) = box.servers()
    assert now != pid
    after = capture(now)
    assert (after.argv, after.env, after.cwd) == (before.argv, before.env, before.cwd)
    assert box.text().count("shutdown requested, draining") == 1


def test_a_stop_that_nobody_saw_sent_is_judged_by_the_log(box: Box) -> None:
    pid = box.start()
    desk = Desk(box)
    plan = desk.controller.plan(Action.STOP)
    desk.controller.gatherer.journal.begun("x", plan, time.time() - 60)
    desk.controller.gatherer.journal.step("x", 0, "begun", "one SIGTERM", time.time() - 60)
    assert "second signal" in (desk.controller.plan(Action.STOP).refused or "")
    gatherer = desk.controller.gatherer
    told = Situation(desk.server(), log_told=True)
    assert gatherer.facts(Action.STOP, told).flight.shutdown_seen is False
    desk.controller.gatherer.journal.step("x", 0, "done", "one SIGTERM", time.time() - 60)
    assert gatherer.facts(Action.STOP, told).flight.shutdown_seen is True
    assert box.servers() == [pid]
