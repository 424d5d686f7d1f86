"""The demo: a stand-in server with clients, in a folder of its own, gone without a trace after.

Nothing is left even if this process is killed: a keeper process holds the other end of a pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import ds4top
from ds4top.standin.client import Client
from ds4top.standin.keeper import Charge
from ds4top.standin.profiles import COPY_LOAD_S, DEFAULT_PROFILE, NOMINAL_MODEL_BYTES
from ds4top.standin.state import STATE_ENV

RESTART_AFTER_S = 420.0
"""Simulated seconds after which the demo's server is restarted once."""
_KEEPER_END_S = 15.0


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def python_environment() -> dict[str, str]:
    """The environment in which `python -m ds4top.standin` works from any directory."""
    root = str(Path(ds4top.__file__).resolve().parent.parent)
    old = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{old}" if old else root}


MARK = "DS4TOP_DEMO"


class DemoServer:
    """Context manager. Paths and the address are known from the start, the pid once it runs.

    `speed`: how many times faster than a Spark. `workdir`: an empty or new directory, removed at
    the end; None makes one under the temporary directory. `drive`: whether clients call.
    `restart_after_s`: simulated seconds, None for never. `arguments` are added to the server's.
    """

    def __init__(
        self,
        speed: float = 1.0,
        seed: int = 1,
        profile: str = DEFAULT_PROFILE,
        workdir: str | os.PathLike[str] | None = None,
        *,
        drive: bool = True,
        restart_after_s: float | None = RESTART_AFTER_S,
        context_tokens: int = 131_072,
        budget_mib: int = 1024,
        arguments: Sequence[str] = (),
    ) -> None:
        """Makes nothing yet."""
        self.speed = speed
        self.seed = seed
        self.profile = profile
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._given = None if workdir is None else Path(workdir).resolve()
        self._drive = drive
        self._restart_after_s = restart_after_s
        self._context_tokens = context_tokens
        self._budget_mib = budget_mib
        self._arguments = tuple(arguments)
        self._keeper: subprocess.Popen[bytes] | None = None
        self.workdir = self._given or Path(tempfile.gettempdir())

    @property
    def log_path(self) -> Path:
        """The server's standard error."""
        return self.workdir / "server.log"

    @property
    def kv_dir(self) -> Path:
        """The KV directory."""
        return self.workdir / "kv"

    @property
    def lock_path(self) -> Path:
        """The lock file; DS4_LOCK_FILE names it."""
        return self.workdir / "ds4.lock"

    @property
    def model_path(self) -> Path:
        """The model: a sparse file."""
        return self.workdir / "ds4flash-q2.gguf"

    @property
    def record_path(self) -> Path:
        """What the clients saw, one JSON object a line."""
        return self.workdir / "calls.jsonl"

    @property
    def control_path(self) -> Path:
        """The server's control file for failures; see `fail`."""
        return self.workdir / "control"

    @property
    def state_path(self) -> Path:
        """What the server does now; for `ds4top.standin.state.StateReader`."""
        return self.workdir / "state"

    @property
    def mark(self) -> str:
        """What its servers carry in their environment, so that nobody else lists them."""
        return str(self.workdir)

    @property
    def server_argv(self) -> list[str]:
        """The server's argument vector."""
        residency = ["--no-mmap"] if self.profile == DEFAULT_PROFILE else []
        return [
            sys.executable,
            "-m",
            "ds4top.standin",
            "-m",
            str(self.model_path),
            "--ctx",
            str(self._context_tokens),
            *residency,
            "--port",
            str(self.port),
            "--kv-disk-dir",
            str(self.kv_dir),
            "--kv-disk-space-mb",
            str(self._budget_mib),
            *self._arguments,
            # In one word, as it is passed on when its help is asked for.
            f"--standin-profile={self.profile}",
            "--standin-speed",
            f"{self.speed:g}",
            "--standin-seed",
            str(self.seed),
            "--standin-control",
            str(self.control_path),
            "--standin-leash",
            str(self.workdir / "leash"),
            *self._model_size(),
        ]

    def start(self) -> None:
        """Make the folder and start the processes. Raises OSError."""
        self.workdir = self._given or Path(tempfile.mkdtemp(prefix="ds4top-demo-"))
        self.workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_model()
        leash = self.workdir / "leash"
        environment = {
            **python_environment(),
            "DS4_LOCK_FILE": str(self.lock_path),
            # Whoever looks for servers leaves one with this mark aside.
            MARK: self.mark,
            STATE_ENV: str(self.state_path),
        }
        driver = [
            sys.executable,
            "-m",
            "ds4top.standin.drive",
            "--url",
            self.url,
            "--seed",
            str(self.seed),
            "--speed",
            f"{self.speed:g}",
            "--record",
            str(self.record_path),
            "--die-with-parent",
            "--leash",
            str(leash),
        ]
        restart = self._restart_after_s
        charge = Charge(
            workdir=str(self.workdir),
            remove=True,
            leash=str(leash),
            lock=str(self.lock_path),
            log=str(self.log_path),
            server=self.server_argv,
            server_env=environment,
            driver=driver if self._drive else [],
            restart_after_s=None if restart is None else restart / self.speed,
        )
        path = self.workdir / "charge.json"
        path.write_text(charge.dumps(), encoding="utf-8")
        path.chmod(0o600)
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "ds4top.standin.keeper", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    def close(self) -> None:
        """End every process of the demo and remove its folder; may be called twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()
        try:
            keeper.wait(_KEEPER_END_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def __enter__(self) -> DemoServer:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def server_pid(self) -> int | None:
        """Pid of the server that holds the lock now; None while there is none."""
        try:
            pid = int(self.lock_path.read_text(encoding="ascii"))
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.workdir) in line else None

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait in real seconds until the server answers (default: twice what a load takes)."""
        if timeout_s is None:
            timeout_s = 10.0 + 10 * COPY_LOAD_S / self.speed
        stop = threading.Event()
        client = Client(self.url, stop)
        deadline = time.monotonic() + timeout_s
        try:
            while time.monotonic() < deadline:
                if client.is_up():
                    return True
                time.sleep(0.05)  # a port that opens tells nobody
        finally:
            stop.set()
        return False

    def restart(self) -> None:
        """Have the keeper stop its server in order and start it again."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.write(b"restart\n")
            self._keeper.stdin.flush()

    def fail(self, spec: str) -> None:
        """Let the server fail: KIND or KIND@REQUESTS, see `ds4top.standin.faults`."""
        temporary = self.workdir / "control.new"
        temporary.write_text(spec, encoding="utf-8")
        temporary.rename(self.control_path)

    def _model_size(self) -> list[str]:
        try:
            small = self.model_path.stat().st_size < NOMINAL_MODEL_BYTES
        except OSError:
            small = False
        gib = NOMINAL_MODEL_BYTES / 1024**3
        return ["--standin-model-gib", f"{gib:.2f}"] if small else []

    def _make_model(self) -> None:
        with open(self.model_path, "wb") as file:
            file.write(b"GGUF\x03\0\0\0".ljust(64, b"\0"))
            # A file system without holes or room for such a size gets a small file.
            with contextlib.suppress(OSError):
                file.truncate(NOMINAL_MODEL_BYTES)


def calls(path: Path) -> list[dict[str, object]]:
    """The records a driver has written so far; a torn last line is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except OSError:
        return []
    return [json.loads(line) for line in lines]
