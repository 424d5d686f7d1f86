"""Every view at every size, Live in every theme, and what is missing: as committed."""

from __future__ import annotations

from difflib import unified_diff

import pytest

from tests.frames import FILES, FOLDER


@pytest.mark.parametrize("name", FILES)
async def test_the_frames_are_what_the_code_draws(name: str) -> None:
    kept = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    drawn = (await FILES[name]()).splitlines()
    diff = "\n".join(unified_diff(kept, drawn, "committed", "drawn", n=0, lineterm=""))
    assert not diff, f"run: python -m tests.frames, and look at what changed\n{diff}"
