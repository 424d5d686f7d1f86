"""What a build can be told: the options of its ``--help``, the variables whose names it holds.

The help is printed before the lock is taken and before a model is opened (ds4_server.c), so asking
costs a running server nothing. The answer is kept by the identity of the executable (device,
inode, time of change, size): a rebuilt one is asked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ds4top.core.helptext import Flag, parse_help
from ds4top.core.launch import program_words

SCHEMA = 1
FEWEST = 3
"""Fewer options than this are no help text."""
MAX_BYTES = 1 << 20
MAX_FILES = 16
_VARIABLE = re.compile(rb"(?<![A-Z0-9_])DS4_[A-Z0-9_]{3,60}(?![A-Z0-9_])")
_BLOCK = 1 << 22
_OVERLAP = 128
_PASSED = ("PATH", "HOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "DS4TOP_STANDIN_PROFILE")

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Abilities:
    """``flags`` and ``variables`` are ``None`` where they could not be found out; ``why`` says so.

    ``cached``: read back, not asked now. ``note``: the answer is good but could not be kept.
    """

    exe: str
    flags: tuple[Flag, ...] | None
    variables: frozenset[str] | None
    why: str = ""
    cached: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    variables: tuple[str, ...] | None
    why: str = ""


class HelpFlags:
    """Asks executables, and keeps the answers under ``cache`` (``None``: in memory only).

    ``keep``: beginnings of words of the server's own command line that are passed on as well.
    """

    def __init__(
        self,
        cache: Path | None,
        *,
        timeout_s: float = 10.0,
        keep: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._timeout_s = timeout_s
        self._keep = keep
        self._environ = os.environ if environ is None else environ
        self._monotonic = monotonic
        self._seen: dict[str, _Answer] = {}

    def read(
        self,
        argv: Sequence[str],
        exe: str | None,
        env: Sequence[tuple[str, str]] = (),
        cwd: str | None = None,
    ) -> Abilities:
        """The abilities of the program that ``argv`` runs; blocks for at most the timeout.

        ``exe`` is the file to ask, best ``/proc/PID/exe``: it names the running build even where
        the file was replaced. ``env``: the server's, of which its search paths are passed on;
        ``cwd``: its folder, for a script that is named from there.
        """
        words = program_words(argv, _named(exe) if exe else None)
        if not words:
            return Abilities(exe or "", None, None, "the command line may not be read")
        path = words[0] if len(words) > 1 and words[0].startswith("/") else exe or words[0]
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return Abilities(path, None, None, f"{path}: {error.strerror}")
        try:
            return self._of(fd, path, words, argv, dict(env), _folder(cwd))
        finally:
            os.close(fd)

    def _of(
        self,
        fd: int,
        path: str,
        words: tuple[str, ...],
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
    ) -> Abilities:
        passed = tuple(word for word in argv[len(words) :] if word.startswith(self._keep or "\0"))
        script = os.path.join(cwd, words[-1]) if len(words) > 1 else None
        if script is not None and not os.path.isfile(script):
            script = None
        identity = [_identity(os.fstat(fd))]
        if script is not None:
            with contextlib.suppress(OSError):
                identity.append(_identity(os.stat(script)))
        # A module that an interpreter runs has no file known here: nothing outlives this process.
        lasting = len(words) == 1 or len(identity) == 2
        key = _key(identity, (*words[1:], *passed))
        note, cached = "", True
        answer = self._seen.get(key) or (self._load(key) if lasting else None)
        if answer is None:
            cached = False
            answer = self._ask(fd, path, words, passed, script, env, cwd)
            if lasting and not answer.why:
                note = self._keep_answer(key, answer)
        self._seen[key] = answer
        flags = parse_help(answer.text) if not answer.why else None
        variables = None if answer.variables is None else frozenset(answer.variables)
        return Abilities(path, flags, variables, answer.why, cached, note)

    def _ask(
        self,
        fd: int,
        path: str,
        words: tuple[str, ...],
        passed: tuple[str, ...],
        script: str | None,
        env: Mapping[str, str],
        cwd: str,
    ) -> _Answer:
        variables = _variables(fd, path if len(words) == 1 else script)
        # Run by its descriptor: the very file that was looked at, and under a name of its own
        # (a number), so that nobody takes the child for a server.
        direct = len(words) == 1 and os.path.isdir("/proc/self/fd")
        try:
            text, problem = self._output(
                [*words, "--help", *passed],
                f"/proc/self/fd/{fd}" if direct else path,
                (fd,) if direct else (),
                self._environment(env),
                cwd,
            )
        except OSError as error:
            return _Answer("", variables, f"{path} cannot be run: {error.strerror}")
        if problem:
            return _Answer("", variables, problem)
        if len(parse_help(text)) < FEWEST:
            return _Answer("", variables, f"{path} --help lists no options")
        return _Answer(text, variables)

    def _environment(self, server: Mapping[str, str]) -> dict[str, str]:
        found = {name: self._environ[name] for name in _PASSED if name in self._environ}
        found |= {name: server[name] for name in _PASSED if name in server}
        # No device: a help text must not take memory of a GPU that is nearly full.
        return found | {"LC_ALL": "C", "TERM": "dumb", "CUDA_VISIBLE_DEVICES": ""}

    def _output(
        self,
        command: list[str],
        program: str,
        fds: tuple[int, ...],
        env: dict[str, str],
        cwd: str,
    ) -> tuple[str, str]:
        """What it prints, and what is wrong; it is ended with all its children at the timeout."""
        child = subprocess.Popen(
            command,
            executable=program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=fds,
            cwd=cwd,
            env=env,
        )
        assert child.stdout is not None
        poll = select.poll()
        poll.register(child.stdout, select.POLLIN | select.POLLHUP)
        until = self._monotonic() + self._timeout_s
        data = bytearray()
        problem = ""
        try:
            while True:
                left = until - self._monotonic()
                if left <= 0:
                    problem = f"--help did not end within {self._timeout_s:g} s"
                    break
                if not poll.poll(min(left, 1.0) * 1000):
                    continue
                if not (block := os.read(child.stdout.fileno(), 65536)):
                    break
                data += block
                if len(data) > MAX_BYTES:
                    problem = f"--help prints more than {MAX_BYTES >> 20} MiB"
                    break
        finally:
            # Its session holds it and its children alone; until it is waited for its number is
            # nobody else's.
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.stdout.close()
            child.wait()
        return data.decode("utf-8", "replace"), problem

    # kept answers ------------------------------------------------------------------------

    def _path(self, key: str) -> Path | None:
        return None if self._cache is None else self._cache / f"help-{key}.json"

    def _load(self, key: str) -> _Answer | None:
        path = self._path(key)
        if path is None:
            return None
        try:
            found = json.loads(path.read_bytes())
            text, variables = found["text"], found["variables"]
            good = found["schema"] == SCHEMA and len(parse_help(text)) >= FEWEST
            kept = None if variables is None else tuple(str(name) for name in variables)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Torn, foreign or unreadable: asked again and written anew.
            return None
        return _Answer(text, kept) if good else None

    def _keep_answer(self, key: str, answer: _Answer) -> str:
        path = self._path(key)
        if path is None:
            return ""
        data = {"schema": SCHEMA, "text": answer.text, "variables": answer.variables}
        temporary = ""
        try:
            if not path.parent.parent.exists():
                # ``parents`` would leave it open to everybody.
                path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            fd, temporary = tempfile.mkstemp(prefix=".help-", dir=path.parent)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            self._prune(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            return f"not kept: {error.strerror}"
        return ""

    def _prune(self, newest: Path) -> None:
        """Old builds go; the newest answers stay."""
        others = [path for path in newest.parent.glob("help-*.json") if path != newest]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in others[MAX_FILES - 1 :]:
            path.unlink(missing_ok=True)


def _named(exe: str) -> str:
    """The file behind ``/proc/PID/exe``, for its name alone."""
    try:
        return os.readlink(exe).removesuffix(" (deleted)") if exe.startswith("/proc/") else exe
    except OSError:
        return exe


def _folder(cwd: str | None) -> str:
    return cwd if cwd is not None and os.path.isdir(cwd) else "/"


def _identity(found: os.stat_result) -> Identity:
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _key(identity: Sequence[Identity], words: Sequence[str]) -> str:
    text = json.dumps([SCHEMA, [list(part) for part in identity], list(words)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _variables(fd: int, path: str | None) -> tuple[str, ...] | None:
    """Names of ``DS4_`` variables that stand in the file, sorted; ``None`` where it is not read."""
    if path is None:
        return None
    found: set[str] = set()
    tail = b""
    try:
        # The script of an interpreter is another file than the one that runs.
        own = os.fstat(fd)
        other = os.stat(path)
        source = fd if (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino) else None
        with open(os.dup(source) if source is not None else path, "rb") as file:
            file.seek(0)
            while block := file.read(_BLOCK):
                piece = tail + block
                # A name at the very end may go on in the next block, where it is seen whole.
                hits = _VARIABLE.finditer(piece)
                found.update(hit[0].decode() for hit in hits if hit.end() < len(piece))
                tail = piece[-_OVERLAP:]
            found.update(hit[0].decode() for hit in _VARIABLE.finditer(tail))
    except OSError:
        return None
    return tuple(sorted(found))
