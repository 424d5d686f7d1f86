"""A box for the control commands: a state folder, stand-ins that nobody else lists, and ds4top."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ds4top.control.hold import identity_of
from ds4top.core.process import DEMO_MARK
from ds4top.standin.demo import free_port, python_environment
from ds4top.standin.proc import COMM

DEADLINE_S = 40.0
SECRET = "sk-do-not-show-me"


def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds; fail after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)  # A process of its own has no event to wait for.


class Box:
    """A folder with a model, a server or none, and ds4top's state."""

    def __init__(self, home: Path, profile: str = "daily-agent") -> None:
        self.home = home
        self.profile = profile
        self.port = free_port()
        self.mark = str(home)
        self.bin = home / "bin"
        self.bin.mkdir()
        self.state = home / "xdg" / "ds4top"
        self.children: list[subprocess.Popen[Any]] = []
        self.model.write_bytes(b"GGUF".ljust(64, b"\0"))

    @property
    def model(self) -> Path:
        """The model."""
        return self.home / "model.gguf"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.home / "server.log"

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def environment(self, **more: str) -> dict[str, str]:
        """What both the server and ds4top are started with."""
        kept = {k: v for k, v in python_environment().items() if not k.startswith(("DS4", "TMUX"))}
        return (
            kept
            | {
                "DS4_LOCK_FILE": str(self.home / "lock"),
                DEMO_MARK: self.mark,
                "HF_TOKEN": SECRET,
                "XDG_STATE_HOME": str(self.home / "xdg"),
                "XDG_CONFIG_HOME": str(self.home / "config"),
                "XDG_RUNTIME_DIR": str(self.home / "run"),
                "HOME": str(self.home),
                "TERM": "xterm-256color",
                "LC_ALL": "C.UTF-8",
                "PATH": f"{self.bin}:{os.environ['PATH']}",
            }
            | more
        )

    def argv(self, *extra: object, program: tuple[str, ...] = ()) -> list[str]:
        """The stand-in's command line."""
        words = [*(program or (sys.executable, "-m", "ds4top.standin"))]
        words += [f"--standin-profile={self.profile}", "--standin-speed", "300"]
        words += ["--port", str(self.port), "-m", str(self.model)]
        return [*words, *map(str, extra)]

    def start(self, *extra: object, program: tuple[str, ...] = (), **more: str) -> int:
        """Start a server as a shell would, and wait until it answers; gives its pid."""
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                self.argv(*extra, program=program), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.environment(**more), cwd=self.home,
            )  # fmt: skip
        self.children.append(child)
        eventually(lambda: "listening on" in self.text(), "listening")
        eventually(lambda: identity_of(child.pid)[0].comm == COMM, "its name")
        return child.pid

    def command(self, *words: object) -> list[str]:
        """A command of ds4top's."""
        return [sys.executable, "-m", "ds4top", *map(str, words)]

    def ds4top(
        self, *words: object, given: str | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*words), input=given, capture_output=True, text=True, check=False,
            env=self.environment(**more), cwd=self.home, timeout=120,
            stdin=subprocess.DEVNULL if given is None else None,
        )  # fmt: skip

    def plan(self, *words: object, **more: str) -> tuple[int, dict[str, Any]]:
        """Exit code and plan of a dry run."""
        done = self.ds4top(*words, "--dry-run", "--json", **more)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def fake(self, name: str, script: str) -> Path:
        """A constructed executable, first on the PATH; gives the file that records its argv."""
        record = self.home / f"{name}.argv"
        path = self.bin / name
        path.write_text(
            f"#!{sys.executable}\nimport json, os, sys\n"
            f"open({str(record)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n{script}\n"
        )
        path.chmod(0o755)
        return record

    def servers(self) -> list[int]:
        """Stand-ins of this box that are alive, by their mark."""
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                if not name.isdecimal():
                    continue
                target, state = identity_of(int(name))
                if target.comm != COMM or state in "ZX":
                    continue
                environ = Path("/proc", name, "environ").read_bytes()
                if f"{DEMO_MARK}={self.mark}".encode() in environ.split(b"\0"):
                    found.append(int(name))
        return found

    def close(self) -> None:
        """End what was started."""
        for pid in self.servers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            child.wait()


def recorded(path: Path) -> list[list[str]]:
    """The argument vectors that a constructed executable was called with."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def environment_of(pid: int) -> Mapping[str, str]:
    """A process's environment."""
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(pair.partition("=")[::2] for pair in text.split("\0") if pair)
