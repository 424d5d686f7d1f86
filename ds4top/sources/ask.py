"""Asking a supervisor something: a command with an end in sight, whose words come back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

ASK_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is ``None`` where the command could not be run, or did not end in time."""

    status: int | None
    out: str = ""
    err: str = ""

    @property
    def good(self) -> bool:
        """Whether it ended with 0."""
        return self.status == 0

    @property
    def trouble(self) -> str:
        """What it said of its failure, in a line."""
        return " ".join((self.err or self.out).split())[:400] or f"it ended with {self.status}"


Ask: TypeAlias = Callable[[Sequence[str]], Answer]


def ask(argv: Sequence[str]) -> Answer:
    """Run it, without a shell, a terminal or an input. Never raises for what it does."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_S,
            start_new_session=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        return Answer(None, err=f"{argv[0]}: no such program")
    except subprocess.TimeoutExpired:
        return Answer(None, err=f"{argv[0]}: no answer within {ASK_S:.0f} s")
    except OSError as error:
        return Answer(None, err=f"{argv[0]}: {error.strerror}")
    return Answer(done.returncode, done.stdout, done.stderr)
