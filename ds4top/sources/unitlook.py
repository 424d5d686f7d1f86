"""What supervises the watched server, asked once: the files of its unit, how long a stop may take.

Sources: systemctl(1), ``cat`` and ``show``; docker-inspect(1), podman-inspect(1). Nothing that is
asked changes anything, and none of it needs a right that the asker has not.
"""

from __future__ import annotations

import json
import os

from ds4top.core.launch_units import UnitSeen, parse_show, span_s, units_of
from ds4top.core.process import ServerProcess
from ds4top.core.supervision import CONTAINERS, UNITS
from ds4top.core.target import Target
from ds4top.sources.ask import Ask, ask

CONTAINER_STOP_S = 10.0
"""What docker and podman wait before they kill, where nothing else was asked for."""


def unit_of(server: ServerProcess, run: Ask = ask) -> UnitSeen:
    """Ask the supervisor; blocks for at most a few times ``ASK_S``. Never raises for an answer."""
    owner = server.owner
    if owner.kind in UNITS:
        return _of_systemd(server, run)
    if owner.kind in CONTAINERS:
        words = (owner.kind, "inspect", "--type", "container", owner.name)
        answer = run(words)
        if not answer.good:
            return UnitSeen(server.target, why=f"{' '.join(words)}: {answer.trouble}")
        return _of_container(server.target, answer.out)
    return UnitSeen(server.target)


def _of_systemd(server: ServerProcess, run: Ask) -> UnitSeen:
    owner, target = server.owner, server.target
    of_user = owner.kind == "systemd-user" or owner.of_user
    first = ("systemctl", *(("--user",) if of_user else ()))
    if of_user and server.uid != os.getuid():
        words = f"sudo -u {server.user} XDG_RUNTIME_DIR=/run/user/{server.uid}"
        return UnitSeen(
            target,
            why=f"a unit of {server.user}'s own systemd: {words} systemctl --user cat {owner.name}",
        )
    text = run((*first, "cat", "--no-pager", "--", owner.name))
    limit = run((*first, "show", "--no-pager", "-p", "TimeoutStopUSec", "--", owner.name))
    span = parse_show(limit.out).get("TimeoutStopUSec", "") if limit.good else ""
    return UnitSeen(
        target,
        units_of(text.out) if text.good else (),
        span_s(span),
        span == "infinity",
        next((f"{owner.name}: {each.trouble}" for each in (text, limit) if not each.good), ""),
    )


def _of_container(target: Target, text: str) -> UnitSeen:
    """By ``Config.StopTimeout``, which docker leaves out where the default holds."""
    try:
        value = json.loads(text)[0]["Config"].get("StopTimeout")
    except (ValueError, LookupError, TypeError, AttributeError):
        return UnitSeen(target, why="what inspect says cannot be read")
    if value is None:
        value = CONTAINER_STOP_S
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UnitSeen(target, why=f"inspect says StopTimeout {value!r:.40}")
    # Docker waits for ever where it is negative (docker-run(1), --stop-timeout).
    return UnitSeen(
        target, stop_timeout_s=float(value) if value >= 0 else None, stop_unlimited=value < 0
    )
