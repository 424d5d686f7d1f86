"""What carriers and broken writes do to lines, and that the events come out all the same."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from itertools import permutations

import pytest

from ds4top.core import events as ev
from ds4top.core.envelope import rfc3339, unwrap
from ds4top.core.logread import LogReader
from ds4top.core.pieces import HEAD, SEAM, TAIL, PieceSplitter
from ds4top.core.stamps import StampClock

LATEST = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
AT = datetime(2026, 5, 21, 10, tzinfo=UTC).timestamp()
OUTER = datetime(2026, 5, 21, 10, 0, 0, 250_000, tzinfo=UTC).timestamp()
LINE = "0521 10:00:00 ds4-server: chat ctx=0..9:9 TOOLS prompt start"
START = ev.PromptStart(AT, "chat", 0, 9, 9, frozenset({"TOOLS"}))
OUTER_START = START._replace(at=OUTER)
URL = "http://127.0.0.1:8000"


def reader() -> LogReader:
    return LogReader(StampClock(LATEST, UTC))


def read(data: str | bytes) -> list[ev.Event]:
    log = reader()
    return [*log.feed(data if isinstance(data, bytes) else data.encode()), *log.close()]


def journal(message: object) -> str:
    record = {
        "__REALTIME_TIMESTAMP": "1779357600250000",
        "SYSLOG_IDENTIFIER": "ds4-server",
        "MESSAGE": message,
    }
    return json.dumps(record)


@pytest.mark.parametrize(
    "line",
    [
        f"May 21 10:00:03 spark ds4-server[4242]: {LINE}",
        f"May  1 10:00:03 spark ds4-server[4242]: {LINE}",
        f"May 21 10:00:03.123456 spark flock[635]: {LINE}",
        f"flock[635]: {LINE}",
        f"ds4-1  | {LINE}",
        f"stack_ds4_1 | {LINE}",
        f"\x1b[36mds4-1  |\x1b[0m {LINE}",
        json.dumps({"log": LINE + "\n", "stream": "stderr"}),
        LINE + "\r",
        f"\x1b[36m{LINE}\x1b[0m",
        LINE.replace("ds4-server: ", "\x1b[38;5;208mds4-server: ") + "\x1b[0m",
        f"\x1b]0;title\x07{LINE}",
        f"\x1b[K{LINE}",
        "\0\0\0" + LINE,
        LINE.replace("ds4", "d\0s4"),
        f"\x1b[1;32m\x1b[K{LINE}",
    ],
)
def test_a_carrier_without_a_full_date_leaves_the_inner_stamp(line: str) -> None:
    assert read(line + "\n") == [START]


@pytest.mark.parametrize(
    "line",
    [
        journal(LINE),
        journal(list(LINE.encode())),
        f"2026-05-21T10:00:00.250Z {LINE}",
        f"2026-05-21T10:00:00.250000000Z {LINE}",
        f"2026-05-21T12:00:00.250000000+02:00 {LINE}",
        f"ds4-1  | 2026-05-21T10:00:00.250000000Z {LINE}",
        json.dumps(
            {"log": LINE + "\n", "stream": "stderr", "time": "2026-05-21T10:00:00.250000000Z"}
        ),
        f"2026-05-21T10:00:00.250000000Z stderr F {LINE}",
        f"2026-05-21T12:00:00.250000+0200 spark ds4-server[4242]: {LINE}",
        f"2026-05-21T12:00:00,250000+02:00 spark ds4-server[4242]: {LINE}",
    ],
)
def test_a_carrier_with_a_full_date_gives_the_time(line: str) -> None:
    assert read(line + "\n") == [OUTER_START]


def test_engine_lines_get_the_time_of_their_carrier() -> None:
    line = "2026-05-21T10:00:00.250Z ds4: cuda backend initialized for graph diagnostics\n"
    assert read(line) == [ev.LoadProgress(OUTER, "engine", finished=True)]


def test_a_message_of_several_lines_in_one_record() -> None:
    assert read(journal(f"{LINE}\n\n{LINE}") + "\n") == [OUTER_START, OUTER_START]


def test_lines_of_systemd_and_the_kernel_are_notes() -> None:
    lines = (
        "-- Boot 0123456789abcdef --\n"
        "May 21 10:00:03 spark systemd[1]: Started ds4.service - ds4 server.\n"
        "May 21 10:00:03 spark kernel: Out of memory: Killed process 12 (ds4-server)\n"
    )
    events = read(lines)
    assert [type(e) for e in events] == [ev.Note] * 3
    assert [e.fields["speaker"] for e in events if isinstance(e, ev.Note)] == [
        "", "systemd", "kernel",
    ]  # fmt: skip


def test_docker_records_split_at_16_kib_are_joined() -> None:
    names = ",".join(f"tool_{n}" for n in range(2_000))
    line = f"0521 10:00:00 ds4-server: tool calls ctx=0..9:9 n=1 raw_dsml=1 ids=[a] names=[{names}]"
    assert len(line) > 16_384
    records = [
        json.dumps({"log": line[:16_384], "time": "2026-05-21T10:00:00.250Z"}),
        json.dumps({"log": line[16_384:] + "\n", "time": "2026-05-21T10:00:00.250Z"}),
    ]
    (event,) = read("\n".join(records) + "\n")
    assert isinstance(event, ev.ToolCalls)
    assert event.at == OUTER
    assert event.names == tuple(names.split(","))


def test_cri_records_are_joined_by_their_tag() -> None:
    head = "2026-05-21T10:00:00.250Z stderr"
    assert read(f"{head} P {LINE[:30]}\n{head} P {LINE[30:40]}\n{head} F {LINE[40:]}\n") == [
        OUTER_START
    ]


def test_a_partial_record_without_its_end_is_torn() -> None:
    events = read(f"2026-05-21T10:00:00Z stderr P {LINE}\n")
    assert events == [ev.Unrecognised(None, LINE, torn=True)]


@pytest.mark.parametrize(
    "text",
    [
        "{", "{}", "[1]", '{"MESSAGE": [256]}', '{"MESSAGE": ["a"]}', '{"MESSAGE": null}',
        '{"MESSAGE": {"a": 1}}', '{"log": 5}', '{"a": ' + "9" * 5_000 + "}", '{"a":' * 3_000,
        '{"MESSAGE": "x", "__REALTIME_TIMESTAMP": "99999999999999999999"}',
        '{"log": "x\\n", "time": "yesterday"}', "9999-99-99T99:99:99Z x",
        "2026-05-21T10:00:00+99:99 x",
    ],
)  # fmt: skip
def test_broken_records_never_raise(text: str) -> None:
    assert all(isinstance(event, ev.Unrecognised) for event in read(text + "\n"))


def test_time_of_a_carrier() -> None:
    assert rfc3339("2026-05-21T10:00:00.250999999Z") == OUTER + 0.000999
    assert rfc3339("2026-13-21T10:00:00Z") is None
    assert unwrap("ds4: {").text == "ds4: {"


def test_invalid_utf8_is_replaced() -> None:
    events = read(b"0521 10:00:00 ds4-server: accept failed: \xff\xfe\n")
    assert events == [ev.Note(AT, "accept-failed", "warning", "\ufffd\ufffd", {})]


def test_progress_rewritten_in_place_with_a_stamped_line_behind_it() -> None:
    events = read(
        f"gpu prefill layer 1/43\rgpu prefill layer 43/43\r\x1b[K{LINE}\n"
        f"ds4: CUDA loading model tensors into device cache: 2.00 GiB\r"
        f"ds4: CUDA loading model tensors into device cache: 4.00 GiB\n"
    )
    layer = ev.Note(None, "layer-progress", "info", "", {"layer": 1, "layers": 43})
    assert events == [
        layer,
        layer._replace(fields={"layer": 43, "layers": 43}),
        START,
        ev.LoadProgress(None, "tensors", 2.0),
        ev.LoadProgress(None, "tensors", 4.0),
    ]


def test_junk_before_a_stamped_line_is_counted_and_the_line_is_read() -> None:
    log = reader()
    assert log.feed(f"half a word{LINE}\n".encode()) == [
        ev.Unrecognised(None, "half a word"),
        START,
    ]
    assert log.unrecognised == 1


def test_two_engine_messages_glued_together() -> None:
    events = read(
        "ds4: ROCm loading model tensors into device cache: 80.06 GiB"
        "ds4: ROCm model chunk copy complete in 9.500s (80.06 GiB tensors)\n"
    )
    assert events == [
        ev.LoadProgress(None, "tensors", 80.06),
        ev.LoadProgress(None, "copy", 80.06, None, 9.5, True),
    ]


A = ("0521 10:00:00 ", "ds4-server: chat ctx=0..9:9 TOOLS prompt start", "\n")
B = ("0521 10:00:01 ", "ds4-server: live kv cache miss live=9 prompt=7 common=2 reason=x", "\n")
C = ("", "ds4: CUDA tensor alloc failed: out of memory", "\n")
ORDERS = sorted(set(permutations("AAABBB")))


@pytest.mark.parametrize("order", ORDERS, ids="".join)
def test_the_three_writes_of_two_threads_in_any_order(order: tuple[str, ...]) -> None:
    writes = {"A": iter(A), "B": iter(B)}
    events = read("".join(next(writes[who]) for who in order))
    assert sorted(events, key=lambda e: type(e).__name__) == [
        ev.LiveMiss(events[0].at, False, 9, 7, 2, "x")._replace(
            at=next(e.at for e in events if isinstance(e, ev.LiveMiss))
        ),
        START._replace(at=next(e.at for e in events if isinstance(e, ev.PromptStart))),
    ]
    assert all(e.at in (None, AT, AT + 1) for e in events)


@pytest.mark.parametrize("order", ORDERS, ids="".join)
def test_an_engine_line_within_the_writes_of_a_server_line(order: tuple[str, ...]) -> None:
    writes = {"A": iter(A), "B": iter(C)}
    events = read("".join(next(writes[who]) for who in order))
    assert {type(e) for e in events} == {ev.PromptStart, ev.Note}
    assert len(events) == 2


def test_unknown_flags_are_kept() -> None:
    (event,) = read(LINE.replace("TOOLS", "TOOLS SPECULATIVE") + "\n")
    assert event == START._replace(flags=frozenset({"TOOLS", "SPECULATIVE"}))


@pytest.mark.parametrize(
    ("body", "extra"),
    [
        ("chat ctx=0..9:9 TOOLS slot_id=3 prompt start", (("slot_id", "3"),)),
        ("chat ctx=0..9:9 TOOLS prompt start slot_id=3 q=a/b", (("slot_id", "3"), ("q", "a/b"))),
    ],
)
def test_unknown_fields_are_kept(body: str, extra: ev.Extra) -> None:
    assert read(f"0521 10:00:00 ds4-server: {body}\n") == [START._replace(extra=extra)]


def test_unknown_fields_of_a_note_are_kept() -> None:
    (event,) = read("0521 10:00:00 ds4-server: rewind point remembered pos=9 kind=new text=4\n")
    assert event == ev.Note(
        AT, "rewind-remembered", "info", "", {"kind": "new", "pos": 9, "visible": 4}
    )


def test_usage_is_one_recognised_block() -> None:
    log = reader()
    events = log.feed(
        b"0521 10:00:00 ds4-server: unknown option: --x\n"
        b"Usage: ds4-server [options]\n\nModel:\n  -m, --model FILE\n      ds4: a path\n"
        b"0521 10:00:07 ds4-server: listening on http://127.0.0.1:8000\n"
    )
    assert events == [
        ev.StartFatal(AT, "unknown_option", "--x", "unknown option: --x", 2),
        ev.Note(None, "usage", "info", "Usage: ds4-server [options]", {}),
        ev.Listening(AT + 7, URL),
    ]
    assert log.unrecognised == 0


def test_model_text_over_several_lines_forges_no_state() -> None:
    log = reader()
    snippet = (
        "0521 10:00:00 ds4-server: chat ctx=0..9:9 invalid tool call returned as assistant text"
        " finish=stop [text_len=900 saw_start=1 saw_end=0 text_snippet: first\n"
        "0521 10:00:00 ds4-server: listening on http://evil:1\n"
        "0521 10:00:00 ds4-server: shutdown requested, draining requests\n"
        "ds4: CUDA decode failed: an illegal memory access was encountered\n"
        "last words]\n"
    )
    events = log.feed((snippet + LINE + "\n").encode())
    assert [type(e) for e in events] == [ev.Note, ev.PromptStart]
    assert log.unrecognised == 0


def test_model_text_whose_end_never_comes_holds_back_few_lines() -> None:
    log = reader()
    first = (
        "0521 10:00:00 ds4-server: chat ctx=0..9:9 invalid tool call returned as assistant text"
        " finish=stop [text_len=9 saw_start=1 saw_end=0 text_snippet: cut\n"
    )
    assert len(log.feed(first.encode())) == 1
    assert log.feed((LINE + "\n").encode() * 39) == []
    assert log.feed((LINE + "\n").encode()) == [START] * 40
    assert log.feed((LINE + "\n").encode()) == [START]


def test_model_text_whose_end_never_comes_is_released_at_the_end_of_the_log() -> None:
    snippet = (
        "0521 10:00:00 ds4-server: invalid tool call returned as assistant text"
        " [text_len=9 text_snippet: cut\n"
    )
    events = read(f"{snippet}{LINE}\n{snippet}{LINE}\n")
    assert [type(e) for e in events] == [
        ev.Note, ev.PromptStart, ev.Note, ev.PromptStart,
    ]  # fmt: skip


@pytest.mark.parametrize("rate", ["nan", "-nan", "inf", "-inf"])
def test_rates_that_are_no_number_are_no_sample(rate: str) -> None:
    (event,) = read(
        f"0521 10:00:00 ds4-server: chat ctx=9..59:50 gen=50 decoding chunk={rate} t/s"
        f" avg={rate} t/s 0.000s\n"
    )
    assert event == ev.Decoding(AT, "chat", 9, 59, 50, 50, frozenset(), 0.0, 0.0, 0.0)


def test_numbers_of_thousands_of_digits_are_no_event() -> None:
    nines = "9" * 5_000
    for line in (
        LINE.replace("9:9", f"{nines}:9"),
        f"ds4: warming mapped tensor pages: {nines} GiB",
    ):
        (event,) = read(line + "\n")
        assert isinstance(event, ev.Unrecognised)


def test_a_torn_tail_is_no_event_until_its_end_comes() -> None:
    log = reader()
    assert log.feed(LINE.encode()) == []
    assert log.feed(b"\n") == [START]
    log.feed(b"0521 10:00:05 ds4-server: chat ctx=0..9:9 TOO")
    assert log.close() == [
        ev.Unrecognised(AT, "0521 10:00:05 ds4-server: chat ctx=0..9:9 TOO", torn=True)
    ]
    assert log.unrecognised == 1
    assert log.close() == []


def test_lines_of_megabytes_take_little_memory_and_keep_their_tail() -> None:
    log = reader()
    block = b"x" * 65_536
    most = 0
    for _ in range(64):
        assert log.feed(block) == []
        most = max(most, log.held_chars)
    assert most <= 6 * 65_536
    events = log.feed(f" {LINE}\n".encode())
    assert events[-1] == START
    assert isinstance(events[0], ev.Unrecognised)
    assert len(events[0].text) <= HEAD + TAIL + 1
    assert log.held_chars == 0


@pytest.mark.parametrize("unit", ["x", "é", "漢", "😀", "a😀"])
def test_a_long_piece_is_the_same_in_any_split(unit: str) -> None:
    data = (unit * (500_000 // len(unit.encode())) + "end\nnext\n").encode()
    whole = [p if len(p) <= HEAD + TAIL else p[:HEAD] + SEAM + p[-TAIL:] for p in
             PieceSplitter().feed(data)]  # fmt: skip
    for size in (4_093, 99_991, 300_007):
        splitter = PieceSplitter()
        pieces = [p for i in range(0, len(data), size) for p in splitter.feed(data[i : i + size])]
        assert pieces == whole
        assert splitter.lines == 2


@pytest.mark.parametrize(
    "text",
    [
        "ds4: x" * 5_000,
        "0521 10:00:00 ds4-server: x" * 1_200,
        "0521 10:00:00 ds4-server: kv cache load failed " + ": " * 16_000,
        "0521 10:00:00 ds4-server: kv cache failed to create " + ": " * 16_000,
        "0521 10:00:00 ds4-server: tool calls ctx=0..9:9 n=1 ids=[" + "] names=[" * 3_500,
        "0521 10:00:00 ds4-server: KV disk cache " + "a (budget=1 MiB, " * 1_800,
        "0521 10:00:00 " * 2_300 + "x",
        "\x1b]" * 16_000,
        "\x1b[" * 16_000,
        "ds4: CUDA " + "failed" * 5_000,
        "0521 10:00:00 ds4-server: a" + " b=c" * 8_000,
    ],
    ids=lambda text: text[26:46],
)
def test_hostile_lines_are_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    events = read(text[: HEAD + TAIL] + "\n" + LINE + "\n")
    assert time.process_time() - start < 0.5
    assert events[-1] == START
