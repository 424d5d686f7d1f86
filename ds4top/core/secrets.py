"""What is secret, and how it is masked: the one place that says so.

Names of variables and flags decide; in free text the shapes of well-known tokens as well, and what
a model wrote inside a log line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ds4top.core.target import Env

MASK = "***"
_SECRET_CHARS = 6
OF_MODEL = (
    "DS4_", "CUDA_", "NVIDIA_", "LD_LIBRARY_PATH", "OMP_", "MALLOC_", "GGML_", "LLAMA_",
)  # fmt: skip
"""Beginnings of the variables that concern the model."""
SHOWN = (*OF_MODEL, "MTMD_", "HF_TOKEN")
"""What may be shown of an environment; everything else of it stays unshown."""

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CRED", re.IGNORECASE)
_COUNTS = re.compile(r"tokens", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_FLAG_NAMES = "api-key|api-key-file|hf-token|token|password|secret"
_FLAGS = re.compile(rf"^--?({_FLAG_NAMES})(=|$)")
_IN_TEXT = re.compile(
    r"(?:"
    rf"(?<!\S)--?(?:{_FLAG_NAMES})(?:=|\s+)"
    r"|\b[A-Z][A-Z0-9_]*(?:KEY|TOKEN(?!S)|SECRET|PASS|AUTH|CRED)[A-Z0-9_]*="
    r"|(?i:\b(?:authorization|x-api-key|api[-_]?key|password|secret|[a-z]+_token)[\"']?\s*[:=]\s*)"
    r")[\"']?(?i:(?:bearer|basic)\s+)?(?P<value>[^\s\"',;]+)"
    r"|(?i:\bbearer\s+)(?P<bearer>[^\s\"',;]{8,})"
    r"|\b(?P<known>(?:hf_|sk-|ghp_|github_pat_|xox[bp]-)[A-Za-z0-9_-]{12,})"
    r"|(?:text_snippet|dsml_snippet): (?!\[model text hidden\])(?P<model>.+)"
)
"""Values after the names of secrets, tokens known by their shape, and model text in log lines."""


def is_secret(name: str) -> bool:
    """Whether a value of this name is never shown. A flag that counts tokens is no secret."""
    counted = _COUNTS.sub("", name) if name.startswith("-") else name
    return _SECRET.search(counted) is not None


def shown(name: str, value: str) -> str:
    """The value as it may be shown: masked by its name, or a login inside an address."""
    return MASK if is_secret(name) else _LOGIN.sub(MASK + "@", value)


def shown_environment(env: Env) -> Env:
    """What may be shown of an environment: what concerns the model, secrets masked."""
    return tuple((name, shown(name, value)) for name, value in env if name.startswith(SHOWN))


def shown_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line with the values of secrets masked."""
    out: list[str] = []
    hide = False
    for word in argv:
        found = _FLAGS.match(word)
        if hide:
            out.append(MASK)
        elif found and found[2] == "=":
            out.append(word.partition("=")[0] + "=" + MASK)
        else:
            out.append(word)
        hide = found is not None and found[2] == ""
    return tuple(out)


def secrets_in(argv: Sequence[str], env: Env) -> tuple[str, ...]:
    """Values that are shown nowhere, the longest first; short ones would mask half a log."""
    found = {value for name, value in env if is_secret(name)}
    for word, masked in zip(argv, shown_argv(argv), strict=True):
        if word != masked:
            found.add(word.partition("=")[2] if masked.endswith("=" + MASK) else word)
    return tuple(sorted((v for v in found if len(v) >= _SECRET_CHARS), key=len, reverse=True))


def hidden(text: str) -> list[tuple[int, int]]:
    """Where in a line something has to be hidden: first and last offset of each place."""
    found = []
    for match in _IN_TEXT.finditer(text):
        name = match.lastgroup
        assert name is not None
        found.append(match.span(name))
    return found


def masked(text: str) -> str:
    """A text with its secrets replaced."""
    for first, last in reversed(hidden(text)):
        text = text[:first] + MASK + text[last:]
    return text
