"""A running server as /proc shows it: parsers of its texts, and what is known of one process.

Sources: proc_pid_stat(5), proc_pid_status(5), proc_net_tcp, cgroups(7). What may not be read is in
``denied`` with its reason, never guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from ds4top.core.plan import Env, SupervisorKind, Target

COMMS: Mapping[str, str] = {"ds4-server": "ds4", "llama-server": "llama.cpp"}
"""Exact names that are looked for, and the family of each."""
DEFAULT_PORT = {"ds4": 8000, "llama.cpp": 8080}
DEMO_MARK = "DS4TOP_DEMO"
MASK = "***"

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CRED", re.IGNORECASE)
_SHOWN = ("DS4_", "CUDA_", "NVIDIA_", "LD_LIBRARY_PATH", "OMP_", "MALLOC_", "GGML_", "LLAMA_")
_SECRET_FLAGS = re.compile(r"^--?(api-key|api-key-file|hf-token|token|password|secret)(=|$)")


@dataclass(frozen=True, slots=True)
class Stat:
    """Fields of /proc/PID/stat; times in clock ticks."""

    comm: str
    state: str
    ppid: int
    minor_faults: int
    major_faults: int
    cpu_ticks: int
    threads: int
    start_ticks: int


def parse_stat(text: str) -> Stat:
    """Raises ``ValueError`` for anything else. The name may hold blanks and brackets."""
    head, bracket, tail = text.rpartition(")")
    fields = tail.split()
    if not bracket or len(fields) < 20 or "(" not in head:
        raise ValueError("no stat line")
    return Stat(
        comm=head.partition("(")[2],
        state=fields[0],
        ppid=int(fields[1]),
        minor_faults=int(fields[7]),
        major_faults=int(fields[9]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
    )


def parse_status(text: str) -> dict[str, str]:
    """Names and values of /proc/PID/status."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def status_bytes(status: Mapping[str, str], name: str) -> int | None:
    """A size of /proc/PID/status in bytes."""
    words = status.get(name, "").split()
    return int(words[0]) * 1024 if words[:1] and words[0].isdecimal() else None


def parse_environment(text: str) -> Env:
    """Names and values, in their order."""
    pairs = (word.partition("=") for word in text.split("\0") if word)
    return tuple((name, value) for name, equal, value in pairs if equal and name)


def shown_environment(env: Env) -> Env:
    """What may be shown of an environment: what concerns the model, secrets masked."""
    return tuple(
        (name, MASK if _SECRET.search(name) else value)
        for name, value in env
        if name.startswith(_SHOWN)
    )


def shown_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line with the values of secrets masked."""
    out: list[str] = []
    hide = False
    for word in argv:
        found = _SECRET_FLAGS.match(word)
        if hide:
            out.append(MASK)
        elif found and found[2] == "=":
            out.append(word.partition("=")[0] + "=" + MASK)
        else:
            out.append(word)
        hide = bool(found) and found is not None and found[2] == ""
    return tuple(out)


def flag_value(argv: Sequence[str], *names: str) -> str | None:
    """The last value of a flag, as ``--flag value`` or ``--flag=value``."""
    found = None
    for at, word in enumerate(argv):
        name, equal, value = word.partition("=")
        if name in names:
            if equal:
                found = value
            elif at + 1 < len(argv):
                found = argv[at + 1]
    return found


@dataclass(frozen=True, slots=True)
class Socket:
    """A line of /proc/net/tcp. ``queued``: connections not yet accepted, of a listening one."""

    host: str
    port: int
    state: int
    queued: int
    inode: int


LISTEN, ESTABLISHED, CLOSE_WAIT = 10, 1, 8


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    # The kernel prints each 32-bit word as the machine holds it.
    parts = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    if len(parts) == 4:
        return str(IPv4Address(parts))
    address = IPv6Address(parts)
    return str(address.ipv4_mapped or address)


def parse_sockets(text: str) -> list[Socket]:
    """The sockets of /proc/net/tcp or tcp6; lines that are none are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10 or ":" not in words[1]:
            continue
        host, _, port = words[1].rpartition(":")
        try:
            found.append(
                Socket(
                    _address(host),
                    int(port, 16),
                    int(words[3], 16),
                    int(words[4].partition(":")[2], 16),
                    int(words[9]),
                )
            )
        except ValueError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Parent:
    """One process of the chain above."""

    pid: int
    comm: str


@dataclass(frozen=True, slots=True)
class Owner:
    """What supervises a server, by its control group and its parents."""

    kind: SupervisorKind
    name: str = ""

    @property
    def words(self) -> str:
        """In a few words."""
        texts = {
            "systemd-system": f"{self.name} (system)",
            "systemd-user": f"{self.name} (user)",
            "transient": f"{self.name} (systemd-run)",
            "tmux": f"tmux pane {self.name}".strip(),
            "none": f"{self.name or 'no supervisor'}",
        }
        return texts.get(self.kind, f"{self.kind} {self.name}".strip())


_CONTAINER = (
    (re.compile(r"(?:docker-|/docker/)([0-9a-f]{12,64})"), "docker"),
    (re.compile(r"libpod-([0-9a-f]{12,64})"), "podman"),
)
_TRANSIENT = re.compile(r"/(run-[\w.-]+\.(?:scope|service))$")
_USER_UNIT = re.compile(r"/user@\d+\.service/.*?/([^/]+\.service)$")
_SYSTEM_UNIT = re.compile(r"/system\.slice/(?:.*/)?([^/]+\.service)$")
_NOT_A_UNIT = re.compile(r"^(?:user@\d+|gnome-|org\.gnome|dbus|init|tmux-spawn|xdg-)")
_SHELLS = frozenset({"bash", "zsh", "fish", "sh", "dash", "ksh"})


def owner_of(cgroup: str, parents: Sequence[Parent]) -> Owner:
    """The supervisor. A parent chain tells tmux; a shell is none."""
    path = next(
        (line.partition("::")[2] for line in cgroup.splitlines() if line.startswith("0::")), ""
    )
    for pattern, kind in _CONTAINER:
        if (found := pattern.search(path)) is not None:
            return Owner(kind, found[1][:12])  # type: ignore[arg-type]
    if (found := _TRANSIENT.search(path)) is not None:
        return Owner("transient", found[1])
    chain = [parent.comm for parent in parents]
    if "tmux-spawn-" in path or any(comm.startswith("tmux") for comm in chain):
        return Owner("tmux")
    for pattern, kind in ((_USER_UNIT, "systemd-user"), (_SYSTEM_UNIT, "systemd-system")):
        found = pattern.search(path)
        if found is not None and not _NOT_A_UNIT.match(found[1]) and not _of_a_login(chain):
            return Owner(kind, found[1])  # type: ignore[arg-type]
    shell = next((comm for comm in chain if comm in _SHELLS), "")
    return Owner("none", shell)


def _of_a_login(chain: Sequence[str]) -> bool:
    """Whether somebody typed it: sshd and cron are units, but own nothing that runs in them."""
    return any(comm in ("sshd", "sshd-session", "login") for comm in chain)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a server's log goes. ``path`` or ``command`` reads it; else ``mend`` says how to."""

    kind: str
    detail: str
    path: str | None = None
    command: tuple[str, ...] = ()
    mend: str = ""
    pane: str = ""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """One running server. ``argv`` and ``env`` are as they may be shown: secrets are masked."""

    target: Target
    started_wall: float
    flavour: str
    uid: int
    user: str
    argv: tuple[str, ...] | None = None
    env: Env | None = None
    cwd: str | None = None
    exe: str | None = None
    exe_replaced: bool = False
    parents: tuple[Parent, ...] = ()
    owner: Owner = Owner("none")
    listening: tuple[tuple[str, int], ...] = ()
    log: LogPlace = LogPlace("unknown", "not looked for")
    kv_dir: str | None = None
    kv_budget_bytes: int | None = None
    model_path: str | None = None
    model_bytes: int | None = None
    lock_path: str | None = None
    context_tokens: int | None = None
    oom_score_adj: int | None = None
    foreign_namespace: bool = False
    demo: str = ""
    started_by_us: str = ""
    denied: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str | None:
        """Where it answers: its own listening socket, else what its command line says."""
        if self.listening:
            host, port = self.listening[0]
            host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
            return f"http://{host}:{port}"
        if self.argv is None:
            return None
        host = flag_value(self.argv, "--host") or "127.0.0.1"
        port_text = flag_value(self.argv, "--port") or str(DEFAULT_PORT[self.flavour])
        host = "127.0.0.1" if host in ("0.0.0.0", "localhost") else host
        return f"http://{host}:{port_text}"

    @property
    def public(self) -> bool:
        """Whether it listens beyond this machine."""
        return any(not _is_loopback(host) for host, _ in self.listening)

    @property
    def started_by(self) -> str:
        """Who started it, in words."""
        if self.started_by_us:
            return self.started_by_us
        if self.owner.kind != "none":
            return self.owner.words
        above = self.parents[0] if self.parents else None
        return f"{above.comm} {above.pid}, {self.user}" if above else self.user


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def resolved(path: str | None, folder: str | None) -> str | None:
    """A path of a command line, seen from the folder that the process is in."""
    if path is None:
        return None
    if os.path.isabs(path) or folder is None:
        return path
    return os.path.normpath(os.path.join(folder, path))


_VALUES = ("argv", "env", "exe", "cwd", "owner")


def changes(before: ServerProcess | None, after: ServerProcess) -> tuple[str, ...]:
    """What is other than in the life before, a line each."""
    if before is None:
        return ()
    lines: list[str] = []
    if before.argv is not None and after.argv is not None and before.argv != after.argv:
        lines += _words_changed(before.argv, after.argv)
    if before.env is not None and after.env is not None:
        old, new = dict(before.env), dict(after.env)
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                now = f"{name}={new[name]}" if name in new else f"{name} unset"
                lines.append(f"environment: {now}")
    for name in ("exe", "cwd"):
        was, now = getattr(before, name), getattr(after, name)
        if was is not None and now is not None and was != now:
            lines.append(f"{name}: {was} is {now} now")
    if before.owner != after.owner:
        lines.append(f"started by {after.started_by}, before by {before.started_by}")
    return tuple(lines)


def _words_changed(before: Sequence[str], after: Sequence[str]) -> Iterable[str]:
    gone = _pairs(before) - _pairs(after)
    come = _pairs(after) - _pairs(before)
    yield from (f"argv: without {words}" for words in sorted(gone))
    yield from (f"argv: with {words}" for words in sorted(come))


def _pairs(argv: Sequence[str]) -> set[str]:
    """Flags with their values, as texts."""
    out: set[str] = set()
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        if word.startswith("-") and words and not words[0].startswith("-"):
            word = f"{word} {words.pop(0)}"
        out.add(word)
    return out
