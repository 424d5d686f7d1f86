"""The command line. Every command imports what it needs when it is called."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence

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


def build_parser() -> argparse.ArgumentParser:
    """The parser of everything; ``--help`` and the manual come from it."""
    parser = _Parser(
        prog="ds4top",
        description="The instrument panel for ds4-server on an NVIDIA DGX Spark.",
        epilog="Without a command: the dashboard. ds4top COMMAND --help tells more.",
    )
    parser.add_argument("--version", action="version", version=f"ds4top {__version__}")
    source = parser.add_argument_group("what to show").add_mutually_exclusive_group()
    source.add_argument("--log", metavar="FILE", help="follow this server log; - is standard input")
    source.add_argument(
        "--replay", metavar="FILE", help="play a recording, or a server log by its own stamps"
    )
    source.add_argument(
        "--demo", action="store_true", help="a stand-in server and a busy agent; needs nothing"
    )
    more = parser.add_argument_group("how")
    more.add_argument("--record", metavar="FILE", help="write what is seen to a recording")
    more.add_argument(
        "--speed", type=_speed, default=None, metavar="N", help="replay or demo N times faster"
    )
    more.add_argument(
        "--interval", type=_interval, default=1.0, metavar="S", help="seconds between paints (1)"
    )
    more.add_argument(
        "--theme", metavar="NAME", help="dark, light, ansi256, colour-blind, mono or ansi"
    )
    more.add_argument("--year", type=int, metavar="Y", help="year of the log's first stamp")
    more.add_argument(
        "--tz", metavar="ZONE", help="time zone of the log's stamps, such as Europe/Berlin"
    )
    more.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    more.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    report = commands.add_parser("report", help="the day in figures, from any log")
    report.set_defaults(run=_report)
    report.set_defaults(fill=_report_arguments)
    return parser


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    from ds4top.report.cli import add_arguments

    add_arguments(parser)


def _report(args: argparse.Namespace) -> int:
    from ds4top.report.cli import main as report_main

    return report_main(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        # The shortest way: not even the parser is built.
        print(f"ds4top {__version__}")
        return 0
    parser = build_parser()
    if words[:1] == ["report"]:
        return _run_report(words[1:])
    args = parser.parse_args(words)
    return _dashboard(args)


def _run_report(words: Sequence[str]) -> int:
    parser = _Parser(prog="ds4top report", description="The day in figures, from any server log.")
    _report_arguments(parser)
    return _report(parser.parse_args(words))


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
    if args.record and not args.log:
        return _complain("--record goes with --log")
    if not (args.log or args.replay or args.demo):
        return _complain(
            "no log given. Try one of:\n"
            "  ds4top --demo                     a stand-in server, to look around\n"
            "  ds4top --log server.log           the file behind your server's stderr\n"
            "  journalctl -fu ds4 | ds4top --log -\n"
            "  ds4top --replay server.log        a log from before, by its own stamps"
        )
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
