"""What is missing, why, and the one command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds4top.core.logplace import COPY_PANE
from ds4top.core.model import Model, Replay, SourceHealth
from ds4top.core.plan import Target
from ds4top.core.process import LogPlace, ServerProcess
from ds4top.core.state import LogState
from ds4top.sources.inside import container
from ds4top.view.mend import empty_log_rows, gpu_mend, mend_of, mend_rows, mend_short
from ds4top.view.text import row_text, row_width


def model_of(state: str = "missing", detail: str = "", gpu: str = "") -> Model:
    health = [SourceHealth("log", state, detail)]
    if gpu:
        health.append(SourceHealth("GPU (NVML)", "missing", gpu))
    return Model(LogState(), 1_795_543_200.0, health=tuple(health))


def server(pid: int = 4711, *, log: LogPlace | None = None, **denied: str) -> ServerProcess:
    place = log or LogPlace("unknown", "its standard error may not be looked at")
    return ServerProcess(
        Target(pid, 1, "b", "ds4-server"), 0.0, "ds4", 1000, "spark", log=place, denied=denied
    )


def test_no_server() -> None:
    found = mend_of(model_of())
    assert found is not None
    assert (found.what, found.command) == (
        "NO SERVER",
        "ds4top run -- ds4-server -m MODEL --ctx 131072",
    )


def test_no_server_but_a_demos() -> None:
    model = model_of()
    model.machine.demos = (300, 301)
    found = mend_of(model)
    assert found is not None
    assert (found.what, found.command, found.does) == (
        "NO SERVER", "ds4top --pid 300", "looks at it",
    )  # fmt: skip
    assert found.why == "no ds4-server or llama-server runs here but a demo's (300, 301)"


@pytest.mark.parametrize(
    ("kind", "command"), [("docker", "docker run --pid=host ..."), ("lxc", "ds4top")]
)
def test_inside_a_container(kind: str, command: str) -> None:
    model = model_of()
    model.inside = kind
    found = mend_of(model)
    assert found is not None
    assert found.command == command
    assert f"this is a container ({kind})" in found.why


def test_which_container(tmp_path: Path) -> None:
    assert container({}, tmp_path) == ""
    assert container({"container": "lxc"}, tmp_path) == "lxc"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".containerenv").touch()
    assert container({"container": "oci"}, tmp_path) == "podman"
    (tmp_path / ".dockerenv").touch()
    assert container({}, tmp_path) == "docker"


def test_several_servers() -> None:
    model = model_of()
    model.machine.servers = (server(7), server(8))
    found = mend_of(model)
    assert found is not None
    assert (found.why, found.command) == ("2 run here: 7, 8", "c")
    assert found.does == "chooses one, as does ds4top --pid 7"


@pytest.mark.parametrize(
    ("detail", "why", "command"),
    [
        (
            "cannot read /l (it belongs to a:b, mode 0600); let me read it:"
            " sudo setfacl -m u:me:r /l",
            "cannot read /l (it belongs to a:b, mode 0600)",
            "sudo setfacl -m u:me:r /l",
        ),
        (
            "cannot enter /var/log/ds4 to read /l; let me in: sudo setfacl -m u:me:x /var/log/ds4",
            "cannot enter /var/log/ds4 to read /l",
            "sudo setfacl -m u:me:x /var/log/ds4",
        ),
        ("not allowed", "not allowed", "sudo ds4top"),
    ],
)
def test_a_log_that_may_not_be_read(detail: str, why: str, command: str) -> None:
    found = mend_of(model_of("denied", detail))
    assert found is not None
    assert (found.what, found.why, found.command) == ("LOG NOT READABLE", why, command)


@pytest.mark.parametrize(
    ("place", "what", "command"),
    [
        (LogPlace("terminal", "on /dev/pts/3", mend="start it with 2>> server.log"),
         "ITS LOG IS ON A TERMINAL", "ds4-server ... 2>> server.log"),
        (LogPlace("null", "goes to /dev/null", mend="start it with 2>> server.log"),
         "NO LOG", "ds4-server ... 2>> server.log"),
        (LogPlace("tmux", "tmux pane %3", mend=COPY_PANE),
         "ITS LOG IS ON A TERMINAL", "l"),
        (LogPlace("pipe", "a pipe into x", mend="ds4top --log FILE"),
         "NO LOG", "ds4top --log FILE"),
    ],
)  # fmt: skip
def test_a_log_that_goes_elsewhere(place: LogPlace, what: str, command: str) -> None:
    model = model_of()
    model.machine.server = server(log=place)
    found = mend_of(model)
    assert found is not None
    assert (found.what, found.why, found.command) == (what, place.detail, command)


def test_a_server_of_somebody_else() -> None:
    model = model_of()
    model.machine.server = server(argv="not ours to read")
    found = mend_of(model)
    assert found is not None
    assert found.what == "ANOTHER USER'S SERVER"
    assert found.why == "ds4-server 4711 belongs to spark; not readable: argv"
    assert found.command == "sudo ds4top --pid 4711"


def test_nothing_to_mend() -> None:
    assert mend_of(model_of("ok")) is None
    model = model_of()
    model.replay = Replay(0.0, 1.0, 1.0, False, False)
    assert mend_of(model) is None


@pytest.mark.parametrize(
    ("detail", "inside", "why", "command"),
    [
        ("nvidia-ml-py is not installed", "", "nvidia-ml-py is not installed",
         "pip install nvidia-ml-py"),
        ("no NVIDIA driver here", "", "no NVIDIA driver here", "nvidia-smi"),
        ("no NVIDIA driver here", "podman", "no NVIDIA driver here",
         "podman run --gpus all ..."),
        ("the driver was updated; mend: reboot", "", "the driver was updated", "reboot"),
    ],
)  # fmt: skip
def test_no_gpu(detail: str, inside: str, why: str, command: str) -> None:
    model = model_of("ok", gpu=detail)
    model.inside = inside
    found = gpu_mend(model)
    assert found is not None
    assert (found.why, found.command) == (why, command)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_every_line_fits(width: int) -> None:
    detail = (
        "cannot read /var/log/ds4/server.log (it belongs to ds4:ds4, mode 0600); let me read it:"
        " sudo setfacl -m u:me:r /var/log/ds4/server.log"
    )
    found = mend_of(model_of("denied", detail))
    assert found is not None
    for rows in (mend_rows(found, width), mend_short(found, width)):
        assert max(map(row_width, rows)) <= width
        said = " ".join(" ".join(row_text(line).split()) for line in rows)
        assert "sudo setfacl -m u:me:r" in said
        assert "server.log" in said


def test_an_empty_log_says_why() -> None:
    model = model_of("ok")
    assert row_text(empty_log_rows(model, "x", 80)[0]) == "  no line matches; Esc clears the filter"
    assert row_text(empty_log_rows(model, "", 80)[0]) == "  no line of the log yet"
    assert row_text(empty_log_rows(model_of(), "", 80)[0]) == " NO SERVER"
