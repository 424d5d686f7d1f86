"""``ds4top completion SHELL``: what a shell needs to complete ds4top, from its own parsers."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")
_FILES = frozenset({"FILE", "LOG"})
_FOLDERS = frozenset({"DIR"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads it")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "bash:  ds4top completion bash > ~/.local/share/bash-completion/completions/ds4top\n"
        "zsh:   ds4top completion zsh > DIR/_ds4top, DIR being one of $fpath\n"
        "fish:  ds4top completion fish > ~/.config/fish/completions/ds4top.fish"
    )


def _name_files(parser: argparse.ArgumentParser) -> None:
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _name_files(child)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def script(shell: str) -> str:
    """The completion of one shell. Raises ``ValueError`` for one that is not among ``SHELLS``."""
    import shtab

    from ds4top.parsers import whole_parser

    if shell not in SHELLS:
        raise ValueError(f"{shell}: one of {', '.join(SHELLS)}")
    parser = whole_parser()
    _name_files(parser)
    return str(shtab.complete(parser, shell))


def main(args: argparse.Namespace) -> int:
    """Print it."""
    print(script(args.shell))
    return 0
