"""The options of a server as its own ``--help`` tells them.

Three shapes are read by one set of rules: ds4-server (ds4_help.c: names and placeholder on a line
of their own, the words below, alternatives divided by ``|``), llama-server (common/arg.cpp: words
beside the names or from column 40 on, ``(env: NAME)``), and names and words on one line. What
fits none of them is left out: a flag that is not listed is never passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """One option: ``names`` as listed, ``metavar`` of its value (``None``: it takes none).

    ``default`` is the help's own word, ``when`` its condition ("when enabled"), ``env`` the
    variable that sets it too, ``section`` the heading it stands under.
    """

    names: tuple[str, ...]
    metavar: str | None = None
    default: str | None = None
    help: str = ""
    section: str = ""
    env: str | None = None
    when: str = ""

    @property
    def name(self) -> str:
        """What it is called here: its first long name, else its first."""
        return next((name for name in self.names if name.startswith("--")), self.names[0])

    @property
    def negatives(self) -> frozenset[str]:
        """Those of its names that switch it off: listed after the last name that is no ``--no-``.

        ``--no-mmap`` alone is a switch of its own and negates nothing.
        """
        longs = [name for name in self.names if name.startswith("--")]
        plain = [name for name in longs if not name.startswith("--no-")]
        if not plain or len(plain) == len(longs):
            return frozenset()
        return frozenset(self.names[self.names.index(plain[-1]) + 1 :])

    @property
    def values(self) -> int:
        """How many words follow it."""
        if self.metavar is None:
            return 0
        return len(self.metavar.split()) if _SEVERAL.fullmatch(self.metavar) else 1


_SEVERAL = re.compile(r"[A-Z]+(?: [A-Z]+)+")
_NAME = re.compile(r"\s*(--?[A-Za-z][\w.-]*)")
_COMMA = re.compile(r",\s*(?=-)")
_BAR = re.compile(r"\s*\|\s*(?=--?[A-Za-z])")
_GAP = re.compile(r"\s{2,}")
_SECTION = re.compile(r"-{3,}\s*(?P<ruled>.+?)\s*-{3,}|(?P<named>[A-Za-z][^:]*):")
_ENV = re.compile(r"\(env: (?P<name>[A-Z][A-Z0-9_]*)\)")
_BRACKETED = re.compile(r"\((?:[^()]*?[,;] )?default: (?P<value>(?:[^()]|\([^()]*\))*)\)")
_BARE = re.compile(r"\b[Dd]efaults?(?P<when> when [a-z]+| with [a-z]+)?: (?P<value>\S+)")
_LISTED = re.compile(r"- (?P<value>[\w.+-]+) \(default\):")
_QUOTED = re.compile(r"'([^']*)'")
_PLAIN = re.compile(r"(?:-?\d[\d.]*|enabled|disabled|true|false)(?=[,;]? )")


def _default(words: str) -> tuple[str | None, str]:
    """The default in the words of an option, and the condition it stands under."""
    if found := _BRACKETED.search(words):
        value = found["value"].strip()
        if quoted := _QUOTED.match(value):
            return quoted[1], ""
        # "0, 0 = loaded from model", "-1; -1 = disabled": the value, then what it means.
        plain = _PLAIN.match(value)
        return ("" if value == '""' else plain[0] if plain else value), ""
    if found := _BARE.search(words):
        return found["value"].rstrip(".,;"), (found["when"] or "").strip()
    if found := _LISTED.search(words):
        return found["value"], ""
    return None, ""


def _flag(names: Iterable[str], metavar: str | None, words: str, section: str) -> Flag:
    words = " ".join(words.split())
    default, when = _default(words)
    env = _ENV.search(words)
    said = _ENV.sub("", words).strip()
    return Flag(tuple(names), metavar, default, said, section, env["name"] if env else None, when)


def _head(line: str) -> tuple[list[tuple[tuple[str, ...], str | None]], str] | None:
    """The options that a line names, each with its placeholder, and the words beside them."""
    parts = _BAR.split(line.strip())
    found: list[tuple[tuple[str, ...], str | None]] = []
    words = ""
    for at, part in enumerate(parts):
        names: list[str] = []
        rest = part
        while name := _NAME.match(rest):
            names.append(name[1])
            rest = rest[name.end() :]
            if (comma := _COMMA.match(rest)) is None:
                break
            rest = rest[comma.end() :]
        if not names or (rest and not rest[0].isspace()):
            return None
        if _GAP.match(rest):
            metavar, beside = "", rest.strip()
        else:
            metavar, _, beside = _GAP.sub("\0", rest.strip(), count=1).partition("\0")
        if at == len(parts) - 1:
            words = beside
        elif beside:
            # A bar inside the words is no alternative.
            return None
        found.append((tuple(names), metavar or None))
    return found, words


def parse_help(text: str) -> tuple[Flag, ...]:
    """Every option that the text lists, in its order; nothing where it is no help text."""
    flags: list[Flag] = []
    section = ""
    heads: list[tuple[tuple[str, ...], str | None]] = []
    words: list[str] = []

    def close() -> None:
        flags.extend(_flag(*head, "\n".join(words), section) for head in heads)
        heads.clear()
        words.clear()

    for raw in text.splitlines():
        line = raw.expandtabs().rstrip()
        indent = len(line) - len(line.lstrip())
        if not line:
            # llama-server's words hold empty lines; what follows tells whether they go on.
            continue
        if indent == 0 and (found := _SECTION.fullmatch(line)):
            close()
            section = found["ruled"] or found["named"]
        elif indent <= 4 and line.lstrip().startswith("-"):
            head = _head(line)
            close()
            if head is not None:
                heads.extend(head[0])
                words.append(head[1])
        elif heads and indent > 4:
            words.append(line.strip())
        else:
            close()
    close()
    return tuple(flags)


def by_name(flags: Iterable[Flag]) -> dict[str, Flag]:
    """Each option under each of its names; the first listed wins."""
    found: dict[str, Flag] = {}
    for flag in flags:
        for name in flag.names:
            found.setdefault(name, flag)
    return found


def names_of(flags: Iterable[Flag]) -> frozenset[str]:
    """All names of all options: what may be passed to this build."""
    return frozenset(name for flag in flags for name in flag.names)
