"""The manual page, made from the parsers, the key table and the settings.

``python -m tests.manual`` writes ``ds4top/data/ds4top.1``; a test holds the two against each other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

from ds4top.core.config import OPTIONS, SECTIONS, to_toml
from ds4top.core.keymap import COMMANDS, GROUPS, key_label
from ds4top.parsers import whole_parser

PAGE = Path(__file__).resolve().parent.parent / "ds4top" / "data" / "ds4top.1"

NAME = "ds4top \\- the instrument panel for ds4\\-server on an NVIDIA DGX Spark"

EXITS = (
    ("0", "done"),
    (
        "1",
        "a control command failed or was rolled back; config init failed; status: warning",
    ),
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
    (
        "~/.local/state/ds4top/",
        "history.sqlite, blackbox.ring, journal.jsonl of what was done, parked.json (the way back),"
        " choice.json (the server chosen), logs/ (of servers it started), exports/ (views and"
        " pictures of them)",
    ),
)
ENVIRONMENT = (
    ("DS4TOP_CONFIG", "the config file, where --config does not name one"),
    ("DS4TOP_SECTION_KEY", "a setting by its name: DS4TOP_SCREEN_THEME, DS4TOP_SERVER_LOG"),
    ("DS4TOP_API_KEY", "sent to the server, where it stands behind an API key"),
    ("NO_COLOR", "no colours"),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME", "other folders than ~/.config and ~/.local/state"),
)
EXAMPLES = (
    ("ds4top", "watch the server that runs on this machine"),
    ("ds4top --demo", "try everything without a server"),
    ("journalctl -fu ds4 -o short-iso | ds4top --log -", "a log that comes through a pipe"),
    ("ds4top report server.log --since 24h", "the last 24 hours in figures"),
    ("ds4top status --line", "one line for a prompt or the status bar of tmux"),
    ("ds4top restart --no-mmap --dry-run", "what a switch would do"),
    ("ds4top run -- ds4-server -m MODEL", "start a server that outlives ds4top"),
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
        *pairs("ENVIRONMENT", list(ENVIRONMENT)),
        *pairs("FILES", list(FILES)),
        *pairs("EXIT STATUS", list(EXITS)),
        *pairs("EXAMPLES", list(EXAMPLES)),
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
