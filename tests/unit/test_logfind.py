"""What is behind a server's standard error, on a /proc made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds4top.core.process import LogPlace, Owner
from ds4top.sources import logfind
from ds4top.sources.logfind import readers_of, tmux_panes
from ds4top.sources.procfs import ProcFs
from tests.unit.proc_tools import MadeProc

JOURNAL = ("-o", "json", "-f", "-n", "5000", "--no-pager")


@pytest.fixture
def proc(tmp_path: Path) -> MadeProc:
    made = MadeProc(tmp_path / "proc")
    made.add(1, "systemd", ppid=0)
    return made


def log_of(proc: MadeProc, pid: int = 300) -> LogPlace:
    found = ProcFs(proc.root, proc.root / "run").server(pid)
    assert found is not None
    return found.log


def test_constructed_file_renamed_replaced_and_deleted(proc: MadeProc, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("one\n")
    proc.add(300, "ds4-server", fds={2: str(log)})
    assert log_of(proc) == LogPlace("file", str(log), str(log))
    # The name leads to another file than the descriptor does: a /tmp of the unit's own.
    proc.open(300, 2, "/nowhere/server.log")
    place = log_of(proc)
    assert (place.kind, place.path) == ("file", "/proc/300/fd/2")
    assert "another file" in place.detail
    proc.open(300, 2, f"{log} (deleted)")
    assert (log_of(proc).kind, log_of(proc).path) == ("deleted", "/proc/300/fd/2")
    assert str(log) in log_of(proc).detail


def test_constructed_journal(proc: MadeProc) -> None:
    unit = "0::/system.slice/ds4.service"
    proc.add(300, "ds4-server", cgroup=unit, fds={2: "socket:[77]"})
    assert log_of(proc).command == ("journalctl", "_SYSTEMD_UNIT=ds4.service", *JOURNAL)
    own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ds4.service"
    proc.add(300, "ds4-server", cgroup=own, fds={2: "socket:[77]"})
    words = ("journalctl", "--user", "_SYSTEMD_USER_UNIT=ds4.service", *JOURNAL)
    assert log_of(proc).command == words
    # Without a unit it is the journal's if systemd named this socket.
    proc.add(300, "ds4-server", env={"JOURNAL_STREAM": "8:77"}, fds={2: "socket:[77]"})
    assert log_of(proc).command == ("journalctl", "_PID=300", *JOURNAL)
    proc.add(300, "ds4-server", env={"JOURNAL_STREAM": "8:76"}, fds={2: "socket:[77]"})
    assert (log_of(proc).kind, log_of(proc).command) == ("unknown", ())
    assert log_of(proc).mend


def test_constructed_pipes(proc: MadeProc) -> None:
    proc.add(300, "ds4-server", fds={2: "pipe:[9]"})
    assert (log_of(proc).kind, log_of(proc).path) == ("pipe", None)
    proc.add(301, "tee", fds={0: "pipe:[9]", 1: "/dev/null", 2: "/x/errors"})
    proc.open(301, 1, "/dev/pts/4", writes=True)
    proc.open(301, 2, "/x/errors", writes=True)
    proc.open(301, 3, "/x/read-only")
    assert (log_of(proc).kind, log_of(proc).path) == ("pipe", None)
    assert "tee" in log_of(proc).detail
    proc.open(301, 4, "/x/server.log", writes=True)
    assert log_of(proc) == LogPlace("tee", "/x/server.log, written by tee", "/x/server.log")
    proc.open(301, 4, "/x/server.log (deleted)", writes=True)
    assert log_of(proc).path == f"{proc.root}/301/fd/4"
    # Its standard output comes last: ``cat > out`` and ``tee log > out``.
    proc.open(301, 1, "/x/out", writes=True)
    proc.open(301, 4, "/x/server.log", writes=True)
    assert log_of(proc).path == "/x/server.log"
    (proc.root / "301" / "fd" / "4").unlink()
    assert log_of(proc).path == "/x/out"


def test_constructed_pipe_after_pipe(proc: MadeProc) -> None:
    proc.add(300, "ds4-server", fds={2: "pipe:[9]"})
    proc.add(301, "ts", fds={0: "pipe:[9]", 1: "pipe:[10]"})
    proc.add(302, "grep", fds={0: "pipe:[10]", 1: "pipe:[11]"})
    proc.add(303, "tee", fds={0: "pipe:[11]", 1: "/dev/null"})
    proc.open(303, 3, "/x/s.log", writes=True)
    assert readers_of(ProcFs(proc.root), "pipe:[9]", 300) == (
        ("ts", ()), ("grep", ()), ("tee", ("/x/s.log",)),
    )  # fmt: skip
    assert log_of(proc).path == "/x/s.log"
    # A ring of pipes ends too.
    proc.open(302, 1, "pipe:[9]")
    assert log_of(proc).path is None
    proc.remove(303)
    proc.add(304, "systemd-cat", fds={0: "pipe:[9]"})
    assert log_of(proc).command == ("journalctl", "_PID=300", *JOURNAL)


def test_constructed_containers(proc: MadeProc) -> None:
    for cgroup, engine in (
        (f"0::/system.slice/docker-{'d' * 64}.scope", "docker"),
        (f"0::/user.slice/user-1000.slice/user@1000.service/libpod-{'d' * 64}.scope/container",
         "podman"),
    ):  # fmt: skip
        proc.add(300, "ds4-server", cgroup=cgroup, fds={2: "pipe:[9]"})
        place = log_of(proc)
        assert place.kind == "container"
        assert place.command == (engine, "logs", "-f", "--tail", "5000", "d" * 12)


PANES = "/dev/pts/3 %4 0\n/dev/pts/9 %1 1\n"


def asked(panes: dict[tuple[str, ...], str], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """tmux servers by how they are reached; the calls."""
    calls: list[object] = []

    def answer(run: tuple[str, ...] = ("tmux",)) -> object:
        calls.append(run)
        return logfind.panes_of(panes.get(tuple(run), ""))

    monkeypatch.setattr(logfind, "tmux_panes", answer)
    return calls


def test_constructed_panes(proc: MadeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = asked({("tmux",): PANES}, monkeypatch)
    proc.add(50, "tmux: server")
    proc.add(300, "ds4-server", ppid=50, fds={2: "/dev/pts/3"})
    found = ProcFs(proc.root).server(300)
    assert found is not None
    assert found.owner == Owner("tmux", "%4")
    assert (found.log.kind, found.log.path, found.log.pane) == ("tmux", None, "%4")
    assert found.log.tmux == ("tmux",)
    # A pane that is copied already, by the only copy there is.
    proc.open(300, 2, "/dev/pts/9")
    assert "piped elsewhere" in log_of(proc).detail
    proc.add(60, "cat", ppid=50, fds={0: "socket:[5]"})
    proc.open(60, 1, "/s/pane.log", writes=True)
    assert (log_of(proc).path, log_of(proc).pane) == ("/s/pane.log", "%1")
    proc.add(61, "cat", ppid=50, fds={0: "socket:[6]"})
    proc.open(61, 1, "/s/other.log", writes=True)
    assert log_of(proc).path is None
    # No tmux has that terminal.
    proc.open(300, 2, "/dev/pts/77")
    assert (log_of(proc).kind, log_of(proc).pane) == ("terminal", "")
    assert set(calls) == {("tmux",)}


def test_constructed_pane_of_a_tmux_with_a_socket_of_its_own(
    proc: MadeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ("tmux", "-S", "/tmp/tmux-1000/work")
    calls = asked({other: PANES}, monkeypatch)
    tmux = proc.add(50, "tmux: server", fds={2: "/dev/null", 6: "socket:[777]"})
    (tmux / "net" / "unix").write_text(
        "Num RefCount Protocol Flags Type St Inode Path\n"
        "0: 2 0 00010000 0001 01 776 /run/dbus\n"
        "0: 2 0 00010000 0001 01 777 /tmp/tmux-1000/work\n"
    )
    proc.add(300, "ds4-server", ppid=50, fds={2: "/dev/pts/3"})
    found = ProcFs(proc.root).server(300)
    assert found is not None
    assert calls == [("tmux",), other]
    assert (found.log.pane, found.log.tmux) == ("%4", other)
    # The pane's number is of that tmux alone, so it is no name that the user's own tmux knows.
    assert found.owner == Owner("tmux")


def test_constructed_tmux_that_answers_nothing(tmp_path: Path) -> None:
    assert tmux_panes((str(tmp_path / "no-tmux"),)) == {}
    failing = tmp_path / "tmux"
    failing.write_text("#!/bin/sh\necho no server running >&2\nexit 1\n")
    failing.chmod(0o755)
    assert tmux_panes((str(failing),)) == {}
    answering = tmp_path / "tmux2"
    answering.write_text("#!/bin/sh\necho /dev/pts/3 %4 0\n")
    answering.chmod(0o755)
    assert tmux_panes((str(answering),)) == {"/dev/pts/3": ("%4", False)}
