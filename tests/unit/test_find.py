"""Which servers are found and which is watched, on a /proc made by hand."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from ds4top.core.process import DEMO_FLAG, DEMO_MARK, Owner, ServerProcess, changes
from ds4top.sources.base import Clock
from ds4top.sources.find import (
    ABSENT_S,
    FORK_S,
    PRESENT_S,
    QUIET_S,
    Finder,
    ServerGone,
    ServersSeen,
)
from ds4top.sources.procfs import ProcFs
from tests.unit.proc_tools import MadeProc


def refused(pid: int) -> int:
    """No process descriptors here."""
    raise OSError(errno.EPERM, "not allowed")


@dataclass
class World:
    """A finder, its /proc and its time."""

    proc: MadeProc
    options: dict[str, object] = field(default_factory=dict)
    now: float = 0.0
    hold: Callable[[int], int] = refused
    samples: list[ServersSeen | ServerGone] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = Clock(monotonic=lambda: self.now, wall=lambda: 5000.0 + self.now)
        self.procfs = ProcFs(self.proc.root, self.proc.root / "run")
        self.finder = Finder(self.procfs, clock=clock, hold=self.hold, **self.options)  # type: ignore[arg-type]

    def go(self, seconds: float = 0.0) -> list[ServersSeen | ServerGone]:
        """Time passes at the finder's own pace; what it said."""
        end, out = self.now + seconds, list(self.finder.read(self.now))
        while self.now + (step := self.finder.interval_s or ABSENT_S) <= end + 1e-9:
            self.now += step
            out += self.finder.read(self.now)
        self.samples += out
        return out

    @property
    def seen(self) -> ServersSeen:
        """What it said last."""
        return next(x for x in reversed(self.samples) if isinstance(x, ServersSeen))

    @property
    def pids(self) -> list[int]:
        """Servers of the last sample."""
        return sorted(server.target.pid for server in self.seen.servers)

    @property
    def chosen(self) -> ServerProcess | None:
        """The watched one."""
        return self.seen.chosen


@pytest.fixture
def proc(tmp_path: Path) -> MadeProc:
    """An empty machine but for its init."""
    made = MadeProc(tmp_path)
    made.add(1, "systemd", ppid=0)
    return made


def test_constructed_only_the_exact_name(proc: MadeProc) -> None:
    names = ("ds4-server2", "ds4-serve", "DS4-SERVER", " ds4-server", "ds4-server\n", "bash")
    for at, name in enumerate(names):
        proc.add(100 + at, name, ["ds4-server", "-m", "x"])
    proc.add(200, "ds4-server", state="Z")
    world = World(proc)
    world.go(6.0)
    assert (world.pids, world.chosen) == ([], None)
    proc.add(300, "ds4-server", start=700)
    world.go(1.0)
    assert world.pids == [300]
    assert world.chosen is not None
    assert world.chosen.started_wall == 1000 + 700 / os.sysconf("SC_CLK_TCK")


def test_constructed_start_script_that_becomes_the_server_later(proc: MadeProc) -> None:
    """``exec`` keeps the pid, however long the script has prepared before."""
    world = World(proc)
    world.go()
    proc.add(300, "start.sh", ["/bin/sh", "./start.sh"])
    world.go(60.0)
    proc.add(300, "ds4-server", ["./ds4-server", "-m", "x"])
    before = world.now
    while world.pids != [300]:
        world.go(QUIET_S)
    assert world.now - before <= PRESENT_S + QUIET_S


def test_constructed_fork_before_its_exec(proc: MadeProc) -> None:
    proc.add(300, "ds4-server", ["ds4-server", "-m", "x"], exe="/opt/ds4-server")
    world = World(proc)
    world.go(1.0)
    proc.add(301, "ds4-server", ["ds4-server", "-m", "x"], ppid=300, exe="/opt/ds4-server")
    # However long it stays so.
    world.go(40.0)
    assert world.pids == [300]
    proc.add(301, "cat", ["cat"], ppid=300)
    world.go(20.0)
    assert world.pids == [300]
    # A child with settings of its own is a server of its own.
    proc.add(302, "ds4-server", ["ds4-server", "--port", "2"], ppid=300, exe="/opt/ds4-server")
    world.go(6.0)
    assert world.pids == [300, 302]


def test_constructed_script_with_the_name_and_the_server_under_it(proc: MadeProc) -> None:
    script = ["/bin/bash", "/usr/local/bin/ds4-server"]
    proc.add(300, "ds4-server", script, exe="/usr/bin/bash")
    proc.add(301, "ds4-server", ["/opt/ds4/ds4-server"], ppid=300, exe="/opt/ds4/ds4-server")
    world = World(proc)
    world.go(1.0)
    assert world.pids == [301]


def test_constructed_recycled_pid_is_another_process(proc: MadeProc) -> None:
    proc.add(300, "ds4-server", start=500)
    world = World(proc)
    world.go()
    first = world.chosen
    assert first is not None
    proc.add(300, "ds4-server", ["ds4-server", "--ctx", "9"], start=900)
    gone = [x for x in world.go(2.0) if isinstance(x, ServerGone)]
    assert [x.target for x in gone] == [first.target]
    second = world.chosen
    assert second is not None
    assert second.target.start_ticks == 900
    assert changes(first, second) == ("argv: with --ctx 9",)
    # The same number for a program of another name is nobody's next life.
    proc.add(300, "cat", start=1200)
    world.go(12.0)
    assert (world.pids, world.chosen) == ([], None)


def test_constructed_pid_that_was_named_is_one_process_and_no_number(proc: MadeProc) -> None:
    proc.add(300, "myserver", ["myserver", "-m", "/m"], exe="/opt/myserver")
    world = World(proc, {"pid": 300})
    world.go(1.0)
    assert world.pids == [300]
    proc.remove(300)
    world.go(1.0)
    assert world.chosen is None
    proc.add(300, "vim", start=800)
    world.go(12.0)
    assert world.pids == []
    # Its next life is known by its name, its program and its model.
    proc.add(400, "myserver", ["myserver", "-m", "/other"], exe="/opt/myserver", start=900)
    world.go(6.0)
    assert world.pids == []
    proc.add(401, "myserver", ["myserver", "-m", "/m"], exe="/opt/myserver", start=900)
    world.go(6.0)
    assert world.pids == [401]
    assert world.chosen is not None


def test_constructed_several_and_who_goes_on_for_the_chosen_one(proc: MadeProc) -> None:
    for pid, port in ((300, "1"), (301, "2")):
        proc.add(pid, "ds4-server", ["ds4-server", "--port", port], start=pid)
    world = World(proc)
    world.go(1.0)
    assert (world.pids, world.chosen) == ([300, 301], None)
    world.finder.choose(301)
    world.go(1.0)
    assert world.chosen is not None
    assert world.chosen.target.pid == 301
    proc.remove(301)
    world.go(2.0)
    # The other one ran before; nobody asked for it.
    assert (world.pids, world.chosen) == ([300], None)
    proc.add(302, "ds4-server", ["ds4-server", "--port", "2"], start=900)
    world.go(2.0)
    assert world.chosen is not None
    assert world.chosen.target.pid == 302
    world.finder.choose(300)
    world.go(1.0)
    assert world.chosen is not None
    assert world.chosen.target.pid == 300
    assert world.pids == [300, 302]


def test_constructed_choice_that_is_remembered(proc: MadeProc) -> None:
    proc.add(300, "ds4-server", exe="/a/ds4-server")
    proc.add(301, "llama-server", exe="/b/llama-server")
    world = World(proc, {"exe": "/b/llama-server"})
    world.go()
    assert world.chosen is not None
    assert (world.chosen.target.pid, world.chosen.flavour) == (301, "llama.cpp")
    assert world.chosen.url == "http://127.0.0.1:8080"


def test_constructed_servers_of_demos(proc: MadeProc) -> None:
    proc.add(300, "ds4-server", env={DEMO_MARK: "/tmp/demo-a"})
    # Another user's: its environment may not be read, its command line may.
    folder = proc.add(301, "ds4-server", ["ds4-server", DEMO_FLAG, "/tmp/demo-b/leash"])
    (folder / "environ").unlink()
    world = World(proc)
    world.go(6.0)
    # They are known of, so that it can be said how to look at one.
    assert (world.pids, world.seen.demos) == ([], (300, 301))
    for mark, pid in (("/tmp/demo-a", 300), ("/tmp/demo-b", 301)):
        own = World(proc, {"demo": mark})
        own.go()
        assert own.pids == [pid]
    named = World(proc, {"pid": 300})
    named.go()
    assert (named.pids, named.seen.demos) == ([300], (301,))
    proc.remove(300)
    world.go(6.0)
    assert (world.pids, world.seen.demos) == ([], (301,))


def test_constructed_other_pid_namespaces(proc: MadeProc) -> None:
    inner = "Uid:\t0\t0\t0\t0\nNSpid:\t300\t1\n"
    proc.add(300, "ds4-server", status=inner)
    proc.namespace("300", "pid", "pid:[4026532999]")
    # Not ours to read which namespace it is in, but deeper than ds4top's own.
    proc.add(301, "ds4-server", status=inner)
    (proc.root / "301" / "ns" / "pid").unlink()
    (proc.root / "self" / "status").write_text("NSpid:\t50\n")
    docker = f"0::/system.slice/docker-{'b' * 64}.scope"
    proc.add(302, "ds4-server", status=inner, cgroup=docker, fds={2: "pipe:[9]"})
    proc.namespace("302", "pid", "pid:[4026532998]")
    world = World(proc)
    world.go(1.0)
    assert world.pids == [302]
    assert world.chosen is not None
    assert world.chosen.owner == Owner("docker", "b" * 12)
    assert world.chosen.log.command == ("docker", "logs", "-f", "--tail", "5000", "b" * 12)
    assert world.chosen.foreign_namespace


def test_constructed_kernel_threads_are_looked_at_once(proc: MadeProc) -> None:
    proc.add(2, "kthreadd", ppid=0, flags=0x00208040)
    world = World(proc)
    world.go()
    # It would be seen if its name were read again.
    proc.name(2, "ds4-server", ppid=0)
    world.go(20.0)
    assert world.pids == []


def test_constructed_new_processes_are_looked_at_soon_and_then_seldom(proc: MadeProc) -> None:
    looked: list[float] = []
    world = World(proc)
    world.go()
    assert world.finder.interval_s == ABSENT_S
    proc.add(300, "sh")
    read = world.procfs.comm

    def counted(pid: int) -> str:
        if pid == 300:
            looked.append(round(world.now, 1))
        return read(pid)

    world.procfs.comm = counted  # type: ignore[method-assign]
    world.go()
    assert world.finder.interval_s == FORK_S
    world.go(30.0)
    gaps = [late - early for early, late in pairwise(looked)]
    assert gaps[0] == pytest.approx(FORK_S)
    assert all(
        gap <= at / 4 + QUIET_S + 0.01 for at, gap in zip(looked[1:], gaps[1:], strict=False)
    )
    assert PRESENT_S <= gaps[-1] + 0.01 <= PRESENT_S + QUIET_S + 0.02
    # It is half a minute now, and no server: there is no haste.
    assert world.finder.interval_s == QUIET_S


def test_constructed_process_that_is_another_while_it_is_read(proc: MadeProc) -> None:
    """Fields of two processes are never one server."""
    procfs = ProcFs(proc.root)
    proc.add(300, "ds4-server", start=100)
    before = procfs.parents

    def swapped(pid: int) -> tuple[()]:
        before(pid)
        proc.add(300, "ds4-server", start=200)
        return ()

    procfs.parents = swapped  # type: ignore[method-assign]
    assert procfs.server(300) is None


def test_constructed_load_that_is_over_is_seen_at_the_next_turn(proc: MadeProc) -> None:
    folder = proc.add(300, "ds4-server", fds={2: "socket:[77]"})
    world = World(proc)
    world.go(61.0)
    assert world.chosen is not None
    assert world.chosen.listening == ()
    row = "   0: 0100007F:1F40 00000000:0000 0A 0:00000000 00:0 00 1000 0 501 1\n"
    (folder / "net" / "tcp").write_text(row)
    proc.open(300, 5, "socket:[501]")
    world.go(ABSENT_S)
    assert world.chosen.url == "http://127.0.0.1:8000"
    assert world.chosen.listening == (("127.0.0.1", 8000),)


def test_constructed_end_is_told_by_a_descriptor_at_once(proc: MadeProc) -> None:
    """The read end of a pipe stands for a process descriptor: readable once the other end goes."""
    ends: list[int] = []

    def hold(pid: int) -> int:
        read, write = os.pipe()
        ends.append(write)
        return read

    proc.add(300, "ds4-server")
    world = World(proc, hold=hold)
    world.go()
    assert world.finder.interval_s == 0.0
    assert len(ends) == 1
    # /proc still lists it: the descriptor alone says that it has ended.
    os.close(ends[0])
    gone = world.finder.read(0.1)
    assert isinstance(gone[0], ServerGone)
    assert (gone[0].target.pid, gone[0].wall) == (300, 5000.0)
    world.finder.close()
    for end in ends[1:]:
        os.close(end)


def test_constructed_process_that_ends_before_it_is_held(proc: MadeProc) -> None:
    def hold(pid: int) -> int:
        proc.add(300, "ds4-server", start=999)
        return os.open("/dev/null", os.O_RDONLY)

    proc.add(300, "ds4-server", start=1)
    world = World(proc, hold=hold)
    world.go()
    assert world.chosen is None
    world.go(1.0)
    assert world.chosen is not None
    assert world.chosen.target.start_ticks == 999
    world.finder.close()


@pytest.mark.parametrize(
    ("mounts", "namespace", "word"),
    [
        ("proc /proc proc rw,relatime 0 0", "pid:[4026531836]", ""),
        ("proc /proc proc rw,hidepid=0 0 0", "pid:[4026531836]", ""),
        ("proc /proc proc rw,relatime 0 0", "pid:[4026532345]", "--pid host"),
    ],
)
def test_constructed_what_cannot_be_seen(
    proc: MadeProc, mounts: str, namespace: str, word: str
) -> None:
    (proc.root / "self" / "mounts").write_text(f"sysfs /sys sysfs rw 0 0\n{mounts}\n")
    proc.namespace("self", "pid", namespace)
    world = World(proc)
    world.go()
    assert word in world.seen.blind
    assert bool(world.seen.blind) == bool(word)


def test_constructed_hidden_processes(proc: MadeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc.root / "self" / "mounts").write_text("proc /proc proc rw,hidepid=invisible 0 0\n")
    for uid, hidden in ((1000, True), (0, False)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert ("hidepid" in ProcFs(proc.root).blind()) is hidden


def of_another_user(names: Sequence[str]) -> Callable[[object], object]:
    """``os.readlink`` and ``os.open`` as they are for a process of another user."""
    real = {"readlink": os.readlink, "open": os.open, "listdir": os.listdir}

    def guard(kind: str) -> Callable[..., object]:
        def call(path: object, *more: object, **named: object) -> object:
            if any(str(path).endswith(f"/300/{name}") for name in names):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real[kind](path, *more, **named)  # type: ignore[operator]

        return call

    return guard  # type: ignore[return-value]


def test_constructed_another_users_server_says_what_is_not_seen(
    proc: MadeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = proc.add(300, "ds4-server", ["ds4-server", "--port", "8001", "-m", "m.gguf"])
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    line = "   0: 0100007F:1F41 00000000:0000 0A 0:00000002 00:0 00 {} 0 501 1\n"
    (folder / "net" / "tcp").write_text(head + line.format(1000) + line.format(1001))
    guard = of_another_user(["environ", "cwd", "exe", "fd", "fd/2", "io"])
    for kind in ("readlink", "open", "listdir"):
        monkeypatch.setattr(os, kind, guard(kind))
    found = ProcFs(proc.root).server(300)
    monkeypatch.undo()
    assert found is not None
    assert (found.env, found.cwd, found.exe, found.lock_path) == (None, None, None, None)
    assert set(found.denied) == {"environ", "cwd", "exe", "fd", "fd/2", "io"}
    assert "sudo cat /proc/300/environ" in found.denied["environ"]
    assert "sudo readlink /proc/300/exe" in found.denied["exe"]
    assert "sudo ss -ltnp" in found.denied["fd"]
    assert (found.log.kind, found.log.path) == ("denied", None)
    assert "--log" in found.log.mend
    # Its command line and the socket of its user at that port are everybody's to read.
    assert found.listening == (("127.0.0.1", 8001),)
    assert found.model_path == "m.gguf"
    assert found.uid == 1000


def test_constructed_defaults_and_names_that_are_no_utf8(proc: MadeProc) -> None:
    proc.add(300, "ds4-server", ["ds4-server", "--kv-disk-dir", "kv\udcff", "", "--ctx", "x"])
    found = ProcFs(proc.root).server(300)
    assert found is not None
    assert found.argv == ("ds4-server", "--kv-disk-dir", "kv\ufffd", "", "--ctx", "x")
    assert found.kv_dir is None
    assert "not UTF-8" in found.denied["kv_dir"]
    assert found.model_path == "/srv/ds4flash.gguf"
    assert (found.model_bytes, found.context_tokens) == (None, None)
    assert found.lock_path == "/tmp/ds4.lock"
    proc.add(301, "llama-server", ["llama-server"])
    other = ProcFs(proc.root).server(301)
    assert other is not None
    assert (other.model_path, other.lock_path) == (None, None)


def test_constructed_program_and_unit_that_are_gone_or_transient(proc: MadeProc) -> None:
    unit = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ds4-top.service"
    proc.add(300, "ds4-server", cgroup=unit, exe="/opt/ds4-server (deleted)")
    procfs = ProcFs(proc.root, proc.root / "run")
    found = procfs.server(300)
    assert found is not None
    assert (found.exe, found.exe_replaced) == ("/opt/ds4-server", True)
    assert found.owner == Owner("systemd-user", "ds4-top.service")
    place = proc.root / "run" / "user" / "1000" / "systemd" / "transient"
    place.mkdir(parents=True)
    (place / "ds4-top.service").touch()
    again = procfs.server(300)
    assert again is not None
    assert again.owner == Owner("transient", "ds4-top.service")


def test_constructed_container_with_a_tree_and_a_network_of_its_own(proc: MadeProc) -> None:
    inside = proc.root / "image"
    inside.mkdir()
    (inside / "m.gguf").write_bytes(b"x" * 77)
    argv = ["ds4-server", "-m", "/m.gguf", "--host", "0.0.0.0", "--kv-disk-dir", "/kv"]
    folder = proc.add(300, "ds4-server", argv, cgroup=f"0::/docker/{'c' * 64}",
                      fds={2: "/log/s.log", 5: "socket:[501]"})  # fmt: skip
    for kind in ("net", "mnt"):
        proc.namespace("300", kind, f"{kind}:[4026539999]")
    (folder / "root").symlink_to(inside)
    (folder / "net" / "tcp").write_text(
        "   0: 00000000:1F40 00000000:0000 0A 0:00000000 00:0 00 1000 0 501 1\n"
    )
    (folder / "net" / "fib_trie").write_text(
        "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n"
        "     |-- 172.17.0.2\n        /32 host LOCAL\n"
        "     |-- 172.17.255.255\n        /32 link BROADCAST\n"
    )
    found = ProcFs(proc.root).server(300)
    assert found is not None
    assert found.model_path == f"{folder}/root/m.gguf"
    assert found.model_bytes == 77
    assert found.kv_dir == f"{folder}/root/kv"
    assert (found.log.kind, found.log.path) == ("file", f"{folder}/root/log/s.log")
    assert found.url == "http://172.17.0.2:8000"
    assert found.public
