"""Whether the acting keys are there, and what header, footer and message line say of acting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from ds4top.core.deeds import VERBS, Deed
from ds4top.core.memory import Residency
from ds4top.core.model import Model
from ds4top.core.plan import Mode
from ds4top.core.units import fmt_age
from ds4top.view.owners import MODES
from ds4top.view.text import Part, Row, pack, row

_NARROW, _CROWDED = 80, range(100, 118)
"""Widths where there is no room for each key: few columns, or all views by name in few more."""
_DAY_S = 86_400.0
_LOOPBACK = re.compile(r"127(?:\.\d{1,3}){3}")
COMMAND_OF: Mapping[str, str] = {
    "restart": "restart", "mode": "restart", "park": "stop", "start": "start", "signal": "stop",
}  # fmt: skip
"""The command that does what an acting key does."""


def is_loopback(url: str) -> bool:
    """Whether a URL is that of this machine's own loopback."""
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or _LOOPBACK.fullmatch(host) is not None


def read_only_why(model: Model, *, asked: bool, url: str | None, uid: int) -> str:
    """Why nothing acts; empty where it may. ``asked``: by flag or config; ``uid``: ours."""
    if model.replay is not None:
        return "read-only: a replay shows what is past"
    if asked:
        return "read-only: --read-only, or control.read_only of the config"
    if url is not None and not is_loopback(url):
        return f"read-only: {url} is not on this machine's loopback"
    server = model.machine.server
    if server is not None and uid not in (0, server.uid):
        return f"read-only: it belongs to {server.user}; as that user: {_as(server.user)} restart"
    return ""


def _as(user: str) -> str:
    return f"sudo -u {user} ds4top"


def instead(model: Model, what: str) -> str:
    """The same, with the command that does what this acting key would."""
    server, command = model.machine.server, COMMAND_OF[what]
    if server is None:
        return model.read_only
    tail = _as(server.user)
    return model.read_only.replace(f"{tail} restart", f"{tail} {command}")


def switch_to(model: Model) -> Mode | None:
    """The other mode than the present one; ``None`` where that is mixed or not known."""
    held = model.machine.residency(model.log)[0]
    return {Residency.MMAP: Mode.COPY, Residency.COPY: Mode.MMAP}.get(held)


def can_start(model: Model) -> bool:
    """Whether ``S`` has something to start."""
    machine = model.machine
    return model.startable is not None and machine.server is None and not machine.servers


def start_row(model: Model, width: int) -> Row:
    """What the start key would start, and since when it is kept; empty where there is nothing."""
    found = model.startable
    if found is None or model.read_only or model.acting is not None or not can_start(model):
        return ()
    parts: list[Part] = [row(" ", (found.key, "key"), " starts")]
    if found.mode in MODES:
        parts.append((MODES[found.mode], "value"))
    if found.port is not None:
        parts.append(f"port {found.port}")
    if found.wall is not None:
        at = datetime.fromtimestamp(found.wall, model.tz)
        form = "%H:%M" if model.now - found.wall < _DAY_S else "%d %b %H:%M"
        parts.append((f"parked {at.strftime(form)}", "dim"))
        parts.append((f"{fmt_age(max(model.now - found.wall, 0.0))} ago", "dim"))
    parts.append((f"{found.name} ({found.owner})" if found.owner else found.name, "dim"))
    return pack(parts, width, gap=2)


def acting_words(deed: Deed | None) -> str:
    """For the header: what goes on and how far, or that it failed; empty for nothing."""
    if deed is None:
        return ""
    verb = VERBS[deed.plan.action]
    if deed.outcome is not None:
        return "" if deed.outcome.done else f"{verb} FAILED"
    return f"{verb} {(deed.at or 0) + 1}/{len(deed.steps)}"


def act_hints(model: Model, keys: Mapping[str, str], width: int) -> tuple[tuple[str, str], ...]:
    """The acting keys for the footer. ``keys``: labels by what they do."""
    if model.read_only:
        return (("", "read-only"),)
    if model.acting is not None:
        return ((keys["restart"], "shows the " + VERBS[model.acting.plan.action]),)
    if model.machine.server is None:
        return ((keys["start"], "start"),) if can_start(model) else ()
    if width < _NARROW or width in _CROWDED:
        return ((f"{keys['restart']} {keys['mode']} {keys['park']}", "act"),)
    other = switch_to(model)
    mode = {Mode.MMAP: "mmap", Mode.COPY: "no-mmap", None: "mode"}[other]
    return ((keys["restart"], "restart"), (keys["mode"], mode), (keys["park"], "park"))
