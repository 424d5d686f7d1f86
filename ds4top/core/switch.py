"""Switching how the weights are held, by what the build can be told.

``--load-mode`` (newer llama.cpp, which rejects ``--no-mmap``), else ``--no-mmap``, else the
``DS4_CUDA_*`` variables of ds4 builds that have neither (ds4_cuda.cu tests most for presence,
so they are unset, never set to 0). A flag that ``--help`` does not list and a variable that is not
in the executable are never used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ds4top.core.plan import Build, Env, Mode, Spec

DIRECT = "DS4_CUDA_DIRECT_MODEL"
ARTIFACTS = "DS4_CUDA_BUILD_ARTIFACTS"
CACHE = "DS4_CUDA_WEIGHT_CACHE"
COPIES = (
    "DS4_CUDA_COPY_MODEL",
    "DS4_CUDA_COPY_MODEL_CHUNKED",
    CACHE,
    "DS4_CUDA_WEIGHT_PRELOAD",
)
TAKEN_BACK = "the last switch taken back"
_LOAD_MODE = "--load-mode"
_NO_MMAP = "--no-mmap"
_LOAD_MODES = {Mode.MMAP: "mmap", Mode.COPY: "none"}


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed, and by which means (``flag``, ``variables``, ``nothing``)."""

    spec: Spec
    env_set: Env
    env_unset: tuple[str, ...]
    how: str
    notes: tuple[str, ...] = ()


class NoWayError(Exception):
    """This build has no known way to be told; the message says so."""


def change_mode(
    spec: Spec,
    build: Build,
    want: Mode,
    *,
    previous: Spec | None = None,
    mapped_without_switch: bool = False,
) -> Change:
    """The launch in the other mode.

    ``previous`` is what ran before the last switch: where that switch explains the present launch
    in every word, its reverse is ``previous`` itself, to the letter. ``mapped_without_switch``: the
    last start without ``DS4_CUDA_DIRECT_MODEL`` still mapped. Raises ``NoWayError``.
    """
    if previous is not None and _explains(previous, spec, build, want):
        return _difference(spec, previous, TAKEN_BACK)
    argv = _argv(spec.argv, build, want)
    if argv is not None:
        return Change(replace(spec, argv=argv), (), (), "flag")
    if build.llama or build.variables is None or DIRECT not in build.variables:
        raise NoWayError(_no_way(build))
    return _variables(spec, build.variables, want, previous, mapped_without_switch)


def _no_way(build: Build) -> str:
    if build.flags is None and build.variables is None:
        return "its --help and its executable cannot be read: no way to switch is known"
    kind = "llama-server" if build.llama else "ds4-server"
    return (
        f"this {kind} has no way to be told: neither {_NO_MMAP} nor {_LOAD_MODE} in its --help"
        + ("" if build.llama else f", nor {DIRECT} in its executable")
    )


def _explains(previous: Spec, spec: Spec, build: Build, want: Mode) -> bool:
    """Whether switching ``previous`` away from ``want`` gives exactly the present launch."""
    other = Mode.COPY if want is Mode.MMAP else Mode.MMAP
    for mapped in (False, True):
        try:
            there = change_mode(previous, build, other, mapped_without_switch=mapped).spec
        except NoWayError:
            return False
        if there.argv == spec.argv and dict(there.env) == dict(spec.env):
            return True
    return False


def _difference(before: Spec, after: Spec, how: str) -> Change:
    old, new = dict(before.env), dict(after.env)
    return Change(
        replace(before, argv=after.argv, env=after.env),
        tuple((name, value) for name, value in after.env if old.get(name) != value),
        tuple(name for name in old if name not in new),
        how,
    )


def _argv(argv: tuple[str, ...], build: Build, want: Mode) -> tuple[str, ...] | None:
    """The argument vector by flag, or ``None`` where the build has none for it."""
    flags = build.flags or frozenset()
    if _LOAD_MODE in flags:
        return _load_mode(_without(argv, lambda word: word in (_NO_MMAP, "--mmap")), want)
    if _NO_MMAP not in flags:
        return None
    if want is Mode.MMAP:
        return _without(argv, lambda word: word == _NO_MMAP)
    kept = _without(argv, lambda word: word == "--mmap")
    return kept if _NO_MMAP in kept else (*kept, _NO_MMAP)


def _without(argv: tuple[str, ...], drop: Callable[[str], bool]) -> tuple[str, ...]:
    # The first word is the program, whatever it is called.
    return (*argv[:1], *(word for word in argv[1:] if not drop(word)))


def _load_mode(argv: tuple[str, ...], want: Mode) -> tuple[str, ...]:
    value = _LOAD_MODES[want]
    words = list(argv)
    found = False
    for at, word in enumerate(words[1:], 1):
        if word == _LOAD_MODE and at + 1 < len(words):
            words[at + 1] = value
            found = True
        elif word.startswith(_LOAD_MODE + "="):
            words[at] = f"{_LOAD_MODE}={value}"
            found = True
    return tuple(words) if found else (*argv, _LOAD_MODE, value)


def _variables(
    spec: Spec, known: frozenset[str], want: Mode, previous: Spec | None, mapped: bool
) -> Change:
    env = dict(spec.env)
    notes: list[str] = []
    if want is Mode.MMAP:
        unset = [name for name in COPIES if name in env]
        wanted = {DIRECT: "1"}
        if ARTIFACTS in known:
            wanted[ARTIFACTS] = "0"
    else:
        unset = [DIRECT] if DIRECT in env else []
        wanted = {}
        if env.get(ARTIFACTS) == "0":
            if previous is not None and ARTIFACTS not in dict(previous.env):
                unset.append(ARTIFACTS)
            else:
                notes.append(f"{ARTIFACTS}=0 is not ds4top's own and stays")
        if mapped and CACHE in known:
            wanted[CACHE] = "1"
    env_set = tuple((name, value) for name, value in wanted.items() if env.get(name) != value)
    changed = dict(env_set)
    kept = [(name, changed.pop(name, value)) for name, value in spec.env if name not in unset]
    return Change(
        replace(spec, env=(*kept, *changed.items())),
        env_set,
        tuple(unset),
        "variables" if env_set or unset else "nothing",
        tuple(notes),
    )
