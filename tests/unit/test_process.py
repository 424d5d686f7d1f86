"""A process as /proc shows it: parsers, masks, supervisors, the log's place, what changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.logplace import ErrorLink, panes_of, pipe_command, place_of
from ds4top.core.plan import Target
from ds4top.core.process import (
    CLOSE_WAIT,
    LISTEN,
    Owner,
    Parent,
    ServerProcess,
    changes,
    flag_value,
    owner_of,
    parse_environment,
    parse_sockets,
    parse_stat,
    resolved,
    shown_argv,
    shown_environment,
)

STAT = (
    "4711 (ds4 ) server) S 42 4711 42 34816 4711 4194304 1000 0 7 0 250 50 0 0 20 0 9 0 123456"
    " 1000 2000 18446744073709551615"
)
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 501 1
   1: 0100007F:1F40 0100007F:D431 08 00000000:00000000 00:00000000 00000000  1000        0 502 1
"""
TCP6 = """\
   0: 00000000000000000000000000000000:1F40 00000000000000000000000000000000:0000 0A 0:0 0 0 0 0 9 1
   1: 0000000000000000FFFF00000100007F:1F40 0000000000000000FFFF00000100007F:D431 01 0:0 0 0 0 0 8 1
"""


def test_a_name_with_blanks_and_brackets() -> None:
    found = parse_stat(STAT)
    assert (found.comm, found.state, found.ppid, found.start_ticks) == ("ds4 ) server", "S", 42,
                                                                        123456)  # fmt: skip
    assert (found.minor_faults, found.major_faults, found.cpu_ticks, found.threads) == (
        1000, 7, 300, 9,
    )  # fmt: skip
    for broken in ("", "1 (x", "1 (x) S 1"):
        with pytest.raises(ValueError, match="stat"):
            parse_stat(broken)


def test_sockets() -> None:
    found = parse_sockets(TCP)
    assert [(s.host, s.port, s.state, s.queued, s.inode) for s in found] == [
        ("127.0.0.1", 8000, LISTEN, 3, 501),
        ("127.0.0.1", 8000, CLOSE_WAIT, 0, 502),
    ]
    assert [(s.host, s.port) for s in parse_sockets(TCP6)] == [("::", 8000), ("127.0.0.1", 8000)]


@given(st.text())
def test_no_text_raises_but_a_stat_line(text: str) -> None:
    parse_sockets(text)
    parse_environment(text)
    panes_of(text)
    owner_of(text, ())


def test_secrets_are_masked() -> None:
    env = (("DS4_API_KEY", "k"), ("DS4_CUDA_COPY_MODEL", "1"), ("HOME", "/h"), ("OMP_X", "2"))
    assert shown_environment(env) == (
        ("DS4_API_KEY", "***"),
        ("DS4_CUDA_COPY_MODEL", "1"),
        ("OMP_X", "2"),
    )
    argv = ("llama-server", "--api-key", "k1", "--api-key=k2", "-m", "x")
    assert shown_argv(argv) == ("llama-server", "--api-key", "***", "--api-key=***", "-m", "x")


def test_flags_and_paths() -> None:
    argv = ("ds4-server", "-m", "a", "--ctx=5", "--model", "b", "--last")
    assert flag_value(argv, "-m", "--model") == "b"
    assert flag_value(argv, "--ctx") == "5"
    assert flag_value(argv, "--last") is None
    assert resolved("../m.gguf", "/srv/ds4") == "/srv/m.gguf"
    assert resolved("/m.gguf", None) == "/m.gguf"
    assert resolved(None, "/srv") is None


ID = "a" * 64


@pytest.mark.parametrize(
    ("cgroup", "chain", "owner"),
    [
        ("0::/system.slice/ds4.service", [], Owner("systemd-system", "ds4.service")),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ds4.service",
            ["systemd"],
            Owner("systemd-user", "ds4.service"),
        ),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r12.service",
            ["systemd"],
            Owner("transient", "run-r12.service"),
        ),
        (f"0::/system.slice/docker-{ID}.scope", ["containerd-shim"], Owner("docker", "a" * 12)),
        (f"0::/docker/{ID}", [], Owner("docker", "a" * 12)),
        (f"0::/user.slice/libpod-{ID}.scope/container", ["conmon"], Owner("podman", "a" * 12)),
        ("0::/user.slice/user-1000.slice/session-3.scope", ["bash", "sshd"], Owner("none", "bash")),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/tmux-spawn-1-2.scope",
            ["fish"],
            Owner("tmux"),
        ),
        ("0::/user.slice/user-1000.slice/session-3.scope", ["zsh", "tmux: server"], Owner("tmux")),
        ("0::/system.slice/ssh.service", ["bash", "sshd"], Owner("none", "bash")),
        ("0::/", [], Owner("none", "")),
    ],
)
def test_constructed_supervisors(cgroup: str, chain: list[str], owner: Owner) -> None:
    parents = [Parent(100 + at, comm) for at, comm in enumerate(chain)]
    assert owner_of("1:name=systemd:/x\n" + cgroup + "\n", parents) == owner


PLAIN = Owner("none", "bash")


@pytest.mark.parametrize(
    ("link", "owner", "kind", "path", "command"),
    [
        (ErrorLink(7, "/var/log/ds4.log"), PLAIN, "file", "/var/log/ds4.log", ()),
        (ErrorLink(7, "/x/ds4.log (deleted)"), PLAIN, "deleted", "/proc/7/fd/2", ()),
        (ErrorLink(7, "/dev/null"), PLAIN, "null", None, ()),
        (ErrorLink(7, "/dev/pts/3"), PLAIN, "terminal", None, ()),
        (ErrorLink(7, "/dev/pts/3", pane="%4"), Owner("tmux"), "tmux", None, ()),
        (
            ErrorLink(7, "pipe:[9]", (("tee", ("/dev/pts/1", "/x/ds4.log")),)),
            PLAIN,
            "tee",
            "/x/ds4.log",
            (),
        ),
        (ErrorLink(7, "pipe:[9]", (("grep", ()),)), PLAIN, "pipe", None, ()),
        (
            ErrorLink(7, "socket:[9]"),
            Owner("systemd-user", "ds4.service"),
            "journald",
            None,
            ("journalctl", "--user", "_SYSTEMD_USER_UNIT=ds4.service", "-o", "json", "-f", "-n",
             "5000", "--no-pager"),
        ),
        (
            ErrorLink(7, "socket:[9]"),
            Owner("systemd-system", "ds4.service"),
            "journald",
            None,
            ("journalctl", "_SYSTEMD_UNIT=ds4.service", "-o", "json", "-f", "-n", "5000",
             "--no-pager"),
        ),
        (
            ErrorLink(7, "pipe:[9]", (("systemd-cat", ()),)),
            PLAIN,
            "journald",
            None,
            ("journalctl", "_PID=7", "-o", "json", "-f", "-n", "5000", "--no-pager"),
        ),
        (
            ErrorLink(7, "pipe:[9]"),
            Owner("docker", "abc"),
            "container",
            None,
            ("docker", "logs", "-f", "--tail", "5000", "abc"),
        ),
        (
            ErrorLink(7, "/dev/pts/0"),
            Owner("podman", "abc"),
            "container",
            None,
            ("podman", "logs", "-f", "--tail", "5000", "abc"),
        ),
    ],
)  # fmt: skip
def test_constructed_logs(
    link: ErrorLink, owner: Owner, kind: str, path: str | None, command: tuple[str, ...]
) -> None:
    place = place_of(link, owner)
    assert (place.kind, place.path, place.command) == (kind, path, command)
    # What cannot be read says how to mend it.
    assert bool(place.mend) == (path is None and not command)


def test_panes() -> None:
    text = "/dev/pts/3 %4 0\n/dev/pts/9 %1 1\nodd\n"
    assert panes_of(text) == {"/dev/pts/3": ("%4", False), "/dev/pts/9": ("%1", True)}
    assert pipe_command("%4", "/s/pane.log")[-1] == "exec cat >> '/s/pane.log'"


def server(**fields: object) -> ServerProcess:
    """A server as it was found."""
    base = ServerProcess(
        Target(7, 1, "b", "ds4-server"), 0.0, "ds4", 1000, "ana",
        argv=("ds4-server", "-m", "x", "--ctx", "65536"), env=(("DS4_A", "1"),), cwd="/srv",
        exe="/srv/ds4-server", parents=(Parent(3, "bash"),), owner=PLAIN,
    )  # fmt: skip
    return replace(base, **fields)  # type: ignore[arg-type]


def test_where_it_answers() -> None:
    assert server().url == "http://127.0.0.1:8000"
    assert server(argv=("x", "--port", "9", "--host", "localhost")).url == "http://127.0.0.1:9"
    assert server(listening=(("0.0.0.0", 81),)).url == "http://127.0.0.1:81"
    assert server(listening=(("0.0.0.0", 81),)).public
    assert not server(listening=(("127.0.0.1", 81), ("::1", 81))).public
    assert server(argv=None).url is None
    assert server(flavour="llama.cpp").url == "http://127.0.0.1:8080"


def test_who_started_it() -> None:
    assert server().started_by == "bash 3, ana"
    assert server(owner=Owner("systemd-user", "ds4.service")).started_by == "ds4.service (user)"
    assert server(started_by_us="ds4top, 14:03").started_by == "ds4top, 14:03"


def test_what_changed_since_the_life_before() -> None:
    now = server(
        argv=("ds4-server", "-m", "x", "--ctx", "131072", "--no-mmap"),
        env=(("DS4_B", "2"),),
        owner=Owner("systemd-user", "ds4.service"),
    )
    assert changes(server(), now) == (
        "argv: without --ctx 65536",
        "argv: with --ctx 131072",
        "argv: with --no-mmap",
        "environment: DS4_A unset",
        "environment: DS4_B=2",
        "started by ds4.service (user), before by bash 3, ana",
    )
    assert changes(None, now) == ()
    assert changes(now, replace(now, target=Target(9, 2, "b", "ds4-server"))) == ()
    assert changes(server(argv=None), server(env=None)) == ()


def test_this_very_process_is_read_whole() -> None:
    import os

    from ds4top.sources.procfs import ProcFs

    procfs = ProcFs(Path("/proc"))
    found = procfs.server(os.getpid())
    assert found is not None
    assert found.argv is not None
    assert found.cwd == os.getcwd()
    assert found.parents[0].pid == os.getppid() or os.getppid() == 1
    assert abs(found.started_wall - Path("/proc/self").stat().st_ctime) < 3600
    assert found.denied == {}
