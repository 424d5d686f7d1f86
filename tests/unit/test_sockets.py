"""Who listens, who waits, who is gone, and who holds a lock: /proc/net and /proc/locks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.plan import Target
from ds4top.core.process import ServerProcess
from ds4top.core.proctext import (
    CLOSE_WAIT,
    ESTABLISHED,
    LISTEN,
    Lock,
    Socket,
    holder_of,
    parse_addresses,
    parse_locks,
    parse_sockets,
    parse_unix_listeners,
)
from ds4top.core.vitals import Vitals
from ds4top.sources.http import OWN_ENDS
from ds4top.sources.portwatch import BUSY_S, QUIET_S, PortWatch
from ds4top.sources.procfs import ProcFs
from ds4top.sources.vitals import VitalSigns
from tests.unit.proc_tools import MadeProc

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 501 1
   1: 0100007F:1F40 0100007F:D431 08 00000000:00000000 00:00000000 00000000  1001        0 502 1
"""
TCP6 = """\
   0: 00000000000000000000000000000000:1F40 00000000000000000000000000000000:0000 0A 0:0 0 0 0 0 9 1
   1: 0000000000000000FFFF00000100007F:1F40 0000000000000000FFFF00000100007F:D431 01 0:0 0 0 0 0 8 1
"""
LOCKS = """\
1: POSIX  ADVISORY  WRITE 800 08:02:55 0 EOF
2: FLOCK  ADVISORY  WRITE 4711 103:02:55 0 EOF
2: -> FLOCK  ADVISORY  WRITE 4712 103:02:55 0 EOF
3: FLOCK  ADVISORY  WRITE 900 00:1c:55 0 EOF
4: FLOCK  ADVISORY  WRITE -1 00:1c:60 0 EOF
5: OFDLCK ADVISORY  READ -1 00:06:11 0 EOF
torn
"""


def test_sockets() -> None:
    found = parse_sockets(TCP)
    assert [(s.host, s.port, s.state, s.queued, s.uid, s.inode) for s in found] == [
        ("127.0.0.1", 8000, LISTEN, 3, 1000, 501),
        ("127.0.0.1", 8000, CLOSE_WAIT, 0, 1001, 502),
    ]
    assert (found[1].peer_host, found[1].peer_port) == ("127.0.0.1", 0xD431)
    mapped = parse_sockets(TCP6)
    assert [(s.host, s.port, s.state) for s in mapped] == [
        ("::", 8000, LISTEN),
        ("127.0.0.1", 8000, ESTABLISHED),
    ]


def test_locks() -> None:
    locks = parse_locks(LOCKS)
    assert locks[1] == Lock("FLOCK", 4711, (0x103, 2), 55)
    assert len(locks) == 5
    assert holder_of(locks, (0x103, 2), 55) == 4711
    assert holder_of(locks, (0, 0x1C), 55) == 900
    # Two of that number on other devices: which one cannot be told.
    assert holder_of(locks, (7, 7), 55) is None
    # One alone counts: a file system may have a device of its own for stat(2).
    assert holder_of(locks[:2], (7, 7), 55) == 4711
    # Held in another pid namespace, not held, and no flock.
    assert [holder_of(locks, (0, n), i) for n, i in ((0x1C, 60), (0x1C, 61), (6, 11))] == [None] * 3


def test_unix_listeners_and_addresses() -> None:
    text = (
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000: 00000002 00000000 00010000 0001 01 777 /tmp/tmux-1000/de fault\n"
        "0000: 00000003 00000000 00000000 0001 03 778 /tmp/tmux-1000/de fault\n"
        "0000: 00000003 00000000 00000000 0001 03 779\n"
    )
    assert parse_unix_listeners(text) == {777: "/tmp/tmux-1000/de fault"}
    assert parse_addresses("|-- 10.0.0.5\n /32 host LOCAL\n|-- 127.0.0.1\n/32 host LOCAL") == (
        "10.0.0.5",
    )


@given(st.text())
def test_no_text_raises(text: str) -> None:
    parse_sockets(text)
    parse_locks(text)
    parse_unix_listeners(text)
    parse_addresses(text)


@given(st.lists(st.text("0123456789ABCDEF:. ", max_size=40), max_size=12))
def test_no_line_of_hex_raises(words: list[str]) -> None:
    parse_sockets(" ".join(words))
    parse_locks(" ".join(words))


def watched(pid: int, port: int, start: int) -> ServerProcess:
    """A server that listens there."""
    return ServerProcess(
        Target(pid, start, "boot", "ds4-server"), 0.0, "ds4", 1000, "ana",
        listening=(("127.0.0.1", port),),
    )  # fmt: skip


def test_constructed_queue_and_clients_that_left(tmp_path: Path) -> None:
    proc = MadeProc(tmp_path)
    folder = proc.add(300, "ds4-server")
    (folder / "status").write_text("VmRSS:\t100 kB\nRssAnon:\t40 kB\nRssFile:\t60 kB\n")
    row = "   {}: 0100007F:{} 0100007F:{} {} 0:0000000{} 0:0 0 1000 0 {} 1"
    rows = [
        ("1F40", "0000", "0A", 2, 501),
        ("1F40", "C001", "01", 0, 502),
        ("1F40", "C002", "01", 0, 503),
        ("1F40", "C003", "01", 0, 0),  # In the queue: nobody has accepted it.
        ("1F40", "C004", "08", 0, 504),
        ("1F40", "C005", "08", 0, 0),
        ("1F40", "C006", "06", 0, 0),
        ("C001", "1F40", "01", 0, 601),
        ("1F41", "C007", "01", 0, 505),
    ]
    text = "\n".join(row.format(at, *words) for at, words in enumerate(rows))
    (folder / "net" / "tcp").write_text(text + "\n")
    server = watched(300, 8000, 100)
    vitals = VitalSigns(lambda: server, lambda: 9.0, ProcFs(tmp_path)).read(1.0)[0]
    assert (vitals.connections, vitals.queued, vitals.left) == (2, 2, 1)
    assert vitals.waiting(1) == 3
    assert (vitals.rss_bytes, vitals.anon_bytes, vitals.file_bytes) == (102_400, 40_960, 61_440)
    assert (vitals.swap_bytes, vitals.read_bytes, vitals.fds) == (None, 4096, 1)
    # One of the connections is ds4top's own: it asks how the server is, and waits for nothing.
    proc.add(os.getpid(), "ds4top", fds={2: "/dev/null", 7: "socket:[601]"})
    again = VitalSigns(lambda: server, lambda: 9.0, ProcFs(tmp_path)).read(1.0)[0]
    assert again.connections == 1
    # A question of its own in the queue, or over before its descriptor was looked for, is none.
    for port in (0xC002, 0xC003):
        OWN_ENDS.append(("127.0.0.1", port))
    mine = VitalSigns(lambda: server, lambda: 9.0, ProcFs(tmp_path)).read(1.0)[0]
    OWN_ENDS.clear()
    assert (mine.connections, mine.queued) == (0, 1)
    # What may not be read is unknown, not nothing.
    (folder / "io").unlink()
    unknown = replace(server, listening=())
    last = VitalSigns(lambda: unknown, lambda: 9.0, ProcFs(tmp_path)).read(1.0)[0]
    assert (last.read_bytes, last.connections, last.queued, last.waiting(0)) == (None,) * 4


def test_constructed_table_is_read_when_a_descriptor_changed_and_seldom_else(
    tmp_path: Path,
) -> None:
    """One read makes the kernel walk all of its table."""
    proc = MadeProc(tmp_path)
    folder = proc.add(300, "ds4-server", fds={2: "/dev/null", 5: "socket:[501]"})
    listens = "   0: 0100007F:1F40 00000000:0000 0A 0:00000000 0:0 0 1000 0 501 1\n"
    takes = "   1: 0100007F:1F40 0100007F:C001 {} 0:00000000 0:0 0 1000 0 502 1\n"
    (folder / "net" / "tcp").write_text(listens)
    procfs = ProcFs(tmp_path)
    read, names = procfs.sockets, []

    def counted(pid: int, tables: Sequence[str] = ()) -> list[Socket]:
        names.append(tuple(tables))
        return read(pid, tables)

    procfs.sockets = counted  # type: ignore[method-assign]
    watch, server = PortWatch(procfs), watched(300, 8000, 100)
    for second in range(15):
        assert watch.look(server, float(second)) == (0, 0, 0)
    assert names == [("tcp",)]
    watch.look(server, QUIET_S)
    assert len(names) == 2
    # A connection: at once.
    (folder / "net" / "tcp").write_text(listens + takes.format("01"))
    assert watch.look(server, 16.0) == (0, 0, 0)
    proc.open(300, 6, "socket:[502]")
    assert watch.look(server, 17.0) == (1, 0, 0)
    # Its client goes: no descriptor tells.
    (folder / "net" / "tcp").write_text(listens + takes.format("08"))
    assert watch.look(server, 18.0) == (1, 0, 0)
    assert watch.look(server, 17.0 + BUSY_S) == (0, 0, 1)
    assert len(names) == 4
    both = replace(server, listening=(("::", 8000),))
    watch.look(both, 23.0)
    assert names[-1] == ("tcp", "tcp6")
    assert watch.look(replace(server, listening=()), 24.0) == (None, None, None)


def until(signs: VitalSigns, want: tuple[int, int, int]) -> Vitals:
    """The look at which the connections are these; each is long after the one before."""
    end = time.monotonic() + 15.0
    for now in count(0, 100):
        found = signs.read(float(now))[0]
        if (found.connections, found.queued, found.left) == want:
            return found
        assert time.monotonic() < end, (found.connections, found.queued, found.left)
    raise AssertionError


def test_real_connections_of_this_process() -> None:
    procfs = ProcFs()
    me = procfs.target(os.getpid())
    assert me is not None
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        port = listener.getsockname()[1]
        found = procfs.server(me.pid)
        assert found is not None
        assert ("127.0.0.1", port) in found.listening
        server = watched(me.pid, port, me.start_ticks)
        signs = VitalSigns(lambda: server, time.time, procfs)
        until(signs, (0, 0, 0))
        first, second = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
        until(signs, (0, 2, 0))
        taken, _ = listener.accept()
        # This process is the client as well, and its own connections are none that wait.
        until(signs, (0, 1, 0))
        first.close()
        until(signs, (0, 1, 1))
        taken.close()
        until(signs, (0, 1, 0))
        second.close()
