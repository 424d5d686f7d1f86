"""Which server is wanted: by flags and config, else the one that was chosen last.

The choice is kept in ds4top's own folder, by the program.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from ds4top.archive.files import write_private
from ds4top.archive.paths import CHOICE, HELPS, state_dir
from ds4top.core.config import Config
from ds4top.core.units import GIB
from ds4top.wanted import Wanted

_SCHEMA = "ds4top.choice/1"
_MOST_BYTES = 65_536


def remember(environment: Mapping[str, str], exe: str) -> None:
    """Keep the program of the server that was chosen. Raises ``OSError``."""
    folder = state_dir(environment)
    if folder is not None:
        write_private(folder / CHOICE, json.dumps({"schema": _SCHEMA, "exe": exe}) + "\n")


def last_choice(environment: Mapping[str, str]) -> str | None:
    """The program that was chosen last; ``None`` where there is none, or it cannot be read."""
    folder = state_dir(environment)
    if folder is None:
        return None
    try:
        with (folder / CHOICE).open("rb") as file:
            data = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
        return None
    exe = data.get("exe")
    return exe if isinstance(exe, str) and exe else None


def wanted_of(config: Config, demo: str = "") -> Wanted:
    """Which server, by flags and config. ``demo``: inside one its servers are meant, no other."""
    log = config.text("server.log")
    keeps = config.flag("history.keep")
    folder = state_dir(os.environ) if keeps else None
    return Wanted(
        pid=config.whole("server.pid"),
        exe=last_choice(os.environ) if keeps else None,
        url=config.text("server.url"),
        log=os.path.abspath(log) if log not in (None, "-") else log,
        kv_dir=config.text("server.kv_dir"),
        demo=demo,
        warning_bytes=int(config.number("memory.warning_gib") * GIB),
        critical_bytes=int(config.number("memory.critical_gib") * GIB),
        helps=folder / HELPS if folder is not None else None,
    )
