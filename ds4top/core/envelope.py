"""What carriers put around a line of the log: journald, docker, podman, compose, flock, syslog.

``unwrap`` gives the inner text and, where the carrier stamped it with a full date and zone, the
time in seconds since the epoch. Formats: ``journalctl -o short | short-iso | short-precise |
json``, RFC 5424 style syslog files, ``docker logs -t``, ``docker compose logs``, docker's
json-file driver, the CRI format of Kubernetes and podman.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import NamedTuple


class Unwrapped(NamedTuple):
    """Inner text, its time, whether more of the same line follows, and who spoke."""

    text: str
    at: float | None
    partial: bool
    speaker: str


_RFC3339 = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
_SYSLOG = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?"
_PROGRAM = r"(?P<program>[\w@.\-/]{1,80})(?:\[\d{1,10}\])?: "
_SHAPES = tuple(
    re.compile(shape, re.ASCII | re.DOTALL)
    for shape in (
        rf"(?P<time>{_RFC3339}) (?:stdout|stderr) (?P<cri>[FP]) (?P<rest>.*)",
        rf"(?P<time>{_RFC3339}) [\w.\-]{{1,64}} {_PROGRAM}(?P<rest>.*)",
        rf"(?P<time>{_RFC3339}) (?P<rest>.*)",
        rf"{_SYSLOG} [\w.\-]{{1,64}} {_PROGRAM}(?P<rest>.*)",
        r"[\w.\-]{1,80} +\| (?P<rest>.*)",
        r"[\w.\-]{1,80}\[\d{1,10}\]: (?P<rest>.*)",
    )
)
_MAX_LAYERS = 4


def rfc3339(text: str) -> float | None:
    """Seconds since the epoch of a date with a zone; ``None`` where it is none."""
    text = re.sub(r"([.,]\d{6})\d+", r"\1", text.replace(",", "."))
    text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text.replace("Z", "+00:00"))
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _from_json(text: str) -> Unwrapped | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if "MESSAGE" in record:
        message = record["MESSAGE"]
        if isinstance(message, list):
            try:
                message = bytes(message).decode("utf-8", "replace")
            except (ValueError, TypeError):
                return None
        micros = record.get("__REALTIME_TIMESTAMP")
        at = (
            int(micros) / 1e6
            if isinstance(micros, str) and re.fullmatch(r"\d{1,18}", micros)
            else None
        )
        speaker = record.get("SYSLOG_IDENTIFIER") or record.get("_COMM") or ""
        return Unwrapped(str(message or ""), at, False, str(speaker))
    if isinstance(record.get("log"), str):
        log: str = record["log"]
        time = record.get("time")
        at = rfc3339(time) if isinstance(time, str) else None
        return Unwrapped(log.rstrip("\r\n"), at, not log.endswith("\n"), "")
    return None


_BARE = re.compile(r"\d{4} \d\d:\d\d:\d\d |ds4(?:-server)?: ", re.ASCII)


def unwrap(text: str) -> Unwrapped:
    """Take every known carrier off one piece; a piece without one comes back as it is."""
    if _BARE.match(text):
        return Unwrapped(text, None, False, "")
    at: float | None = None
    partial = False
    speaker = ""
    for _ in range(_MAX_LAYERS):
        found: Unwrapped | None = None
        if text.startswith("{"):
            found = _from_json(text)
        else:
            for shape in _SHAPES:
                match = shape.fullmatch(text)
                if match:
                    groups = match.groupdict()
                    time = groups.get("time")
                    found = Unwrapped(
                        groups["rest"],
                        rfc3339(time) if time else None,
                        groups.get("cri") == "P",
                        groups.get("program") or "",
                    )
                    break
        if found is None:
            break
        text, partial = found.text, partial or found.partial
        at = found.at if found.at is not None else at
        speaker = found.speaker or speaker
    return Unwrapped(text, at, partial, speaker)
