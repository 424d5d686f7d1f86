"""Gathering what a plan is made from: of the server, its supervisor, its build, the machine."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ds4top.archive.paths import HELPS, JOURNAL
from ds4top.control import containers, panes, turn, units
from ds4top.control.capture import capture
from ds4top.control.journal import Journal, StopTold
from ds4top.control.wayback import Parked, WayBack
from ds4top.core.coldstart import REFERENCE_S
from ds4top.core.config import Config
from ds4top.core.derive import ServerState, status_of
from ds4top.core.machine import DEFAULT_CTX
from ds4top.core.memory import Residency, context_bytes
from ds4top.core.model import Model
from ds4top.core.plan import Action, Build, Facts, Flight, Mode, Spec, Supervisor
from ds4top.core.plansteps import SYSTEMD
from ds4top.core.process import ServerProcess, flag_value, resolved
from ds4top.core.state import Phase
from ds4top.core.supervision import CONTAINERS
from ds4top.core.switch import DIRECT, NoWayError, change_mode
from ds4top.sources.ask import Ask, ask
from ds4top.sources.helpflags import HelpFlags
from ds4top.sources.procfs import ProcFs

UNSEEN_S = 10.0
CHUNK_TOKENS, CHUNK_ROWS = 2048, 2304


@dataclass(frozen=True, slots=True)
class Situation:
    """What is seen of the server and the machine now; unknown figures are ``None``."""

    server: ServerProcess | None = None
    flight: Flight = field(default_factory=Flight)
    residency: str = "unknown"
    available_bytes: int | None = None
    total_bytes: int | None = None
    held_bytes: int | None = None
    weights_bytes: int | None = None
    context_bytes: int | None = None
    starts_s: Mapping[str, float] = field(default_factory=dict)
    kv_disk: bool | None = None
    log_told: bool = False
    """Whether its log was read, and would say that it stops."""
    mapped_without_switch: bool = False
    speed: float = 1.0
    """How many times faster than the clock a demo runs; its reference goes with it."""


def _since(wall: float | None, now: float) -> float | None:
    return None if wall is None else max(now - wall, 0.0)


def situation_of(
    model: Model,
    *,
    prefill_left_s: float | None = None,
    starts_s: Mapping[str, float] | None = None,
) -> Situation:
    """What the model shows. ``prefill_left_s``: the ETA of the running prefill, where one is known;
    ``starts_s``: seconds of past starts by residency, where they are other than the model's.
    """
    machine, log = model.machine, model.log
    status = status_of(log, model.now)
    life, request, server = log.life, log.running, machine.server
    sample = machine.memory.sample
    alive = server is not None
    prefilling = alive and request is not None and request.phase is Phase.PREFILL
    flight = Flight()
    if alive:
        headroom = machine.memory.headroom
        flight = Flight(
            phase=request.phase.value if request is not None else None,
            prompt_tokens=request.prompt_tokens if request is not None else None,
            generated_tokens=request.generated_tokens if request is not None else None,
            waiting=machine.waiting(log),
            prefill_left_s=prefill_left_s if prefilling else None,
            shutdown_seen=life is not None and life.shutdown,
            stopping_s=_since(life.shutdown_at, model.now) if life is not None else None,
            poisoned=status.state is ServerState.POISONED,
            memory_critical=headroom is not None and headroom < machine.critical_bytes,
        )
    residency = machine.residency(log)[0]
    env = dict(server.env or ()) if server is not None and server.env is not None else None
    unified = machine.unified
    return Situation(
        server=server,
        flight=flight,
        residency=residency.value,
        available_bytes=sample.available_bytes if sample is not None and unified else None,
        total_bytes=sample.total_bytes if sample is not None and unified else None,
        held_bytes=machine.held_bytes if unified else None,
        weights_bytes=server.model_bytes if server is not None else None,
        context_bytes=machine.context_bytes(log) if alive else None,
        starts_s=model.past_starts_s | dict(starts_s or {}),
        log_told=alive and life is not None and (life.listened or life.served),
        kv_disk=server.kv_dir is not None if server is not None and server.argv else None,
        mapped_without_switch=residency is Residency.MMAP and env is not None and DIRECT not in env,
        speed=model.speed,
    )


def may_signal(server: ServerProcess) -> bool:
    """Whether a signal of ours would be allowed (kill(2)); nothing is sent."""
    try:
        os.kill(server.target.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


class Gatherer:
    """Reads facts. It blocks (systemctl, ``--help``): call it in a thread.

    ``state``: ds4top's own folder; ``root`` and ``run``: the machine and its commands.
    """

    def __init__(
        self,
        config: Config,
        state: Path,
        *,
        procfs: ProcFs | None = None,
        asker: HelpFlags | None = None,
        environment: Mapping[str, str] | None = None,
        root: Path = Path("/"),
        run: Ask = ask,
        wall: Callable[[], float] = time.time,
        plain: bool = False,
    ) -> None:
        """``plain``: its servers are nobody's, whatever they were started under (the demo)."""
        self._plain = plain
        self._wall = wall
        self.config = config
        self.state = state
        self.procfs = procfs or ProcFs()
        self.environment = os.environ if environment is None else environment
        self.asker = asker or HelpFlags(state / HELPS, keep=("--standin-profile",))
        self._root = root
        self.run = run

    @property
    def turn_path(self) -> Path:
        """The lock of who acts."""
        return self.state / "turn"

    @property
    def way_back(self) -> WayBack:
        """How the server was started."""
        return WayBack(self.state)

    @property
    def journal(self) -> Journal:
        """What was done."""
        return Journal(self.state / JOURNAL)

    @property
    def starts_by_command(self) -> bool:
        """Whether there is a command of the user's own that starts it."""
        own = self._own()
        return own is not None and bool(own.start_command)

    def facts(self, action: Action, seen: Situation, want: Mode | None = None) -> Facts:
        """Facts of an action. With no server, what a start needs comes from what was parked."""
        server = seen.server
        if server is not None:
            return self._running(server, seen, want)
        parked = self.way_back.parked() if action is Action.START else None
        return self._stopped(parked, seen)

    def _common(self, seen: Situation) -> Facts:
        return Facts(
            None,
            None,
            Build(),
            Supervisor("none"),
            flight=seen.flight,
            read_only=self.config.flag("control.read_only"),
            lock_holder=turn.holder(self.turn_path) if self.turn_path.exists() else None,
            available_bytes=seen.available_bytes,
            total_bytes=seen.total_bytes,
            held_bytes=seen.held_bytes,
            weights_bytes=seen.weights_bytes,
            context_bytes=seen.context_bytes,
            residency=seen.residency,
            starts_s=seen.starts_s,
            reference_s={mode: s / seen.speed for mode, s in REFERENCE_S.items()},
            kv_disk=seen.kv_disk,
            mapped_without_switch=seen.mapped_without_switch,
            grace_s=float(self.config.number("control.grace_s")),
        )

    def _running(self, server: ServerProcess, seen: Situation, want: Mode | None) -> Facts:
        spec: Spec | None = None
        trouble: tuple[str, ...] = ()
        pid = server.target.pid
        try:
            spec = capture(pid, self.procfs.root)
        except PermissionError:
            trouble = ("its environment may not be read by this user",)
        except (OSError, ValueError) as error:
            trouble = (str(error),)
        build = self._build(server, spec)
        base = self._common(seen)
        flight = seen.flight
        told = self.journal.stop_told(server.target)
        if not flight.shutdown_seen and self._stopping(seen, told):
            flight = replace(flight, shutdown_seen=True)
        if flight.shutdown_seen and flight.stopping_s is None:
            at = told.at if told.at is not None else told.maybe_at
            flight = replace(flight, stopping_s=None if at is None else max(self._wall() - at, 0.0))
        supervisor = self._supervisor(server, spec, build, want)
        return replace(
            base,
            target=server.target,
            spec=spec,
            build=build,
            supervisor=replace(supervisor, notes=(*supervisor.notes, *trouble)),
            flight=flight,
            may_signal=may_signal(server),
            owner=server.user,
        )

    def _stopping(self, seen: Situation, told: StopTold) -> bool:
        """Whether it was told to stop by a ds4top: a second signal would end it with nothing saved.

        Of one whose sending nobody saw, a log that says nothing of it a while later is the word.
        """
        if told.sent or told.maybe_at is None:
            return told.sent
        return not (seen.log_told and self._wall() - told.maybe_at > UNSEEN_S)

    def _build(self, server: ServerProcess, spec: Spec | None) -> Build:
        argv = spec.argv if spec is not None else server.argv or ()
        exe = f"{self.procfs.root}/{server.target.pid}/exe"
        if server.exe_replaced and spec is not None:
            # The new file is what a start will run.
            exe = spec.exe
        cwd = server.cwd if spec is None else spec.cwd
        found = self.asker.read(argv, exe, spec.env if spec is not None else (), cwd)
        return Build(
            flags=frozenset(name for flag in found.flags for name in flag.names)
            if found.flags is not None
            else None,
            variables=found.variables,
            llama=server.flavour == "llama.cpp",
            exe_replaced=server.exe_replaced,
        )

    def _own(self) -> Supervisor | None:
        if self._plain:
            return None
        start, stop = self.config.words("control.start"), self.config.words("control.stop")
        if not start and not stop:
            return None
        return Supervisor("own", "of the config file", start_command=start, stop_command=stop)

    def _supervisor(
        self, server: ServerProcess, spec: Spec | None, build: Build, want: Mode | None
    ) -> Supervisor:
        if self._plain:
            return Supervisor("none")
        if (own := self._own()) is not None:
            return own
        kind, name = server.owner.kind, server.owner.name
        named = Supervisor(kind, name)
        if kind in CONTAINERS:
            return self._container(named, spec, build, want)
        if kind in SYSTEMD or kind == "transient":
            named = replace(named, user_manager=server.owner.of_user)
            return self._unit(named, spec, server.target.pid)
        if kind == "tmux":
            return panes.supervisor_of(server, spec, self.procfs, self.run)
        return named

    def _unit(self, named: Supervisor, spec: Spec | None, pid: int | None) -> Supervisor:
        return units.supervisor_of(
            named,
            spec.argv if spec is not None else (),
            environment=self.environment,
            pid=pid,
            root=self._root,
            run=self.run,
        )

    def _container(
        self, named: Supervisor, spec: Spec | None, build: Build, want: Mode | None
    ) -> Supervisor:
        if spec is None or want is None:
            return containers.supervisor_of(named, run=self.run)
        try:
            change = change_mode(spec, build, want)
        except NoWayError:
            return containers.supervisor_of(named, run=self.run)
        return containers.supervisor_of(
            named,
            command=change.spec.argv,
            env_set=change.env_set,
            env_unset=change.env_unset,
            run=self.run,
        )

    def _stopped(self, parked: Parked | None, seen: Situation) -> Facts:
        base = replace(self._common(seen), flight=Flight(), held_bytes=0)
        own = self._own()
        if parked is None:
            return replace(base, supervisor=own or base.supervisor, residency="unknown")
        spec, supervisor = parked.spec, own or parked.supervisor
        if own is None:
            supervisor = self._again(supervisor, spec)
        weights, context = sizes_of(spec)
        build = Build()
        if spec is not None:
            found = self.asker.read(spec.argv, spec.exe, spec.env, spec.cwd)
            build = Build(
                frozenset(name for flag in found.flags for name in flag.names)
                if found.flags is not None
                else None,
                found.variables,
                llama=os.path.basename(spec.argv[0]) == "llama-server",
            )
        return replace(
            base,
            spec=spec,
            build=build,
            supervisor=supervisor,
            residency=parked.residency,
            weights_bytes=weights,
            context_bytes=context,
            owner=pwd.getpwuid(os.getuid()).pw_name if _has_name(os.getuid()) else "",
        )

    def _again(self, supervisor: Supervisor, spec: Spec | None) -> Supervisor:
        """The supervisor of what was parked, as it is now."""
        fresh = Supervisor(
            supervisor.kind,
            supervisor.name,
            user_manager=supervisor.user_manager,
            tmux=supervisor.tmux,
            pane_runs_server=supervisor.pane_runs_server,
            pane_cwd=supervisor.pane_cwd,
            pane_env=supervisor.pane_env,
        )
        if supervisor.kind in SYSTEMD:
            return self._unit(fresh, spec, None)
        if supervisor.kind in CONTAINERS:
            return containers.supervisor_of(fresh, run=self.run)
        if supervisor.kind == "tmux":
            alive = panes.pane_pid(fresh.tmux, fresh.name, self.run)
            if alive is None:
                return Supervisor("none", notes=("its tmux pane is gone: a plain process",))
            # A pane whose command was the server went with it, or waits dead for another.
            return fresh
        return fresh


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def sizes_of(spec: Spec | None) -> tuple[int | None, int | None]:
    """Bytes of the model and of the context that a launch asks for."""
    if spec is None:
        return None, None
    path = resolved(flag_value(spec.argv, "-m", "--model"), spec.cwd)
    try:
        weights = os.stat(path).st_size if path is not None else None
    except OSError:
        weights = None
    told = flag_value(spec.argv, "-c", "--ctx", "--ctx-size")
    ctx = int(told) if told and told.isdecimal() else DEFAULT_CTX
    return weights, context_bytes(ctx, CHUNK_TOKENS, CHUNK_ROWS)
