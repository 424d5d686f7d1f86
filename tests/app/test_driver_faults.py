"""The screen while the driver misbehaves: each call of NVML fails, answers nothing, or hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from ds4top.session import Session, Wanted, live
from ds4top.sources.nvml import NvmlSource
from ds4top.ui.app import Ds4top
from ds4top.view.look import Look
from ds4top.watch import Watch
from tests.fakes.nvml import FakeNvml
from tests.unit.test_nvml_source import CALLS, FIRST_CALLS, MEM_TOTAL

GPU = "GPU (NVML)"
KEYS = {"4": "memory", "8": "sources", "1": "live"}
"""Pressed in turn; what each shows."""
MOST_S = 30.0


@contextmanager
def session_of(nvml: FakeNvml, tmp_path: Path) -> Iterator[Session]:
    """A live session over a driver and an empty log; no server is looked for by name."""
    log = tmp_path / "server.log"
    log.touch()

    def watch(*arguments: Any) -> Watch:
        source = NvmlSource(nvml, machine_bytes=lambda: MEM_TOTAL, comm_of=lambda pid: "")
        return Watch(*arguments, nvml=source)

    session = live(Wanted(log=str(log)), watch=watch)
    yield session
    # What still hangs goes on, so that its thread ends.
    nvml.mend()
    session.close()


async def until(condition: partial[Any], what: str) -> None:
    """Wait for other threads, which the event loop has no event of."""
    end = time.monotonic() + MOST_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.005)


def turns(session: Session) -> int:
    """How often the driver was read, or the reading failed."""
    beat = session.supervisor.beats()[GPU]
    return beat.turns + beat.failures


async def key_is_drawn(app: Ds4top, pilot: Pilot[None], number: int) -> None:
    """Press a key: another view is on the screen, painted."""
    key, name = list(KEYS.items())[number % len(KEYS)]
    await pilot.press(key)
    assert app.screen.query_one("#foot").rows  # type: ignore[attr-defined]
    assert getattr(app.screen, "name_", "") == name
    assert app.is_running


@pytest.mark.parametrize(
    "how", ["NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_UNKNOWN", "none"]
)
async def test_a_call_that_fails_leaves_the_screen_live(how: str, tmp_path: Path) -> None:
    nvml = FakeNvml()
    with session_of(nvml, tmp_path) as session:
        app = Ds4top(session, Look(), ticking=False)
        async with app.run_test(size=(120, 30)) as pilot:
            session.start()
            await until(partial(turns, session), "a first reading")
            for number, call in enumerate(CALLS):
                nvml.break_call(call, how)
                before = turns(session)
                session.supervisor.wake(GPU)
                await until(partial(lambda n: turns(session) > n, before), f"{call} asked")
                app.tick()
                await key_is_drawn(app, pilot, number)
                nvml.mend()


@pytest.mark.parametrize("call", [*FIRST_CALLS, *CALLS])
async def test_a_key_is_drawn_before_a_hang_ends(call: str, tmp_path: Path) -> None:
    nvml = FakeNvml()
    nvml.break_call(call, "hang")
    with session_of(nvml, tmp_path) as session:
        app = Ds4top(session, Look(), ticking=False)
        async with app.run_test(size=(120, 30)) as pilot:
            session.start()
            await until(partial(nvml.hanging.is_set), f"{call} hangs")
            for number in range(len(KEYS)):
                app.tick()
                await key_is_drawn(app, pilot, number)
            # All that was drawn while it hung.
            assert not nvml.release.is_set()
            assert session.supervisor.beats()[GPU].state == "reading"
            assert not session.model.machine.samples()
