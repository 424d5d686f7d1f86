"""Which server was chosen last, kept in ds4top's own folder: by its program."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ds4top.archive.files import write_private
from ds4top.archive.paths import state_dir

CHOICE = "choice.json"
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
