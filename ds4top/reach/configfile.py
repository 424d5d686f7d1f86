"""The config file: where it lies, reading it, and ``ds4top config init | show | path``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ds4top import exits
from ds4top.core.config import Config, Scalar, settle, shown, template


def config_path(given: str | None, environment: Mapping[str, str]) -> Path:
    """The file: named by ``--config`` or ``DS4TOP_CONFIG``, else in the user's config folder."""
    named = given or environment.get("DS4TOP_CONFIG")
    if named:
        return Path(named).expanduser()
    base = environment.get("XDG_CONFIG_HOME")
    folder = Path(base) if base and base.startswith("/") else Path("~/.config").expanduser()
    return folder / "ds4top" / "config.toml"


def load(
    given: str | None,
    environment: Mapping[str, str],
    flags: Mapping[str, Scalar],
    actions: tuple[str, ...] = (),
) -> Config:
    """The settings that hold. A file that cannot be read is a problem of the config, no error.

    Only one that was named and is not there is worth a word: the usual place may be empty.
    """
    path = config_path(given, environment)
    text: str | None = None
    trouble: str | None = None
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if given:
            trouble = f"{path}: no such file"
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        trouble = f"{path}: {reason}"
    config = settle(
        flags=flags, environment=environment, text=text, name=str(path), actions=actions
    )
    problems = config.problems if trouble is None else (trouble, *config.problems)
    return Config(config.values, config.keys, problems, str(path))


def write_new(path: Path, text: str) -> None:
    """Write a file whole, and never over one that is there.

    A link gives it its name: the name appears with all of the text or not at all. Raises
    ``FileExistsError``, ``OSError``.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``init``, ``show`` or ``path``."""
    parser.add_argument("what", choices=("init", "show", "path"), help="what to do")
    parser.add_argument("--config", metavar="FILE", help="this file instead of the usual one")


def main(args: argparse.Namespace) -> int:
    """Exit code: 0, 78 for a config that is wrong, 1 where the file could not be written."""
    path = config_path(args.config, os.environ)
    if args.what == "path":
        print(path)
        return 0
    if args.what == "init":
        return _init(path)
    from ds4top.core.keymap import ACTIONS

    config = load(args.config, os.environ, {}, ACTIONS)
    rows = shown(config)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    for problem in config.problems:
        print(f"ds4top: {problem}", file=sys.stderr)
    return exits.CONFIG if config.problems else 0


def _init(path: Path) -> int:
    try:
        write_new(path, template())
    except FileExistsError:
        print(f"ds4top: {path} is there already and is left as it is", file=sys.stderr)
        return exits.FAILED
    except OSError as error:
        print(f"ds4top: {path}: {error.strerror}", file=sys.stderr)
        return exits.FAILED
    print(path)
    return 0
