"""The Sources view and what is said where no server is watched."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest

from ds4top import health
from ds4top.core.keymap import Keys
from ds4top.core.logplace import COPY_PANE
from ds4top.core.machine import Machine
from ds4top.core.model import Model, SourceHealth
from ds4top.core.plan import Target
from ds4top.core.process import LogPlace, ServerProcess
from ds4top.core.state import LogState
from ds4top.sources.find import ServersSeen
from ds4top.sources.look import Look
from ds4top.view.sourcesview import sources_view
from ds4top.view.text import row_text, row_width
from ds4top.watch import Wanted, Watch
from tests.unit.test_status_view import server
from tests.unit.test_watch import router

NOON = 1_767_268_800.0


def said(machine: Machine, *sources: SourceHealth, width: int = 120) -> list[str]:
    model = Model(LogState(), NOON, machine, tz=UTC, health=sources)
    rows = sources_view(model, width)
    return [row_text(each).rstrip() for each in rows]


def other(pid: int) -> ServerProcess:
    return replace(server(), target=Target(pid, 7, "boot", "llama-server"), listening=())


def watched(
    *servers: ServerProcess,
    blind: str = "",
    demos: tuple[int, ...] = (),
    wanted: Wanted | None = None,
) -> Machine:
    """What becomes of a look at these processes; one alone is chosen."""
    watch = Watch(wanted or Wanted(), router(), LogState)
    chosen = servers[0] if len(servers) == 1 and watch.wanted.pid is None else None
    watch.take(ServersSeen(servers, chosen, 1.0, NOON, blind, demos))
    return watch.machine


def test_what_may_not_be_read_is_said_with_the_command_that_shows_it() -> None:
    denied = {"environ": "not ours to read; sudo cat /proc/4711/environ shows it"}
    lines = said(watched(server(denied=denied)))
    at = lines.index(" NOT SEEN   and what shows it")
    assert lines[at + 1 : at + 3] == [
        "  ds4-server 4711 is me's",
        "  environ      not ours to read; sudo cat /proc/4711/environ shows it",
    ]


def test_the_commands_are_those_of_the_reader(tmp_path: object) -> None:
    look = Look.__new__(Look)
    object.__setattr__(look, "pid", 7)
    object.__setattr__(look, "denied", {})

    def refused() -> None:
        raise PermissionError

    look.get("fd", refused)
    lines = said(watched(server(denied=look.denied)))
    assert "  fd           not ours to read; sudo ss -ltnp shows it" in lines


BLIND = "/proc is mounted with hidepid: only own processes are seen; run it with sudo"


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (watched(), "no server is running, so no log is read"),
        (watched(blind=BLIND), f"no server is seen: {BLIND}"),
        (watched(demos=(300, 301)),
         "no server is running but a demo's (300, 301): --pid 300 looks at it"),
        (watched(server(), other(5), demos=(300,)),
         "2 servers run (4711, 5) and none is chosen: press c, or --pid"),
        (watched(wanted=Wanted(pid=99)),
         "process 99 is not there; without --pid ds4top finds the server"),
        (watched(server(), other(5)),
         "2 servers run (4711, 5) and none is chosen: press c, or --pid"),
    ],
)  # fmt: skip
def test_why_no_server_is_watched(machine: Machine, words: str) -> None:
    found = health.log_health(None, "", "", None, machine)
    assert (found.state, found.detail) == ("missing", words)


def test_keys_are_called_as_they_are_bound() -> None:
    keys = Keys({"server.choose": "ctrl+o", "log.copy_pane": "f6"})
    several = watched(server(), other(5))
    assert health.log_health(None, "", "", None, several, keys).detail.endswith(
        "none is chosen: press ctrl+o, or --pid"
    )
    pane = watched(replace(server(), log=LogPlace("tmux", "tmux pane %3", mend=COPY_PANE)))
    assert health.log_health(None, "", "", None, pane, keys).detail == (
        "tmux pane %3; press F6: tmux copies the pane to a file"
    )


def test_a_process_that_was_named_and_is_there_is_not_missing() -> None:
    watch = Watch(Wanted(pid=4711), router(), LogState)
    watch.take(ServersSeen((server(),), server(), 1.0, NOON))
    assert watch.machine.absent_pid is None


def test_blind_stands_there_whole_on_a_narrow_screen() -> None:
    lines = said(watched(blind=BLIND), width=60)
    at = lines.index(" NOT SEEN   and what shows it")
    assert " ".join(" ".join(lines[at + 1 : at + 3]).split()) == BLIND
    assert max(map(len, lines[at : at + 3])) <= 60


def test_several_servers_are_listed_and_the_watched_one_marked() -> None:
    machine = watched(server(), other(5))
    machine.server = machine.servers[0]
    lines = said(machine)
    at = lines.index(" SERVERS   c chooses one")
    assert lines[at + 2].split()[:4] == [">", "4711", "ds4-server", "me"]
    assert lines[at + 3].split()[:3] == ["5", "llama-server", "me"]
    assert " SERVERS   c chooses one" not in said(watched(server()))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_details_are_wrapped_not_cut(width: int) -> None:
    detail = "/var/cache/ds4 may not be read; it is its owner's alone (mode 0700): run it as ds4"
    source = SourceHealth("KV directory", "denied", detail, None, 1.25)
    rows = sources_view(Model(LogState(), NOON, health=(source,)), width)
    texts = [row_text(each) for each in rows]
    assert texts[2].split()[:4][0:2] == ["KV", "directory"]
    end = texts.index("")
    joined = " ".join(
        " ".join(text[{60: 36, 80: 36, 120: 60}[width] :].split()) for text in texts[2:end]
    )
    assert joined == detail
    assert all(row_width(each) <= width for each in rows[:3])
    assert ("1.2" in texts[2]) is (width >= 90)


def test_the_kernels_route_is_told() -> None:
    machine = Machine()
    machine.kernel_route = "/dev/kmsg"
    assert health.details_of(machine)["kernel log"].endswith("; by /dev/kmsg")
