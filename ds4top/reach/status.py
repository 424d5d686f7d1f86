"""``ds4top status``: one look without a screen, by the same sources and reducers."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

from ds4top.archive.paths import JOURNAL, state_dir
from ds4top.control.journal import Journal
from ds4top.control.past import starts_of
from ds4top.core.alerts import Alert, alerts_now
from ds4top.core.figures import by_context
from ds4top.core.process import DEMO_MARK
from ds4top.core.standing import standing
from ds4top.core.units import GIB, fmt_duration, fmt_gib, fmt_num
from ds4top.keep import recalled
from ds4top.reach.choice import wanted_of
from ds4top.reach.configfile import load
from ds4top.report.jsonout import buckets_json
from ds4top.session import Session, live
from ds4top.sources.logroute import LogRouter
from ds4top.view.facts import alert_facts
from ds4top.view.launch import settings_json
from ds4top.view.rates import RateBook
from ds4top.view.status import LEVELS, document, line, state_of
from ds4top.view.text import clean
from ds4top.view.today import TodayBook

LOOK_S = 1.5
"""A look takes no longer, whatever is slow; what has not answered by then is not known."""
_TURN_S = 0.05
_WITH_CHILDREN = ("log", "kernel log", "launch")
_EXITS = dict(zip(LEVELS, range(4), strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer, and which server."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="machine-readable; its JSON Schema is ds4top/data/status.schema.json",
    )
    form.add_argument("--line", action="store_true", help="at most 40 columns, for a status bar")
    parser.add_argument("--pid", type=int, metavar="PID", help="this process")
    parser.add_argument("--log", metavar="FILE", help="its log")
    parser.add_argument("--config", metavar="FILE", help="this config file")


def look(session: Session, most_s: float = LOOK_S) -> None:
    """Run the sources until each has answered once, or the time is over."""
    end = time.monotonic() + most_s
    session.start()
    while time.monotonic() < end:
        session.tick()
        if settled(session):
            break
        # A source that has nothing to say ends its turn without a word: hence a limit.
        session.mailbox.wait(_TURN_S)
    session.tick()


def settled(session: Session) -> bool:
    """Whether every source has answered once, and the log of the server that was found is read."""
    beats = session.supervisor.beats()
    if any(beat.turns == 0 for beat in beats.values()):
        return False
    machine = session.model.machine
    if machine.server is not None and machine.vitals is None and not beats["vitals"].failures:
        return False
    return has_asked(session) and log_is_read(session)


def has_asked(session: Session) -> bool:
    """Whether the build and who supervises it have answered, and that is in the mailbox."""
    watch = session.watch
    if watch is None or not watch.wanted.asks:
        return True
    beat = session.supervisor.beats()["launch"]
    return (watch.has_asked and beat.state == "waiting") or beat.failures > 0


def log_is_read(session: Session) -> bool:
    """Whether the log that is known has been read and is in the mailbox, or cannot be."""
    source = session.source
    if not isinstance(source, LogRouter) or source.address is None:
        return True
    # A file is read at once, if it is empty too; a command prints when it is ready.
    read = source.address.path is not None and source.has_read
    beat = session.supervisor.beats()[source.name]
    return (read and beat.state == "waiting") or session.model.lines > 0 or beat.failures > 0


def gathered(session: Session) -> tuple[dict[str, Any], str, str]:
    """The document, the line and the level of what was seen."""
    model = session.model
    status = standing(model)
    book = RateBook()
    book.update(model.log, model.kept)
    today = TodayBook().today(model, book)
    facts = alert_facts(model, status, book)
    alerts: tuple[Alert, ...] = alerts_now(facts, model.now)
    samples = model.log.decode
    rates = buckets_json(by_context(samples.context, samples.tps))
    found = document(
        model, status, book, today, alerts, settings=settings_json(model), buckets=rates
    )
    return found, line(model, status, book, alerts), state_of(model, status)


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 ok, 1 warning, 2 critical, 3 unknown."""
    flags = {
        key: value
        for key, value in (("server.pid", args.pid), ("server.log", args.log))
        if value is not None
    }
    config = load(args.config, os.environ, flags)
    for problem in config.problems:
        print(f"ds4top: {problem}", file=sys.stderr)
    # Settings stand in the document alone.
    wanted = wanted_of(config, os.environ.get(DEMO_MARK, ""))
    session = live(replace(wanted, asks=args.json))
    look(session)
    if config.flag("history.keep"):
        session.model.kept = recalled(session.model, os.environ)
    if (folder := state_dir(os.environ)) is not None:
        journal = Journal(folder / JOURNAL)
        session.model.machine.took(starts_of(journal.entries()))
    found, short, _ = gathered(session)
    if args.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    elif args.line:
        print(short)
    else:
        print("\n".join(words(found, short)))
    sys.stdout.flush()
    # Threads may hang in a driver, and there is nothing to lose; only children are waited for.
    session.supervisor.stop(names=_WITH_CHILDREN)
    return _EXITS[found["level"]]


def load_words(load: dict[str, Any]) -> str:
    """A start that goes on, in one line."""
    done, total = load["loaded_bytes"], fmt_gib(load["total_bytes"], unit=True)
    said = [f"{fmt_gib(done)} of {total} by {load['loaded_from']}" if done is not None else total]
    if load["bytes_per_s"] is not None:
        said.append(f"{fmt_num(load['bytes_per_s'] / GIB, 2, 'GiB/s')} {load['rate_from']}")
    if load["eta_s"] is not None:
        said.append(f"ends in {fmt_duration(load['eta_s'])} {load['eta_from']}")
    return "   ".join([load["stage"], *said])


def words(found: dict[str, Any], short: str) -> list[str]:
    """The human form: a few lines."""
    server, memory, gpu = found["server"], found["memory"], found["gpu"]
    out = [short]
    if server is not None:
        out.append(f"{server['comm'] or 'server'} {server['pid'] or '–'}   {server['residency']}")
        if (load := server["load"]) is not None:
            out.append(load_words(load))
        out.append(f"started by {server['started_by'] or '–'}   log {server['log'] or '–'}")
    if memory is not None and memory["headroom_bytes"] is not None:
        out.append(f"headroom {memory['headroom_bytes'] / GIB:.1f} GiB   {memory['level']}")
    if gpu is not None:
        out.append(f"{gpu['name']}   {gpu['utilisation_pct']} %   {gpu['power_w']} W")
    out += [f"! {reason}" for reason in found["reasons"]]
    out += [
        f"{each['name']} {each['state']}: {each['detail']}"
        for each in found["sources"]
        if each["state"] not in ("ok",)
    ]
    return [clean(text) for text in out]
