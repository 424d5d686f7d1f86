"""``ds4top run -- ds4-server …``: a server that outlives ds4top, its log where ds4top finds it."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from pathlib import Path
from threading import Event

from ds4top import exits
from ds4top.control.act import LOGS, Controller
from ds4top.control.facts import Gatherer, Situation
from ds4top.core.plan import Action, Plan, Spawn, Spec, Supervisor, WaitAnswer
from ds4top.core.plansteps import START_S
from ds4top.core.secrets import shown_argv
from ds4top.reach.control import Teller, complain, config_of, demo_of, folder_of, say, unhurried
from ds4top.sources.procfs import ProcFs
from ds4top.view.planview import outcome_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The server's own command line, after ``--``."""
    parser.add_argument("--config", metavar="FILE", help="this config file")
    parser.add_argument("--read-only", action="store_true", help="refuse to act")
    parser.add_argument(
        "server", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="ds4-server and its options"
    )
    parser.epilog = (
        "The server gets a session of its own and no input. Its log is kept in the state folder"
        " (~/.local/state/ds4top/logs), moved on at each start; five are kept."
    )


def umask_now() -> int:
    """The umask of this process, which cannot be read without being set."""
    old = os.umask(0o077)
    os.umask(old)
    return old


def plan_of(argv: list[str], exe: str) -> Plan:
    """Start this command line in this folder with this environment."""
    spec = Spec(tuple(argv), tuple(os.environ.items()), os.getcwd(), exe, umask_now())
    words = f"start {shlex.join(shown_argv(argv))} in a session of its own"
    return Plan(
        Action.START,
        None,
        Supervisor("none"),
        steps=(Spawn(spec, words), WaitAnswer(START_S, "wait until it answers")),
        argv_after=spec.argv,
        after=spec,
    )


def writers(path: Path, procfs: ProcFs) -> list[int]:
    """Processes whose output or errors go to a file."""
    found = []
    for pid in sorted(procfs.pids()):
        for fd in (1, 2):
            try:
                if os.readlink(procfs.root / str(pid) / "fd" / str(fd)) == str(path):
                    found.append(pid)
                    break
            except OSError:
                break
    return found


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 it answers, 1 it failed, 2 refused, 64 no command."""
    argv = args.server[1:] if args.server[:1] == ["--"] else args.server
    if not argv:
        return complain("run what? ds4top run -- ds4-server -m MODEL …", exits.USAGE)
    config = config_of(args)
    folder = folder_of()
    if folder is None:
        return complain("there is no home to keep its log in", exits.REFUSED)
    if config.flag("control.read_only"):
        return complain("read-only: nothing is started", exits.REFUSED)
    exe = shutil.which(argv[0])
    if exe is None:
        return complain(f"{argv[0]}: no such program", exits.REFUSED)
    exe = os.path.abspath(exe)
    plan = plan_of(argv, exe)
    controller = Controller(Gatherer(config, folder), Situation, demo=demo_of())
    log = folder / LOGS / f"{os.path.basename(argv[0])}.log"
    procfs = controller.gatherer.procfs
    url = controller.url(plan)
    for server in controller.servers():
        if server.url == url:
            words = f"it runs already: {server.target.comm} {server.target.pid} at {url}"
            return complain(words, exits.REFUSED)
    if writing := writers(log.resolve() if log.exists() else log, procfs):
        return complain(f"{log} is being written by process {writing[0]}", exits.REFUSED)
    say(f"log {log}")
    stop = Event()
    with unhurried(stop):
        outcome = controller.run(plan, Teller(plan), stop=stop)
    say(outcome_text(outcome))
    if outcome.refused:
        return exits.REFUSED
    return 0 if outcome.done else exits.FAILED
