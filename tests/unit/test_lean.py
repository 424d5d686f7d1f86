"""What a dashboard does not load, and that whoever wants it has it all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def said(code: str) -> list[str]:
    """The lines that a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_before_the_first_picture_only_the_log_is_loaded() -> None:
    later = (
        "ds4top.watch", "ds4top.control", "ds4top.flight", "ds4top.keep", "ds4top.archive.history",
        "ds4top.archive.blackbox", "ds4top.sources.find", "ds4top.sources.nvml", "ds4top.view.kv",
        "httpx", "sqlite3", "pynvml", "plotext", "statistics", "_ssl",
    )  # fmt: skip
    code = (
        "import sys\n"
        "from ds4top.lean import without_openssl\n"
        "without_openssl()\n"
        "import ds4top.launch, ds4top.ui.app, ds4top.ui.screens.live\n"
        f"print(sorted(set({later!r}) & set(sys.modules)))\n"
    )
    assert said(code) == ["[]"]


def test_without_openssl_digests_are_the_same_and_tls_comes_back() -> None:
    digests = "print(hashlib.sha256(b'x').hexdigest(), hashlib.blake2b(b'x').hexdigest())\n"
    code = (
        "from ds4top.lean import without_openssl\n"
        "without_openssl()\n"
        "import asyncio, hashlib, sys\n"
        "print('_ssl' in sys.modules)\n"
        f"{digests}"
        "from ds4top.sources.http import load_httpx\n"
        "load_httpx().Client().close()\n"
        "print('_ssl' in sys.modules)\n"
    )
    (plain,) = said(f"import hashlib\n{digests}")
    assert said(code) == ["False", plain, "True"]
