"""``ds4top restart | stop | start``: the same plans as the keys, printed, asked for, run.

Nothing is done without a yes: on the terminal, where No is the default, or by ``--yes``. A command
never kills.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

from ds4top import exits
from ds4top.archive.paths import state_dir
from ds4top.control.act import Controller, rolled_back
from ds4top.control.facts import Gatherer, Situation, situation_of
from ds4top.core.config import Config, Scalar
from ds4top.core.plan import Action, Mode, Outcome, Plan, Progress
from ds4top.core.process import DEMO_MARK
from ds4top.keep import recalled
from ds4top.reach.choice import wanted_of
from ds4top.reach.configfile import load
from ds4top.reach.status import look
from ds4top.session import live
from ds4top.view.planview import outcome_text, plan_json, plan_text, progress_text
from ds4top.view.rates import RateBook
from ds4top.view.text import clean

_TELL_S = 15.0
"""How often a step that goes on is told of where there is no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is wanted, and how much is asked."""
    name = parser.prog.split()[-1]
    parser.set_defaults(action=name)
    if name != "stop":
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--mmap", action="store_true", help="weights mapped from the page cache")
        mode.add_argument(
            "--no-mmap", action="store_true", help="weights copied into the GPU's memory"
        )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--json", action="store_true", help="of a dry run: ds4top.plan/1")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force", action="store_true", help="start even where memory does not seem to suffice"
    )
    parser.add_argument(
        "--no-rollback", action="store_true", help="leave it down where the start fails"
    )
    parser.add_argument("--pid", type=int, metavar="PID", help="this process")
    parser.add_argument("--config", metavar="FILE", help="this config file")
    parser.add_argument("--read-only", action="store_true", help="refuse to act")


def complain(text: str, code: int) -> int:
    """Say why not, on standard error."""
    print(clean(f"ds4top: {text}"), file=sys.stderr)
    return code


def config_of(args: argparse.Namespace) -> Config:
    """The settings that hold; what is wrong with them is said."""
    flags: dict[str, Scalar] = {}
    if getattr(args, "pid", None) is not None:
        flags["server.pid"] = args.pid
    if args.read_only:
        flags["control.read_only"] = True
    config = load(args.config, os.environ, flags)
    for problem in config.problems:
        complain(problem, 0)
    return config


def folder_of() -> Path | None:
    """ds4top's own folder."""
    return state_dir(os.environ)


def demo_of() -> str:
    """The mark of the demo that this shell belongs to; empty for none."""
    return os.environ.get(DEMO_MARK, "")


def seen(config: Config) -> tuple[Situation, list[int]]:
    """One look at the machine, and the servers to choose from where it is not clear which."""
    session = live(wanted_of(config, demo_of()))
    try:
        look(session)
        model = session.model
        if config.flag("history.keep"):
            model.kept = recalled(model, os.environ)
        request = model.log.running
        book = RateBook()
        book.update(model.log)
        eta = book.eta_s(request) if request is not None else None
        several = [] if model.machine.server else [s.target.pid for s in model.machine.servers]
        return situation_of(model, prefill_left_s=eta), several
    finally:
        session.close()


class Teller:
    """Tells the progress: a line a step; on a terminal the present one counts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._begun = 0.0
        self._told = 0.0
        self._counts = sys.stdout.isatty()

    def __call__(self, progress: Progress) -> None:
        """One report of the executor."""
        if progress.state == "begun":
            self._begun = self._told = progress.t
        elapsed = progress.t - self._begun
        if progress.state == "waiting":
            if progress.t - self._told < (1.0 if self._counts else _TELL_S):
                return
            self._told = progress.t
        elif progress.state == "begun" and not self._counts:
            return
        text = progress_text(self._plan, progress, elapsed)
        last = progress.state in ("done", "failed")
        say(f"\r{text}\x1b[K" if self._counts else text, end="\n" if last else "", line=last)


def say(text: str, end: str = "\n", *, line: bool = True) -> None:
    """Print; a terminal that has gone holds up nothing."""
    if not line and not sys.stdout.isatty():
        end = "\n"
    with contextlib.suppress(OSError, ValueError):
        print(text, end=end, flush=True)


@contextlib.contextmanager
def unhurried(stop: Event) -> Iterator[None]:
    """While it acts: Ctrl+C and SIGTERM end the waiting, a terminal that goes ends nothing."""

    def told(number: int, frame: object) -> None:
        stop.set()

    kept = [(number, signal.signal(number, told)) for number in (signal.SIGINT, signal.SIGTERM)]
    kept.append((signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_IGN)))
    try:
        yield
    finally:
        for number, handler in kept:
            signal.signal(number, handler)


def asked(question: str, wanted: str = "y") -> bool:
    """Ask on the terminal; only ``wanted`` is a yes."""
    try:
        answer = input(question).strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return False
    return answer == wanted if wanted.isupper() else answer.lower() in (wanted, "yes")


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 done, 1 failed or rolled back, 2 refused, 3 no server."""
    if args.json and not args.dry_run:
        return complain("--json goes with --dry-run", exits.USAGE)
    config = config_of(args)
    folder = folder_of()
    if folder is None:
        return complain("there is no home to keep the way back in", exits.REFUSED)
    action = Action(args.action)
    situation, several = seen(config)
    if several:
        words = ", ".join(map(str, several))
        return complain(f"several servers run: {words}; say which by --pid", exits.REFUSED)
    controller = Controller(Gatherer(config, folder), lambda: situation, demo=demo_of())
    if (recovered := controller.recovered()) is not None:
        complain(recovered.words, 0)
    want = None
    if getattr(args, "mmap", False) or getattr(args, "no_mmap", False):
        want = Mode.MMAP if args.mmap else Mode.COPY
    plan = controller.plan(action, want)
    return shown_and_run(args, controller, plan, situation)


def _code(plan: Plan) -> int:
    if plan.refused is None:
        return 0
    if plan.target is None and plan.action is not Action.START:
        return exits.NO_SERVER
    return exits.REFUSED


def shown_and_run(
    args: argparse.Namespace, controller: Controller, plan: Plan, situation: Situation
) -> int:
    """Print the plan, ask, run it, and take it back where it fails."""
    if args.dry_run and args.json:
        server = situation.server
        wall = server.started_wall if server is not None else None
        print(json.dumps(plan_json(plan, started_wall=wall), indent=1, ensure_ascii=False))
        return _code(plan)
    if plan.refused is not None and not args.dry_run:
        return complain(plan.refused, _code(plan))
    print(plan_text(plan), flush=True)
    if args.dry_run:
        return _code(plan)
    forced = bool(args.force)
    if not args.yes:
        if not sys.stdin.isatty():
            return complain("nobody can be asked here: give --yes", exits.USAGE)
        word = plan.confirm if plan.confirm is not None and not forced else None
        question = f"Type {word} to go on: " if word else "Do it? [y/N] "
        if not asked(question, word or "y"):
            return complain("nothing was done", exits.REFUSED)
        forced = forced or word is not None
    elif plan.confirm is not None and not forced:
        return complain(f"{plan.notes[-1]}; --force starts it all the same", exits.REFUSED)
    stop = Event()
    with unhurried(stop):
        outcome = controller.run(plan, Teller(plan), forced=forced, stop=stop)
    say(outcome_text(outcome))
    if outcome.done:
        return 0
    if outcome.refused:
        return exits.REFUSED
    if not stop.is_set() and not args.no_rollback:
        take_back(controller, plan, outcome, lambda: args.yes or _ask_back())
    return exits.FAILED


def _ask_back() -> bool:
    return sys.stdin.isatty() and asked("Go back to what ran before? [y/N] ")


def take_back(
    controller: Controller, plan: Plan, outcome: Outcome, agreed: Callable[[], bool]
) -> Outcome | None:
    """Take a failed plan back, where there is something to take back and that is wanted."""
    back = controller.back(plan, outcome)
    if back is None:
        if controller.can_start():
            say("It can be brought back by: ds4top start")
        return None
    say(plan_text(back))
    if not agreed():
        return None
    stop = Event()
    with unhurried(stop):
        # The way back is taken as the first was: what had room then has it now, or waits for it.
        ended = controller.run(back, Teller(back), forced=True, stop=stop)
    whole = rolled_back(outcome, ended)
    say(
        outcome_text(
            Outcome(ended.done, whole.words, ended.reason, ended.last_lines, pid=ended.pid)
        )
    )
    return whole
