"""systemd at the boundary: constructed answers of systemctl, and drop-ins that systemd accepts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.control.units import (
    drop_in_path,
    exec_words,
    explained,
    failed,
    supervisor_of,
    unwritable,
)
from ds4top.core.launch_units import parse_show, span_s
from ds4top.core.plan import Supervisor
from ds4top.core.unitfile import drop_in
from ds4top.sources.ask import Answer, ask

ARGV = ("/srv/ds4-server", "-m", "q2.gguf", "--ctx", "131072")
SHOWN = """LoadState=loaded
ActiveState=active
SubState=running
Restart=on-failure
TimeoutStopUSec=1min 30s
NeedDaemonReload=yes
FragmentPath=/etc/systemd/system/ds4-server.service
DropInPaths=
ExecStart={ path=/srv/ds4-server ; argv[]=/srv/ds4-server -m q2.gguf --ctx 131072 ; \
ignore_errors=no ; start_time=[Mon 2026-11-23 09:11:02 UTC] ; stop_time=[n/a] ; pid=4711 ; \
code=(null) ; status=0/0 }
MainPID=4711
Result=success
"""


class Systemd:
    """Answers by verb, constructed; keeps what it was asked."""

    def __init__(self, shown: str = SHOWN, trouble: str = "") -> None:
        self.shown = shown
        self.trouble = trouble
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str]) -> Answer:
        """One answer."""
        self.asked.append(tuple(argv))
        if argv[0] == "loginctl":
            return Answer(0, "Linger=no\n")
        return Answer(1, err=self.trouble) if self.trouble else Answer(0, self.shown)


def unit(
    systemd: Systemd, tmp_path: Path, kind: str = "systemd-system", **more: object
) -> Supervisor:
    """The supervisor of a constructed unit."""
    options: dict[str, object] = {"pid": 4711, "environment": {"HOME": str(tmp_path)}} | more
    made = Supervisor(kind, "ds4-server.service")  # type: ignore[arg-type]
    return supervisor_of(made, ARGV, root=tmp_path, run=systemd, **options)  # type: ignore[arg-type]


def test_constructed_answer_of_a_system_unit(tmp_path: Path) -> None:
    systemd = Systemd()
    found = unit(systemd, tmp_path)
    assert (found.stop_timeout_s, found.restart_policy, found.need_reload) == (
        90.0, "on-failure", True,
    )  # fmt: skip
    assert (found.active_state, found.refusal, found.linger) == ("active", None, None)
    assert found.exec_start == ARGV
    path = tmp_path / "etc/systemd/system/ds4-server.service.d/50-ds4top.conf"
    assert (found.drop_in_path, found.drop_in_text) == (str(path), None)
    asked = systemd.asked[0]
    assert asked[:3] == ("systemctl", "show", "--no-pager")
    assert asked[-2:] == ("--", "ds4-server.service")
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\n")
    assert unit(systemd, tmp_path).drop_in_text == "[Service]\n"


def test_constructed_answer_of_a_user_unit(tmp_path: Path) -> None:
    systemd = Systemd()
    found = unit(systemd, tmp_path, "systemd-user")
    assert systemd.asked[0][:3] == ("systemctl", "--user", "show")
    assert found.linger is False
    expected = tmp_path / ".config/systemd/user/ds4-server.service.d/50-ds4top.conf"
    assert found.drop_in_path == str(expected)


@pytest.mark.parametrize(
    ("shown", "pid", "said"),
    [
        ("LoadState=masked\nActiveState=inactive\n", None, "masked"),
        ("LoadState=not-found\nActiveState=inactive\n", None, "not-found"),
        (
            "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n",
            None,
            "systemd is starting ds4-server.service itself (auto-restart)",
        ),
        ("LoadState=loaded\nActiveState=inactive\n", None, None),
        ("LoadState=loaded\nActiveState=activating\n", 4711, None),
    ],
)
def test_constructed_states_that_refuse(
    tmp_path: Path, shown: str, pid: int | None, said: str | None
) -> None:
    refusal = unit(Systemd(shown), tmp_path, pid=pid).refusal
    assert (refusal is None) == (said is None)
    assert (said or "") in (refusal or "")


def test_constructed_silence_is_a_refusal(tmp_path: Path) -> None:
    systemd = Systemd(trouble="Failed to connect to bus: No such file or directory")
    refusal = unit(systemd, tmp_path).refusal or ""
    assert refusal == (
        "systemd does not answer for ds4-server.service:"
        " Failed to connect to bus: No such file or directory"
    )


def test_a_main_process_of_another_pid_is_named(tmp_path: Path) -> None:
    notes = unit(Systemd(), tmp_path, pid=5000).notes
    assert "the main process of ds4-server.service is 4711, which started the server" in notes


def test_transient_units_have_their_drop_in_where_a_boot_clears_it(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert drop_in_path("transient-user", "run-u1.service", env, tmp_path) == Path(
        "/run/user/7/systemd/user/run-u1.service.d/50-ds4top.conf"
    )
    assert drop_in_path("transient", "run-u1.service", env, tmp_path) == (
        tmp_path / "run/systemd/system/run-u1.service.d/50-ds4top.conf"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1min 30s", 90.0),
        ("10min", 600.0),
        ("1h 1min 1s 500ms", 3661.5),
        ("2d", 172_800.0),
        ("1.5s", 1.5),
        ("45", 45.0),
        ("infinity", None),
        ("", None),
        ("soon", None),
        ("5 parsecs", None),
    ],
)
def test_spans(text: str, seconds: float | None) -> None:
    assert span_s(text) == seconds


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_spans_add_up(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}h {minutes}min {seconds}s"
    assert span_s(text) == hours * 3600 + minutes * 60 + seconds


@given(st.text(max_size=80))
def test_any_text_is_a_span_or_none(text: str) -> None:
    found = span_s(text)
    assert found is None or found >= 0


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Za-z]{1,12}", fullmatch=True),
        st.from_regex(r"[ -~]{0,20}", fullmatch=True),
    )
)
def test_shown_properties_come_back(values: dict[str, str]) -> None:
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    assert parse_show(text) == values


def test_the_words_of_a_unit_are_those_that_run_only_where_they_are() -> None:
    shown = parse_show(SHOWN)["ExecStart"]
    assert exec_words(shown, ARGV) == ARGV
    # An argument with a blank looks like two; what runs decides.
    blank = "{ path=/x ; argv[]=/x -m a b.gguf ; ignore_errors=no }"
    assert exec_words(blank, ("/x", "-m", "a b.gguf")) == ("/x", "-m", "a b.gguf")
    assert exec_words(blank, ("/bin/sh", "start.sh")) == ("/x", "-m", "a", "b.gguf")
    assert exec_words("", ARGV) == ()


def test_refusals_are_explained() -> None:
    said = "Failed to stop x.service: Interactive authentication required."
    assert explained(("systemctl", "stop"), said).endswith("run it with sudo, or by polkit rule")
    daemon = "permission denied while trying to connect to the Docker daemon socket"
    assert explained(("docker", "stop"), daemon).endswith("as a member of its group")
    assert explained(("systemctl", "stop"), "Unit not loaded.") == "Unit not loaded."


def test_a_folder_of_another_user_cannot_be_written(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "a" / "b.conf") is None
    why = unwritable(Path("/proc/1/x.conf"))
    if os.getuid() == 0:
        print("not run: root may write anywhere")
    else:
        assert "run it with sudo" in (why or "")


def test_constructed_word_of_a_failed_start() -> None:
    down = Systemd("ActiveState=failed\nResult=exit-code\n")
    assert failed("x.service", user=False, run=down) == "systemd says x.service failed: exit-code"
    assert failed("x.service", user=True, run=Systemd("ActiveState=activating\n")) is None
    assert (
        failed("x.service", user=True, run=Systemd("ActiveState=inactive\nResult=success")) is None
    )


def test_what_cannot_be_run_is_an_answer() -> None:
    assert "no such program" in ask(("/no/such/program",)).trouble
    assert ask(("false",)).status == 1
    assert ask(("printf", "a")).out == "a"


def test_drop_ins_are_accepted_by_systemd_itself(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        print("not run: systemd-analyze is not here")
        return
    (tmp_path / "ds4.service").write_text(
        "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\nTimeoutStopSec=90\n"
    )
    folder = tmp_path / "ds4.service.d"
    folder.mkdir()
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    environment = {
        "PATH": os.environ["PATH"],
        "XDG_RUNTIME_DIR": str(runtime),
        "SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system:/usr/lib/systemd/system",
    }
    for text in (
        drop_in(stop_timeout_s=660),
        drop_in(
            env_set=(("DS4_CUDA_DIRECT_MODEL", "1"), ("X", 'a "b" 100% $HOME \\')),
            env_unset=("A", "B"),
        ),
        drop_in(argv=("/bin/true", "a b", "$HOME", "50%", 'q"', "--no-mmap"), stop_timeout_s=660),
    ):
        assert text is not None
        (folder / "50-ds4top.conf").write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / "ds4.service")],
            capture_output=True, text=True, env=environment, check=False, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
