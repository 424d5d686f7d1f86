"""Data that comes with the package."""

from __future__ import annotations

from importlib import resources


def reference_text() -> str:
    """The measured reference curves as CSV text, for ``core.fit.parse_reference``.

    Raises ``OSError`` where the installation lacks the file.
    """
    return (resources.files(__name__) / "reference.csv").read_text("utf-8")
