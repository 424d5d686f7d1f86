"""Real stand-in processes for the tests, on free loopback ports and in temporary directories."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds4top.standin.demo import free_port, python_environment

# The kit is found whichever way pytest imports test modules.
sys.path.insert(0, str(Path(__file__).parent))

from standin_kit import Running, Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start stand-ins; all are killed at the end."""
    running: list[Running] = []
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF".ljust(64, b"\0"))

    def begin(
        *arguments: object,
        profile: str = "stock-2026-05",
        speed: float = 300.0,
        port: int = 0,
        lock: str = "ds4.lock",
        model_argument: bool = True,
        prefix: tuple[str, ...] = (),
        module: str = "ds4top.standin",
        **environment: str,
    ) -> Running:
        port = port or free_port()
        log_path = tmp_path / f"log-{len(running)}"
        argv = [
            *prefix,
            sys.executable,
            "-m",
            module,
            "--standin-profile",
            profile,
            "--standin-speed",
            str(speed),
            "--port",
            str(port),
            *(("-m", str(model)) if model_argument else ()),
            *map(str, arguments),
        ]
        env = {
            **{k: v for k, v in python_environment().items() if not k.startswith("DS4")},
            "DS4_LOCK_FILE": str(tmp_path / lock),
            **environment,
        }
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                cwd=tmp_path,
            )
        running.append(Running(process, port, log_path, tmp_path))
        return running[-1]

    yield begin
    for each in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.process.pid, signal.SIGKILL)
        each.process.communicate()
