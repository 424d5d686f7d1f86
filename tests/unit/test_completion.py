"""Completion and the manual, both from the parsers."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from ds4top.reach.completion import SHELLS, script
from tests.manual import PAGE, page

_ASK = """
{script}
COMP_WORDS=({words}) COMP_CWORD={at} COMP_TYPE=9
COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}
_shtab_ds4top
printf '%s\n' "${{COMPREPLY[@]}}"
"""


def bash(*words: str) -> set[str]:
    """What bash offers for the last of these words."""
    line = _ASK.format(
        script=script("bash"),
        words=" ".join(word or "''" for word in words),
        at=len(words) - 1,
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    return {word.strip() for word in done.stdout.split("\n") if word.strip()}


def test_bash_completes_flags_and_commands() -> None:
    assert {"--theme", "--tz"} <= bash("ds4top", "--t")
    assert {"report", "config", "completion"} <= bash("ds4top", "")
    assert {"--json", "--markdown", "--csv"} <= bash("ds4top", "report", "--")
    assert {"init", "show", "path"} <= bash("ds4top", "config", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_flag_is_in_the_script_of_each_shell(shell: str) -> None:
    text = script(shell)
    for flag in ("replay", "demo", "read-only", "kv-dir", "markdown"):
        assert flag in text


def test_the_command_and_a_shell_that_is_not_known() -> None:
    command = [sys.executable, "-m", "ds4top", "completion"]
    done = subprocess.run([*command, "fish"], capture_output=True, text=True, check=True)
    assert done.stdout == script("fish") + "\n"
    assert subprocess.run([*command, "tcsh"], capture_output=True, check=False).returncode == 64
    with pytest.raises(ValueError, match="tcsh"):
        script("tcsh")


def test_the_manual_is_what_the_parsers_say() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.manual"


def test_troff_takes_the_manual() -> None:
    if shutil.which("groff") is None:
        print("not run: there is no groff here")
        return
    command = ["groff", "-man", "-Tutf8", "-ww", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "the instrument panel for ds4" in done.stdout
