"""The parsers: of the dashboard, of each command, and of all together.

Every command imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping

from ds4top import __version__, exits


def _speed(text: str) -> float:
    value = float(text)
    if not 0 < value <= 10_000:
        raise argparse.ArgumentTypeError("must be above 0 and at most 10000")
    return value


def _interval(text: str) -> float:
    value = float(text)
    if not 0.25 <= value <= 10:
        raise argparse.ArgumentTypeError("must be between 0.25 and 10 seconds")
    return value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """Wrong usage ends with 64, as sysexits.h names it."""
        self.print_usage(sys.stderr)
        self.exit(exits.USAGE, f"{self.prog}: {message}\n")


COMMANDS: Mapping[str, tuple[str, str]] = {
    "status": ("one look, no screen, exit code for scripts", "ds4top.reach.status"),
    "report": ("the day in figures, from any server log", "ds4top.report.cli"),
    "restart": ("restart the server, in the other mode too", "ds4top.reach.control"),
    "stop": ("stop it and keep the way back", "ds4top.reach.control"),
    "start": ("start it again as it was", "ds4top.reach.control"),
    "run": ("start a server that outlives ds4top, its log kept", "ds4top.reach.run"),
    "config": ("the config file: init, show or path", "ds4top.reach.configfile"),
    "completion": ("completion for bash, zsh or fish", "ds4top.reach.completion"),
}
"""Commands by name: what each does, and the module that has its arguments and its ``main``."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the dashboard; ``--help``, completion and the manual come from it."""
    listed = "\n".join(f"  {name:<12}{words}" for name, (words, _) in COMMANDS.items())
    parser = _Parser(
        prog="ds4top",
        description="The instrument panel for ds4-server on an NVIDIA DGX Spark.",
        epilog=f"commands (ds4top COMMAND --help tells more):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="ds4top [options] | ds4top COMMAND [options]",
    )
    parser.add_argument("--version", action="version", version=f"ds4top {__version__}")
    server = parser.add_argument_group("which server")
    server.add_argument("--pid", type=int, metavar="PID", help="watch this process")
    server.add_argument("--url", metavar="URL", help="where it answers")
    server.add_argument("--log", metavar="FILE", help="its log; - is standard input")
    server.add_argument("--kv-dir", metavar="DIR", help="its KV disk cache")
    other = parser.add_argument_group("instead of a server")
    instead = other.add_mutually_exclusive_group()
    instead.add_argument(
        "--replay", metavar="FILE", help="play a recording, or a server log by its own stamps"
    )
    instead.add_argument(
        "--demo", action="store_true", help="a stand-in server and a busy agent; needs nothing"
    )
    other.add_argument(
        "--speed", type=_speed, default=None, metavar="N", help="replay or demo N times faster"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--record", metavar="FILE", help="write what is seen to a recording")
    how.add_argument(
        "--interval", type=_interval, default=None, metavar="S", help="seconds between paints (1)"
    )
    how.add_argument(
        "--theme", metavar="NAME", help="dark, light, ansi256, colour-blind, mono or ansi"
    )
    how.add_argument("--config", metavar="FILE", help="this config file instead of the usual one")
    how.add_argument("--year", type=int, metavar="Y", help="year of the log's first stamp")
    how.add_argument(
        "--tz", metavar="ZONE", help="time zone of the log's stamps, such as Europe/Berlin"
    )
    how.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    how.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    how.add_argument("--no-history", action="store_true", help="keep nothing")
    how.add_argument(
        "--read-only", action="store_true", help="take every key away that acts on the server"
    )
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    words, module = COMMANDS[name]
    parser = _Parser(prog=f"ds4top {name}", description=f"{words[0].upper()}{words[1:]}.")
    importlib.import_module(module).add_arguments(parser)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """The dashboard's parser with every command in it, for completion and the manual."""
    parser = build_parser()
    parser.epilog = None
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="ds4top")
    for name, (words, module) in COMMANDS.items():
        child = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        importlib.import_module(module).add_arguments(child)
    return parser
