"""What systemd says about a launch: ``systemctl cat UNIT`` and ``systemctl show UNIT``.

Only what tells where a setting comes from; systemd itself stays the one that applies it. Sources:
systemd.service(5) "Command lines", systemd.exec(5) "Environment", systemd.syntax(7) "Quoting",
systemctl(1) "show", systemd.time(7) "Parsing Time Spans".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ds4top.core.secrets import shown, shown_argv
from ds4top.core.target import Target

Kind = Literal["unit file", "drop-in"]
_PATH = re.compile(r"# (?P<path>/\S.*\.(?:service|conf))")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|((?:[^\s"\'\\]|\\.)+)')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "s": " "}
_PREFIXES = "@-:+!|"
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_SECONDS = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0,
    "w": 604_800.0, "month": 2_629_800.0, "y": 31_557_600.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class UnitSource:
    """One file. ``exec_start`` is ``None`` where it sets none; secrets are masked.

    ``clears_env``: an empty ``Environment=`` forgets what earlier files set.
    """

    path: str
    kind: Kind
    exec_start: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    unset: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    clears_env: bool = False


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """What the supervisor of a server says. ``files``: in the order in which they apply.

    ``stop_timeout_s``: how long a stop may take before it becomes a kill, ``None`` where that is
    not known or, with ``stop_unlimited``, where there is no limit. ``why``: what was not told, and
    what would show it.
    """

    target: Target
    files: tuple[UnitSource, ...] = ()
    stop_timeout_s: float | None = None
    stop_unlimited: bool = False
    why: str = ""

    @property
    def stop_limit_s(self) -> float | None:
        """Seconds, ``inf`` without a limit, ``None`` where it is not known."""
        return float("inf") if self.stop_unlimited else self.stop_timeout_s


def words_of(text: str) -> list[str]:
    """A value as systemd splits it: blanks, quotes, backslashes; ``%%`` and ``$$`` are undone."""
    words: list[str] = []
    end = -1
    for found in _WORD.finditer(text):
        raw = next(part for part in found.groups() if part is not None)
        plain = _ESCAPE.sub(lambda hit: _ESCAPES.get(hit[1], hit[1]), raw)
        plain = plain.replace("%%", "%").replace("$$", "$")
        if found.start() == end:
            words[-1] += plain
        else:
            words.append(plain)
        end = found.end()
    return words


@dataclass(slots=True)
class _File:
    path: str
    exec_start: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    unset: list[str] = field(default_factory=list)
    env_files: list[str] = field(default_factory=list)
    clears_env: bool = False

    def take(self, key: str, value: str) -> None:
        words = words_of(value)
        match key:
            case "ExecStart" if words:
                self.exec_start = (words[0].lstrip(_PREFIXES), *words[1:])
            case "ExecStart":
                self.exec_start = None
            case "Environment" if words:
                self.env.update((name, val) for name, _, val in (w.partition("=") for w in words))
            case "Environment":
                self.env.clear()
                self.clears_env = True
            case "UnsetEnvironment":
                self.unset += words
            case "EnvironmentFile" if words:
                self.env_files += [words[0].lstrip("-")]
            case _:
                pass

    def source(self) -> UnitSource:
        kind: Kind = "drop-in" if ".service.d/" in self.path else "unit file"
        env = tuple((name, shown(name, value)) for name, value in self.env.items())
        return UnitSource(
            self.path,
            kind,
            None if self.exec_start is None else tuple(shown_argv(self.exec_start)),
            env,
            tuple(self.unset),
            tuple(self.env_files),
            self.clears_env,
        )


def _joined(text: str) -> Iterator[str]:
    """Lines, those that end in a backslash joined with the next; comments in between are left."""
    held = ""
    for line in text.splitlines():
        if held and line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        yield held + line
        held = ""
    if held:
        yield held


def units_of(text: str) -> tuple[UnitSource, ...]:
    """The files that ``systemctl cat`` printed, in the order in which systemd applies them."""
    files: list[_File] = []
    section = ""
    for line in _joined(text):
        stripped = line.strip()
        if found := _PATH.fullmatch(stripped):
            files.append(_File(found["path"]))
            section = ""
        elif stripped.startswith("["):
            section = stripped
        elif section == "[Service]" and files and not stripped.startswith(("#", ";")):
            key, equals, value = stripped.partition("=")
            if equals:
                files[-1].take(key.strip(), value.strip())
    return tuple(file.source() for file in files)


def exec_source(units: Sequence[UnitSource]) -> UnitSource | None:
    """The file whose ``ExecStart=`` holds: the last that has one."""
    return next((unit for unit in reversed(units) if unit.exec_start is not None), None)


def exec_names(units: Sequence[UnitSource]) -> dict[str, UnitSource]:
    """Which file gives each word of the command line, by the word up to its ``=``.

    ``sh -c "…"`` is looked into, and ``$NAME`` where a file of the unit's sets it.
    """
    found: dict[str, UnitSource] = {}
    unit = exec_source(units)
    if unit is None:
        return found
    for word in unit.exec_start or ():
        texts = [(word, unit)]
        for name in _VARIABLE.findall(word):
            if (source := env_source(units, name)) is not None:
                texts.append((dict(source.env)[name], source))
        for text, source in texts:
            for part in text.split():
                found.setdefault(part.partition("=")[0], source)
    return found


def env_source(units: Sequence[UnitSource], name: str) -> UnitSource | None:
    """The file that sets a variable last, unless a later one clears or unsets it."""
    for unit in reversed(units):
        if name in unit.unset:
            return None
        if any(key == name for key, _ in unit.env):
            return unit
        if unit.clears_env:
            return None
    return None


def env_files(units: Sequence[UnitSource]) -> tuple[str, ...]:
    """The ``EnvironmentFile=`` paths; they may be unreadable, so they are only named."""
    return tuple(path for unit in units for path in unit.env_files)


def parse_show(text: str) -> dict[str, str]:
    """Names and values of ``systemctl show``; the first of a name that stands twice."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equal, value = line.partition("=")
        if equal:
            found.setdefault(name, value)
    return found


def span_s(text: str) -> float | None:
    """A time span as systemd prints it, ``1min 30s``; ``None`` for ``infinity`` and no span."""
    total, rest = 0.0, text.strip()
    if not rest or rest == "infinity":
        return None
    while rest:
        found = _SPAN.match(rest)
        if found is None or found[2] not in _SECONDS:
            return None
        total += float(found[1]) * _SECONDS[found[2]]
        rest = rest[found.end() :].lstrip()
    return total
