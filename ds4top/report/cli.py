"""``ds4top report``: the day in figures, from any log."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ds4top import exits
from ds4top.core.figures import Report
from ds4top.core.tally import Window
from ds4top.report import jsonout, markdown, text
from ds4top.report.csvout import CsvRows
from ds4top.report.load import LogFileError, load

_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")
_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([smhd])")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class UsageError(Exception):
    """What is wrong with the command line, in words."""


def parse_tz(name: str) -> tzinfo:
    """A time zone by its IANA name or offset (``+02:00``). Raises ``UsageError``."""
    if match := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset < timedelta(hours=24):
            return timezone(-offset if match[1] == "-" else offset)
    if name in ("UTC", "Z"):
        return timezone.utc  # noqa: UP017 - prints as UTC everywhere
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"--tz {name}: no such time zone") from error


def parse_time(word: str, now: float, tz: tzinfo | None) -> float:
    """A moment in seconds since the epoch: an ISO date or time, ``HH:MM`` of today, ``today``,
    ``yesterday``, or how long ago (``90m``, ``24h``, ``7d``). Raises ``UsageError``.
    """
    if match := _AGO.fullmatch(word):
        return now - float(match[1]) * _UNIT_S[match[2]]
    midnight = datetime.fromtimestamp(now, tz).replace(hour=0, minute=0, second=0, microsecond=0)
    if word in ("today", "yesterday"):
        return (midnight - timedelta(days=word == "yesterday")).timestamp()
    if match := _CLOCK.fullmatch(word):
        hour, minute, second = (int(part or 0) for part in match.groups())
        return midnight.replace(hour=hour, minute=minute, second=second).timestamp()
    try:
        moment = datetime.fromisoformat(word)
        return (moment if moment.tzinfo else moment.replace(tzinfo=tz)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{word}: not a time (2026-11-24T18:25, 18:25, today, 24h)") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ds4top report``."""
    parser.add_argument(
        "logs", nargs="*", metavar="LOG", help="server logs, .gz too; - reads standard input"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="machine-readable: ds4top.report/1")
    form.add_argument("--markdown", action="store_true", help="to be posted")
    form.add_argument("--csv", action="store_true", help="a row a request")
    parser.add_argument(
        "--since", metavar="T", help="count from here on: 2026-11-24T18:25, 18:25, today, 24h"
    )
    parser.add_argument("--until", metavar="T", help="count up to here")
    parser.add_argument(
        "--year", type=int, metavar="Y",
        help="year of the last stamp of the (last) log; default: by the time of the file",
    )  # fmt: skip
    parser.add_argument(
        "--tz", metavar="Z", help="zone of the log's stamps (Europe/Berlin, +02:00); default: here"
    )


def main(args: argparse.Namespace) -> int:
    """Print the report; gives the exit code: 0, or 64 for wrong usage or an unreadable file."""
    try:
        return _main(args)
    except UsageError as error:
        print(f"ds4top: report: {error}", file=sys.stderr)
    except LogFileError as error:
        print(f"ds4top: report: {error}", file=sys.stderr)
    return exits.USAGE


def _main(args: argparse.Namespace) -> int:
    if not args.logs:
        raise UsageError("which log? name a file, or - for standard input")
    if args.year is not None and not 1970 <= args.year <= 9_998:
        raise UsageError(f"--year {args.year}: not a year a log can be of")
    now = time.time()
    tz = parse_tz(args.tz) if args.tz else None
    since, until = (parse_time(w, now, tz) if w else None for w in (args.since, args.until))
    if since is not None and until is not None and since >= until:
        raise UsageError("--since is not before --until")
    rows: CsvRows | None = None

    def fresh_rows() -> Callable[..., None]:
        nonlocal rows
        rows = CsvRows(tz)
        return rows.take

    report = load(
        args.logs, now=now, tz=tz, year=args.year, window=Window(since, until),
        sink_for=fresh_rows if args.csv else None,
    )  # fmt: skip
    return _print(rows.text if rows is not None else _rendered(report, args))


def _rendered(report: Report, args: argparse.Namespace) -> str:
    if args.json:
        return jsonout.render(report)
    if args.markdown:
        return markdown.render(report)
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    tty = sys.stdout.isatty()
    return text.render(
        report,
        colour=tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        width=shutil.get_terminal_size().columns if tty else 80,
        ascii_only="utf" not in encoding,
    )


def _print(words: str) -> int:
    try:
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        # A path may hold bytes that are no text, and a terminal may not know every sign.
        sys.stdout.write(words.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (``| head``); nothing more may be written, at exit neither.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
