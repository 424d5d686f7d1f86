"""With which settings the server was launched: value, default, and where each was set.

Flags come from the build's own help, values from the argument vector, the environment and the
start-up lines of the log. A later flag wins over an earlier one, a flag over its variable; what
neither sets has the default. Where the argument vector cannot be read the start-up lines tell what
they tell, and the rest is unknown, never the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from ds4top.core.helptext import Flag, by_name
from ds4top.core.launch_env import VARIABLES, ZEROS
from ds4top.core.launch_units import UnitSource, env_files, env_source, exec_names
from ds4top.core.secrets import SHOWN, shown
from ds4top.core.state import Life

Origin = Literal[
    "argv", "environment", "unit file", "drop-in", "default", "start-up line", "unknown"
]
Env = tuple[tuple[str, str], ...]
ON, OFF = "on", "off"
ENVIRONMENT = "Environment"
STARTUP = "Start-up"
UNLISTED = "Not in the help of this build"


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """How it was launched; each part is ``None`` where it may not be read."""

    argv: tuple[str, ...] | None = None
    env: Env | None = None
    cwd: str | None = None
    exe: str | None = None


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What the start-up lines say: ``flags`` by name of flag, ``facts`` by name in words."""

    flags: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``value`` and ``default`` are ``None`` where unknown or not set.

    ``detail`` says where exactly it was set, or what contradicts it; ``listed`` is false for what
    the help of this build does not name.
    """

    name: str
    value: str | None
    default: str | None
    origin: Origin
    detail: str = ""
    section: str = ""
    help: str = ""
    listed: bool = True

    @property
    def given(self) -> bool:
        """Whether somebody set it."""
        return self.origin in ("argv", "environment", "unit file", "drop-in")


_INTERPRETER = re.compile(r"(?:python|pypy|perl|ruby|node|bash|dash|sh|ld-linux)[\w.-]*")
_VALUED = re.compile(r"-[XWmc]")
_NUMBER = re.compile(r"-[\d.]")


def program_words(argv: Sequence[str], exe: str | None = None) -> tuple[str, ...]:
    """The leading words that name the program: more than one where an interpreter runs it."""
    if not argv:
        return ()
    program = (exe or argv[0]).rsplit("/", 1)[-1]
    if not _INTERPRETER.fullmatch(program):
        return (argv[0],)
    words = [argv[0]]
    rest = iter(argv[1:])
    for word in rest:
        words.append(word)
        if not word.startswith("-"):
            break
        if _VALUED.fullmatch(word):
            words += [value for value in [next(rest, None)] if value is not None]
            if word in ("-m", "-c"):
                break
    return tuple(words)


@dataclass(frozen=True, slots=True)
class Given:
    """One option of an argument vector: the word as it stood, its flag if listed, its value."""

    word: str
    flag: Flag | None
    value: str | None

    @property
    def name(self) -> str:
        """The flag's own name, else the word."""
        return self.flag.name if self.flag else self.word


def parse_argv(words: Sequence[str], flags: Iterable[Flag] | None) -> tuple[Given, ...]:
    """The options of an argument vector, ``--flag value`` and ``--flag=value``, in their order.

    A word that no flag claims is kept with itself as the value. An unlisted flag takes the next
    word unless that is a flag itself.
    """
    known = by_name(flags or ())
    found: list[Given] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        name, equals, glued = word.partition("=")
        flag = known.get(word) or (known.get(name) if equals else None)
        if not word.startswith("-") or _NUMBER.match(word):
            found.append(Given("", None, word))
        elif flag is not None and not flag.values:
            negated = name in flag.negatives
            found.append(Given(name, flag, _switch(glued) if equals else (OFF if negated else ON)))
        elif equals and (flag is not None or name.startswith("--")):
            found.append(Given(name, flag, glued))
        else:
            count = flag.values if flag is not None else _follows(words, at)
            taken = words[at : at + count]
            at += count
            lacking = None if flag is not None else ON
            found.append(Given(word, flag, " ".join(taken) if taken else lacking))
    return tuple(found)


def _follows(words: Sequence[str], at: int) -> int:
    return int(at < len(words) and (words[at][:1] != "-" or bool(_NUMBER.match(words[at]))))


def _switch(word: str | None) -> str:
    return ON if (word or "").lower() in ("1", "on", "true", "yes", "enabled") else OFF


def start_facts(life: Life | None) -> StartFacts:
    """What the log of this life says about its launch."""
    if life is None:
        return StartFacts()
    flags: dict[str, str] = {}
    facts: dict[str, str] = {}
    if life.device:
        facts["device"] = life.device
    if life.sm:
        facts["compute capability"] = life.sm
    if life.oom_score_adj is not None:
        facts["oom_score_adj"] = str(life.oom_score_adj)
    stages = {stage.stage for stage in life.stages}
    held = next((words for name, words in _RESIDENCY.items() if name in stages), None)
    if held is not None:
        facts["weights"] = held
    for stage in life.stages:
        if stage.finished and stage.elapsed_s is not None:
            facts[f"{_STAGE_WORDS.get(stage.stage, stage.stage)} took"] = f"{stage.elapsed_s:g} s"
    if life.plan.get("planned_gib") is not None:
        facts["memory planned"] = f"{life.plan['planned_gib']} GiB"
    if (buffers := life.buffers) is not None:
        flags["--ctx"] = str(buffers.ctx_tokens)
        flags["--prefill-chunk"] = str(buffers.prefill_chunk)
        facts["context buffers"] = f"{buffers.size_mib:g} MiB"
        facts["prefill chunk"] = f"{buffers.prefill_chunk} tokens"
        facts["raw KV rows"] = str(buffers.raw_kv_rows)
        facts["compressed KV rows"] = str(buffers.compressed_kv_rows)
    if (disk := life.disk) is not None:
        flags["--kv-disk-dir"] = disk.directory
        flags["--kv-disk-space-mb"] = str(disk.budget_mib)
        flags["--kv-cache-min-tokens"] = str(disk.min_tokens)
        flags["--kv-cache-cold-max-tokens"] = str(disk.cold_max_tokens)
        flags["--kv-cache-continued-interval-tokens"] = str(disk.continued_tokens)
        flags["--kv-cache-boundary-trim-tokens"] = str(disk.trim_tokens)
        flags["--kv-cache-boundary-align-tokens"] = str(disk.align_tokens)
        flags["--kv-cache-reject-different-quant"] = ON if disk.cross_quant == "reject" else OFF
    if life.sessions > 1:
        flags["--batched-session"] = str(life.sessions)
    if life.url:
        flags |= _address(life.url)
    if life.load_s is not None:
        facts["start took"] = f"{life.load_s:.0f} s"
    return StartFacts(flags, tuple(facts.items()))


_RESIDENCY = {
    "copy": "copied whole to the GPU",
    "artifacts": "repacked on the GPU, the rest mapped",
    "register": "mapped, registered with the GPU",
    "prefetch": "mapped, read by the GPU as it goes",
    "tensors": "copied to the GPU, tensor by tensor",
}
"""By stage, what decides first: mapped weights are gone through tensor by tensor as well."""
_STAGE_WORDS = {
    "copy": "copy to the GPU",
    "tensors": "loading of tensors",
    "prepared": "preparation of weights",
    "prefetch": "queueing of the prefetch",
    "artifacts": "building of artifacts",
    "warm": "warming of pages",
}


def _address(url: str) -> dict[str, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return {}
    return {
        name: str(value)
        for name, value in (("--host", parts.hostname), ("--port", port))
        if value is not None
    }


def settings(
    spec: LaunchSpec,
    flags: Iterable[Flag] | None,
    start: StartFacts | None = None,
    units: Sequence[UnitSource] = (),
) -> tuple[Setting, ...]:
    """The effective configuration: every listed flag, unlisted ones, variables, start-up facts.

    ``flags`` is ``None`` where the help could not be read; then only what was given is told.
    """
    start = start or StartFacts()
    flags = tuple(flags) if flags is not None else None
    given, named = _given(spec, flags), exec_names(units)
    env = dict(spec.env or ())
    out: list[Setting] = []
    for flag in flags or ():
        if "--help" not in flag.names and "--version" not in flag.names:
            out.append(_of_flag(flag, given, env, spec, start, units, named))
    listed = {flag.name for flag in flags or ()}
    for name, found in given.items():
        if name not in listed:
            value = None if found.value is None else shown(name, found.value)
            out.append(_placed(name, value, None, named, UNLISTED, listed=flags is None))
    if flags is None or spec.argv is None:
        out += [
            Setting(name, value, None, "start-up line", section=STARTUP)
            for name, value in start.flags.items()
            if name not in listed and name not in given
        ]
    out += _variables(env, flags or (), units)
    out += [
        Setting(name, value, None, "start-up line", section=STARTUP) for name, value in start.facts
    ]
    return tuple(out)


def _given(spec: LaunchSpec, flags: tuple[Flag, ...] | None) -> dict[str, Given]:
    """By name; of a flag given twice the last stands. Words that no flag claims are numbered."""
    if spec.argv is None:
        return {}
    rest = spec.argv[len(program_words(spec.argv, spec.exe)) :]
    found: dict[str, Given] = {}
    for number, item in enumerate(parse_argv(rest, flags), 1):
        found[item.name or f"argument {number}"] = item
    return found


def _placed(
    name: str,
    value: str | None,
    default: str | None,
    named: Mapping[str, UnitSource],
    section: str,
    *,
    words: frozenset[str] = frozenset(),
    listed: bool = True,
    help: str = "",
    also: str = "",
) -> Setting:
    """A setting of the argument vector: from the unit's command where that names it."""
    origin: Origin = "argv"
    detail = also
    unit = next((named[word] for word in words or (name,) if word in named), None)
    if unit is not None:
        origin, detail = unit.kind, "; ".join(part for part in (unit.path, also) if part)
    return Setting(name, value, default, origin, detail, section, help, listed)


def _of_flag(
    flag: Flag,
    given: Mapping[str, Given],
    env: Mapping[str, str],
    spec: LaunchSpec,
    start: StartFacts,
    units: Sequence[UnitSource],
    named: Mapping[str, UnitSource],
) -> Setting:
    default = flag.default if flag.values else _switch(flag.default)
    said = next((start.flags[name] for name in flag.names if name in start.flags), None)
    if (found := given.get(flag.name)) is not None:
        value = found.value
        also = ""
        if said is not None and value is not None and _differs(value, said):
            also = f"the start-up line says {said}"
        return _placed(
            flag.name,
            None if value is None else shown(flag.name, value),
            default,
            named,
            flag.section,
            words=frozenset(flag.names),
            help=flag.help,
            also=also,
        )
    origin: Origin = "default"
    value, detail = default, flag.when
    if flag.env is not None and flag.env in env:
        raw = env[flag.env]
        value = shown(flag.env, raw) if flag.values else _switch(raw)
        unit = env_source(units, flag.env)
        origin = unit.kind if unit else "environment"
        detail = flag.env + (f" in {unit.path}" if unit else "")
    elif said is not None and (default is None or _differs(default, said)):
        value, origin, detail = shown(flag.name, said), "start-up line", ""
    elif spec.argv is None:
        origin = "start-up line" if said is not None else "unknown"
        value = said
        detail = "" if said is not None else "the command line may not be read"
    return Setting(flag.name, value, default, origin, detail, flag.section, flag.help)


def _differs(value: str, said: str) -> bool:
    """A host may be given as a name; numbers may be written in more than one way."""
    if {value, said} <= {"localhost", "127.0.0.1"}:
        return False
    try:
        return float(value) != float(said)
    except ValueError:
        return value.rstrip("/") != said.rstrip("/")


def _variables(
    env: Mapping[str, str], flags: Iterable[Flag], units: Sequence[UnitSource]
) -> list[Setting]:
    taken = {flag.env for flag in flags}
    files = env_files(units)
    out: list[Setting] = []
    for name in sorted(env):
        if not name.startswith(SHOWN) or name in taken:
            continue
        variable = VARIABLES.get(name)
        unit = env_source(units, name)
        detail = unit.path if unit else ""
        if unit is None and files:
            detail = f"perhaps from {', '.join(files)}"
        if variable is not None and variable.presence and env[name].lower() in ZEROS:
            detail = "; ".join(part for part in (detail, "its presence alone counts") if part)
        out.append(
            Setting(
                name,
                shown(name, env[name]),
                None,
                unit.kind if unit else "environment",
                detail,
                ENVIRONMENT,
                variable.effect if variable else "",
            )
        )
    return out


def value_of(found: Iterable[Setting], *names: str) -> str | None:
    """The value of the first of these settings that has one."""
    by = {setting.name: setting.value for setting in found}
    return next((by[name] for name in names if by.get(name) is not None), None)
