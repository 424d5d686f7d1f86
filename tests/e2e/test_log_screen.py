"""The Log view over a file in a real terminal: its first line, a search, what the model wrote."""

from __future__ import annotations

from pathlib import Path

from terminal import SIM_SHORT, Terminal, ds4top

FIRST = b"1124 00:00:01 ds4-server: the very first line\n"
SNIPPET = b"1124 00:00:02 ds4-server: tool parse failed text_snippet: [what the model wrote]\n"


def big_log(folder: Path) -> Path:
    """A log of 8 MB: more than is read before the first figures are shown."""
    path = folder / "server.log"
    block = SIM_SHORT.read_bytes()
    path.write_bytes(FIRST + SNIPPET + block * (8_000_000 // len(block)))
    return path


def test_the_first_line_of_a_file_by_key_and_by_search(tmp_path: Path) -> None:
    path = big_log(tmp_path)
    lines = path.read_bytes().count(b"\n")
    with Terminal(ds4top("--log", path, "--no-history"), size=(110, 20)) as terminal:
        terminal.wait_for(r"DECODE")
        terminal.press("6")
        terminal.wait_for(rf"{lines:,} lines +follows")
        terminal.press("g")
        terminal.wait_for(rf"line 1 of {lines:,}")
        assert "the very first line" in terminal.lines[2]
        assert "text_snippet: [model text hidden: v shows]" in terminal.text
        terminal.press("v")
        terminal.wait_for(r"text_snippet: \[what the model wrote\]")
        terminal.press("v", "G")
        terminal.wait_for(rf"line {lines:,} of {lines:,}")
        terminal.press("slash")
        terminal.wait_for(r"filter, Enter keeps it")
        terminal.type("VERY first")
        terminal.wait_for(r"1 match.*\n.*the very first line")
        terminal.press("enter")
        terminal.wait_for(r"filter VERY first +Esc clears")
        terminal.press("escape")
        terminal.wait_for(r"1 found VERY first")
        terminal.press("G", "n")
        terminal.wait_for(r"no later line with VERY first")
        terminal.press("N")
        terminal.wait_for(rf"line 1 of {lines:,}")
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_a_log_that_grows_and_is_rotated_while_it_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(SIM_SHORT.read_bytes())
    with Terminal(ds4top("--log", path, "--no-history"), size=(110, 20)) as terminal:
        terminal.wait_for(r"DECODE")
        terminal.press("6")
        terminal.wait_for(r"lines +follows")
        with path.open("ab") as file:
            file.write(b"1124 20:00:00 ds4-server: one line more\n")
        terminal.wait_for(r"one line more")
        path.rename(tmp_path / "server.log.1")
        path.write_bytes(b"1124 20:00:01 ds4-server: in the next file\n")
        terminal.wait_for(r"in the next file")
        terminal.wait_for(r"rotated")
        assert "one line more" in terminal.text
        terminal.press("q")
        assert terminal.wait_exit() == 0
