"""The manual page, made from the parsers, the key table and the settings.

``python -m tests.manual`` writes ``ds4top/data/ds4top.1``; a test holds the two against each other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

from ds4top.core.config import OPTIONS, SECTIONS, to_toml
from ds4top.parsers import whole_parser
from ds4top.view.keymap import COMMANDS, GROUPS, key_label

PAGE = Path(__file__).resolve().parent.parent / "ds4top" / "data" / "ds4top.1"

NAME = "ds4top \\- the instrument panel for ds4\\-server on an NVIDIA DGX Spark"

EXITS = (
    ("0", "done"),
    ("1", "a control command failed, or was rolled back; status: warning"),
    ("2", "a control command was refused; status: critical"),
    ("3", "no server; status: unknown"),
    ("64", "wrong usage, or a screen asked for without a terminal"),
    ("70", "a crash of ds4top itself"),
    ("78", "a config that is wrong"),
    ("128+n", "ended by signal n"),
)
FILES = (
    ("~/.config/ds4top/config.toml", "settings; ds4top config init writes one with every key"),
    ("~/.config/ds4top/themes/", "themes of your own, a TOML file each"),
    ("~/.local/state/ds4top/", "history, black box, journal of what was done"),
)


def escaped(text: str) -> str:
    """Text that troff takes literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)
    return "\\&" + text if text.startswith((".", "'")) else text


def pairs(title: str, rows: list[tuple[str, str]]) -> list[str]:
    """A section of terms and what they mean."""
    out = [f".SH {title}"]
    for term, words in rows:
        out += [".TP", f"\\fB{escaped(term)}\\fR", escaped(words)]
    return out


def page() -> str:
    """The whole page as troff."""
    # Usage lines are wrapped to the terminal.
    os.environ["COLUMNS"] = "80"
    parser = whole_parser()
    manual = Manpage(parser)
    manual.date = ""
    manual.source = "ds4top"
    manual.manual = "ds4top manual"
    keys = [
        (f"{key_label(command.keys)}", f"{command.words} ({command.id})")
        for group in GROUPS
        for command in COMMANDS
        if command.group == group
    ]
    settings = [(f"[{name}]", words) for name, words in SECTIONS.items()]
    settings += [
        (option.key, f"{option.doc} Default: {to_toml(option.default) or 'not set'}.")
        for option in OPTIONS
    ]
    parts = [
        str(manual).rstrip().replace(".SH NAME\nds4top\n", f".SH NAME\n{NAME}\n"),
        *pairs("KEYS", keys),
        *pairs("SETTINGS", settings),
        *pairs("FILES", list(FILES)),
        *pairs("EXIT STATUS", list(EXITS)),
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
