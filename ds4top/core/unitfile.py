"""The drop-in that ds4top writes beside a systemd unit: its text, and quoting as systemd reads it.

Sources: systemd.service(5), "Command lines"; systemd.exec(5), ``Environment=``,
``UnsetEnvironment=``; systemd.syntax(7), "Quoting".
"""

from __future__ import annotations

from collections.abc import Sequence

from ds4top.core.target import Env

NAME = "50-ds4top.conf"
HEADER = "# Written by ds4top; it removes this file again when you switch back."


def quoted(word: str, *, command: bool = False) -> str:
    """One word in double quotes. In a command line ``$`` is doubled as well.

    Raises ``ValueError`` for a word that a unit file cannot hold.
    """
    if "\0" in word:
        raise ValueError("a unit file cannot hold a NUL")
    for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("\n", "\\n"), ("\t", "\\t")):
        word = word.replace(char, escape)
    if command:
        word = word.replace("$", "$$")
    return f'"{word}"'


def drop_in(
    *,
    env_set: Env = (),
    env_unset: Sequence[str] = (),
    argv: Sequence[str] | None = None,
    stop_timeout_s: float | None = None,
) -> str | None:
    """The text of the drop-in, or ``None`` where there is nothing to say."""
    lines: list[str] = []
    if stop_timeout_s is not None:
        lines.append(f"TimeoutStopSec={stop_timeout_s:.0f}")
    lines += [f"Environment={quoted(f'{name}={value}')}" for name, value in env_set]
    if env_unset:
        lines.append(f"UnsetEnvironment={' '.join(env_unset)}")
    if argv is not None:
        # An empty assignment clears the unit's own command first.
        command = " ".join(quoted(word, command=True) for word in argv)
        lines += ["ExecStart=", f"ExecStart={command}"]
    if not lines:
        return None
    return "\n".join([HEADER, "[Service]", *lines]) + "\n"
