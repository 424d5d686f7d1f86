"""``ds4top status``: its JSON against the schema in every state, its line within 40 cells."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ds4top.core.alerts import Alert, alerts_now
from ds4top.core.derive import ServerState, Status
from ds4top.core.figures import by_context
from ds4top.core.gpu import GpuProcess, GpuSample
from ds4top.core.kernlines import OomKill
from ds4top.core.model import Model, SourceHealth
from ds4top.core.plan import Target
from ds4top.core.process import Owner, ServerProcess
from ds4top.core.standing import standing
from ds4top.core.state import LogState
from ds4top.report.jsonout import buckets_json
from ds4top.view.facts import alert_facts
from ds4top.view.launch import settings_json
from ds4top.view.rates import RateBook
from ds4top.view.status import LINE_CELLS, document, line
from ds4top.view.text import width_of
from ds4top.view.today import TodayBook
from tests.schema import SCHEMA, faults
from tests.unit.kv_tools import entry
from tests.unit.memory_tools import MODEL, gib, spark
from tests.unit.test_kv_view import sample
from tests.unit.test_reduce import (
    BASE,
    BUFFERS,
    DONE,
    LISTENING,
    MISS,
    OOM_SCORE,
    START,
    STOP,
    decoding,
    prefill,
    run,
)

DATA = Path(__file__).parents[1] / "data" / "ds4" / "failures"
TARGET = Target(4711, 99, "boot", "ds4-server")
POISON = "CUDA sync failed: an illegal memory access was encountered"
NO_MODEL = (DATA / "missing-model.stderr").read_text().splitlines()[0]
SPAN = START.replace("0..9:9", "0..9000:9000")
STATES: dict[str, tuple[str, ...]] = {
    "loading": (OOM_SCORE, BUFFERS),
    "idle": (BUFFERS, LISTENING),
    "lookup": (BUFFERS, LISTENING, MISS),
    "prefill": (BUFFERS, LISTENING, SPAN, prefill(4096, 9000, 310.0)),
    "decode": (BUFFERS, LISTENING, START, DONE, decoding(9, 59, 50), decoding(59, 109, 100)),
    "draining": (BUFFERS, LISTENING, START, STOP),
    "stopped": (BUFFERS, LISTENING, STOP),
    "failed": (NO_MODEL,),
    "poisoned": (BUFFERS, LISTENING, f"ds4: {POISON}"),
}


def server(**fields: Any) -> ServerProcess:
    """The process of these logs."""
    base: dict[str, Any] = {
        "argv": ("ds4-server", "--ctx", "100000"), "env": (), "cwd": "/srv",
        "exe": "/srv/ds4-server",
        "owner": Owner("systemd-user", "ds4.service"), "listening": (("127.0.0.1", 8000),),
        "kv_dir": "/kv", "model_path": "/srv/m.gguf", "model_bytes": MODEL,
    }  # fmt: skip
    return ServerProcess(TARGET, BASE - 60.0, "ds4", 1000, "me", **{**base, **fields})


def model_in(state: str, *, process: bool = True) -> Model:
    """A model in a state, with everything known that can be known."""
    log = run(*STATES[state]) if state in STATES else LogState()
    model = Model(log, (log.last_at or BASE) + 1.0, tz=UTC)
    machine = model.machine
    if process and state not in ("stopped", "failed", "absent"):
        one = server()
        machine.seen((one,), one)
    else:
        machine.seen((), None)
    machine.take_memory(spark(1.0, 24.0), log, standing(model).state)
    machine.take_gpu(
        GpuSample(0, 1.0, model.now, name="NVIDIA GB10", unified=True, utilisation_pct=94,
                  power_w=37.5, temperature_c=64, reasons=4,
                  processes=(GpuProcess(4711, gib(84), "ds4-server"), GpuProcess(9, None, ""))),
        0, decoding=False,
    )  # fmt: skip
    machine.kv = sample(entries=(entry(1),))
    model.health = (
        SourceHealth("log", "ok", "/srv/log", 1.25),
        SourceHealth("/metrics", "missing", ""),
    )
    return model


def told(model: Model) -> dict[str, Any]:
    """The document, through JSON."""
    status, book = standing(model), RateBook()
    book.update(model.log)
    alerts = alerts_now(alert_facts(model, status, book), model.now)
    samples = model.log.decode
    rates = buckets_json(by_context(samples.context, samples.tps))
    today = TodayBook().today(model, book)
    found = document(
        model, status, book, today, alerts, settings=settings_json(model), buckets=rates
    )
    result: dict[str, Any] = json.loads(json.dumps(found))
    return result


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_as_the_schema_says(state: str) -> None:
    found = told(model_in(state))
    assert faults(found) == []
    assert found["server"]["state"] == state
    assert (found["server"]["load"] is None) is (state != "loading")


LEVELS = {
    "loading": "ok", "idle": "ok", "lookup": "ok", "prefill": "ok", "draining": "ok",
    "stopped": "ok", "failed": "critical", "poisoned": "critical",
}  # fmt: skip


@pytest.mark.parametrize("state", LEVELS)
def test_levels_are_those_of_the_contract(state: str) -> None:
    model = model_in(state)
    model.machine.gpus.clear()
    assert told(model)["level"] == LEVELS[state]


def test_a_server_that_was_killed_is_critical() -> None:
    model = model_in("idle")
    model.machine.ended(TARGET, model.now)
    model.machine.kernel.take((OomKill(model.now, 4711, "ds4-server", "global_oom"),), model.now)
    found = told(model)
    assert (found["server"]["state"], found["level"]) == ("stopped", "critical")
    assert faults(found) == []


@pytest.mark.parametrize("process", [True, False])
def test_without_a_log_and_without_a_server(process: bool) -> None:
    found = told(model_in("absent" if not process else "no log", process=process))
    assert faults(found) == []
    assert found["level"] == "unknown"
    assert (found["server"] is None) is not process


def test_nothing_known_is_null() -> None:
    found = told(Model(LogState(), BASE, tz=UTC))
    assert faults(found) == []
    assert [name for name, value in found.items() if value is None] == [
        "server", "request", "kv_cache", "memory", "gpu"
    ]  # fmt: skip


def test_the_schema_knows_what_is_wrong() -> None:
    found = told(model_in("idle"))
    found["server"]["state"] = "asleep"
    found["memory"]["parts"]["cushion"] = 1
    del found["kv_cache"]["entries"]
    assert sorted(fault.split(":")[0] for fault in faults(found)) == [
        "$.kv_cache", "$.memory.parts", "$.server.state"
    ]  # fmt: skip


# The line -------------------------------------------------------------------------------------

SAID = {"warning": "warn", "critical": "CRIT"}


def line_of(model: Model, alerts: tuple[Alert, ...] = ()) -> str:
    book = RateBook()
    book.update(model.log)
    return line(model, standing(model), book, alerts)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("loading", "load 100% ok"),
        ("idle", "idle 24.0G ok"),
        ("decode", "dec 14.0t/s 109/100K short 24.0G ok"),
        ("stopped", "down clean stop 24.0G ok"),
        ("failed", "fail model not found: /data/m 24.0G CRIT"),
        ("poisoned", "POIS 24.0G CRIT"),
    ],
)
def test_lines(state: str, words: str) -> None:
    model = model_in(state)
    model.machine.memory.headroom = None if state == "loading" else gib(24)
    model.machine.memory.projected = None
    assert line_of(model) == words


def test_a_demo_that_runs_is_told_where_there_is_no_server() -> None:
    model = model_in("absent", process=False)
    assert line_of(model) == "none 24.0G unknown"
    model.machine.demos = (20672,)
    assert line_of(model) == "none but demo 20672 24.0G unknown"
    found = told(model)
    assert (found["server"], found["level"]) == (None, "unknown")
    # Real ones that wait to be chosen come before it.
    model.machine.servers = (server(), server())
    assert line_of(model) == "none of 2 chosen 24.0G unknown"


counts = st.integers(0, 10**9)
rates = st.one_of(st.none(), st.floats(0, 1e7))


@given(
    state=st.sampled_from([*STATES, "absent"]),
    headroom=st.one_of(st.none(), st.integers(-(1 << 50), 1 << 50)),
    why=st.text(max_size=60),
    done=counts,
    total=counts,
    tps=rates,
    level=st.sampled_from(["ok", "warning", "critical"]),
)
def test_the_line_never_takes_more_than_forty_cells(
    state: str, headroom: int | None, why: str, done: int, total: int, tps: float | None, level: str
) -> None:
    model = model_in(state)
    model.machine.memory.headroom = headroom
    for request in model.log.requests:
        request.prefill_done_tokens, request.new_tokens, request.prompt_tokens = done, total, total
        request.decode_tps = request.prefill_tps = tps
        request.context_tokens = done
    alerts = () if level == "ok" else (Alert("x", level, "y", "", "", 0.0),)  # type: ignore[arg-type]
    status = standing(model)
    shown = Status(ServerState(status.state), status.since, why=why)
    found = line(model, shown, RateBook(), alerts)
    assert width_of(found) <= LINE_CELLS
    assert found.isprintable()
    assert found == " ".join(found.split())
    assert found.rsplit(" ", 1)[1] in ("ok", "warn", "CRIT", "unknown")
