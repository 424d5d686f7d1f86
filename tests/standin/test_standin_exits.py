"""How a start ends: exit status and the whole of standard error, as recorded from the server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from standin_kit import DATA, Start, eventually, unstamped

MODEL_CASES = {
    "missing-model": ("-m", "/data/models/ds4flash-q4.gguf", "--ctx", 131072),
    "default-model-missing": ("--ctx", 131072),
    "model-too-small": ("-m", "short"),
    "model-not-gguf": ("-m", "text"),
}


@pytest.mark.parametrize("name", MODEL_CASES)
def test_a_model_that_is_none_ends_with_1(start: Start, tmp_path: Path, name: str) -> None:
    (tmp_path / "short").write_bytes(b"GGUF")
    (tmp_path / "text").write_bytes(b"no model at all " * 100)
    server = start(*MODEL_CASES[name], model_argument=False)
    assert server.process.wait(10) == 1
    assert server.log == (DATA / "failures" / f"{name}.stderr").read_text()


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("missing-value", ("-m",), 2),
        ("invalid-number", ("--ctx", "128k"), 2),
        ("bad-chdir", ("--chdir", "/nonexistent"), 1),
    ],
)
def test_wrong_arguments_as_recorded(
    start: Start, name: str, arguments: tuple[str, ...], status: int
) -> None:
    server = start(*arguments)
    assert server.process.wait(10) == status
    recorded = (DATA / "failures" / f"{name}.stderr").read_text()
    assert unstamped(server.log) == unstamped(recorded)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--port", "0"), "invalid value for --port: 0"),
        (("--mtp-margin", "2000"), "invalid value for --mtp-margin: 2000"),
        (("--backend", "opencl"), "invalid --backend value: opencl"),
        (
            ("--kv-cache-cold-max-tokens", "100"),
            "--kv-cache-cold-max-tokens must be 0 or >= --kv-cache-min-tokens",
        ),
        (("--standin-profile", "none"), "invalid value for --standin-profile: none"),
        (("--standin-fail", "fire"), "invalid value for --standin-fail: fire"),
    ],
)
def test_values_out_of_range_end_with_2(
    start: Start, arguments: tuple[str, ...], line: str
) -> None:
    server = start(*arguments)
    assert server.process.wait(10) == 2
    assert server.lines()[0] == f"ds4-server: {line}"


@pytest.mark.parametrize(
    ("profile", "option", "known"),
    [
        ("stock-2026-05", "--no-mmap", False),
        ("stock-2026-05", "--power", False),
        ("stock-2026-05", "--batched-session", False),
        ("stock-2026-08", "--no-mmap", False),
        ("stock-2026-08", "--max-batch-size", False),
        ("stock-2026-08", "--power", True),
        ("stock-2026-08", "--batched-session", True),
        ("daily-agent", "--no-mmap", True),
        ("daily-agent", "--max-batch-size", True),
        ("daily-agent", "--prefill-chunk", False),
    ],
)
def test_each_build_knows_its_own_options(
    start: Start, profile: str, option: str, known: bool
) -> None:
    server = start("--help", profile=profile)
    out, _ = server.process.communicate(timeout=10)
    assert server.process.returncode == 0
    assert server.log == ""
    assert out.startswith(b"Usage: ds4-server [options]\n")
    assert (f"  {option}".encode() in out) is known
    assert b"standin" not in out
    if not known:
        refused = start(option, "1", profile=profile)
        assert refused.process.wait(10) == 2
        first, rest = unstamped(refused.log).split("\n", 1)
        assert first == f"ds4-server: unknown option: {option}"
        assert rest == out.decode()


def test_the_profile_may_stand_in_the_environment(start: Start) -> None:
    server = start(
        "--standin-profile=stock-2026-08", "--help", DS4TOP_STANDIN_PROFILE="daily-agent"
    )
    out, _ = server.process.communicate(timeout=10)
    assert b"--batched-session" in out
    assert b"--no-mmap" not in out


def test_a_backend_of_another_machine_ends_with_1(start: Start) -> None:
    server = start("--metal")
    assert server.process.wait(10) == 1
    assert server.log == (
        "ds4: Metal backend requested but this build is linked with CUDA, not Metal\n"
    )


def test_a_second_instance_is_refused_and_the_first_goes_on(start: Start) -> None:
    first = start().ready()
    second = start(port=first.port)
    assert second.process.wait(10) == 2
    pid = first.process.pid
    assert second.log == (
        f"ds4: another ds4 process is already running (pid {pid}); refusing to start\n"
    )
    assert first.request("GET", "/v1/models").status == 200


def test_an_unusable_lock_file_ends_with_2(start: Start) -> None:
    server = start(lock="no/such/folder/lock")
    assert server.process.wait(10) == 2
    assert server.log.endswith(": No such file or directory\n")
    assert server.log.startswith("ds4: failed to open lock file ")


def test_a_port_in_use_is_found_only_after_the_load(start: Start) -> None:
    first = start().ready()
    second = start("--kv-disk-dir", "kv", port=first.port, lock="other.lock")
    assert second.process.wait(10) == 1
    lines = second.lines()
    assert lines[-3].startswith("ds4-server: context buffers ")
    assert lines[-2].startswith("ds4-server: KV disk cache kv (budget=4096 MiB, ")
    assert lines[-1] == (
        f"ds4-server: failed to listen on 127.0.0.1:{first.port}: Address already in use"
    )


def test_a_host_name_is_no_address(start: Start) -> None:
    server = start("--host", "not-a-host")
    assert server.process.wait(10) == 1
    assert server.lines()[-1] == (
        f"ds4-server: failed to listen on not-a-host:{server.port}: Invalid argument"
    )


def test_a_trace_file_that_cannot_be_written_ends_with_1(start: Start) -> None:
    server = start("--trace", "/nonexistent/trace.txt")
    assert server.process.wait(10) == 1
    assert server.lines()[-1] == (
        "ds4-server: failed to open trace file /nonexistent/trace.txt: No such file or directory"
    )


def test_without_its_kv_directory_the_server_serves_on(start: Start) -> None:
    server = start("--kv-disk-dir", "/proc/nope/kv").ready()
    assert (
        "ds4-server: failed to create KV cache directory /proc/nope/kv: No such file or directory"
        in server.lines()
    )
    reply = server.post("/v1/completions", prompt="a " * 4000, max_tokens=3)
    assert reply.json["usage"]["completion_tokens"] == 3
    assert server.stop() == 0
    assert "kv cache" not in server.log


def test_the_process_bears_the_servers_name_in_every_thread(start: Start) -> None:
    server = start().ready()
    tasks = Path(f"/proc/{server.process.pid}/task")
    names = {(task / "comm").read_text() for task in tasks.iterdir()}
    assert names == {"ds4-server\n"}


def test_the_lock_file_holds_the_pid_and_outlives_the_server(start: Start) -> None:
    server = start().ready()
    lock = server.directory / "ds4.lock"
    assert lock.read_text() == f"{server.process.pid}\n"
    assert lock.stat().st_mode & 0o777 == 0o600
    server.stop()
    assert lock.exists()
    again = start().ready()
    assert lock.read_text() == f"{again.process.pid}\n"


def test_the_newer_build_offers_itself_to_the_oom_killer(start: Start) -> None:
    server = start(profile="stock-2026-08").ready()
    assert Path(f"/proc/{server.process.pid}/oom_score_adj").read_text() == "1000\n"
    assert server.lines()[0] == "ds4: Linux cuda backend set oom_score_adj=1000"


def test_it_ends_with_a_parent_that_is_killed(start: Start) -> None:
    server = start(
        "--standin-die-with-parent",
        prefix=("sh", "-c", '"$@" & echo $! > child; wait', "sh"),
    )
    server.ready()
    child = int((server.directory / "child").read_text())
    os.kill(server.process.pid, 9)
    eventually(lambda: not alive(child), "the child's end")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
