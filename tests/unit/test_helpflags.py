"""Asking an executable for its options: once for each build, bounded, unseen, and kept safely."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from pathlib import Path

import pytest

from ds4top.core.helptext import names_of
from ds4top.sources import helpflags
from ds4top.sources.helpflags import MAX_FILES, Abilities, HelpFlags

DEADLINE_S = 20.0
HELP = """Usage: ds4-server [options]

Model and runtime:
  -c, --ctx N
      Context. Default: 32768
  --power N
      Duty. Default: 100
  --no-mmap
      Copy.
"""


def script(folder: Path, body: str, name: str = "ds4-server") -> Path:
    """An executable that runs ``body`` with sh."""
    path = folder / name
    new = folder / f".{name}.new"
    new.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    new.chmod(0o755)
    new.replace(path)
    return path


def helper(folder: Path, more: str = "") -> Path:
    return script(folder, f"echo run >> '{folder}/runs'\n{more}\ncat <<'END'\n{HELP}END")


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def ask(source: HelpFlags, path: Path) -> Abilities:
    return source.read(("./ds4-server", "--ctx", "1"), str(path))


def gone(pid: int) -> bool:
    """Whether a process ended before the deadline; a zombie has."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if text.rpartition(")")[2].split()[0] in ("Z", "X"):
            return True
        time.sleep(0.02)
    return False


def test_a_build_is_asked_once_and_again_when_it_is_replaced(tmp_path: Path) -> None:
    cache = tmp_path / "state" / "cache"
    path = helper(tmp_path)
    first = HelpFlags(cache, timeout_s=DEADLINE_S)
    found = ask(first, path)
    assert found.flags is not None
    assert names_of(found.flags) == {"-c", "--ctx", "--power", "--no-mmap"}
    assert (found.why, found.cached, found.note, found.exe) == ("", False, "", str(path))
    assert ask(first, path).cached
    again = ask(HelpFlags(cache), path)
    assert (again.cached, again.flags, again.variables) == (True, found.flags, found.variables)
    assert runs(tmp_path) == 1
    helper(tmp_path, "# another build")
    newer = ask(HelpFlags(cache, timeout_s=DEADLINE_S), path)
    assert (newer.cached, runs(tmp_path)) == (False, 2)


def test_it_has_no_terminal_no_input_a_session_and_a_name_of_its_own(tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    lines = (
        f"cat > '{facts}'.stdin",
        f"cat /proc/$$/comm > '{facts}'",
        f"cut -d' ' -f6 /proc/$$/stat >> '{facts}'",
        f"echo $$ >> '{facts}'",
        f'if (: </dev/tty) 2>/dev/null; then echo tty; else echo none; fi >> "{facts}"',
        f'echo "$CUDA_VISIBLE_DEVICES|$SECRET|$LD_LIBRARY_PATH|$TERM" >> "{facts}"',
    )
    path = helper(tmp_path, "\n".join(lines))
    source = HelpFlags(
        None, timeout_s=DEADLINE_S, environ={"PATH": os.environ["PATH"], "SECRET": "s"}
    )
    env = (("LD_LIBRARY_PATH", "/opt/lib"), ("SECRET", "s"))
    assert source.read(("ds4-server",), str(path), env).why == ""
    comm, session, pid, terminal, passed = facts.read_text().splitlines()
    assert comm != "ds4-server"
    assert comm.isdigit()
    assert session == pid
    assert terminal == "none"
    assert passed == "||/opt/lib|dumb"
    assert (tmp_path / "facts.stdin").read_bytes() == b""


def test_one_that_never_ends_is_ended_with_its_children(tmp_path: Path) -> None:
    path = script(
        tmp_path, f"sleep 300 &\necho $! > '{tmp_path}/child'\necho $$ > '{tmp_path}/me'\nwait"
    )
    begun = time.monotonic()
    asked: list[float] = []

    def clock() -> float:
        """Stands still until the script is well under way, at the latest at the deadline."""
        asked.append(0.0)
        if len(asked) == 1:
            # The deadline is set by this one, however far the script is by then.
            return 0.0
        ready = (tmp_path / "me").exists() and (tmp_path / "me").read_text().endswith("\n")
        return 5.0 if ready or time.monotonic() > begun + DEADLINE_S else 0.0

    found = ask(HelpFlags(tmp_path / "cache", timeout_s=3.0, monotonic=clock), path)
    assert found.flags is None
    assert found.why == "--help did not end within 3 s"
    assert gone(int((tmp_path / "child").read_text()))
    assert gone(int((tmp_path / "me").read_text()))
    assert not (tmp_path / "cache").exists()


def test_one_that_prints_without_end_is_stopped(tmp_path: Path) -> None:
    found = ask(HelpFlags(None, timeout_s=DEADLINE_S), script(tmp_path, "exec yes"))
    assert (found.flags, found.why) == (None, "--help prints more than 1 MiB")


def test_what_cannot_be_asked_says_why(tmp_path: Path) -> None:
    source = HelpFlags(None, timeout_s=DEADLINE_S)
    missing = ask(source, tmp_path / "nothing")
    assert (missing.flags, missing.why) == (None, f"{tmp_path}/nothing: No such file or directory")
    plain = tmp_path / "plain"
    plain.write_text("no program")
    assert ask(source, plain).why == f"{plain} cannot be run: Permission denied"
    mute = script(tmp_path, "echo nothing to say", "mute")
    assert ask(source, mute).why == f"{mute} --help lists no options"
    assert source.read((), None).why == "the command line may not be read"


def test_a_help_text_on_standard_error_with_a_bad_exit_status_counts(tmp_path: Path) -> None:
    path = script(tmp_path, f"cat >&2 <<'END'\nunknown option: --help\n{HELP}END\nexit 2")
    found = ask(HelpFlags(None, timeout_s=DEADLINE_S), path)
    assert found.flags is not None
    assert len(found.flags) == 3


def test_a_failure_is_not_kept_beyond_the_process(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = script(tmp_path, f"echo run >> '{tmp_path}/runs'")
    source = HelpFlags(cache, timeout_s=DEADLINE_S)
    assert ask(source, path).flags is None
    assert ask(source, path).cached
    assert runs(tmp_path) == 1
    ask(HelpFlags(cache, timeout_s=DEADLINE_S), path)
    assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"schema": 1, "text": 3, "variables": null}', b"\xff\xfe"]
)
def test_a_damaged_answer_is_asked_for_again(tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "cache"
    path = helper(tmp_path)
    ask(HelpFlags(cache, timeout_s=DEADLINE_S), path)
    (kept,) = cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    found = ask(HelpFlags(cache, timeout_s=DEADLINE_S), path)
    assert found.flags is not None
    assert (found.cached, runs(tmp_path)) == (False, 2)
    assert kept.read_bytes() == whole
    assert json.loads(whole)["schema"] == 1


def test_without_a_place_to_keep_it_the_answer_is_good_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = HelpFlags(tmp_path / "file" / "cache", timeout_s=DEADLINE_S)
    found = ask(source, helper(tmp_path))
    assert found.flags is not None
    assert found.note == "not kept: Not a directory"


def test_old_builds_are_forgotten(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for number in range(MAX_FILES + 4):
        old = cache / f"help-{number:032x}.json"
        old.write_text("{}")
        os.utime(old, (number, number))
    ask(HelpFlags(cache, timeout_s=DEADLINE_S), helper(tmp_path))
    names = {path.name for path in cache.iterdir()}
    assert len(names) == MAX_FILES
    assert f"help-{MAX_FILES + 3:032x}.json" in names
    assert f"help-{0:032x}.json" not in names


def test_variables_are_names_in_the_executable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpflags, "_BLOCK", 64)
    body = "".join(f": {'x' * pad} DS4_CUDA_NAME_{pad:02d}\n" for pad in range(40))
    path = helper(tmp_path, body + ": XDS4_NOT_ONE DS4_ ds4_low getenv.DS4_LOCK_FILE")
    found = ask(HelpFlags(None, timeout_s=DEADLINE_S), path)
    assert found.variables is not None
    names = {name for name in found.variables if not name.startswith("DS4_CUDA_NAME_")}
    assert names == {"DS4_LOCK_FILE"}
    assert {f"DS4_CUDA_NAME_{pad:02d}" for pad in range(40)} <= found.variables


def test_a_script_of_an_interpreter_is_asked_and_known_by_its_own_file(tmp_path: Path) -> None:
    server = tmp_path / "server.py"
    text = f"import sys\nprint({HELP!r})\nprint(sys.argv)\n# DS4_CUDA_DIRECT_MODEL\n"
    server.write_text(text)
    cache = tmp_path / "cache"
    argv = (sys.executable, "server.py", "--ctx", "1")
    real = os.path.realpath(sys.executable)
    source = HelpFlags(cache, timeout_s=DEADLINE_S)
    found = source.read(argv, real, (), str(tmp_path))
    assert found.flags is not None
    assert found.variables == {"DS4_CUDA_DIRECT_MODEL"}
    server.write_text(text + "#\n")
    assert not HelpFlags(cache, timeout_s=DEADLINE_S).read(argv, real, (), str(tmp_path)).cached


def test_the_stand_in_as_a_module_tells_the_options_of_its_build() -> None:
    argv = (sys.executable, "-m", "ds4top.standin", "--standin-profile=stock-2026-08", "-m", "x")
    source = HelpFlags(None, timeout_s=DEADLINE_S, keep=("--standin-profile",))
    folder = str(Path(__file__).parents[2])
    found = source.read(argv, os.path.realpath(sys.executable), (), folder)
    assert found.why == ""
    assert found.flags is not None
    assert "--prefill-chunk" in names_of(found.flags)
    assert "--no-mmap" not in names_of(found.flags)
