"""What the screen and the commands call: a plan of an action, and its execution, both may block."""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

from ds4top.control import containers, panes, units
from ds4top.control.comeup import watcher
from ds4top.control.executor import Executor, MemoryNow, World
from ds4top.control.facts import Gatherer, Situation
from ds4top.control.recover import Recovered, alive, settle
from ds4top.control.turn import HeldError, Turn
from ds4top.core.deeds import Startable
from ds4top.core.meminfo import parse_meminfo
from ds4top.core.plan import Action, Mode, Outcome, Plan, Progress, Supervisor
from ds4top.core.planback import back_of
from ds4top.core.planner import make_plan
from ds4top.core.plansteps import SYSTEMD
from ds4top.core.process import COMMS, DEFAULT_PORT, ServerProcess, flag_value, port_of
from ds4top.core.supervision import CONTAINERS
from ds4top.sources.procfs import ProcFs
from ds4top.view.owners import owner_words

Emit = Callable[[Progress], None]
LOGS = "logs"


def available_bytes(proc: Path = Path("/proc")) -> int | None:
    """MemAvailable; ``None`` where it is not told."""
    try:
        return parse_meminfo((proc / "meminfo").read_text()).get("MemAvailable")
    except OSError:
        return None


def gpu_lists(pid: int) -> bool | None:
    """Whether NVML still lists a process; ``None`` without NVML."""
    try:
        pynvml = importlib.import_module("pynvml")
        pynvml.nvmlInit()
    except Exception:
        return None
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            for call in (
                pynvml.nvmlDeviceGetComputeRunningProcesses,
                pynvml.nvmlDeviceGetGraphicsRunningProcesses,
            ):
                if any(process.pid == pid for process in call(handle)):
                    return True
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return False


def servers_now(procfs: ProcFs, demo: str = "") -> list[ServerProcess]:
    """All servers that run, those of demos aside (or of this demo alone)."""
    found = []
    for pid in sorted(procfs.pids()):
        if procfs.comm(pid) in COMMS and (server := procfs.server(pid)) is not None:
            found.append(server)
    return [server for server in found if server.demo == demo]


class Controller:
    """One machine's server, planned for and acted on.

    ``see`` gives what is known now; ``memory`` stands in for the machine's (the demo).
    """

    def __init__(
        self,
        gatherer: Gatherer,
        see: Callable[[], Situation],
        *,
        memory: Callable[[int], MemoryNow] | None = None,
        demo: str = "",
    ) -> None:
        self.gatherer = gatherer
        self._see = see
        self._memory = memory or (
            lambda pid: MemoryNow(available_bytes(gatherer.procfs.root), gpu_lists(pid))
        )
        self._demo = demo

    @property
    def state(self) -> Path:
        """ds4top's own folder."""
        return self.gatherer.state

    def servers(self) -> list[ServerProcess]:
        """Servers that run now."""
        return servers_now(self.gatherer.procfs, self._demo)

    def can_start(self) -> bool:
        """Whether there is something to start: parked, or commands of the user's own."""
        return self.gatherer.starts_by_command or self.gatherer.way_back.parked() is not None

    def startable(self) -> Startable | None:
        """What a start would start; ``None`` for nothing."""
        gatherer = self.gatherer
        parked = gatherer.way_back.parked()
        own = gatherer.starts_by_command
        if parked is None:
            return Startable("the server", owner_words(Supervisor("own"))) if own else None
        argv = parked.spec.argv if parked.spec is not None else ()
        # An interpreter's words say nothing; its supervisor's name, or what it is, does.
        llama = "llama-server" in (os.path.basename(word) for word in argv[:3])
        owner = Supervisor("own") if own else parked.supervisor
        return Startable(
            "llama-server" if llama else "ds4-server",
            owner_words(owner),
            parked.residency if not own or parked.residency in list(Mode) else "",
            port_of(argv, "llama.cpp" if llama else "ds4") if argv else None,
            parked.wall,
        )

    def plan(self, action: Action, want: Mode | None = None) -> Plan:
        """The plan of an action; a refusal is one too."""
        facts = self.gatherer.facts(action, self._see(), want)
        spec = facts.spec
        previous = self.gatherer.way_back.previous(spec) if spec is not None else None
        return make_plan(action, facts, want, previous=previous)

    def run(
        self,
        plan: Plan,
        emit: Emit = lambda progress: None,
        *,
        forced: bool = False,
        stop: Event | None = None,
    ) -> Outcome:
        """Run a plan while it is ours to act. Never raises for what the machine does."""
        if plan.refused is not None:
            return Outcome(False, "refused", plan.refused, refused=True)
        try:
            with Turn(self.gatherer.turn_path, plan.action.value):
                return self._execute(plan, emit, forced, stop)
        except HeldError as error:
            why = f"another ds4top is acting on this machine: {error}"
            return Outcome(False, "refused", why, refused=True)
        except OSError as error:
            why = f"nothing can be kept in {self.state}: {error.strerror}"
            return Outcome(False, "refused", why, refused=True)

    def _execute(self, plan: Plan, emit: Emit, forced: bool, stop: Event | None) -> Outcome:
        gatherer = self.gatherer
        executor = Executor(
            plan,
            self.world(plan),
            gatherer.journal,
            gatherer.way_back,
            emit,
            forced=forced,
            stop=stop,
        )
        return executor.run()

    def back(self, plan: Plan, outcome: Outcome) -> Plan | None:
        """The plan that takes a failed one back; ``None`` where nothing can or need be."""
        if outcome.done or outcome.refused:
            return None
        found = back_of(plan, outcome.failed_step, undone=outcome.undone)
        starts = found is not None and found.argv_after is not None and len(found.steps) > 0
        if found is None or not starts:
            return found
        if outcome.pid is not None and self.gatherer.procfs.target(outcome.pid) is not None:
            # It runs, and only does not answer yet: nothing is stopped on the way back.
            return None
        return found

    def recovered(self, wall: float | None = None) -> Recovered | None:
        """What became of an action that was cut off; ``None`` for none, or while one goes on."""
        gatherer = self.gatherer
        if not gatherer.journal.unfinished():
            return None
        try:
            with Turn(gatherer.turn_path, "looking"):
                return settle(
                    gatherer.journal,
                    gatherer.way_back,
                    self.servers(),
                    gatherer.procfs,
                    time.time() if wall is None else wall,
                )
        except (HeldError, OSError):
            return None

    # the machine, as an executor asks for it -------------------------------------------------

    def world(self, plan: Plan) -> World:
        """What an executor needs of this machine."""
        gatherer = self.gatherer
        spec = plan.after or plan.before
        name = os.path.basename(spec.argv[0]) if spec is not None else "server"
        logs = self.state / LOGS
        own_log = logs / f"{name}.log"
        log = Path(spec.log_path) if spec is not None and spec.log_path else own_log
        return World(
            memory=self._memory,
            started=watcher(
                self.url(plan),
                log,
                time.time,
                failed=self._failed(plan),
                find_pid=lambda: self._new_pid(plan),
            ),
            log_path=own_log,
            logs_folder=logs,
            last_lines=lambda: self._last_lines(plan),
            proc=gatherer.procfs.root,
            environment=dict(gatherer.environment),
        )

    def url(self, plan: Plan) -> str:
        """Where the server of a plan answers."""
        server = self._see().server
        spec = plan.after or plan.before
        same = server is not None and server.target == plan.target
        if server is not None and same and server.url is not None:
            return server.url
        argv = spec.argv if spec is not None else ()
        flavour = "llama.cpp" if argv and "llama" in os.path.basename(argv[0]) else "ds4"
        host = flag_value(argv, "--host") or "127.0.0.1"
        host = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)
        return f"http://{host}:{port_of(argv, flavour) or DEFAULT_PORT[flavour]}"

    def _new_pid(self, plan: Plan) -> int | None:
        pids = [server.target.pid for server in self.servers() if server.target != plan.target]
        return pids[0] if len(pids) == 1 else None

    def _failed(self, plan: Plan) -> Callable[[], str | None]:
        supervisor, run = plan.supervisor, self.gatherer.run
        if supervisor.kind in SYSTEMD:
            user = supervisor.kind == "systemd-user"
            return functools.partial(units.failed, supervisor.name, user=user, run=run)
        if supervisor.kind in CONTAINERS:
            return functools.partial(containers.failed, supervisor.kind, supervisor.name, run)
        return panes.Failed(supervisor, run) if supervisor.kind == "tmux" else lambda: None

    def _last_lines(self, plan: Plan) -> tuple[str, ...]:
        supervisor = plan.supervisor
        commands = {
            "systemd-system": ("journalctl", "-u", supervisor.name),
            "systemd-user": ("journalctl", "--user", "-u", supervisor.name),
            "docker": ("docker", "logs", "--tail", "12", supervisor.name),
            "podman": ("podman", "logs", "--tail", "12", supervisor.name),
        }
        if supervisor.kind == "tmux":
            return panes.last_lines(supervisor, self.gatherer.run)
        argv = commands.get(supervisor.kind)
        if argv is None:
            return ()
        if argv[0] == "journalctl":
            argv = (*argv, "-n", "12", "-o", "cat", "--no-pager", "-q")
        answer = self.gatherer.run(argv)
        return tuple((answer.out + answer.err).splitlines()) if answer.good else ()


def rolled_back(first: Outcome, back: Outcome) -> Outcome:
    """How an action that failed and was taken back ended."""
    words = f"{first.words}; taken back" if back.done else f"{first.words}; so did the way back"
    reason = first.reason if back.done else f"{first.reason}; the way back: {back.reason}"
    return replace(first, words=words, reason=reason, rolled_back=back.done, pid=back.pid)


__all__ = ["Controller", "Mode", "alive", "rolled_back", "servers_now"]
