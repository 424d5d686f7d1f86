"""Server and ds4top are both killed: the next ds4top tells of the end, on a full disk too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from control_kit import Box, eventually
from terminal import Terminal, ds4top

from ds4top.archive.blackbox_read import read_box
from ds4top.core.boxrecord import BoxRecord
from ds4top.core.units import fmt_gib

FULL = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""No file may grow or be written: what a full disk does to whoever writes files, without one."""


def ask(port: int, words: int) -> socket.socket:
    """Send a long prompt and wait for no answer."""
    message = {"role": "user", "content": "horse " * words}
    body = json.dumps({"model": "m", "messages": [message], "max_tokens": 100}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(head.encode() + body)
    return connection


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A machine of its own; nothing that it starts outlives the test, however that ends."""
    made = Box(tmp_path)
    yield made
    for child in made.children:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()


@pytest.fixture
def dead(box: Box) -> tuple[Box, BoxRecord]:
    """A machine on which both were killed in the middle of a prefill; the last that was kept."""
    ring = box.state / "blackbox.ring"

    def prefill() -> BoxRecord | None:
        last = next(reversed(read_box(ring).past.records), None)
        told = last is not None and last.phase == "prefill" and last.context_tokens
        return last if told and last is not None and last.slope_bytes_per_s is not None else None

    pid = box.start("--standin-speed", "1")
    with ask(box.port, 8_000), Terminal(ds4top(), env=box.environment()) as terminal:
        terminal.wait_state("PREFILL")
        eventually(prefill, "a prefill in the black box")
        before = read_box(ring).past.last_seq
        # ds4top first: it is not to see how the server ends.
        terminal.signal(signal.SIGKILL)
        assert terminal.wait_exit() == 128 + signal.SIGKILL
        os.kill(pid, signal.SIGKILL)
        box.children[0].wait()
    past = read_box(ring).past
    assert past.last_seq >= before
    assert not past.closed
    last = prefill()
    assert last is not None
    assert last.pid == pid
    return box, last


def told(last: BoxRecord) -> list[str]:
    """The end in words, with the figures of the last record."""
    at = datetime.fromtimestamp(last.wall).strftime("%Y-%m-%d %H:%M:%S")
    place = f"at {last.context_tokens:,} tokens of context (prompt {last.prompt_tokens:,})"
    free = fmt_gib(last.free_bytes)
    headroom = f"headroom {fmt_gib(last.headroom_bytes)} GiB"
    return [
        f"the server ended at {at}",
        f"phase prefill, {re.escape(place)}",
        rf"{headroom}, (steady|(falling|rising) \d+\.\d\d GiB/s), {free} GiB free",
        "inferred: it is gone, and nobody saw how",
    ]


@pytest.mark.parametrize("disk", ["well", "full by a limit of file size"])
def test_the_next_one_tells_when_in_which_phase_and_how_that_is_known(dead, disk) -> None:
    box, last = dead
    argv = ds4top("--log", box.log)
    if disk != "well":
        argv = [sys.executable, "-c", FULL, *argv[1:]]
    with Terminal(argv, env=box.environment(), size=(120, 45)) as terminal:
        terminal.wait_state("STOPPED")
        terminal.wait_for(f"{told(last)[0]}  inferred; 4 tells more")
        terminal.press("4")
        terminal.wait_for("THE LAST END")
        for words in told(last):
            terminal.wait_for(words)
        terminal.press("8")
        if disk == "well":
            terminal.wait_for(r"black box +ok ")
            terminal.wait_for(r"history +ok .*rows written")
        else:
            # Its path is broken over lines.
            terminal.wait_for(
                r"(?s)black box +error .*File too large; tried again.*history +error "
            )
        # The log is read on all the same.
        with box.log.open("a") as file:
            file.write("ds4-server: a line that nobody knows\n")
        terminal.wait_for("1 lines? not recognised")
        terminal.press("q")
        assert terminal.wait_exit() == 0
    assert read_box(box.state / "blackbox.ring").past.closed is (disk == "well")


def test_an_end_that_was_told_is_not_told_again(dead) -> None:
    box, _ = dead
    for number in range(2):
        with Terminal(ds4top("--log", box.log), env=box.environment(), size=(120, 45)) as terminal:
            terminal.press("8")
            terminal.wait_for(r"black box +ok ")
            terminal.press("4")
            terminal.wait_for(" OOM ")
            if number == 0:
                terminal.wait_for("THE LAST END")
            terminal.settle()
            assert ("THE LAST END" in terminal.text) is (number == 0)
            terminal.press("q")
            assert terminal.wait_exit() == 0
