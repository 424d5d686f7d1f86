"""``ds4top status`` on a running stand-in: the contract's fields, exit codes, one line."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from terminal import Terminal, ds4top, environment

from ds4top.core.process import DEMO_MARK
from ds4top.core.units import GIB
from ds4top.reach.status import LOOK_S
from ds4top.standin.demo import free_port, python_environment
from tests.schema import faults

SPARKS_MODEL_BYTES = 86_715_389_460


@contextlib.contextmanager
def standin(folder: Path, *more: str, speed: float, mark: str = "") -> Iterator[int]:
    """A stand-in over the model in ``folder``, its log beside it; its pid. ``mark``: a demo's."""
    env = {k: v for k, v in python_environment().items() if not k.startswith("DS4")}
    env |= {"DS4_LOCK_FILE": str(folder / "lock")} | ({DEMO_MARK: mark} if mark else {})
    argv = [sys.executable, "-m", "ds4top.standin", "--standin-speed", str(speed), "--ctx", "65536"]
    argv += ["--port", str(free_port()), "-m", str(folder / "model.gguf"), *more]
    with (folder / "server.log").open("wb") as file:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env, cwd=folder
        )
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def read_until(log: Path, pattern: str) -> None:
    """Wait until the log has such a line."""
    end = time.monotonic() + 60
    while not re.search(pattern, log.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)  # A process of its own has no event to wait for.


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A stand-in that listens; its pid and its folder."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF".ljust(64, b"\0"))
    with standin(tmp_path, "--kv-disk-dir", "kv", speed=300.0) as pid:
        read_until(tmp_path / "server.log", "listening on")
        yield pid, tmp_path


def status(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The command, with a home of its own."""
    env = python_environment() | {"HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "ds4top", "status", *words],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        timeout=60,
    )


def test_the_contract_on_a_running_server(server: tuple[int, Path]) -> None:
    pid, home = server
    done = status("--json", "--pid", str(pid), home=home)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}[found["level"]]
    assert found["schema"] == "ds4top.status/1"
    assert faults(found) == []
    told = found["server"]
    assert (told["state"], told["pid"], told["comm"]) == ("idle", pid, "ds4-server")
    assert told["log"] == str(home / "server.log")
    assert told["context_limit_tokens"] == 65_536
    assert told["url"].startswith("http://127.0.0.1:")
    assert told["queued"] == 0
    settings = {each["name"]: each for each in found["launch"]["settings"]}
    # Of its own help, as the Launch view has it: what was not given too, with its default.
    assert (settings["--ctx"]["value"], settings["--ctx"]["origin"]) == ("65536", "argv")
    assert settings["--ctx"]["default"] == "32768"
    assert settings["--warm-weights"]["origin"] == "default"
    assert found["kv_cache"]["directory"] == str(home / "kv")
    assert found["kv_cache"]["entries"] == 0
    assert sum(found["memory"]["parts"].values()) == found["memory"]["total_bytes"]
    names = {each["name"] for each in found["sources"]}
    assert {"log", "process", "memory", "KV directory", "/v1/models"} <= names
    states = {each["name"]: each["state"] for each in found["sources"]}
    assert (states["/v1/models"], states["KV directory"], states["log"]) == ("ok", "ok", "ok")


def asked(pid: int, port: int) -> None:
    """One turn, so that there is something to tell."""
    body = {"messages": [{"role": "user", "content": "word " * 3_000}], "max_tokens": 40}
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=60.0, trust_env=False
    )
    assert answer.status_code == 200


def test_the_screen_shows_what_status_tells(server: tuple[int, Path]) -> None:
    """Each figure of the document that holds still is on the view that it belongs to."""
    pid, home = server
    argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    asked(pid, int(argv[argv.index("--port") + 1]))
    found = json.loads(status("--json", "--pid", str(pid), home=home).stdout)
    assert faults(found) == []
    environ = environment(XDG_STATE_HOME=str(home / "state"))
    # As high as it takes to have each view whole.
    with Terminal(ds4top("--pid", pid), size=(200, 70), env=environ) as screen:
        screen.wait_state("IDLE")
        told, kv = found["server"], found["kv_cache"]
        screen.wait_for(f"ds4-server {pid}")
        screen.wait_for(f"of {told['context_limit_tokens']:,}")
        screen.wait_for(rf"disk +{kv['disk_hits']}, live +{kv['live_hits']}, miss +{kv['misses']}")
        screen.wait_for(rf"{kv['entries']} entr")
        screen.press("4")
        screen.wait_for(f"MEMORY +{found['memory']['total_bytes'] / GIB:.1f} GiB")
        screen.press("5")
        screen.wait_for("DEFAULTS AND START-UP")
        for each in found["launch"]["settings"]:
            value = "–" if each["value"] is None else str(each["value"])
            name, origin = re.escape(each["name"]), each["origin"]
            shown = screen.wait_for(rf"{name} +(\S+(?: \S+)*?) +{origin}\b")[1]
            # What is longer than its column ends in an ellipsis.
            assert shown == value or value.startswith(shown.removesuffix("…") or "-"), each
        screen.press("8")
        for each in found["sources"]:
            screen.wait_for(rf"{re.escape(each['name'])} +{each['state']}\b")


def test_one_line_for_a_status_bar(server: tuple[int, Path]) -> None:
    pid, home = server
    done = status("--line", "--pid", str(pid), home=home)
    line = done.stdout.rstrip("\n")
    assert len(line) <= 40
    assert re.match(r"idle .*\b(ok|warn|CRIT)$", line)


def test_a_server_that_loads_tells_how_far_it_is(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    with model.open("wb") as file:
        file.truncate(SPARKS_MODEL_BYTES)  # Zeros on no disk: they pass for a model.
    with standin(tmp_path, "--no-mmap", speed=2.0) as pid:
        read_until(tmp_path / "server.log", r"tensors (\d+\.\d+) GiB cached")
        done = status("--json", "--pid", str(pid), home=tmp_path)
        short = status("--line", "--pid", str(pid), home=tmp_path).stdout.rstrip("\n")
        words = status("--pid", str(pid), home=tmp_path).stdout
    found: dict[str, Any] = json.loads(done.stdout)
    assert faults(found) == []
    assert (found["server"]["state"], done.returncode in (0, 1, 2)) == ("loading", True)
    load = found["server"]["load"]
    lines = re.findall(r"tensors (\d+\.\d+) GiB cached", (tmp_path / "server.log").read_text())
    assert load["stage"] == "loading tensors"
    assert load["loaded_bytes"] in [int(float(gib) * GIB) for gib in lines]
    assert load["total_bytes"] == found["server"]["model_bytes"] == SPARKS_MODEL_BYTES
    assert (load["loaded_from"], load["rate_from"]) == ("its log", "mean so far")
    assert load["bytes_per_s"] == pytest.approx(load["loaded_bytes"] / load["elapsed_s"], rel=0.02)
    left = load["total_bytes"] - load["loaded_bytes"]
    assert load["eta_s"] == pytest.approx(left / load["bytes_per_s"], abs=0.1)
    assert load["eta_from"] == "at the mean so far"
    assert load["elapsed_s"] == pytest.approx(found["server"]["uptime_s"], abs=0.2)
    assert len(short) <= 40
    assert re.fullmatch(r"load \d+% (\d+m)?\d+s no-mmap \S+G (ok|warn|CRIT)", short)
    assert re.search(
        r"loading tensors   \S+ of 80\.8 GiB by its log   \S+ GiB/s mean so far", words
    )


def test_without_a_server(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = status("--json", "--pid", str(gone.pid), home=tmp_path)
    found = json.loads(done.stdout)
    assert faults(found) == []
    assert found["server"] is None
    assert (found["level"], done.returncode) == ("unknown", 3)


def test_a_demos_server_is_none_but_it_is_said_how_to_look_at_it(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF".ljust(64, b"\0"))
    with standin(tmp_path, speed=300.0, mark=str(tmp_path)) as pid:
        read_until(tmp_path / "server.log", "listening on")
        done = status("--json", home=tmp_path)
        words = status(home=tmp_path).stdout
        short = status("--line", home=tmp_path).stdout.rstrip("\n")
        named = status("--json", "--pid", str(pid), home=tmp_path)
    found = json.loads(done.stdout)
    assert faults(found) == []
    assert (found["server"], done.returncode) == (None, 3)
    (log,) = [each for each in found["sources"] if each["name"] == "log"]
    # Others' demos may run here, too.
    told = re.fullmatch(r"no server is running but a demo's \((.+)\): --pid \d+ looks at it",
                        log["detail"])  # fmt: skip
    assert told is not None
    assert str(pid) in told[1].split(", ")
    assert f"log {log['state']}: {log['detail']}" in words
    assert re.fullmatch(r"none but demo \d+ \S+G unknown", short)
    assert len(short) <= 40
    assert json.loads(named.stdout)["server"]["pid"] == pid


def test_an_empty_log_is_not_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"")
    begin = time.monotonic()
    done = status("--line", "--log", str(log), home=tmp_path)
    assert done.returncode == 3
    assert time.monotonic() - begin < LOOK_S
