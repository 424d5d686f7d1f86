"""What a control action is before it is done: a value that can be shown, tested, printed and run.

A ``Plan`` is computed by ``core.planner`` from ``Facts`` and nothing else. Its ``steps`` are typed;
an executor runs them one by one and can name each. Field names of the printed form:
``ds4top.plan/1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from ds4top.core.target import Env as Env
from ds4top.core.target import SupervisorKind as SupervisorKind
from ds4top.core.target import Target as Target


class Action(StrEnum):
    """What is asked for. A switch of the mode is a restart (or a start) with ``want`` set."""

    RESTART = "restart"
    STOP = "stop"
    START = "start"
    KILL = "kill"


class Mode(StrEnum):
    """How the weights are to be held: mapped page cache, or a copy in CUDA memory."""

    MMAP = "mmap"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Spec:
    """All that starts the same process again: argv, whole environment, folder, limits, log.

    ``cwd`` is the folder to start in (before ``--chdir`` is applied by the server itself).
    ``limits`` are soft and hard by the names of ``/proc/PID/limits``; ``log_path`` is where its
    standard error goes, ``None`` where that is no file.
    """

    argv: tuple[str, ...]
    env: Env
    cwd: str
    exe: str
    umask: int | None = None
    limits: tuple[tuple[str, str, str], ...] = ()
    log_path: str | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """What the executable can be told: flags of its ``--help``, names of variables in it.

    ``None`` where that could not be found out; then nothing of the kind is ever passed.
    """

    flags: frozenset[str] | None = None
    variables: frozenset[str] | None = None
    llama: bool = False
    exe_replaced: bool = False


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Who owns the server, and what it can do. ``refusal`` says why it cannot be asked to act."""

    kind: SupervisorKind
    name: str = ""
    refusal: str | None = None
    restart_policy: str | None = None
    stop_timeout_s: float | None = None
    active_state: str | None = None
    need_reload: bool = False
    linger: bool | None = None
    drop_in_path: str | None = None
    drop_in_text: str | None = None
    exec_start: tuple[str, ...] = ()
    pane_runs_server: bool = False
    recreate: str | None = None
    """The exact command that recreates a container, where ds4top cannot do that faithfully."""
    start_command: tuple[str, ...] = ()
    stop_command: tuple[str, ...] = ()
    user_manager: bool = True
    """Of a transient unit: whether the user's own manager has it, and not the system's."""
    drop_in_denied: str | None = None
    """Why the drop-in may not be written, where it may not."""
    no_restart: str | None = None
    """Why it can be stopped, but not be started again by ds4top."""
    tmux: tuple[str, ...] = ("tmux",)
    """The words that reach the tmux server of the pane."""
    pane_cwd: str | None = None
    pane_env: Env = ()
    """What the server has of the model's variables and the pane's shell was not started with."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flight:
    """What a stop loses or waits for. ``prefill_left_s``: the prefill that it must wait out;
    ``stopping_s``: for how long it has been stopping, where that is known.
    """

    phase: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    waiting: int | None = None
    prefill_left_s: float | None = None
    shutdown_seen: bool = False
    stopping_s: float | None = None
    poisoned: bool = False
    memory_critical: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a plan is made from. Unknown figures are ``None``.

    ``starts_s``: seconds that starts took here, by mode; ``reference_s`` the same from elsewhere.
    ``direct_is_ours``: the mode was set by ds4top (its drop-in or way back says so).
    """

    target: Target | None
    spec: Spec | None
    build: Build
    supervisor: Supervisor
    residency: str = "unknown"
    flight: Flight = Flight()
    may_signal: bool = True
    owner: str = ""
    read_only: bool = False
    lock_holder: str | None = None
    available_bytes: int | None = None
    total_bytes: int | None = None
    held_bytes: int | None = None
    weights_bytes: int | None = None
    context_bytes: int | None = None
    starts_s: Mapping[str, float] = field(default_factory=dict)
    reference_s: Mapping[str, float] = field(default_factory=dict)
    mapped_without_switch: bool = False
    kv_disk: bool | None = None
    grace_s: float = 600.0


# Steps. ``words`` of each is what the confirmation, the progress and the journal say.


@dataclass(frozen=True, slots=True)
class WriteDropIn:
    """Write a unit's drop-in whole; ``before`` is what stood there, for the way back."""

    path: str
    text: str
    before: str | None
    words: str


@dataclass(frozen=True, slots=True)
class RemoveDropIn:
    """Remove a drop-in that ds4top wrote."""

    path: str
    before: str
    words: str


@dataclass(frozen=True, slots=True)
class Run:
    """A command of a supervisor; ``timeout_s`` bounds it. ``stops`` and ``starts`` the server."""

    argv: tuple[str, ...]
    timeout_s: float
    words: str
    stops: bool = False
    starts: bool = False
    env: Env = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal to the verified target, once: TERM, or KILL after its own confirmation."""

    number: int
    words: str


@dataclass(frozen=True, slots=True)
class WaitGone:
    """Until the target is gone; past ``grace_s`` the action fails, and nothing is killed."""

    grace_s: float
    words: str


@dataclass(frozen=True, slots=True)
class WaitMemory:
    """Until NVML no longer lists the target and ``need_bytes`` are available."""

    need_bytes: int | None
    timeout_s: float
    words: str


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process in a session of its own."""

    spec: Spec
    words: str


@dataclass(frozen=True, slots=True)
class PaneRespawn:
    """Start the server as the pane's command again; ``env`` is what tmux does not give it."""

    pane: str
    spec: Spec
    words: str
    tmux: tuple[str, ...] = ("tmux",)
    env: Env = ()
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PaneType:
    """Type a quoted command into the pane's own shell; shown letter by letter before."""

    pane: str
    line: str
    shell: str
    words: str
    tmux: tuple[str, ...] = ("tmux",)


@dataclass(frozen=True, slots=True)
class WaitAnswer:
    """Until the server answers on its port."""

    timeout_s: float
    words: str


Step: TypeAlias = (
    WriteDropIn
    | RemoveDropIn
    | Run
    | Signal
    | WaitGone
    | WaitMemory
    | Spawn
    | PaneRespawn
    | PaneType
    | WaitAnswer
)


@dataclass(frozen=True, slots=True)
class Plan:
    """An action, ready to be shown and run. With ``refused`` set it has no steps.

    ``argv_after`` and the ``env_*`` fields are ``None`` or empty for a stop. ``notes`` are what the
    reader should know: costs, gains, a replaced executable. ``confirm``: a word that must be
    typed (``KILL``, or a start without headroom), ``None`` where yes is enough.
    """

    action: Action
    target: Target | None
    supervisor: Supervisor
    steps: tuple[Step, ...] = ()
    argv_before: tuple[str, ...] | None = None
    argv_after: tuple[str, ...] | None = None
    env_set: Env = ()
    env_unset: tuple[str, ...] = ()
    residency_before: str = "unknown"
    residency_after: str | None = None
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    start_s_estimate: float | None = None
    start_s_origin: str | None = None
    start_before: tuple[float | None, str | None] = (None, None)
    """Seconds of a start as it runs now, and where they are from: what the way back takes."""
    headroom_after_bytes: int | None = None
    refused: str | None = None
    confirm: str | None = None
    after: Spec | None = None
    """What runs afterwards, for the way back and for the roll-back of a later action."""
    before: Spec | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What an executor reports about one step. ``state``: begun, waiting, done, failed."""

    step: int
    state: Literal["begun", "waiting", "done", "failed"]
    words: str
    t: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended; ``reason`` and ``last_lines`` (of the log) where it failed."""

    done: bool
    words: str
    reason: str | None = None
    last_lines: tuple[str, ...] = ()
    rolled_back: bool = False
    pid: int | None = None
    refused: bool = False
    """Nothing was done: another ds4top acts, or nothing can be kept."""
    failed_step: int | None = None
    undone: bool = False
    """The step that failed left nothing done."""
    started: Target | None = None
