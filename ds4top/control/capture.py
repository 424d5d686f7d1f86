"""How a running process was started, read from /proc while it lives (the same user's only).

Limits and umask are those it has now; ds4-server changes neither. The folder is the one it was
started in; ``--chdir`` is applied by the server itself, and ``/proc/PID/cwd`` is what comes of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ds4top.core.plan import Spec
from ds4top.core.proctext import parse_command_line, parse_environment, parse_status

_DELETED = " (deleted)"


def _text(path: Path) -> str:
    return os.fsdecode(path.read_bytes())


def _umask(status: str) -> int | None:
    value = parse_status(status).get("Umask")
    return int(value, 8) if value else None


def _limits(text: str) -> tuple[tuple[str, str, str], ...]:
    found = []
    for line in text.splitlines()[1:]:
        name, rest = line[:25].strip(), line[25:].split()
        if len(rest) >= 2:
            found.append((name, rest[0], rest[1]))
    return tuple(found)


def started_in(cwd: str, argv: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """The folder it was started in.

    With a relative ``--chdir`` that is the environment's ``PWD``, if the two together are the
    present folder; an absolute one may stand in any folder.
    """
    for at, word in enumerate(argv):
        target = argv[at + 1] if word == "--chdir" and at + 1 < len(argv) else None
        if word.startswith("--chdir="):
            target = word.partition("=")[2]
        if target is None:
            continue
        before = environment.get("PWD", "")
        if before and os.path.realpath(os.path.join(before, target)) == os.path.realpath(cwd):
            return before
        if not target.startswith("/"):
            raise ValueError(
                f"it was started with --chdir {target} from a folder that is not known"
            )
    return cwd


def capture(pid: int, proc: Path = Path("/proc")) -> Spec:
    """All that starts it again. Raises ``OSError`` where it may not be read, ``ValueError``."""
    root = proc / str(pid)
    argv = parse_command_line(_text(root / "cmdline"))
    env = parse_environment(_text(root / "environ"))
    if not argv:
        raise ValueError(f"process {pid} has no command line")
    exe = os.readlink(root / "exe").removesuffix(_DELETED)
    log = os.readlink(root / "fd" / "2").removesuffix(_DELETED)
    is_file = log.startswith("/") and not log.startswith(("/dev/", "/memfd:"))
    return Spec(
        argv,
        env,
        started_in(os.readlink(root / "cwd").removesuffix(_DELETED), argv, dict(env)),
        exe,
        _umask(_text(root / "status")),
        _limits(_text(root / "limits")),
        log if is_file else None,
    )
