"""From parsed options to a running dashboard: session, look, app, exit code."""

from __future__ import annotations

import argparse
import contextlib
import locale
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ds4top import exits
from ds4top.archive.paths import state_dir
from ds4top.cli import zone_of
from ds4top.core.config import Config, Scalar
from ds4top.core.keymap import ACTIONS
from ds4top.core.process import DEMO_MARK
from ds4top.reach.choice import wanted_of
from ds4top.reach.configfile import load
from ds4top.session import ActingPlace, Session, live, replay
from ds4top.sources.base import SourceFault
from ds4top.view.look import Look
from ds4top.view.text import ASCII, UNICODE

if TYPE_CHECKING:
    from ds4top.flight import FlightRecorder
    from ds4top.keep import Keep

_FLAGS: Mapping[str, tuple[str, object]] = {
    "server.pid": ("pid", None),
    "server.url": ("url", None),
    "server.log": ("log", None),
    "server.kv_dir": ("kv_dir", None),
    "screen.theme": ("theme", None),
    "screen.interval_s": ("interval", None),
    "screen.ascii": ("ascii", True),
    "screen.mouse": ("no_mouse", False),
    "history.keep": ("no_history", False),
    "control.read_only": ("read_only", True),
}
"""Settings that have a flag: its name, and what it sets where it takes no value."""


def config_of(args: argparse.Namespace) -> Config:
    """The settings that hold, with the flags that were given."""
    flags: dict[str, Scalar] = {}
    for key, (name, sets) in _FLAGS.items():
        given = getattr(args, name, None)
        if given is not None and given is not False:
            flags[key] = given if sets is None else sets  # type: ignore[assignment]
    return load(args.config, os.environ, flags, ACTIONS)


def wants_ascii(config: Config) -> bool:
    """Whether only ASCII is drawn: asked for, the Linux console, or another locale than UTF-8."""
    encoding = locale.getpreferredencoding(False).lower().replace("-", "")
    linux = os.environ.get("TERM") == "linux"
    return config.flag("screen.ascii") or linux or encoding != "utf8"


def _let_go_of_terminal() -> None:
    """Keep Python from flushing to a terminal that has gone: its exit status would be 120."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, None)


def dashboard(args: argparse.Namespace, stdin_fd: int) -> int:
    """Run the screen until it is quit; gives the exit code."""
    config = config_of(args)
    if args.config and not os.access(args.config, os.R_OK):
        print(f"ds4top: {config.problems[0]}", file=sys.stderr)
        return exits.CONFIG
    # Read by Textual when it is imported: no animation, and palette colours only.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    if os.environ.get("COLORTERM") in ("truecolor", "24bit") or "256" in os.environ.get("TERM", ""):
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "256")
    charset = ASCII if wants_ascii(config) else UNICODE
    look = Look(charset, interval_s=config.number("screen.interval_s"))
    with ExitStack() as stack:
        try:
            session = _session(args, config, stdin_fd, stack)
        except (SourceFault, OSError, ValueError) as error:
            print(f"ds4top: {error}", file=sys.stderr)
            return exits.USAGE
        from ds4top.ui.app import Ds4top

        app = Ds4top(session, look, config)
        try:
            app.run(mouse=config.flag("screen.mouse"))
        finally:
            left = app.acts.close()
            session.close()
            if left:
                with contextlib.suppress(OSError):
                    print(f"ds4top: {left}", file=sys.stderr)
            _let_go_of_terminal()
        code = app.return_code or 0
        return exits.CRASH if code == 1 else code


def _session(args: argparse.Namespace, config: Config, stdin_fd: int, stack: ExitStack) -> Session:
    tz = zone_of(args.tz)
    if args.demo:
        from ds4top.demo import demo_session

        return demo_session(args.speed or 1.0, stack, args.record)
    if args.replay:
        return replay(args.replay, speed=args.speed or 1.0, tz=tz, year=args.year)  # type: ignore[arg-type]
    demo = os.environ.get(DEMO_MARK, "")
    wanted = wanted_of(config, demo)
    why = "--no-history, or history.keep = false"
    if config.flag("history.keep"):
        why = "a log that is piped in is not kept" if wanted.log == "-" else ""
    if not why and state_dir(os.environ) is None:
        why = "no home: set XDG_STATE_HOME"

    def flight() -> FlightRecorder | None:
        from ds4top.flight import flight_recorder

        return None if why else flight_recorder(os.environ, wanted.warning_bytes or 0)

    def keep() -> Keep | None:
        from ds4top.keep import keep_of

        return None if why else keep_of(os.environ)

    session = live(
        wanted,
        tz=tz,  # type: ignore[arg-type]
        year=args.year,
        record=args.record,
        stdin_fd=stdin_fd,
        flight=flight,
        keep=keep,
        not_kept=why,
    )
    if (folder := state_dir(os.environ)) is not None:
        session.acting_place = ActingPlace(folder, demo)
    return session
