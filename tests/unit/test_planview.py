"""A plan in words and as JSON: everything that matters is there, and no secret is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.plan import (
    Action,
    Build,
    Facts,
    Flight,
    Mode,
    Outcome,
    Plan,
    Progress,
    RemoveDropIn,
    Run,
    Spawn,
    Spec,
    Supervisor,
    Target,
    WaitAnswer,
    WriteDropIn,
)
from ds4top.core.planback import back_of
from ds4top.core.planner import make_plan
from ds4top.core.switch import DIRECT
from ds4top.core.units import GIB
from ds4top.view.planview import (
    fears,
    outcome_text,
    plan_json,
    plan_lines,
    plan_rows,
    plan_text,
    progress_text,
)
from ds4top.view.text import row_text, row_width

TARGET = Target(4711, 99, "boot", "ds4-server")
SPEC = Spec(
    ("/srv/ds4-server", "-m", "q2.gguf", "--api-key", "hush", "--ctx", "131072"),
    (("PATH", "/bin"), ("HF_TOKEN", "secret")),
    "/srv",
    "/srv/ds4-server",
)
AGENT = Build(frozenset({"--ctx", "--no-mmap"}), frozenset())
STOCK = Build(frozenset({"--ctx"}), frozenset({DIRECT}))
UNIT = Supervisor(
    "systemd-system",
    "ds4.service",
    stop_timeout_s=90.0,
    drop_in_path="/etc/systemd/system/ds4.service.d/50-ds4top.conf",
    exec_start=SPEC.argv,
)


def facts(**changes: object) -> Facts:
    """Facts of a healthy server in a shell."""
    base = Facts(
        TARGET, SPEC, AGENT, Supervisor("none", "bash"), residency="mmap",
        available_bytes=109 * GIB, held_bytes=4 * GIB, weights_bytes=81 * GIB,
        context_bytes=3 * GIB, reference_s={"copy": 57.0, "mmap": 418.0}, kv_disk=True,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def test_the_json_of_a_switch() -> None:
    plan = make_plan(Action.RESTART, facts(), Mode.COPY)
    found = plan_json(plan, started_wall=1_780_000_000.0, tz=UTC)
    assert found["target"] == {
        "pid": 4711, "start_time": "2026-05-28T20:26:40+00:00", "start_ticks": 99,
        "boot_id": "boot", "comm": "ds4-server",
    }  # fmt: skip
    assert found["supervisor"] == {"kind": "none", "name": "bash"}
    assert found["argv_before"] == [
        "/srv/ds4-server", "-m", "q2.gguf", "--api-key", "***", "--ctx", "131072",
    ]  # fmt: skip
    assert found["argv_after"] == [*found["argv_before"], "--no-mmap"]
    assert (found["env_set"], found["env_unset"], found["refused"]) == ({}, [], None)
    assert found["residency_after"] == "copy"
    assert found["start_s_estimate"] == 57.0
    assert found["headroom_after_bytes"] == 29 * GIB
    assert found["steps"] == [step.words for step in plan.steps]
    text = json.dumps(found)
    assert "hush" not in text
    assert "secret" not in text


def test_the_text_of_a_switch() -> None:
    flight = Flight("decode", 48_325, 612, waiting=2)
    plan = make_plan(Action.RESTART, facts(flight=flight), Mode.COPY)
    assert plan_text(plan).splitlines() == [
        "Restart: ds4-server 4711 (plain process bash), mmap → no-mmap (copy)",
        "  ! lost: the request in flight (decode of 48,325 tokens, 612 generated)",
        "  ! lost: 2 waiting requests",
        "  start-up: about 57 s (a Spark's, as reference)",
        "  headroom after: about 29.0 GiB",
        "  if it is not gone after 10 m 00 s: it is left so, not killed",
        "  if it does not come up: back to the last settings that worked: mmap, about 6 m 58 s",
        "Steps",
        "  1. one SIGTERM to ds4-server 4711, never a second",
        "  2. wait until it has drained and saved its KV cache, 600 s at most",
        "  3. wait until its memory is back: 92.0 GiB",
        "  4. start it in a session of its own",
        "  5. wait until it answers",
        "Command line",
        "    /srv/ds4-server -m q2.gguf --api-key '***' --ctx 131072",
        "  + --no-mmap",
    ]


def test_what_happens_where_it_fails_is_said_before() -> None:
    kept = "if it does not come up: it stays down; how it was started is kept"
    left = "if it is not gone after 2 m 00 s: it is left so, not killed"
    for action, words in (
        (Action.RESTART, [left, kept]),
        (Action.STOP, [left]),
        (Action.KILL, []),
    ):
        flight = Flight(poisoned=action is Action.KILL)
        assert list(fears(make_plan(action, facts(grace_s=120.0, flight=flight)))) == words
    assert list(fears(make_plan(Action.START, facts(target=None)))) == [kept]
    unknown = make_plan(Action.RESTART, facts(residency="unknown", reference_s={}), Mode.COPY)
    assert list(fears(unknown))[1].endswith(": back to the last settings that worked")


def test_a_drop_in_is_shown_before_it_is_written() -> None:
    text = plan_text(make_plan(Action.RESTART, facts(supervisor=UNIT), Mode.COPY))
    assert "/etc/systemd/system/ds4.service.d/50-ds4top.conf\n" in text
    assert "  + TimeoutStopSec=660" in text
    assert "--api-key '***'" in text.partition("+ ExecStart=/srv")[2]
    assert "hush" not in text
    variables = plan_text(make_plan(Action.RESTART, facts(supervisor=UNIT, build=STOCK), Mode.MMAP))
    assert '  + Environment="DS4_CUDA_DIRECT_MODEL=1"' in variables
    assert "Environment\n  + DS4_CUDA_DIRECT_MODEL=1" in variables


def test_a_refusal_is_one_line_and_a_kill_asks_for_its_word() -> None:
    refused = make_plan(Action.RESTART, facts(read_only=True))
    assert [line.kind for line in plan_lines(refused)] == ["title", "refused"]
    assert plan_json(refused)["steps"] == []
    assert plan_json(refused)["refused"].startswith("read-only")
    kill = make_plan(Action.KILL, facts(flight=Flight(shutdown_seen=True)))
    assert plan_text(kill).endswith("to go on: type KILL")
    tight = make_plan(Action.RESTART, facts(available_bytes=80 * GIB))
    assert plan_text(tight).endswith("to go on: type START, or give --force")


@given(st.integers(8, 140), st.sampled_from(list(Mode)), st.booleans())
def test_rows_fit_and_lose_nothing(width: int, want: Mode, unit: bool) -> None:
    plan = make_plan(Action.RESTART, facts(supervisor=UNIT) if unit else facts(), want)
    rows = plan_rows(plan, width)
    assert {row_width(row) for row in rows} == {width}
    shown = "".join("".join(row_text(row) for row in rows).split())
    assert shown == "".join(plan_text(plan).split())


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_control_character_reaches_the_terminal(word: str, line: str) -> None:
    spec = replace(SPEC, argv=("/srv/ds4-server", word))
    for text in (
        plan_text(make_plan(Action.RESTART, facts(spec=spec))),
        outcome_text(Outcome(False, "restart failed", word, (line,))),
    ):
        assert all(char == "\n" or char.isprintable() for char in text)


def test_progress_and_outcome() -> None:
    plan = make_plan(Action.STOP, facts())
    waiting = progress_text(plan, Progress(1, "waiting", "wait until it is gone", 5.0), 128.0)
    assert waiting == "[2/2] wait until it is gone … 2 m 08 s"
    assert progress_text(plan, Progress(0, "done", "one", 5.0), 0.2) == "[1/2] one – done"
    assert outcome_text(Outcome(True, "restart done", pid=12)) == "restart done (pid 12)"
    failed = Outcome(False, "restart failed", "out of memory", ("a", "b"))
    assert outcome_text(failed).splitlines() == [
        "restart failed", "  out of memory", "Last lines of its log", "    a", "    b",
    ]  # fmt: skip


# The way back --------------------------------------------------------------------------------


def at(plan: Plan, kind: type, starts: bool = False) -> int:
    """The first step of a kind."""
    return next(
        n for n, step in enumerate(plan.steps)
        if isinstance(step, kind) and (not starts or getattr(step, "starts", False))
    )  # fmt: skip


def test_a_switch_that_fails_to_start_goes_back_to_what_ran() -> None:
    plan = make_plan(Action.RESTART, facts(), Mode.COPY)
    back = back_of(plan, at(plan, WaitAnswer))
    assert back is not None
    assert [type(step) for step in back.steps] == [Spawn, WaitAnswer]
    assert isinstance(back.steps[0], Spawn)
    assert back.steps[0].spec == SPEC
    assert (back.argv_before, back.argv_after) == (plan.argv_after, SPEC.argv)
    # What it takes is what that mode takes, not what the one that failed would have.
    assert (plan.start_s_estimate, back.start_s_estimate) == (57.0, 418.0)
    assert back.headroom_after_bytes is None
    # The same launch again, or a server that was never stopped: nothing to go back to.
    same = make_plan(Action.RESTART, facts())
    assert back_of(same, at(same, WaitAnswer)) is None
    assert back_of(plan, 0) is None
    assert back_of(plan, 1) is None
    assert back_of(plan, None) is None


def test_a_unit_goes_back_by_its_drop_in() -> None:
    plan = make_plan(Action.RESTART, facts(supervisor=UNIT), Mode.COPY)
    back = back_of(plan, at(plan, WaitAnswer))
    assert back is not None
    words = [step.words for step in back.steps]
    path = "/etc/systemd/system/ds4.service.d/50-ds4top.conf"
    assert words == [
        f"remove {path}",
        "systemctl --no-ask-password daemon-reload",
        "systemctl --no-ask-password stop ds4.service",
        "systemctl --no-ask-password start ds4.service",
        "wait until it answers",
    ]
    # Refused by systemd before it was stopped: the drop-in alone goes.
    stop = next(n for n, step in enumerate(plan.steps) if isinstance(step, Run) and step.stops)
    undone = back_of(plan, stop, undone=True)
    assert undone is not None
    assert [type(step) for step in undone.steps] == [RemoveDropIn, Run]
    # While it stops, the time that it was given stays.
    assert back_of(plan, stop) is None
    before = replace(UNIT, drop_in_text="[Service]\nTimeoutStopSec=660\n")
    later = make_plan(Action.RESTART, facts(supervisor=before), Mode.COPY)
    restored = back_of(later, at(later, WaitAnswer))
    assert restored is not None
    assert isinstance(restored.steps[0], WriteDropIn)
    assert restored.steps[0].text == "[Service]\nTimeoutStopSec=660\n"


def test_variables_go_back_as_they_were() -> None:
    spec = replace(SPEC, env=(*SPEC.env, ("DS4_CUDA_WEIGHT_CACHE", "1")))
    plan = make_plan(Action.RESTART, facts(spec=spec, build=STOCK), Mode.MMAP)
    assert plan.env_unset == ("DS4_CUDA_WEIGHT_CACHE",)
    back = back_of(plan, at(plan, WaitAnswer))
    assert back is not None
    assert back.env_set == (("DS4_CUDA_WEIGHT_CACHE", "1"),)
    assert back.env_unset == (DIRECT,)
    assert back.after == spec
