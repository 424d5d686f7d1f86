"""What the report command prints of a log, for the tests."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from ds4top.report import cli


def report(paths: Sequence[Path], form: str) -> str:
    """What the command prints."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(parser.parse_args([*map(str, paths), form])) == 0
    return out.getvalue()
