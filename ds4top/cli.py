"""The command line. Every command imports what it needs when it is called."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from ds4top import __version__

EXIT_USAGE = 64
EXIT_CRASH = 70


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
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


COMMANDS: Mapping[str, tuple[str, str]] = {
    "report": ("the day in figures, from any server log", "ds4top.report.cli"),
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        # The shortest way: not even the parser is built.
        print(f"ds4top {__version__}")
        return 0
    if words and (found := COMMANDS.get(words[0])) is not None:
        args = command_parser(words[0]).parse_args(words[1:])
        return int(importlib.import_module(found[1]).main(args))
    if words and not words[0].startswith("-"):
        return _complain(f"no command named {words[0]}; ds4top --help lists them")
    return _dashboard(build_parser().parse_args(words))


def zone_of(name: str | None) -> object:
    """The zone of a name, ``None`` for this machine's; raises ``ValueError`` for an unknown one."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"no such time zone: {name}") from error


def _complain(text: str, code: int = EXIT_USAGE) -> int:
    print(f"ds4top: {text}", file=sys.stderr)
    return code


def _dashboard(args: argparse.Namespace) -> int:
    if args.speed is not None and not (args.replay or args.demo):
        return _complain("--speed goes with --replay or --demo")
    if args.log and (args.replay or args.demo):
        return _complain("--log shows a server; --replay and --demo bring their own")
    if args.record and args.replay:
        return _complain("--record keeps what a server does; a replay is one already")
    stdin_fd = 0
    if args.log == "-":
        if sys.stdin.isatty():
            return _complain("standard input is a terminal; pipe a log into ds4top --log -")
        try:
            stdin_fd = keys_from_terminal()
        except OSError as error:
            return _complain(
                f"keys come from /dev/tty with --log -, and it cannot be opened: {error}"
            )
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return _complain("a screen needs a terminal on standard input and standard error")
    if os.environ.get("TERM", "") in ("", "dumb"):
        return _complain(
            "TERM is not set or dumb: no screen can be drawn; ds4top report reads a log"
        )
    # The start makes a great many objects and no garbage; the app turns it on again when it stands.
    gc.disable()
    from ds4top.launch import dashboard

    return dashboard(args, stdin_fd)


def keys_from_terminal() -> int:
    """Move the pipe on standard input aside and put the terminal there; gives the pipe's fd.

    Raises ``OSError`` where there is no controlling terminal.
    """
    terminal = os.open("/dev/tty", os.O_RDWR)
    pipe = os.dup(0)
    os.dup2(terminal, 0)
    os.close(terminal)
    return pipe


if __name__ == "__main__":
    sys.exit(main())
