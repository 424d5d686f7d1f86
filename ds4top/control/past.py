"""The journal read back: what was done to the server, and which servers ds4top started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Any

from ds4top.control.journal import Entry
from ds4top.core.deeds import PastDeed, Startable
from ds4top.core.process import Life

KEPT = 20


@dataclass(frozen=True, slots=True)
class Past:
    """``deeds``: the newest first. ``started``: who started a server, by its life."""

    deeds: tuple[PastDeed, ...] = ()
    started: Mapping[Life, str] = field(default_factory=dict)
    startable: Startable | None = None


def past_deeds(entries: Iterable[Entry], limit: int = KEPT) -> tuple[PastDeed, ...]:
    """The last actions, the newest first."""
    found: dict[str, PastDeed] = {}
    for entry in entries:
        if entry.kind == "begun":
            found[entry.action] = _begun(entry)
        elif entry.kind == "outcome" and (deed := found.get(entry.action)) is not None:
            found[entry.action] = _ended(deed, entry)
    return tuple(reversed(found.values()))[:limit]


def _begun(entry: Entry) -> PastDeed:
    data = entry.data
    target = data.get("target")
    name = f"{target[3]} {target[0]}" if isinstance(target, list) and len(target) == 4 else ""
    after = data.get("after")
    return PastDeed(
        entry.wall, str(data.get("who", "?")), str(data.get("action", "?")), name,
        str(data.get("before", "unknown")), None if after is None else str(after), None,
        "no end was written",
    )  # fmt: skip


def _ended(deed: PastDeed, entry: Entry) -> PastDeed:
    data = entry.data
    return replace(
        deed,
        done=bool(data.get("done")),
        words=str(data.get("words", "")),
        reason=str(data.get("reason") or ""),
        pid=data["pid"] if isinstance(data.get("pid"), int) else None,
        took_s=max(entry.wall - deed.wall, 0.0),
    )


def starts_of(entries: Iterable[Entry], tz: tzinfo | None = None) -> dict[Life, str]:
    """Servers that ds4top started: by which action, by whom and when."""
    begun: dict[str, PastDeed] = {}
    found: dict[Life, str] = {}
    for entry in entries:
        if entry.kind == "begun":
            begun[entry.action] = _begun(entry)
        elif (life := _life(entry.data.get("started"))) is not None:
            deed = begun.get(entry.action)
            if deed is not None:
                found[life] = started_words(deed, entry.wall, tz)
    return found


def started_words(deed: PastDeed, wall: float, tz: tzinfo | None = None) -> str:
    """``ds4top restart, by root, 29 Nov 14:03``; a switch names both modes."""
    when = datetime.fromtimestamp(wall, tz).strftime("%d %b %H:%M")
    switch = ""
    if deed.after not in (None, "unknown", deed.before) and deed.before != "unknown":
        switch = f" {deed.before} → {deed.after}"
    return f"ds4top {deed.action}{switch}, by {deed.who}, {when}"


def _life(data: Any) -> Life | None:
    try:
        pid, ticks, boot, _ = data
        return int(pid), int(ticks), str(boot)
    except (TypeError, ValueError):
        return None
