"""Runs a plan, step by step. It does what the plan says and nothing else.

Before anything is stopped the way back is on disk; before and after each step a line is in the
journal. Whatever goes wrong ends the action with a reason: nothing is killed, nothing retried.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from ds4top.archive.files import remove, write_private
from ds4top.archive.paths import private_folder
from ds4top.control.hold import Hold, NotTheTargetError, identity_of
from ds4top.control.journal import Journal
from ds4top.control.spawn import rotate, spawn
from ds4top.control.units import explained
from ds4top.control.wayback import Parked, WayBack
from ds4top.core.plan import (
    Action,
    Outcome,
    PaneRespawn,
    PaneType,
    Plan,
    Progress,
    RemoveDropIn,
    Run,
    Signal,
    Spawn,
    Step,
    Target,
    WaitAnswer,
    WaitGone,
    WaitMemory,
    WriteDropIn,
)
from ds4top.core.secrets import MASK, secrets_in
from ds4top.core.units import fmt_gib

_TURN_S = 0.1
_WORDS_CHARS = 400
_LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class MemoryNow:
    """``available_bytes``, and whether NVML still lists the target (``None``: cannot tell)."""

    available_bytes: int | None
    listed: bool | None


@dataclass(frozen=True, slots=True)
class Started:
    """What a start came to: whether it answers, or why it never will. Both unknown: not yet."""

    answers: bool = False
    failure: str | None = None
    pid: int | None = None


class FailedError(Exception):
    """A step failed; the message is the reason."""


class UndoneError(FailedError):
    """A command said no: what it was to do was not done."""


@dataclass(slots=True)
class World:
    """What an executor needs of the machine; tests bring their own.

    ``started`` is asked with the child (where ds4top is its parent) and the log's length before.
    """

    memory: Callable[[int], MemoryNow]
    started: Callable[[subprocess.Popen[bytes] | None, int], Started]
    log_path: Path
    logs_folder: Path | None = None
    """Logs in it are ds4top's own: rotated at each start."""
    last_lines: Callable[[], tuple[str, ...]] = tuple
    """Of a log that is no file."""
    proc: Path = Path("/proc")
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


class Executor:
    """One plan, run once. ``stop`` (an event) gives up waiting; what was begun is not undone."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        journal: Journal,
        way_back: WayBack,
        emit: Callable[[Progress], None] = lambda progress: None,
        *,
        forced: bool = False,
        stop: Event | None = None,
    ) -> None:
        """Raises ``ValueError`` for a plan that was refused."""
        if plan.refused is not None:
            raise ValueError(f"this plan was refused: {plan.refused}")
        self.plan = plan
        self.action_id = uuid.uuid4().hex[:12]
        self._world = world
        self._journal = journal
        self._way_back = way_back
        self._emit = emit
        self._forced = forced
        self._stop = stop or Event()
        self._hold: Hold | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._log_bytes = 0
        self._pid: int | None = None
        self._failed_step: int | None = None
        self._undone = False

    def run(self) -> Outcome:
        """All steps. Never raises for what the machine does; the outcome says it."""
        try:
            outcome = self._run()
        except (FailedError, NotTheTargetError, OSError, ValueError) as error:
            reason = self._quiet(" ".join(str(error).split()))[:_WORDS_CHARS]
            words = f"{self.plan.action.value} failed"
            outcome = Outcome(
                False,
                words,
                reason,
                tuple(self._quiet(line) for line in self._tail()),
                pid=self._pid,
                failed_step=self._failed_step,
                started=self._identity(),
                undone=self._undone,
            )
        finally:
            if self._hold is not None:
                self._hold.close()
        try:
            self._journal.outcome(self.action_id, outcome, self._world.wall())
        except OSError as error:
            words = f"{outcome.words}; the journal could not be written: {error.strerror}"
            return replace(outcome, words=words)
        return outcome

    def _run(self) -> Outcome:
        plan, world = self.plan, self._world
        if plan.target is not None and plan.action is not Action.START:
            # Opened before anything else: from here on this very process is meant.
            self._hold = Hold(plan.target, world.proc)
        self._journal.begun(self.action_id, plan, world.wall())
        known = plan.before is not None or plan.supervisor.kind in _KNOW_HOW
        if plan.action is not Action.START and known:
            self._way_back.park(
                Parked(plan.before, plan.supervisor, plan.residency_before, world.wall())
            )
        self._log_bytes = _size(self._log_path())
        for number, step in enumerate(plan.steps):
            self._tell(number, "begun", step.words)
            try:
                self._do(number, step)
            except BaseException as error:
                self._failed_step = number
                self._emit(Progress(number, "failed", step.words, world.monotonic()))
                self._undone = isinstance(error, UndoneError | NotTheTargetError | PermissionError)
                if self._undone:
                    # Else it may be half done, and the journal leaves it begun.
                    self._journal.step(self.action_id, number, "failed", step.words, world.wall())
                raise
            started = self._identity() if isinstance(step, Spawn) else None
            self._tell(number, "done", step.words, started)
        if plan.action in (Action.RESTART, Action.START):
            self._way_back.switched(plan)
            self._way_back.started()
        return Outcome(True, f"{plan.action.value} done", pid=self._pid, started=self._identity())

    def _identity(self) -> Target | None:
        try:
            return identity_of(self._pid, self._world.proc)[0] if self._pid else None
        except (OSError, ValueError):
            return None

    def _tell(self, number: int, state: str, words: str, started: Target | None = None) -> None:
        self._journal.step(self.action_id, number, state, words, self._world.wall(), started)
        self._emit(
            Progress(number, "begun" if state == "begun" else "done", words,
                     self._world.monotonic())
        )  # fmt: skip

    def _do(self, number: int, step: Step) -> None:
        match step:
            case WriteDropIn():
                if _read(step.path) != step.before:
                    raise FailedError(f"{step.path} was changed since the plan was made")
                _write_unit(Path(step.path), step.text)
            case RemoveDropIn():
                if _read(step.path) != step.before:
                    raise FailedError(f"{step.path} was changed since the plan was made")
                remove(Path(step.path))
            case Run():
                self._command(step)
            case Signal():
                assert self._hold is not None
                self._hold.send(step.number)
            case WaitGone():
                self._wait_gone(number, step)
            case WaitMemory():
                self._wait_memory(number, step)
            case Spawn():
                self._spawn(step)
            case PaneRespawn():
                self._respawn(step)
            case PaneType():
                self._type(step)
            case WaitAnswer():
                self._wait_answer(number, step)

    def _spawn(self, step: Spawn) -> None:
        path = self._log_path()
        if path.parent == self._world.logs_folder:
            private_folder(path.parent)
            rotate(path)
            self._log_bytes = 0
        self._child = spawn(step.spec, path)
        self._pid = self._child.pid

    def _command(self, step: Run, environment: dict[str, str] | None = None) -> str:
        env = self._world.environment | dict(step.env) | (environment or {})
        try:
            done = subprocess.run(
                step.argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=step.timeout_s,
                env=env,
                start_new_session=True,
                check=False,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError as error:
            raise UndoneError(f"{step.argv[0]}: no such program") from error
        except subprocess.TimeoutExpired as error:
            raise FailedError(f"{step.words}: no answer within {step.timeout_s:.0f} s") from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            said = explained(step.argv, said)
            raise UndoneError(f"{step.words} ended with {done.returncode}: {said or 'no word'}")
        return done.stdout

    def _wait_gone(self, number: int, step: WaitGone) -> None:
        assert self._hold is not None
        end = self._world.monotonic() + step.grace_s
        while not self._hold.gone(_TURN_S):
            left = end - self._world.monotonic()
            if left <= 0:
                raise FailedError(
                    f"it is still there after {step.grace_s:.0f} s; it was not killed"
                )
            self._waiting(number, step.words)

    def _wait_memory(self, number: int, step: WaitMemory) -> None:
        end = self._world.monotonic() + step.timeout_s
        pid = self.plan.target.pid if self.plan.target else 0
        while True:
            now = self._world.memory(pid)
            enough = (
                self._forced
                or step.need_bytes is None
                or now.available_bytes is None
                or now.available_bytes >= step.need_bytes
            )
            if enough and now.listed is not True:
                return
            if self._world.monotonic() >= end:
                if now.listed:
                    raise FailedError("the driver still lists it; its memory is not back")
                raise FailedError(
                    f"memory is not back: {fmt_gib(now.available_bytes)} GiB available,"
                    f" {fmt_gib(step.need_bytes)} GiB needed"
                )
            self._waiting(number, step.words)

    def _wait_answer(self, number: int, step: WaitAnswer) -> None:
        end = self._world.monotonic() + step.timeout_s
        while True:
            found = self._world.started(self._child, self._log_bytes)
            if found.failure is not None:
                raise FailedError(found.failure)
            if found.answers:
                self._pid = found.pid or self._pid
                return
            if self._world.monotonic() >= end:
                raise FailedError(f"it does not answer after {step.timeout_s:.0f} s")
            self._waiting(number, step.words)

    def _waiting(self, number: int, words: str) -> None:
        self._emit(Progress(number, "waiting", words, self._world.monotonic()))
        if self._stop.wait(_TURN_S):
            raise FailedError("ds4top was told to stop waiting; the server goes on by itself")

    def _respawn(self, step: PaneRespawn) -> None:
        # A pane's command has tmux's own environment, as before: only what differs is named.
        env = [f"-e{name}={value}" for name, value in step.env]
        unset = [word for name in step.unset for word in ("-u", name)]
        command = ["env", *unset, *step.spec.argv] if unset else list(step.spec.argv)
        if step.spec.log_path is not None:
            # Its words are arguments, never text of the script.
            command = ["/bin/sh", "-c", 'exec "$@" 2>>"$0"', step.spec.log_path, *command]
        argv = (*step.tmux, "respawn-pane", "-t", step.pane, "-c", step.spec.cwd, *env, "--",
                *command)  # fmt: skip
        self._command(Run(argv, 30.0, step.words))

    def _type(self, step: PaneType) -> None:
        target = ("-t", step.pane)
        ask = (*step.tmux, "display-message", "-p", *target, "#{pane_current_command}")
        end = self._world.monotonic() + 10.0
        while True:
            shell = self._command(Run(ask, 10.0, "ask tmux what runs in the pane")).strip()
            if shell in _SHELLS:
                break
            if self._world.monotonic() >= end:
                raise FailedError(f"pane {step.pane} runs {shell or 'nothing'}, no shell")
            self._stop.wait(_TURN_S)
        for argv in (
            (*step.tmux, "send-keys", *target, "-l", "--", step.line),
            (*step.tmux, "send-keys", *target, "Enter"),
        ):
            self._command(Run(argv, 10.0, step.words))

    def _log_path(self) -> Path:
        spec = self.plan.after or self.plan.before
        return Path(spec.log_path) if spec is not None and spec.log_path else self._world.log_path

    def _quiet(self, text: str) -> str:
        """Words of a server or a supervisor, which may repeat what they were given."""
        for spec in (self.plan.before, self.plan.after):
            for secret in secrets_in(spec.argv, spec.env) if spec is not None else ():
                text = text.replace(secret, MASK)
        return text

    def _tail(self) -> tuple[str, ...]:
        """The last lines of the log since this action began."""
        try:
            path = self._log_path()
            if not path.is_file():
                return self._world.last_lines()[-_LAST_LINES:]
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(self._log_bytes if size >= self._log_bytes else 0, size - 16_384))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ()
        return tuple(text.splitlines()[-_LAST_LINES:])


_KNOW_HOW = frozenset({"systemd-system", "systemd-user", "docker", "podman", "own"})
_SHELLS = frozenset({"bash", "zsh", "fish", "sh", "dash", "ksh", "-bash", "-zsh", "-sh"})


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write_unit(path: Path, text: str) -> None:
    write_private(path, text)
    path.chmod(0o644)
