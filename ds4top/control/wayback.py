"""The way back: how the server was started, kept for its owner alone while it is parked.

``parked.json`` is the whole launch, its environment with it (0600), from before a stop until a
good start. ``switched.json`` is what the last switch of the mode changed and nothing else: enough
to take it back to the letter, without the environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ds4top.archive.files import remove, write_private
from ds4top.archive.paths import PARKED
from ds4top.core.plan import Plan, Spec, Supervisor

_SCHEMA = "ds4top.wayback/1"


@dataclass(frozen=True, slots=True)
class Parked:
    """What was stopped: how it was started, by whom, how it held its weights, and when."""

    spec: Spec | None
    supervisor: Supervisor
    residency: str
    wall: float


class WayBack:
    """Both files, in ds4top's own folder."""

    def __init__(self, folder: Path) -> None:
        self._parked = folder / PARKED
        self._switched = folder / "switched.json"

    def park(self, parked: Parked) -> None:
        """Keep it. Raises ``OSError``: what cannot be brought back is not stopped."""
        data = {"schema": _SCHEMA, **asdict(parked)}
        write_private(self._parked, json.dumps(data))

    def parked(self) -> Parked | None:
        """What was parked, or ``None`` where nothing is, or it cannot be read."""
        data = _read(self._parked)
        if data is None:
            return None
        try:
            spec = None if data["spec"] is None else _spec(data["spec"])
            fields: dict[str, Any] = {
                name: _tuples(value) for name, value in data["supervisor"].items()
            }
            supervisor = Supervisor(**fields)
            return Parked(spec, supervisor, str(data["residency"]), float(data["wall"]))
        except (KeyError, TypeError, ValueError):
            return None

    def started(self) -> None:
        """It came up: forget the launch and its environment."""
        remove(self._parked)

    def switched(self, plan: Plan) -> None:
        """Keep what this switch changes; one that takes the last one back leaves nothing."""
        before, after = plan.before, plan.after
        if before is None or after is None or (before.argv, before.env) == (after.argv, after.env):
            return
        if self.previous(before) == after:
            remove(self._switched)
            return
        old = dict(before.env)
        names = {name for name, _ in plan.env_set} | set(plan.env_unset)
        data = {
            "schema": _SCHEMA,
            "argv": list(before.argv),
            "now": list(after.argv),
            "env": {name: old[name] for name in sorted(names) if name in old},
            "added": sorted(name for name in names if name not in old),
        }
        write_private(self._switched, json.dumps(data))

    def previous(self, spec: Spec) -> Spec | None:
        """What ran before the last switch, if ``spec`` is what that switch made."""
        data = _read(self._switched)
        try:
            if data is None or tuple(data["now"]) != spec.argv:
                return None
            added = set(data["added"])
            kept: dict[str, str] = {name: value for name, value in spec.env if name not in added}
            kept |= {str(name): str(value) for name, value in data["env"].items()}
            return replace(spec, argv=tuple(data["argv"]), env=tuple(kept.items()))
        except (KeyError, TypeError, AttributeError):
            return None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _spec(data: Mapping[str, Any]) -> Spec:
    return Spec(
        argv=tuple(data["argv"]),
        env=tuple((str(name), str(value)) for name, value in data["env"]),
        cwd=data["cwd"],
        exe=data["exe"],
        umask=data["umask"],
        limits=tuple((str(a), str(b), str(c)) for a, b, c in data["limits"]),
        log_path=data["log_path"],
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
        return None
    return data
