"""Programs as they run once installed: from compiled modules."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def compiled() -> Iterator[dict[str, str]]:
    """An environment in which ``python -m ds4top`` finds every module compiled.

    A shell with ``PYTHONDONTWRITEBYTECODE`` would else measure Python's compiler at each start.
    """
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": cache}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        warm = "import ds4top.cli, ds4top.launch, ds4top.ui.app, textual.widgets; "
        warm += "from textual.widgets import Static, Input; import ds4top.report.cli; "
        # What is imported only once it is needed would else be compiled inside the measurement.
        warm += "import ds4top.reach.status, ds4top.sources.plainget, pynvml, "
        warm += "prometheus_client.parser, ds4top.flight, ds4top.keep, ds4top.archive.history; "
        warm += "from ds4top.ui.screens import live, log, kv, others"
        subprocess.run([sys.executable, "-c", warm], env=env, check=True)
        yield env
