"""Who a server belongs to: the supervisor by its control group, the parents above it.

Sources: cgroups(7), systemd.slice(5) and systemd-run(1) for the names of groups, the scope names of
docker's and podman's cgroup drivers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ds4top.core.target import SupervisorKind

SHELLS = frozenset({"bash", "zsh", "fish", "sh", "dash", "ksh", "busybox"})
_INTERPRETER = re.compile(r"^(?:python[\d.]*|perl|ruby|node|env)$")
UNITS = frozenset({"systemd-system", "systemd-user", "transient"})
CONTAINERS = frozenset({"docker", "podman"})
SUPERVISORS = UNITS | CONTAINERS
"""Kinds of owner that can be asked something."""
INITS = frozenset({"systemd", "init"})
_CONTAINER: tuple[tuple[re.Pattern[str], SupervisorKind], ...] = (
    (re.compile(r"(?:docker-|/docker/)([0-9a-f]{12,64})"), "docker"),
    (re.compile(r"libpod-([0-9a-f]{12,64})"), "podman"),
)
_TRANSIENT = re.compile(r"/(run-[\w.-]+\.(?:scope|service))$")
_USER_MANAGER = re.compile(r"/user@\d+\.service/")
_UNIT = re.compile(r"/([^/]+\.service)(?=/|$)")
# Services that somebody logs in through, or that run other people's programs: what is started from
# one stays in its control group, and to restart the service would not restart the server.
_NOT_A_UNIT = re.compile(
    r"^(?:user@|ssh|cron|crond\.|anacron|atd|getty@|serial-getty@|console-getty|gdm|lightdm|sddm"
    r"|display-manager|gnome-|org\.gnome|plasma-|xdg-|dbus|init\.|tmux|screen[@.]|jupyter|code-server"
    r"|vscode|docker\.|containerd\.|podman\.|NetworkManager|systemd-)"
)
_LOGINS = frozenset({"sshd", "sshd-session", "login", "cron", "crond", "CRON", "atd"})


@dataclass(frozen=True, slots=True)
class Parent:
    """One process of the chain above. ``script``: what an interpreter runs."""

    pid: int
    comm: str
    script: str = ""

    @property
    def words(self) -> str:
        """Its name, and the script's."""
        return f"{self.comm} {self.script}" if self.script else self.comm


def script_of(comm: str, argv: Sequence[str]) -> str:
    """The name of the script that an interpreter was given; empty for none."""
    if comm not in SHELLS and not _INTERPRETER.match(comm):
        return ""
    given = argv[1] if len(argv) > 1 else ""
    return "" if given.startswith("-") else given.rsplit("/", 1)[-1]


def runs_a_script(comm: str, argv: Sequence[str] | None, exe: str | None) -> bool:
    """Whether this is a shell that runs a script of that name, and not the program itself.

    A script is started through its interpreter and has the script's name (execve(2)).
    """
    program = exe or (argv[0] if argv else "")
    return program.rsplit("/", 1)[-1] in SHELLS and comm not in SHELLS


@dataclass(frozen=True, slots=True)
class Owner:
    """What supervises a server, by its control group and its parents.

    ``of_user``: a unit of a user's own systemd, which answers that user alone.
    """

    kind: SupervisorKind
    name: str = ""
    of_user: bool = field(default=False, compare=False)

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


def cgroup_path(text: str) -> str:
    """The path of /proc/PID/cgroup: of the unified hierarchy, else systemd's own."""
    paths = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            paths[controllers] = path
    unified = paths.get("", "")
    return unified if unified not in ("", "/") else paths.get("name=systemd", unified)


def owner_of(cgroup: str, parents: Sequence[Parent]) -> Owner:
    """The supervisor. A parent chain tells tmux; a shell is none."""
    path = cgroup_path(cgroup)
    for pattern, kind in _CONTAINER:
        if (found := pattern.search(path)) is not None:
            return Owner(kind, found[1][:12])
    if (found := _TRANSIENT.search(path)) is not None:
        return Owner("transient", found[1], _USER_MANAGER.search(path) is not None)
    chain = [parent.comm for parent in parents]
    if "tmux-spawn-" in path or any(comm.startswith("tmux") for comm in chain):
        return Owner("tmux")
    manager = _USER_MANAGER.search(path)
    units: list[str] = _UNIT.findall(path[manager.end() - 1 :] if manager else path)
    if units and not _NOT_A_UNIT.match(units[-1]) and not _LOGINS.intersection(chain):
        kind = "systemd-user" if manager else "systemd-system"
        return Owner(kind, units[-1], manager is not None)
    shell = next((comm for comm in chain if comm in SHELLS), "")
    return Owner("none", shell)
