"""Reading the argument vector as the server does, and the stand-in's own `--standin-*` options."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ds4top.standin.option_table import Option, Value, known_options, usage
from ds4top.standin.profiles import DEFAULT_PROFILE, PROFILE_ENV, PROFILES, Profile

_OWN = "--standin-"
_OWN_VALUED = ("profile", "speed", "seed", "fail", "control", "leash", "model-gib")
_OWN_FLAGS = ("die-with-parent",)
_INTEGER = re.compile(r"\s*[+-]?\d+")
BACKENDS = ("metal", "cuda", "cpu")


class UsageError(Exception):
    """The argument vector is refused: `lines` are logged, `with_usage` adds the help, exit 2."""

    def __init__(self, *lines: str, with_usage: bool = False) -> None:
        """Lines without stamp and name."""
        super().__init__(*lines)
        self.lines = lines
        self.with_usage = with_usage


@dataclass(frozen=True)
class StandinOptions:
    """What the stand-in is to be, and how it is to fail."""

    profile: Profile
    speed: float = 1.0
    seed: int = 1
    fails: tuple[str, ...] = ()
    control: str | None = None
    leash: str | None = None
    model_bytes: int | None = None
    die_with_parent: bool = False


@dataclass(frozen=True)
class ServerOptions:
    """The server's options by long name; flags that are set stand with an empty value."""

    given: Mapping[str, str] = field(default_factory=dict)
    help: bool = False

    def text(self, name: str, default: str) -> str:
        """A text value."""
        return self.given.get(name, default)

    def optional(self, name: str) -> str | None:
        """A text value or None."""
        return self.given.get(name)

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        return int(self.given.get(name, default))

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        return name in self.given

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return self.given.get("backend", "cuda")


def split_own(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[StandinOptions, list[str]]:
    """Take the `--standin-*` options out of the vector; raises UsageError on a wrong one."""
    rest: list[str] = []
    own: dict[str, str] = {}
    fails: list[str] = []
    index = 0
    while index < len(argv):
        word = argv[index]
        index += 1
        if not word.startswith(_OWN):
            rest.append(word)
            continue
        name, glued, value = word.removeprefix(_OWN).partition("=")
        if name in _OWN_FLAGS:
            own[name] = "1"
            continue
        if name not in _OWN_VALUED:
            raise UsageError(f"unknown option: {word}")
        if not glued:
            if index >= len(argv):
                raise UsageError(f"missing value for {word}")
            value = argv[index]
            index += 1
        if name == "fail":
            fails.append(value)
        else:
            own[name] = value
    profile_name = own.get("profile") or environ.get(PROFILE_ENV) or DEFAULT_PROFILE
    if profile_name not in PROFILES:
        raise UsageError(f"invalid value for {_OWN}profile: {profile_name}")
    try:
        speed = float(own.get("speed", "1"))
        seed = int(own.get("seed", "1"))
        gib = float(own["model-gib"]) if "model-gib" in own else None
    except ValueError as error:
        raise UsageError(f"invalid value for a {_OWN} option: {error}") from error
    if not (math.isfinite(speed) and speed > 0):
        raise UsageError(f"invalid value for {_OWN}speed: {own['speed']}")
    options = StandinOptions(
        profile=PROFILES[profile_name],
        speed=speed,
        seed=seed,
        fails=tuple(fails),
        control=own.get("control"),
        leash=own.get("leash"),
        model_bytes=None if gib is None else round(gib * 1024**3),
        die_with_parent="die-with-parent" in own,
    )
    return options, rest


def _check(option: Option, word: str, value: str) -> str:
    if option.value is Value.TEXT:
        return value
    if option.value is Value.REAL:
        try:
            real = float(value)
        except ValueError:
            raise UsageError(f"invalid value for {word}: {value}") from None
        if not option.low <= real <= option.high:
            raise UsageError(f"invalid value for {word}: {value}")
        return value
    low = max(option.low, 1 if option.value is Value.POSITIVE else 0)
    if not _INTEGER.fullmatch(value) or not low <= int(value) <= option.high:
        raise UsageError(f"invalid value for {word}: {value}")
    return str(int(value))


def _backend(word: str, value: str) -> str:
    if value not in BACKENDS:
        raise UsageError(
            f"invalid {word} value: {value}",
            f"valid server backends are: {', '.join(BACKENDS)}",
        )
    return value


def parse(argv: Sequence[str], profile: Profile) -> ServerOptions:
    """The server's own options, judged from left to right; raises UsageError (exit status 2)."""
    known = known_options(profile.options)
    given: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if word in ("-h", "--help"):
            return ServerOptions(given, help=True)
        option = known.get(word)
        if option is None:
            raise UsageError(f"unknown option: {word}", with_usage=True)
        name = option.name.removeprefix("--")
        if option.value is Value.NONE:
            if name in (*BACKENDS, "rocm"):
                given["backend"] = name
            given[name] = ""
            continue
        value = next(words, None)
        if value is None:
            raise UsageError(f"missing value for {word}")
        given[name] = _backend(word, value) if name == "backend" else _check(option, word, value)
    options = ServerOptions(given)
    cold_max = options.number("kv-cache-cold-max-tokens", 30000)
    if 0 < cold_max < options.number("kv-cache-min-tokens", 512):
        raise UsageError("--kv-cache-cold-max-tokens must be 0 or >= --kv-cache-min-tokens")
    return options


def help_text(profile: Profile) -> str:
    """The whole help of a build."""
    return usage(profile.options)
