"""The screens of acting for the pictures: the recorded demo, a plan made from what it shows of its
server as if that were the user's own, and a controller that does nothing. All times are fixed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from textual.pilot import Pilot

from ds4top.control.facts import Situation
from ds4top.core.coldstart import REFERENCE_S
from ds4top.core.deeds import Deed, deed_of, told
from ds4top.core.plan import Action, Build, Facts, Mode, Outcome, Plan, Progress, Spec, Supervisor
from ds4top.core.planback import back_of
from ds4top.core.planner import make_plan
from ds4top.session import Session
from ds4top.ui.app import Ds4top
from ds4top.ui.screens.act import Confirm, ProgressScreen

ACTS = ("restart", "switch", "progress", "failed")
DRAINING_S = 300.0
"""A turn of the recorded demo that is in its prefill, seconds after its beginning."""
NOW_T = 1000.0
LAUNCH = Spec(
    ("/opt/ds4/ds4-server", "-m", "/models/ds4flash-q2.gguf", "--ctx", "131072", "--no-mmap",
     "--kv-disk-dir", "/var/cache/ds4", "--kv-disk-space-mb", "32768", "--host", "127.0.0.1"),
    (), "/opt/ds4", "/opt/ds4/ds4-server", log_path="/var/log/ds4.log",
)  # fmt: skip
BUILD = Build(flags=frozenset({"--no-mmap", "--mmap"}), variables=frozenset())
FAILED = Outcome(
    False,
    "restart failed",
    "failed to listen on 127.0.0.1:8000: Address already in use: exit status 1",
    (
        "ds4: CUDA backend initialized on NVIDIA GB10 (sm_121)",
        "ds4: CUDA registered 80.76 GiB model mapping for device access",
        "1126 02:41:09 ds4-server: context buffers 2425.71 MiB",
        "ds4-server: failed to listen on 127.0.0.1:8000: Address already in use",
    ),
    failed_step=4,
)


def facts_of(situation: Situation) -> Facts:
    """What a plan is made from: the recorded server, started by hand with ``LAUNCH``."""
    server = situation.server
    assert server is not None
    return Facts(
        server.target,
        LAUNCH,
        BUILD,
        Supervisor("none"),
        residency=situation.residency,
        flight=situation.flight,
        available_bytes=situation.available_bytes,
        held_bytes=situation.held_bytes,
        weights_bytes=situation.weights_bytes,
        context_bytes=situation.context_bytes,
        starts_s=situation.starts_s,
        reference_s=REFERENCE_S,
        kv_disk=situation.kv_disk,
    )


class Shown:
    """A controller that makes plans and does nothing."""

    gatherer = SimpleNamespace(journal=SimpleNamespace(entries=lambda: iter(())))

    def __init__(self, situation: Situation) -> None:
        self._situation = situation

    def plan(self, action: Action, want: Mode | None = None) -> Plan:
        """As of a server of the user's own."""
        return make_plan(action, facts_of(self._situation), want)


def allow(session: Session) -> None:
    """Let a recording be acted on, as the server of whoever draws the pictures."""
    model = session.model
    model.replay, model.demo = None, ""
    server = model.machine.server
    assert server is not None
    model.machine.server = replace(server, uid=os.geteuid())


def deed_at(plan: Plan, seconds: tuple[float, ...]) -> Deed:
    """An action whose steps took so many seconds each, and whose last of them goes on at ``NOW_T``.

    A failed outcome is put over it by the caller.
    """
    t = NOW_T - sum(seconds)
    deed = deed_of(plan, t)
    for number, took_s in enumerate(seconds):
        words = plan.steps[number].words
        deed = told(deed, Progress(number, "begun", words, t))
        t += took_s
        if number < len(seconds) - 1:
            deed = told(deed, Progress(number, "done", words, t))
    return deed


def deed_of_shot(act: str, situation: Situation) -> Deed:
    """The action that a picture of progress shows."""
    controller = Shown(situation)
    if act == "progress":
        return deed_at(controller.plan(Action.RESTART), (0.0, 6.0))
    plan = controller.plan(Action.RESTART, Mode.MMAP)
    deed = deed_at(plan, (0.0, 9.0, 4.0, 0.0, 391.0))
    deed = told(deed, Progress(4, "failed", plan.steps[4].words, NOW_T))
    return replace(deed, outcome=FAILED, ended_t=NOW_T, back=back_of(plan, FAILED.failed_step))


async def show(app: Ds4top, pilot: Pilot[Any], act: str) -> None:
    """Bring the screen of a picture up."""
    acts = app.acts
    acts.make = Shown  # type: ignore[assignment]
    acts.monotonic = lambda: NOW_T
    if act in ("progress", "failed"):
        acts._doing = SimpleNamespace(deed=deed_of_shot(act, acts._situation()))  # type: ignore[assignment]
        acts.show_progress()
        assert isinstance(app.screen, ProgressScreen)
        return
    acts.confirm(Action.RESTART, Mode.MMAP if act == "switch" else None)
    screen = app.screen
    assert isinstance(screen, Confirm)
    while screen.plan is None:
        # It is made in a thread.
        await pilot.pause(0.01)


__all__ = ["ACTS", "DRAINING_S", "allow", "show"]
