"""Settings: the table, the file, the environment, and what is said when one is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.config import OPTIONS, settle, template
from ds4top.reach.configfile import config_path, load, write_new

ACTIONS = ("look.theme", "server.restart")


def test_first_flag_then_environment_then_file_then_default() -> None:
    text = '[screen]\ntheme = "light"\ninterval_s = 2\n'
    environment = {"DS4TOP_SCREEN_INTERVAL_S": "5", "DS4TOP_SCREEN_THEME": "mono"}
    found = settle(flags={"screen.theme": "ansi"}, environment=environment, text=text, name="c")
    assert found.text("screen.theme") == "ansi"
    assert found.values["screen.theme"].origin == "flag --theme"
    assert found.number("screen.interval_s") == 5.0
    assert found.values["screen.interval_s"].origin == "environment DS4TOP_SCREEN_INTERVAL_S"
    alone = settle(text=text, name="c")
    assert (alone.number("screen.interval_s"), alone.text("screen.theme")) == (2.0, "light")
    assert alone.values["screen.interval_s"].origin == "c, line 3"
    assert settle().number("screen.interval_s") == 1.0
    assert settle().values["screen.interval_s"].origin == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[screen]\nthem = 'x'\n",
            "c, line 2: screen.them is no setting; did you mean screen.theme?",
        ),
        ("[scren]\n", "c, line 1: scren is no section; did you mean screen?"),
        (
            "# a\n[screen]\ninterval_s = 60\n",
            "c, line 3: screen.interval_s must be between 0.25 and 10, not 60",
        ),
        ("[screen]\nmouse = 1\n", "c, line 2: screen.mouse must be true or false, not 1"),
        ("[server]\npid = true\n", "c, line 2: server.pid must be a whole number, not True"),
        ("[server]\npid = 0\n", "c, line 2: server.pid must be 1 or more, not 0"),
        (
            "[control]\nstart = 'x y'\n",
            "c, line 2: control.start must be a list of texts, the command and its arguments",
        ),
        (
            '[keys]\n"server.restat" = "r"\n',
            "c, line 2: keys.server.restat is no action; did you mean server.restart?",
        ),
        (
            '[keys]\n"look.theme" = 3\n',
            'c, line 2: keys.look.theme must be a key such as "ctrl+r", not 3',
        ),
        ("theme = 'x'\n", "c, line 1: theme is no section"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_key(text: str, said: str) -> None:
    found = settle(text=text, name="c", actions=ACTIONS)
    assert found.problems == (said,)
    # The default stands where the file is wrong.
    assert found.values == settle().values
    assert found.keys == {}


def test_a_file_that_is_no_toml() -> None:
    found = settle(text="[screen\n", name="c")
    assert len(found.problems) == 1
    assert re.match(r"c: .*line 1.*left aside", found.problems[0])


def test_wrong_and_unknown_variables() -> None:
    environment = {
        "DS4TOP_SCREEN_THEM": "x",
        "DS4TOP_SCREEN_MOUSE": "perhaps",
        "DS4TOP_SERVER_PID": "ten",
        "OTHER": "x",
    }
    assert settle(environment=environment).problems == (
        "environment: DS4TOP_SERVER_PID must be a whole number",
        "environment: DS4TOP_SCREEN_MOUSE must be 1 or 0, not 'perhaps'",
        "environment: DS4TOP_SCREEN_THEM is no setting; did you mean DS4TOP_SCREEN_THEME?",
    )


def test_keys_for_actions() -> None:
    found = settle(text='[keys]\n"server.restart" = "ctrl+r"\n', actions=ACTIONS)
    assert (found.keys, found.problems) == ({"server.restart": "ctrl+r"}, ())


def test_the_template_says_everything_and_changes_nothing() -> None:
    text = template()
    assert settle(text=text).values == settle().values
    for option in OPTIONS:
        assert option.doc in text
        assert option.variable in text
    uncommented = re.sub(r'(?m)^# (?=[\w"]+(\.\w+)?"? = )', "", text)
    found = settle(text=uncommented, actions=ACTIONS)
    assert found.problems == ()
    assert set(found.keys) == {"look.theme"}
    assert all(value.origin != "default" for value in found.values.values())
    tomllib.loads(uncommented)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    settle(text=text, name="c", actions=ACTIONS)


@given(st.sampled_from([option.variable for option in OPTIONS]), st.text(max_size=20))
def test_no_variable_raises(name: str, value: str) -> None:
    found = settle(environment={name: value})
    assert len(found.problems) <= 1


def test_where_the_file_lies(tmp_path: Path) -> None:
    assert config_path("/a/b.toml", {}) == Path("/a/b.toml")
    assert config_path(None, {"DS4TOP_CONFIG": "/c.toml"}) == Path("/c.toml")
    assert config_path(None, {"XDG_CONFIG_HOME": "/x"}) == Path("/x/ds4top/config.toml")
    # A relative folder is to be left aside, says the XDG specification.
    assert config_path(None, {"XDG_CONFIG_HOME": "x"}).is_absolute()


def test_a_named_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    assert load(missing, {}, {}).problems == (f"{missing}: no such file",)
    assert load(None, {"XDG_CONFIG_HOME": str(tmp_path)}, {}).problems == ()
    folder = load(str(tmp_path), {}, {})
    assert folder.problems == (f"{tmp_path}: Is a directory",)
    binary = tmp_path / "b.toml"
    binary.write_bytes(b"\xff\xfe")
    assert load(str(binary), {}, {}).problems == (f"{binary}: is no UTF-8 text",)


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a" / "config.toml"
    write_new(path, "one")
    with pytest.raises(FileExistsError):
        write_new(path, "two")
    assert path.read_text() == "one"
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"]


def run(*words: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``ds4top config`` in a home of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ds4top", "config", *words],
        capture_output=True,
        text=True,
        env={"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        check=False,
    )


def test_the_command(tmp_path: Path) -> None:
    place = tmp_path / ".config" / "ds4top" / "config.toml"
    assert run("path", home=tmp_path).stdout == f"{place}\n"
    first = run("init", home=tmp_path)
    assert (first.returncode, first.stdout) == (0, f"{place}\n")
    again = run("init", home=tmp_path)
    assert again.returncode == 1
    assert "left as it is" in again.stderr
    place.write_text("[screen]\ntheme = 'light'\n[history]\nkep = true\n")
    show = run("show", home=tmp_path, DS4TOP_SCREEN_ASCII="1")
    assert show.returncode == 78
    assert re.search(rf'screen\.theme +"light" +{re.escape(str(place))}, line 2\n', show.stdout)
    assert re.search(r"screen\.ascii +true +environment DS4TOP_SCREEN_ASCII\n", show.stdout)
    assert "line 4: history.kep is no setting; did you mean history.keep?" in show.stderr
    assert run("nonsense", home=tmp_path).returncode == 64
