"""What systemd says of a unit, and what may be done to it.

Sources: systemctl(1), ``show``; systemd.unit(5) for the folders of drop-ins; loginctl(1),
``Linger``; org.freedesktop.systemd1(5), "Access Control".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ds4top.core.launch_units import parse_show, span_s
from ds4top.core.plan import Supervisor
from ds4top.core.unitfile import NAME
from ds4top.sources.ask import Ask, ask

PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Restart", "TimeoutStopUSec", "NeedDaemonReload",
    "FragmentPath", "DropInPaths", "ExecStart", "MainPID", "Result",
)  # fmt: skip
_NO_RIGHT = re.compile(
    r"interactive authentication required|access denied|not authorized|permission denied"
    r"|authentication is required",
    re.IGNORECASE,
)


def exec_words(shown: str, running: Sequence[str]) -> tuple[str, ...]:
    """The words of ``ExecStart`` as ``show`` prints it: joined by blanks, quoted by nothing.

    Where that is what runs, it is what runs; else it is cut at its blanks.
    """
    text = shown.partition("argv[]=")[2].partition(" ; ")[0].strip()
    return tuple(running) if text and text == " ".join(running) else tuple(text.split())


def explained(argv: Sequence[str], said: str) -> str:
    """A refusal of a supervisor with the way to get the right."""
    if not _NO_RIGHT.search(said):
        return said
    if argv[0] == "systemctl":
        return f"{said}; systemd wants another right for this: run it with sudo, or by polkit rule"
    if argv[0] in ("docker", "podman"):
        return f"{said}; run it with sudo, or as a member of its group"
    return said


def drop_in_path(kind: str, name: str, environment: Mapping[str, str], root: Path) -> Path:
    """Where ds4top's own drop-in of a unit lies; of a transient one, where a boot clears it."""
    runtime = environment.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    config = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '/')}/.config"
    folders = {
        "systemd-system": root / "etc/systemd/system",
        "systemd-user": Path(config) / "systemd/user",
        "transient": root / "run/systemd/system",
        "transient-user": Path(runtime) / "systemd/user",
    }
    return folders[kind] / f"{name}.d" / NAME


def unwritable(path: Path) -> str | None:
    """Why a file may not be written there; ``None`` where it may."""
    above = next((each for each in path.parents if each.exists()), Path("/"))
    if os.access(above, os.W_OK | os.X_OK):
        return None
    return f"{path} must be written first, and {above} is not yours: run it with sudo"


def linger(environment: Mapping[str, str], run: Ask = ask) -> bool | None:
    """Whether the user's manager goes on without a login; ``None`` where that is not known."""
    user = environment.get("USER") or str(os.getuid())
    answer = run(("loginctl", "show-user", user, "-p", "Linger"))
    value = parse_show(answer.out).get("Linger") if answer.good else None
    return None if value is None else value == "yes"


def shown_unit(name: str, *, user: bool, run: Ask = ask) -> tuple[dict[str, str], str | None]:
    """Properties of a unit, and what is wrong where they are not had."""
    words = ["systemctl", *(["--user"] if user else []), "show", "--no-pager"]
    words += ["-p", ",".join(PROPERTIES), "--", name]
    answer = run(words)
    return (parse_show(answer.out), None) if answer.good else ({}, answer.trouble)


def supervisor_of(
    unit: Supervisor,
    running: Sequence[str],
    *,
    environment: Mapping[str, str],
    pid: int | None = None,
    root: Path = Path("/"),
    run: Ask = ask,
) -> Supervisor:
    """What is known of a unit by its kind and name. ``running``: the server's command line."""
    of_user = unit.kind == "systemd-user" or (unit.kind == "transient" and unit.user_manager)
    shown, trouble = shown_unit(unit.name, user=of_user, run=run)
    if trouble is not None:
        return replace(unit, refusal=f"systemd does not answer for {unit.name}: {trouble}")
    load, active = shown.get("LoadState", ""), shown.get("ActiveState")
    kind = "transient-user" if unit.kind == "transient" and of_user else unit.kind
    path = drop_in_path(kind, unit.name, environment, root)
    refusal = None
    if load in ("not-found", "masked", "bad-setting", "error") and unit.kind != "transient":
        refusal = f"systemd says of {unit.name}: {load}"
    elif pid is None and active in ("activating", "reloading"):
        refusal = f"systemd is starting {unit.name} itself ({shown.get('SubState', active)})"
    notes: list[str] = []
    main = shown.get("MainPID", "0")
    if pid is not None and main.isdecimal() and int(main) not in (0, pid):
        notes.append(f"the main process of {unit.name} is {main}, which started the server")
    if not of_user and os.geteuid() != 0:
        notes.append(f"{unit.name} is the system's: without a polkit rule this needs sudo")
    return replace(
        unit,
        refusal=refusal,
        restart_policy=shown.get("Restart"),
        stop_timeout_s=span_s(shown.get("TimeoutStopUSec", "")),
        active_state=active,
        need_reload=shown.get("NeedDaemonReload") == "yes",
        linger=linger(environment, run) if unit.kind == "systemd-user" else None,
        drop_in_path=str(path),
        drop_in_text=_text(path),
        drop_in_denied=unwritable(path),
        exec_start=exec_words(shown.get("ExecStart", ""), running),
        notes=tuple(notes),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def failed(name: str, *, user: bool, run: Ask = ask) -> str | None:
    """systemd's own word that a start failed; ``None`` while it has not said so."""
    shown, _ = shown_unit(name, user=user, run=run)
    state = shown.get("ActiveState")
    if state == "failed" or (state == "inactive" and shown.get("Result") not in (None, "success")):
        return f"systemd says {name} failed: {shown.get('Result') or state}"
    return None
