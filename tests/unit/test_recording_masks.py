"""A recording of a session: secrets are masked, and so is what a model wrote inside a log line."""

from __future__ import annotations

import json
from pathlib import Path

from ds4top.session import live
from ds4top.watch import Wanted

LINES = (
    "1124 18:22:51 ds4-server: argv --api-key abc-secret -c 4096\n"
    "1124 18:22:52 ds4-server: tool calls failed text_snippet: dear diary\n"
)


def test_what_a_session_records_is_masked(tmp_path: Path) -> None:
    log, out = tmp_path / "server.log", tmp_path / "r.jsonl"
    log.write_text(LINES)
    session = live(Wanted(log=str(log)), record=str(out))
    session.start_log()
    while session.model.lines < 2:
        assert session.mailbox.wait(10), "the log was not read"
        session.tick()
    session.close()
    head, *lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert head["schema"] == "ds4top.record/1"
    text = "".join(line["data"].get("text", "") for line in lines if line["source"] == "log")
    assert text == (
        "1124 18:22:51 ds4-server: argv --api-key *** -c 4096\n"
        "1124 18:22:52 ds4-server: tool calls failed text_snippet: ***\n"
    )
