"""Takes out of text what is nobody's business before it is written: secrets, what a model wrote."""

from __future__ import annotations

import re

from ds4top.core.process import MASK
from ds4top.view.text import width_of

_SECRETS = re.compile(
    r"(?:"
    r"(?<!\S)--?(?:api-key|api-key-file|hf-token|token|password|secret)(?:=|\s+)"
    r"|\b[A-Z][A-Z0-9_]*(?:KEY|TOKEN(?!S)|SECRET|PASS|AUTH|CRED)[A-Z0-9_]*="
    r"|(?i:\b(?:authorization|x-api-key|api[-_]?key|password|secret|[a-z]+_token)[\"']?\s*[:=]\s*)"
    r")[\"']?(?i:(?:bearer|basic)\s+)?(?P<value>[^\s\"',;]+)"
    r"|(?i:\bbearer\s+)(?P<bearer>[^\s\"',;]{8,})"
    r"|\b(?P<known>(?:hf_|sk-|ghp_|github_pat_|xox[bp]-)[A-Za-z0-9_-]{12,})"
    r"|(?:text_snippet|dsml_snippet): (?!\[model text hidden\])(?P<model>.+)"
)
"""Values after the names of secrets, tokens known by their shape, and model text in log lines."""


def hidden(text: str) -> list[tuple[int, int]]:
    """Where in a line something has to be hidden: first and last offset of each place."""
    found = []
    for match in _SECRETS.finditer(text):
        name = match.lastgroup
        assert name is not None
        found.append(match.span(name))
    return found


def masked(text: str) -> str:
    """A text with its secrets replaced."""
    for first, last in reversed(hidden(text)):
        text = text[:first] + MASK + text[last:]
    return text


def masked_cells(text: str) -> str:
    """The same for a line of a picture: every cell stays in its place."""
    for first, last in reversed(hidden(text)):
        text = text[:first] + "*" * width_of(text[first:last]) + text[last:]
    return text
