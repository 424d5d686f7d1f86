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
    ANOTHER_S,
    Owner,
    Parent,
    ServerProcess,
    changes,
    flag_value,
    port_of,
    resolved,
    successor,
)
from ds4top.core.proctext import (
    parse_command_line,
    parse_environment,
    parse_stat,
    parse_status,
    status_bytes,
)
from ds4top.core.secrets import secrets_in, shown_argv, shown_environment
from ds4top.core.supervision import cgroup_path, owner_of, runs_a_script, script_of

STAT = (
    "4711 (ds4 ) server) S 42 4711 42 34816 4711 4194304 1000 0 7 0 250 50 0 0 20 0 9 0 123456"
    " 1000 2000 18446744073709551615"
)


def test_a_name_with_blanks_and_brackets() -> None:
    found = parse_stat(STAT)
    assert (found.comm, found.state, found.ppid, found.start_ticks) == ("ds4 ) server", "S", 42,
                                                                        123456)  # fmt: skip
    assert (found.minor_faults, found.major_faults, found.cpu_ticks, found.threads) == (
        1000, 7, 300, 9,
    )  # fmt: skip
    assert not found.kernel_thread
    assert parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984" + " 0" * 20).kernel_thread
    for broken in ("", "1 (x", "1 (x) S 1"):
        with pytest.raises(ValueError, match="stat"):
            parse_stat(broken)


@given(st.text())
def test_no_text_raises_but_a_stat_line(text: str) -> None:
    parse_environment(text)
    status_bytes(parse_status(text), "VmRSS")
    panes_of(text)
    owner_of(text, ())
    shown_argv(parse_command_line(text))


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
        ("0::/ai.slice/ds4.service", [], Owner("systemd-system", "ds4.service")),
        ("0::/system.slice/ds4.service/payload", [], Owner("systemd-system", "ds4.service")),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-ds4.slice/ds4.service",
            ["run.sh", "systemd"],
            Owner("systemd-user", "ds4.service"),
        ),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope", [], Owner("none", "")),
        # Left behind by a login or a timer: the service is not the server's.
        ("0::/system.slice/ssh.service", [], Owner("none", "")),
        ("0::/system.slice/cron.service", ["sh", "cron"], Owner("none", "sh")),
        ("0::/system.slice/cron.service", [], Owner("none", "")),
        ("0::/system.slice/jupyterhub.service", ["bash", "python3"], Owner("none", "bash")),
        ("0::/system.slice/docker.service", ["dockerd"], Owner("none", "")),
    ],
)
def test_constructed_supervisors(cgroup: str, chain: list[str], owner: Owner) -> None:
    parents = [Parent(100 + at, comm) for at, comm in enumerate(chain)]
    assert owner_of("1:name=systemd:/x\n" + cgroup + "\n", parents) == owner


def test_constructed_first_cgroup_version() -> None:
    docker = f"12:cpu:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n"
    assert cgroup_path(docker) == f"/docker/{ID}"
    assert owner_of(docker, ()) == Owner("docker", "a" * 12)
    assert cgroup_path("") == ""


def test_what_an_interpreter_runs() -> None:
    assert script_of("bash", ("bash", "/opt/watchdog.sh", "-x")) == "watchdog.sh"
    assert script_of("python3.11", ("python3.11", "keep.py")) == "keep.py"
    assert script_of("bash", ("bash", "-c", "x")) == script_of("bash", ("bash",)) == ""
    assert script_of("run.sh", ("/bin/sh", "./run.sh")) == ""


def test_a_shell_that_runs_a_script_of_the_name_is_no_server() -> None:
    wrapper = ("/bin/sh", "/usr/local/bin/ds4-server", "-m", "x")
    assert runs_a_script("ds4-server", wrapper, "/usr/bin/dash")
    assert runs_a_script("ds4-server", wrapper, None)
    assert not runs_a_script("ds4-server", ("./ds4-server",), "/opt/ds4/ds4-server")
    assert not runs_a_script("ds4-server", ("./ds4-server",), None)
    assert not runs_a_script("bash", ("bash",), "/usr/bin/bash")


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
        (ErrorLink(7, "socket:[9]", journal=True), PLAIN, "journald", None,
         ("journalctl", "_PID=7", "-o", "json", "-f", "-n", "5000", "--no-pager")),
        (ErrorLink(7, "socket:[9]", journal=False), PLAIN, "unknown", None, ()),
        (ErrorLink(7, "/tmp/s.log", moved=True), PLAIN, "file", "/proc/7/fd/2", ()),
        (
            ErrorLink(7, "/log/s.log", root="/proc/7/root"),
            Owner("docker", "abc"),
            "file",
            "/proc/7/root/log/s.log",
            (),
        ),
        (ErrorLink(7, "/dev/pts/3", pane="%4", pane_piped=True), Owner("tmux"), "tmux", None, ()),
        (
            ErrorLink(7, "/dev/pts/3", pane="%4", pane_piped=True, copies=("/s/pane.log",)),
            Owner("tmux"),
            "tmux",
            "/s/pane.log",
            (),
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
    other = pipe_command("%4", "/s/pane.log", ("tmux", "-S", "/tmp/other"))
    assert other[:6] == ("tmux", "-S", "/tmp/other", "pipe-pane", "-o", "-t")


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
    assert server(listening=(("::1", 81),)).url == "http://[::1]:81"
    assert server(listening=(("::", 81),)).url == "http://[::1]:81"
    assert server(argv=("x", "--port", "no")).url is None
    # The port that was asked for, not one that the nodes of a cluster talk on.
    two = (("10.0.0.1", 9100), ("127.0.0.1", 8000))
    assert server(listening=two).url == "http://127.0.0.1:8000"
    assert (port_of((), "ds4"), port_of(("x", "--port=9"), "ds4")) == (8000, 9)


def test_where_it_answers_from_a_network_of_its_own() -> None:
    inside = server(own_network=True, address="172.17.0.2", listening=(("0.0.0.0", 8000),))
    assert inside.url == "http://172.17.0.2:8000"
    assert replace(inside, address=None).url is None
    assert replace(inside, listening=(("172.17.0.9", 8000),)).url == "http://172.17.0.9:8000"


def test_who_started_it() -> None:
    assert server().started_by == "bash 3, ana"
    assert server(owner=Owner("systemd-user", "ds4.service")).started_by == "ds4.service (user)"
    assert server(started_by_us="ds4top, 14:03").started_by == "ds4top, 14:03"
    script = server(parents=(Parent(3, "bash", "watchdog.sh"), Parent(2, "systemd")))
    assert script.started_by == "bash watchdog.sh 3, ana"
    for chain in ((), (Parent(2, "systemd"),)):
        assert server(parents=chain).started_by == "ana; what started it has ended"


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


def test_what_changed_beside_the_settings() -> None:
    here = server(exe_key=(1, 2, 3))
    assert changes(here, server(exe_key=(1, 9, 4))) == (
        "exe: /srv/ds4-server is another build now",
    )
    assert changes(here, server()) == changes(here, here) == ()
    assert changes(server(), server(parents=(Parent(9, "bash"),))) == ()
    by_script = server(parents=(Parent(9, "bash", "watchdog.sh"),))
    assert changes(server(), by_script) == (
        "started by bash watchdog.sh 9, ana, before by bash 3, ana",
    )
    assert changes(server(argv=("x", "--a", "1", "--a", "2")),
                   server(argv=("x", "--a", "2", "--a", "1"))) == (
        "argv: in another order: --a 2 --a 1",
    )  # fmt: skip
    assert changes(server(argv=("x", "--temp", "-1")), server(argv=("x", "--temp", "-.5"))) == (
        "argv: without --temp -1",
        "argv: with --temp -.5",
    )


def test_which_server_goes_on_for_another() -> None:
    def life(pid: int, start: int, **fields: object) -> ServerProcess:
        return server(target=Target(pid, start, "b", "ds4-server"), **fields)

    unit, other = Owner("systemd-user", "ds4.service"), Owner("systemd-user", "b.service")
    was = life(7, 10, owner=unit)
    new = life(8, 20, owner=unit, argv=("x", "--port", "1"))
    beside = life(9, 30, owner=other, argv=("x", "--port", "2"))
    assert successor(was, [beside, new], set()) is new
    assert successor(was, [beside, new], {new.target, beside.target}) is new
    # The same address.
    assert successor(server(), [life(8, 20), beside], set()) == life(8, 20)
    # One that ran beside it before is none; a new one is, if there is no other.
    assert successor(was, [beside], {beside.target}, ANOTHER_S) is None
    assert successor(was, [beside], set(), ANOTHER_S) is beside
    assert successor(was, [beside], set(), ANOTHER_S - 0.1) is None
    third = life(3, 40, argv=("x", "--port", "3"))
    assert successor(was, [third, beside], {beside.target}) is None
    # The same program with the same model at another port.
    model = replace(was, model_path="/m")
    assert successor(model, [replace(third, model_path="/m"), beside], {beside.target}) is not None
    assert successor(model, [replace(third, model_path="/n"), beside], {beside.target}) is None
    assert successor(was, [], set()) is None


def test_this_very_process_is_read_whole() -> None:
    import os

    from ds4top.sources.procfs import ProcFs

    procfs = ProcFs(Path("/proc"))
    found = procfs.server(os.getpid())
    assert found is not None
    assert found.argv is not None
    assert found.cwd == os.getcwd()
    assert os.getppid() in (found.parents[0].pid if found.parents else 1, 1)
    assert found.exe_key is not None
    assert abs(found.started_wall - Path("/proc/self").stat().st_ctime) < 3600
    assert found.denied == {}


def test_secrets_are_found_by_flag_and_by_name() -> None:
    argv = ("ds4-server", "--api-key", "abcdef", "--token=ghijklmn", "--ctx", "131072")
    env = (("HF_TOKEN", "opqrst"), ("PATH", "/usr/bin"), ("KEYBOARD", "us"))
    found = secrets_in(argv, env)
    # The longest first: what is a part of another one goes with it.
    assert found[0] == "ghijklmn"
    assert sorted(found[1:]) == ["abcdef", "opqrst"]
    assert secrets_in(("ds4-server",), ()) == ()
