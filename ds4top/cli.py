"""The command line: which command, and what a screen needs before there is one."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from ds4top import __version__, exits
from ds4top.lean import without_openssl


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        # The shortest way: not even the parser is built.
        print(f"ds4top {__version__}")
        return 0
    from ds4top.parsers import COMMANDS, build_parser, command_parser

    if words and (found := COMMANDS.get(words[0])) is not None:
        args = command_parser(words[0]).parse_args(words[1:])
        # Imports make a great many objects and no garbage.
        gc.disable()
        command = importlib.import_module(found[1])
        gc.enable()
        try:
            return int(command.main(args))
        except BrokenPipeError:
            # The reader has seen enough (``| head``); nothing more may be written, at exit neither.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
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


def _complain(text: str, code: int = exits.USAGE) -> int:
    print(f"ds4top: {text}", file=sys.stderr)
    return code


def _dashboard(args: Namespace) -> int:
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
    without_openssl()
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
