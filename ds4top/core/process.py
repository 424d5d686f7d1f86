"""A running server as /proc shows it: what is known of one, and how two lives of it differ.

What may not be read is in ``denied`` with its reason, never guessed. Facts of ds4-server (names,
defaults, ``--chdir`` before ``-m``): ``parse_options`` and ``main`` in ds4_server.c.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TypeAlias

from ds4top.core.supervision import INITS
from ds4top.core.supervision import Owner as Owner
from ds4top.core.supervision import Parent as Parent
from ds4top.core.target import Env, Target

COMMS: Mapping[str, str] = {"ds4-server": "ds4", "llama-server": "llama.cpp"}
"""Exact names that are looked for, and the family of each."""
DEFAULT_PORT = {"ds4": 8000, "llama.cpp": 8080}
DEFAULT_MODEL = {"ds4": "ds4flash.gguf"}
DEFAULT_LOCK = "/tmp/ds4.lock"
DEMO_MARK = "DS4TOP_DEMO"
DEMO_FLAG = "--standin-leash"
"""Told from the command line where the environment may not be read; its folder is the mark."""


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
class LogPlace:
    """Where a server's log goes. ``path`` or ``command`` reads it; else ``mend`` says how to.

    ``kind``: file, deleted, journald, container, tee, pipe, tmux, terminal, null, denied, unknown.
    ``tmux``: the words that reach the tmux server of ``pane``.
    """

    kind: str
    detail: str
    path: str | None = None
    command: tuple[str, ...] = ()
    mend: str = ""
    pane: str = ""
    tmux: tuple[str, ...] = ("tmux",)


NOBODYS = Owner("none")

Life: TypeAlias = tuple[int, int, str]
"""A process whatever its name is by now: pid, start ticks, boot id."""


def life_of(target: Target) -> Life:
    """The life that a target is one name of."""
    return target.pid, target.start_ticks, target.boot_id


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """One running server. ``argv`` and ``env`` are as they may be shown: secrets are masked.

    Paths are such that they can be opened from here, through ``/proc/PID/root`` where the server
    has a file system of its own. ``exe_key``: device, inode and mtime (ns) of its program.
    ``own_network``: its ports are those of a network namespace of its own, and ``address`` is the
    machine's way there. ``denied``: field → why it is unknown, and what would show it.
    """

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
    owner: Owner = NOBODYS
    listening: tuple[tuple[str, int], ...] = ()
    log: LogPlace = LogPlace("unknown", "not looked for")
    kv_dir: str | None = None
    kv_budget_bytes: int | None = None
    model_path: str | None = None
    model_bytes: int | None = None
    model_fs_type: str | None = None
    lock_path: str | None = None
    context_tokens: int | None = None
    oom_score_adj: int | None = None
    foreign_namespace: bool = False
    demo: str = ""
    started_by_us: str = ""
    denied: Mapping[str, str] = field(default_factory=dict)
    exe_key: tuple[int, int, int] | None = None
    lock_holder: int | None = None
    own_network: bool = False
    address: str | None = None

    @property
    def url(self) -> str | None:
        """Where it answers: its own listening socket, else what its command line says.

        ``None`` too where it listens only inside a network namespace of its own.
        """
        wanted = port_of(self.argv or (), self.flavour)
        if self.listening:
            # Of several it is the one that was asked for: distributed roles listen elsewhere too.
            host, port = next((each for each in self.listening if each[1] == wanted),
                              self.listening[0])  # fmt: skip
        elif self.argv is not None and wanted is not None:
            host, port = flag_value(self.argv, "--host") or "127.0.0.1", wanted
        else:
            return None
        host = _LOCAL.get(host, host)
        if self.own_network and _is_loopback(host):
            if self.address is None:
                return None
            host = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def public(self) -> bool:
        """Whether it listens beyond this machine."""
        return any(not _is_loopback(host) for host, _ in self.listening)

    @property
    def starter(self) -> str:
        """Who started it, without what differs from one start to the next."""
        if self.owner.kind != "none":
            return self.owner.words
        above = self.parents[0] if self.parents else None
        return above.words if above and above.comm not in INITS else ""

    @property
    def started_by(self) -> str:
        """Who started it, in words. A process of nobody's had a parent that has ended since."""
        if self.started_by_us:
            return self.started_by_us
        if self.owner.kind != "none":
            return self.owner.words
        if not self.starter:
            return f"{self.user}; what started it has ended"
        return f"{self.starter} {self.parents[0].pid}, {self.user}"


_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def port_of(argv: Sequence[str], flavour: str) -> int | None:
    """The port that a command line asks for, or the program's own; ``None`` for no number."""
    text = flag_value(argv, "--port")
    if text is None:
        return DEFAULT_PORT.get(flavour)
    return int(text) if text.isdecimal() and text.isascii() else None


def resolved(path: str | None, folder: str | None) -> str | None:
    """A path of a command line, seen from the folder that the process is in."""
    if path is None:
        return None
    if os.path.isabs(path) or folder is None:
        return path
    return os.path.normpath(os.path.join(folder, path))


ANOTHER_S = 10.0
"""A server that has nothing in common with the one that ended is not followed at once:
the same one may be about to come back."""


def successor(
    was: ServerProcess,
    candidates: Sequence[ServerProcess],
    known: Set[Target],
    gone_s: float = 0.0,
) -> ServerProcess | None:
    """Which of these servers goes on for one that has ended; ``None`` where that is not clear.

    The same unit, container or pane; else the same address; else, of those that were not ``known``
    when it ended, the same program with the same model; else, after a while, the only server that
    there is. ``gone_s``: for how long it has been gone.
    """
    named = was.owner.kind != "none" and was.owner.name
    fresh = [each for each in candidates if each.target not in known]
    what = (was.exe, was.model_path)
    for found in (
        [each for each in candidates if named and each.owner == was.owner],
        [each for each in candidates if was.url is not None and each.url == was.url],
        [each for each in fresh if None not in what and (each.exe, each.model_path) == what],
        fresh if len(candidates) == 1 and gone_s >= ANOTHER_S else [],
    ):
        if len(found) == 1:
            return found[0]
    return None


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
    keys = {before.exe_key, after.exe_key}
    if before.exe == after.exe and None not in keys and len(keys) == 2:
        lines.append(f"exe: {after.exe} is another build now")
    if before.starter != after.starter:
        lines.append(f"started by {after.started_by}, before by {before.started_by}")
    return tuple(lines)


def _words_changed(before: Sequence[str], after: Sequence[str]) -> Iterable[str]:
    old, new = _pairs(before), _pairs(after)
    gone = [f"argv: without {words}" for words in sorted(old.keys() - new.keys())]
    come = [f"argv: with {words}" for words in sorted(new.keys() - old.keys())]
    if old.keys() == new.keys():
        # The last of a repeated flag wins, so its order is a change.
        come = [f"argv: in another order: {' '.join(after[1:])}"]
    return (*gone, *come)


_NUMBER = re.compile(r"-\.?\d")


def _pairs(argv: Sequence[str]) -> dict[str, None]:
    """Flags with their values, as texts."""
    out: dict[str, None] = {}
    words = list(argv[1:])
    at = 0
    while at < len(words):
        word = words[at]
        value = words[at + 1] if at + 1 < len(words) else "-"
        if word.startswith("-") and (not value.startswith("-") or _NUMBER.match(value)):
            word = f"{word} {value}"
            at += 1
        out[word] = None
        at += 1
    return out
