"""Plans: what is refused, what is changed and nothing else, and the steps by supervisor."""

from __future__ import annotations

import re
import shlex
import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.plan import (
    Action,
    Build,
    Facts,
    Flight,
    Mode,
    PaneRespawn,
    PaneType,
    Plan,
    RemoveDropIn,
    Run,
    Signal,
    Spawn,
    Spec,
    Supervisor,
    Target,
    WaitAnswer,
    WaitGone,
    WaitMemory,
    WriteDropIn,
)
from ds4top.core.planner import make_plan
from ds4top.core.switch import ARTIFACTS, CACHE, COPIES, DIRECT, NoWayError, change_mode
from ds4top.core.unitfile import drop_in, quoted
from ds4top.core.units import GIB

TARGET = Target(4711, 99, "boot", "ds4-server")
SPEC = Spec(
    ("./ds4-server", "-m", "q2.gguf", "--ctx", "131072"),
    (("PATH", "/bin"), ("HF_TOKEN", "secret")),
    "/srv",
    "/srv/ds4-server",
)
AGENT = Build(frozenset({"--ctx", "--no-mmap", "--power"}), frozenset({DIRECT}))
STOCK = Build(frozenset({"--ctx"}), frozenset({DIRECT, *COPIES}))
AUGUST = Build(frozenset({"--ctx"}), frozenset({DIRECT, *COPIES, ARTIFACTS}))
LLAMA = Build(frozenset({"--load-mode"}), None, llama=True)
PLAIN = Supervisor("none")


def facts(**changes: object) -> Facts:
    """Facts of a healthy server in a shell with room for another."""
    base = Facts(
        TARGET,
        SPEC,
        AGENT,
        PLAIN,
        residency="mmap",
        available_bytes=109 * GIB,
        held_bytes=4 * GIB,
        weights_bytes=81 * GIB,
        context_bytes=3 * GIB,
        reference_s={"copy": 57.0, "mmap": 418.0},
        kv_disk=True,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def kinds(plan: Plan) -> list[type]:
    """The steps by kind."""
    return [type(step) for step in plan.steps]


def commands(plan: Plan) -> list[str]:
    """The commands of a plan as one would type them."""
    return [shlex.join(step.argv) for step in plan.steps if isinstance(step, Run)]


# What is changed ------------------------------------------------------------------------------


def test_a_flag_of_this_build() -> None:
    copy = change_mode(SPEC, AGENT, Mode.COPY)
    assert copy.spec.argv == (*SPEC.argv, "--no-mmap")
    assert (copy.env_set, copy.env_unset, copy.spec.env) == ((), (), SPEC.env)
    assert change_mode(copy.spec, AGENT, Mode.MMAP).spec == SPEC


def test_load_mode_is_used_where_it_is_known_and_no_mmap_never_beside_it() -> None:
    both = Build(frozenset({"--load-mode", "--no-mmap"}), None, llama=True)
    spec = replace(SPEC, argv=("llama-server", "--no-mmap", "-m", "x"))
    assert change_mode(spec, both, Mode.COPY).spec.argv == (
        "llama-server", "-m", "x", "--load-mode", "none",
    )  # fmt: skip
    inside = replace(SPEC, argv=("llama-server", "--load-mode=mmap", "-m", "x"))
    assert change_mode(inside, LLAMA, Mode.COPY).spec.argv == (
        "llama-server", "--load-mode=none", "-m", "x",
    )  # fmt: skip


def test_variables_where_there_is_no_flag() -> None:
    spec = replace(SPEC, env=(*SPEC.env, ("DS4_CUDA_COPY_MODEL", "1"), (CACHE, "1")))
    mapped = change_mode(spec, AUGUST, Mode.MMAP)
    assert mapped.env_set == ((DIRECT, "1"), (ARTIFACTS, "0"))
    assert mapped.env_unset == ("DS4_CUDA_COPY_MODEL", CACHE)
    assert mapped.spec.env == (*SPEC.env, (DIRECT, "1"), (ARTIFACTS, "0"))
    assert mapped.spec.argv == SPEC.argv
    # A variable that is not in the executable is not set.
    assert change_mode(spec, STOCK, Mode.MMAP).env_set == ((DIRECT, "1"),)


def test_back_to_copies() -> None:
    spec = replace(SPEC, env=(*SPEC.env, (DIRECT, "1")))
    assert change_mode(spec, STOCK, Mode.COPY).spec.env == SPEC.env
    still = change_mode(spec, STOCK, Mode.COPY, mapped_without_switch=True)
    assert still.env_set == ((CACHE, "1"),)
    assert "DS4_CUDA_COPY_MODEL" not in dict(still.spec.env)
    # Somebody else's artifacts switch stays, and is named.
    other = replace(SPEC, env=((DIRECT, "1"), (ARTIFACTS, "0")))
    kept = change_mode(other, AUGUST, Mode.COPY)
    assert kept.spec.env == ((ARTIFACTS, "0"),)
    assert kept.notes == (f"{ARTIFACTS}=0 is not ds4top's own and stays",)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Build(frozenset(), frozenset()), "this ds4-server has no way to be told"),
        (Build(frozenset(), None, llama=True), "this llama-server has no way to be told"),
        (Build(), "no way to switch is known"),
    ],
)
def test_a_build_without_a_way_says_so(build: Build, said: str) -> None:
    for want in Mode:
        with pytest.raises(NoWayError, match=said):
            change_mode(SPEC, build, want)
        plan = make_plan(Action.RESTART, facts(build=build), want)
        assert said in (plan.refused or "")
        assert plan.steps == ()


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NAMES = st.sampled_from(
    ["A", "PATH", "API_KEY", DIRECT, ARTIFACTS, *COPIES, "DS4_CUDA_NO_Q8_F16_CACHE"]
)
ARGV = st.lists(
    WORDS | st.sampled_from(["--no-mmap", "--mmap", "--load-mode", "none", "--load-mode=mmap"]),
    max_size=8,
).map(lambda words: ("ds4-server", *words))
SPECS = st.builds(
    Spec,
    ARGV,
    st.dictionaries(NAMES, WORDS, max_size=6).map(lambda env: tuple(env.items())),
    st.just("/srv"),
    st.just("/srv/ds4-server"),
)
BUILDS = st.builds(
    Build,
    st.none() | st.frozensets(st.sampled_from(["--no-mmap", "--load-mode", "--ctx"])),
    st.none() | st.frozensets(st.sampled_from([DIRECT, ARTIFACTS, *COPIES])),
)


@given(SPECS, BUILDS, st.sampled_from(list(Mode)), st.booleans())
def test_nothing_but_what_the_plan_says_is_changed(
    spec: Spec, build: Build, want: Mode, mapped: bool
) -> None:
    try:
        change = change_mode(spec, build, want, mapped_without_switch=mapped)
    except NoWayError:
        return
    rebuilt = {name: value for name, value in spec.env if name not in change.env_unset}
    rebuilt |= dict(change.env_set)
    assert dict(change.spec.env) == rebuilt
    assert replace(change.spec, argv=spec.argv, env=spec.env) == spec
    mode_words = {"--no-mmap", "--mmap", "--load-mode", "none", "mmap"}

    def others(argv: tuple[str, ...]) -> list[str]:
        return [w for w in argv if w not in mode_words and not w.startswith("--load-mode=")]

    assert others(change.spec.argv) == others(spec.argv) or build.flags
    flags = build.flags or frozenset()
    for flag in ("--no-mmap", "--load-mode"):
        if flag not in flags:
            assert change.spec.argv.count(flag) <= spec.argv.count(flag)
    known = build.variables or frozenset()
    assert all(name in known for name, _ in change.env_set)
    assert "DS4_CUDA_COPY_MODEL" not in dict(change.env_set)


@given(SPECS, BUILDS, st.sampled_from(list(Mode)), st.booleans())
def test_an_action_and_its_reverse_restore_the_original(
    spec: Spec, build: Build, want: Mode, mapped: bool
) -> None:
    other = Mode.COPY if want is Mode.MMAP else Mode.MMAP
    try:
        there = change_mode(spec, build, want, mapped_without_switch=mapped).spec
    except NoWayError:
        return
    back = change_mode(there, build, other, previous=spec, mapped_without_switch=mapped)
    assert back.spec == spec


# Steps ----------------------------------------------------------------------------------------


def test_a_plain_process() -> None:
    plan = make_plan(Action.RESTART, facts(), Mode.COPY)
    assert kinds(plan) == [Signal, WaitGone, WaitMemory, Spawn, WaitAnswer]
    assert [step.number for step in plan.steps if isinstance(step, Signal)] == [signal.SIGTERM]
    assert plan.argv_after == (*SPEC.argv, "--no-mmap")
    assert plan.start_s_estimate == 57.0
    assert plan.headroom_after_bytes == (109 + 4 - 81 - 3) * GIB
    assert (plan.residency_before, plan.residency_after) == ("mmap", "copy")
    assert plan.confirm is None
    memory = next(step for step in plan.steps if isinstance(step, WaitMemory))
    assert memory.need_bytes == (81 + 3 + 8) * GIB


def test_what_the_price_of_mapping_is() -> None:
    plan = make_plan(Action.RESTART, facts(starts_s={"mmap": 300.0}), Mode.MMAP)
    assert "mapped weights decode about 11 % slower" in plan.notes
    assert plan.start_s_estimate == 300.0
    assert plan.start_s_origin == "the last such start on this machine"


def test_stop_keeps_the_way_back_and_starts_nothing() -> None:
    plan = make_plan(Action.STOP, facts())
    assert kinds(plan) == [Signal, WaitGone]
    assert (plan.argv_after, plan.before) == (None, SPEC)
    assert plan.headroom_after_bytes == 113 * GIB


def test_start_brings_it_back() -> None:
    plan = make_plan(Action.START, facts(target=None), Mode.COPY)
    assert kinds(plan) == [Spawn, WaitAnswer]
    assert plan.argv_after == (*SPEC.argv, "--no-mmap")


@pytest.mark.parametrize(("kind", "user"), [("systemd-system", ""), ("systemd-user", "--user ")])
def test_a_unit_is_stopped_by_systemd_and_given_the_time(kind: str, user: str) -> None:
    supervisor = Supervisor(
        kind,  # type: ignore[arg-type]
        "ds4.service",
        stop_timeout_s=90.0,
        drop_in_path="/etc/systemd/system/ds4.service.d/50-ds4top.conf",
        exec_start=SPEC.argv,
    )
    plan = make_plan(Action.RESTART, facts(supervisor=supervisor), Mode.COPY)
    assert kinds(plan) == [WriteDropIn, Run, Run, WaitGone, WaitMemory, Run, WaitAnswer]
    assert commands(plan) == [
        f"systemctl {user}--no-ask-password daemon-reload",
        f"systemctl {user}--no-ask-password stop ds4.service",
        f"systemctl {user}--no-ask-password start ds4.service",
    ]
    text = plan.steps[0].text  # type: ignore[union-attr]
    assert text.splitlines()[1:] == [
        "[Service]",
        "TimeoutStopSec=660",
        "ExecStart=",
        'ExecStart="/srv/ds4-server" "-m" "q2.gguf" "--ctx" "131072" "--no-mmap"',
    ]


def test_the_drop_in_goes_when_the_switch_is_taken_back() -> None:
    switched = change_mode(SPEC, STOCK, Mode.MMAP).spec
    supervisor = Supervisor(
        "systemd-user",
        "ds4.service",
        stop_timeout_s=900.0,
        drop_in_path="/u/50-ds4top.conf",
        drop_in_text=drop_in(env_set=((DIRECT, "1"),)),
        exec_start=SPEC.argv,
    )
    plan = make_plan(
        Action.RESTART,
        facts(supervisor=supervisor, spec=switched, build=STOCK),
        Mode.COPY,
        previous=SPEC,
    )
    assert kinds(plan)[:2] == [RemoveDropIn, Run]
    assert plan.env_unset == (DIRECT,)
    assert plan.after == SPEC


def test_a_unit_that_starts_it_through_another_command() -> None:
    supervisor = Supervisor(
        "systemd-user", "ds4.service", drop_in_path="/u/d.conf", exec_start=("/bin/sh", "run.sh")
    )
    plan = make_plan(Action.RESTART, facts(supervisor=supervisor), Mode.COPY)
    assert "systemctl edit --full ds4.service" in (plan.refused or "")
    # A variable needs no other command.
    assert not make_plan(
        Action.RESTART, facts(supervisor=supervisor, build=STOCK), Mode.MMAP
    ).refused


@pytest.mark.parametrize("kind", ["docker", "podman"])
def test_a_container_is_stopped_with_time_and_never_changed(kind: str) -> None:
    supervisor = Supervisor(kind, "ds4", recreate="docker run --name ds4 image --no-mmap")  # type: ignore[arg-type]
    assert commands(make_plan(Action.RESTART, facts(supervisor=supervisor))) == [
        f"{kind} stop -t 600 ds4",
        f"{kind} start ds4",
    ]
    switch = make_plan(Action.RESTART, facts(supervisor=supervisor), Mode.COPY)
    assert "docker run --name ds4 image --no-mmap" in (switch.refused or "")


def test_tmux_both_ways() -> None:
    own = make_plan(
        Action.RESTART, facts(supervisor=Supervisor("tmux", "%3", pane_runs_server=True))
    )
    assert kinds(own) == [Run, Signal, WaitGone, WaitMemory, PaneRespawn, WaitAnswer, Run]
    shell = make_plan(
        Action.RESTART, facts(supervisor=Supervisor("tmux", "%3"), build=STOCK), Mode.MMAP
    )
    assert kinds(shell) == [Signal, WaitGone, WaitMemory, PaneType, WaitAnswer]
    step = shell.steps[3]
    assert isinstance(step, PaneType)
    assert step.line == ("env DS4_CUDA_DIRECT_MODEL=1 ./ds4-server -m q2.gguf --ctx 131072")
    assert step.line in step.words


def test_commands_of_the_user() -> None:
    own = Supervisor("own", start_command=("start-it", "a b"), stop_command=("stop-it",))
    plan = make_plan(Action.RESTART, facts(supervisor=own, spec=None), Mode.COPY)
    assert commands(plan) == ["stop-it", "start-it 'a b'"]
    start = [step for step in plan.steps if isinstance(step, Run)][1]
    assert start.env == (("DS4TOP_MODE", "no-mmap"),)


# What is refused, lost, confirmed ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "changes", "said"),
    [
        (Action.RESTART, {"read_only": True}, "read-only"),
        (Action.STOP, {"lock_holder": "pid 77, ana"}, "another ds4top is acting.*pid 77, ana"),
        (Action.RESTART, {"target": None}, "no server is running"),
        (Action.START, {}, "it runs already: ds4-server 4711"),
        (Action.START, {"target": None, "spec": None}, "no way back was kept"),
        (Action.RESTART, {"may_signal": False, "owner": "ana"}, "sudo -u ana ds4top restart"),
        (Action.STOP, {"may_signal": False, "owner": "ana"}, "sudo -u ana ds4top stop"),
        (Action.RESTART, {"spec": None}, "could not be started again"),
        (
            Action.STOP,
            {"supervisor": Supervisor("systemd-system", "x", refusal="polkit says no")},
            "polkit says no",
        ),
        (Action.STOP, {"flight": Flight(shutdown_seen=True)}, "stopping already"),
        (Action.KILL, {}, "only after a stop has had its time"),
    ],
)
def test_refusals(action: Action, changes: dict[str, object], said: str) -> None:
    plan = make_plan(action, facts(**changes))
    assert plan.refused is not None
    assert plan.steps == ()
    assert re.search(said, plan.refused)


def test_kill_waits_until_term_has_had_its_time() -> None:
    def refused(**of: object) -> str | None:
        flight = Flight(shutdown_seen=True, **of)  # type: ignore[arg-type]
        return make_plan(Action.KILL, facts(flight=flight, grace_s=600.0)).refused

    assert refused(stopping_s=40.0) == (
        "it was told to stop and has its time for that: KILL in 9 m 20 s"
    )
    assert refused(stopping_s=600.0) is None
    assert refused(stopping_s=None) is None
    # A lost one is not waited for.
    assert refused(stopping_s=40.0, poisoned=True) is None
    assert refused(stopping_s=40.0, memory_critical=True) is None


def test_a_second_term_is_never_planned() -> None:
    plan = make_plan(Action.RESTART, facts(flight=Flight(shutdown_seen=True)))
    assert not any(isinstance(step, Signal) for step in plan.steps)
    assert kinds(plan) == [WaitGone, WaitMemory, Spawn, WaitAnswer]
    supervisor = Supervisor("systemd-user", "ds4.service", drop_in_path="/u/d.conf")
    unit = make_plan(
        Action.RESTART, facts(supervisor=supervisor, flight=Flight(shutdown_seen=True))
    )
    assert not any("stop" in command for command in commands(unit))


@pytest.mark.parametrize(
    "flight", [Flight(shutdown_seen=True), Flight(poisoned=True), Flight(memory_critical=True)]
)
def test_kill_is_confirmed_by_a_word(flight: Flight) -> None:
    plan = make_plan(Action.KILL, facts(flight=flight))
    assert plan.confirm == "KILL"
    assert [step.number for step in plan.steps if isinstance(step, Signal)] == [signal.SIGKILL]
    assert "the live KV cache: nothing is saved" in plan.lost


def test_no_room_wants_a_word() -> None:
    tight = make_plan(Action.RESTART, facts(available_bytes=80 * GIB))
    assert tight.confirm == "START"
    assert "it would leave 0.0 GiB" in tight.notes[-1]
    unknown = make_plan(Action.RESTART, facts(available_bytes=None))
    assert unknown.confirm is None
    assert any("not known" in note for note in unknown.notes)
    assert unknown.headroom_after_bytes is None


def test_what_is_more_than_the_machine_has_wants_a_word_too() -> None:
    # What its stop gives back is not known, and would not be enough in any case.
    unknown = facts(held_bytes=None, weights_bytes=120 * GIB, context_bytes=3 * GIB)
    plan = make_plan(Action.RESTART, replace(unknown, total_bytes=121 * GIB))
    assert plan.confirm == "START"
    assert plan.notes[-1] == (
        "weights, context and 8 GiB to spare are 131.0 GiB, and the machine has 121.0 GiB"
    )
    assert make_plan(Action.RESTART, replace(unknown, total_bytes=131 * GIB)).confirm is None
    assert make_plan(Action.STOP, replace(unknown, total_bytes=121 * GIB)).confirm is None


@pytest.mark.parametrize("action", [Action.RESTART, Action.STOP, Action.KILL])
def test_only_what_has_the_name_of_a_server_is_acted_on(action: Action) -> None:
    named = facts(target=replace(TARGET, comm="sleep"), flight=Flight(poisoned=True))
    plan = make_plan(action, named)
    assert plan.refused == "4711 is sleep, no ds4-server or llama-server: nothing else is acted on"
    assert plan.steps == ()


def test_what_is_lost() -> None:
    flight = Flight("decode", 46_909, 212, 2)
    plan = make_plan(Action.RESTART, facts(flight=flight, kv_disk=False))
    assert plan.lost == (
        "the request in flight (decode of 46,909 tokens, 212 generated)",
        "2 waiting requests",
        "the live KV cache: it has no KV disk cache",
    )
    assert make_plan(Action.RESTART, facts()).lost == ()
    waits = make_plan(Action.STOP, facts(flight=Flight("prefill", 9_000, prefill_left_s=128.0)))
    assert waits.notes == ("a prefill is running: it ends first, in about 2 m 08 s",)


def test_what_the_reader_should_know() -> None:
    supervisor = Supervisor("systemd-user", "u", need_reload=True, linger=False)
    build = replace(AGENT, exe_replaced=True)
    notes = " | ".join(make_plan(Action.RESTART, facts(supervisor=supervisor, build=build)).notes)
    assert "the new build will run" in notes
    assert "daemon-reload" in notes
    assert "loginctl enable-linger" in notes


@given(st.sampled_from(list(Action)), st.sampled_from([None, *Mode]), SPECS, BUILDS, st.booleans())
def test_no_plan_signals_twice_or_starts_before_it_is_gone(
    action: Action, want: Mode | None, spec: Spec, build: Build, seen: bool
) -> None:
    plan = make_plan(action, facts(spec=spec, build=build, flight=Flight(shutdown_seen=seen)), want)
    names = kinds(plan)
    assert names.count(Signal) <= 1
    assert (plan.refused is not None) == (plan.steps == ())
    if Spawn in names and action is Action.RESTART:
        assert names.index(WaitGone) < names.index(WaitMemory) < names.index(Spawn)


# Unit files -----------------------------------------------------------------------------------


def test_quoting_for_systemd() -> None:
    assert quoted("a b") == '"a b"'
    assert quoted('say "x" 5% \\') == '"say \\"x\\" 5%% \\\\"'
    assert quoted("$HOME", command=True) == '"$$HOME"'
    assert quoted("$HOME") == '"$HOME"'
    with pytest.raises(ValueError, match="NUL"):
        quoted("a\0b")
    assert drop_in() is None
