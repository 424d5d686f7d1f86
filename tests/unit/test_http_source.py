"""/v1/models, /props and /slots: real answers, and everything a server can do wrong."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.serverinfo import (
    ModelEntry,
    ModelsAnswer,
    PropsSample,
    Slot,
    SlotsSample,
    parse_models,
    parse_props,
    parse_slots,
)
from ds4top.sources.base import Clock, SourceFault
from ds4top.sources.http import HttpGetter, ModelsSource, base_url
from tests.unit.http_tools import LLAMA, answering, mocked, patient, plain, serving

CLOCK = Clock(wall=lambda: 1_000.0)
DS4 = {
    "object": "list",
    "data": [
        {
            "id": model,
            "object": "model",
            "created": 1767225600,
            "owned_by": "ds4.c",
            "name": "DeepSeek V4 Flash",
            "context_length": 131072,
            "top_provider": {
                "context_length": 131072,
                "max_completion_tokens": 131072,
                "is_moderated": False,
            },
            "supported_parameters": ["tools", "max_tokens"],
        }
        for model in ("deepseek-v4-flash", "deepseek-v4-pro")
    ],
}
"""Constructed from the shape that ds4_server.c writes."""


def models(body: object, **options: Any) -> ModelsAnswer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    values = {"t": 1.0, "wall": 2.0, "url": "http://spark:8000", "status": 200, "latency_s": 0.1}
    return parse_models(data, **(values | options))


def fault(source: ModelsSource, now: float = 0.0) -> SourceFault:
    with pytest.raises(SourceFault) as caught:
        source.read(now)
    return caught.value


# Parsers


def test_models_of_a_real_llama_server() -> None:
    answer = models((LLAMA / "v1-models.json").read_bytes())
    assert answer.models == (
        ModelEntry(
            id="/data/models/tiny-random-llama.gguf",
            owned_by="llamacpp",
            context_tokens=32_768,
            trained_context_tokens=32_768,
            parameters=85_449_984,
            size_bytes=341_799_936,
        ),
    )
    assert (answer.flavour, answer.context_limit_tokens) == ("llama.cpp", 32_768)
    assert answer.model_name == "/data/models/tiny-random-llama.gguf"
    assert answer.odd == ()


def test_models_of_ds4_constructed() -> None:
    answer = models(DS4)
    assert [one.id for one in answer.models] == ["deepseek-v4-flash", "deepseek-v4-pro"]
    assert (answer.flavour, answer.model_name) == ("ds4", "DeepSeek V4 Flash")
    assert answer.context_limit_tokens == answer.models[1].max_completion_tokens == 131_072
    assert answer.ready


def test_props_of_a_real_llama_server() -> None:
    assert parse_props((LLAMA / "props.json").read_bytes(), t=3.0) == PropsSample(
        t=3.0,
        build="b1-0c1e570",
        model_path="/data/models/tiny-random-llama.gguf",
        model_type="all F32",
        slots=1,
        context_tokens=32_768,
        serves_slots=True,
        serves_metrics=True,
        sleeping=False,
    )


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("idle", Slot(0, False, 32_768)),
        ("busy", Slot(0, True, 32_768, 347, 2_070, 0, 22, 0, 600)),
        ("end", Slot(0, False, 32_768, 740, 1_590, 0, 0, 0, None)),
    ],
)
def test_slots_of_a_real_llama_server(name: str, slot: Slot) -> None:
    sample = parse_slots((LLAMA / f"slots-{name}.json").read_bytes(), t=1.0, wall=2.0)
    assert sample.slots == (slot,)
    assert sample.busy == int(slot.busy)
    assert sample.odd == ()


def test_slots_of_an_older_build_constructed() -> None:
    """``next_token`` was an object, and the prompt stood beside it."""
    body = [{"id": 3, "is_processing": True, "prompt": "secret", "next_token": {"n_decoded": 9}}]
    sample = parse_slots(json.dumps(body).encode(), t=1.0, wall=2.0)
    assert sample.slots == (Slot(3, True, decoded_tokens=9),)
    assert "secret" not in repr(sample)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON but an empty answer"),
        (b"<!DOCTYPE html><html>", "no JSON but an HTML page ('<!DOCTYPE html><html>'…)"),
        (b"\xff\xfe\x00", "no JSON but '\ufffd\ufffd\\x00'"),
        (b"[" * 100_000, f"no JSON but {'[' * 40!r}…"),
        ([], "the answer is a list, not an object"),
        ({}, "data is missing, not a list"),
        ({"data": None}, "data is missing, not a list"),
        ({"data": {"id": "x"}}, "data is an object, not a list"),
        ({"data": []}, "data lists no model"),
        ({"data": ["x"]}, "data[0] is a text, not an object"),
        ({"data": [{"id": 7}]}, "data[0].id is a number, not a text"),
        ({"data": [{"id": "a"}, {}]}, "data[1].id is missing, not a text"),
    ],
)
def test_a_wrong_answer_names_the_key(body: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        models(body)
    assert str(caught.value) == message


def test_wrong_types_cost_a_field_and_not_the_answer() -> None:
    answer = models(
        {
            "data": [
                {
                    "id": "m",
                    "owned_by": 5,
                    "name": ["x"],
                    "context_length": "131072",
                    "top_provider": {"max_completion_tokens": -1},
                    "meta": "none",
                }
            ]
        }
    )
    assert answer.models == (ModelEntry("m"),)
    assert sorted(answer.odd) == [
        "data[0].context_length is a text, not a count",
        "data[0].meta is a text, not an object",
        "data[0].name is a list, not a text",
        "data[0].owned_by is a number, not a text",
        "data[0].top_provider.max_completion_tokens is a number, not a count",
    ]
    odd = models(b'{"data": [{"id": "m", "context_length": 1e999}]}')
    assert odd.context_limit_tokens is None
    assert models({"data": [{"id": "m", "context_length": True}]}).context_limit_tokens is None
    assert models({"data": [{"id": "m", "context_length": 8192.0}]}).context_limit_tokens == 8_192
    assert models({"data": [{"id": "\ud800" + "x" * 9_999}]}).models[0].id == "?" + "x" * 511


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "id", "meta", "n_ctx", "next_token", "n_decoded", "error"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(JSON | st.builds(lambda inner: {"data": inner}, JSON))
def test_any_json_is_parsed_or_refused_with_a_message(body: Any) -> None:
    data = json.dumps(body).encode()
    for parse in (
        models,
        lambda one: parse_props(one, t=0.0),
        lambda one: parse_slots(one, t=0.0, wall=0.0),
    ):
        with contextlib.suppress(ValueError):
            repr(parse(data)).encode()


# URLs


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://0.0.0.0:8000/v1", "http://127.0.0.1:8000"),
        ("http://[::]:8000", "http://[::1]:8000"),
        ("http://[fe80::1]:8000/", "http://[fe80::1]:8000"),
        ("spark.local:8000", "http://spark.local:8000"),
        ("https://spark/v1/", "https://spark"),
        ("http://me:secret@spark:80/?q", "http://spark:80"),
    ],
)
def test_the_url_that_is_asked(url: str, asked: str) -> None:
    assert base_url(url) == asked


@pytest.mark.parametrize("url", ["", "ftp://spark", "http://", "http://spark:port", "file:///x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError):
        HttpGetter(url)


# The source over a mocked transport


def test_ds4_is_asked_for_its_models_alone() -> None:
    asked: list[tuple[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        return httpx.Response(200, json=DS4)

    source = ModelsSource(mocked(handler), CLOCK)
    source.open()
    (answer,) = source.read(7.0)
    assert isinstance(answer, ModelsAnswer)
    assert (answer.t, answer.wall, answer.url) == (7.0, 1_000.0, "http://spark:8000")
    assert (answer.status, answer.context_limit_tokens) == (200, 131_072)
    assert asked == [("GET", "/v1/models")]
    source.close()
    source.read(8.0)
    assert len(asked) == 2


def llama(request: httpx.Request) -> httpx.Response:
    name = {"/v1/models": "v1-models", "/props": "props", "/slots": "slots-busy"}
    return httpx.Response(200, content=(LLAMA / f"{name[request.url.path]}.json").read_bytes())


def test_llama_server_gives_slots_each_turn_and_props_once_a_minute() -> None:
    source = ModelsSource(mocked(llama), CLOCK)
    kinds = [[type(one) for one in source.read(now)] for now in (0.0, 2.0, 59.9, 60.0)]
    short, whole = [ModelsAnswer, SlotsSample], [ModelsAnswer, PropsSample, SlotsSample]
    assert kinds == [whole, short, short, whole]


def test_slots_that_are_switched_off_are_asked_for_once() -> None:
    asked: list[str] = []
    message = "This server does not support slots endpoint. Start it with `--slots`"

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/v1/models":
            return llama(request)
        return httpx.Response(501, json={"error": {"code": 501, "message": message}})

    source = ModelsSource(mocked(handler), CLOCK)
    for now in (0.0, 2.0):
        slots = source.read(now)[-1]
        assert isinstance(slots, SlotsSample)
        assert (slots.slots, slots.busy) == (None, None)
        assert slots.reason == f"/slots: 501 {message}"
    assert asked == ["/v1/models", "/props", "/slots", "/v1/models"]


def test_slots_in_trouble_cost_no_liveness() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/slots":
            raise httpx.ReadTimeout("slow", request=request)
        if request.url.path == "/props":
            return httpx.Response(200, text="nonsense")
        return llama(request)

    answer, props, slots = ModelsSource(mocked(handler), CLOCK).read(0.0)
    assert isinstance(answer, ModelsAnswer)
    assert answer.ready
    assert isinstance(props, PropsSample)
    assert props.reason == "/props: no JSON but 'nonsense'"
    assert isinstance(slots, SlotsSample)
    assert slots.reason == "/slots: http://spark:8000/slots did not answer in 1.5 s"


def test_a_server_that_loads_is_there_and_not_ready() -> None:
    """The body is what llama-server answers while it loads."""
    body = '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
    (answer,) = ModelsSource(answering(503, body), CLOCK).read(0.0)
    assert isinstance(answer, ModelsAnswer)
    assert (answer.ready, answer.status, answer.message) == (False, 503, "Loading model")
    assert (answer.model_name, answer.context_limit_tokens, answer.flavour) == (None, None, None)
    (answer,) = ModelsSource(answering(503, ""), CLOCK).read(0.0)
    assert isinstance(answer, ModelsAnswer)
    assert answer.message == "not ready"


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, '{"error":{"message":"unknown endpoint"}}', "unsupported", "404 unknown endpoint"),
        (500, '{"error":"cuda failed"}', "error", "answers 500 cuda failed"),
        (502, "<html>bad gateway</html>", "error", "/v1/models answers 502"),
        (200, "<html>hello</html>", "parse", "no JSON but an HTML page"),
        (200, '{"data": 5}', "parse", "/v1/models: data is a number, not a list"),
        (302, "", "parse", "redirects (302)"),
        (
            401,
            '{"error":{"message":"Invalid API Key"}}',
            "permission",
            "wants an API key (401: Inv",
        ),
        (403, "", "permission", "http://spark:8000 wants an API key (403): set DS4TOP_API_KEY"),
    ],
)
def test_answers_that_are_faults(
    monkeypatch: pytest.MonkeyPatch, status: int, body: str, kind: str, message: str
) -> None:
    monkeypatch.delenv("DS4TOP_API_KEY", raising=False)
    error = fault(ModelsSource(answering(status, body), CLOCK))
    assert error.kind == kind
    assert message in error.message


def test_an_api_key_is_sent_and_never_shown() -> None:
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(401, json={"error": {"message": "Invalid API Key"}})

    error = fault(ModelsSource(mocked(handler, api_key="hunter2"), CLOCK))
    assert seen == ["Bearer hunter2"]
    assert error.message == (
        "http://spark:8000 refuses the API key (401: Invalid API Key): check DS4TOP_API_KEY"
    )


def test_a_body_beyond_the_bound_is_not_read() -> None:
    sent: list[int] = []

    def endless() -> Any:
        for _ in range(10_000):
            sent.append(65_536)
            yield b" " * 65_536

    getter = mocked(lambda _: httpx.Response(200, content=endless()))
    error = fault(ModelsSource(getter, CLOCK))
    assert (error.kind, error.message) == (
        "parse",
        "http://spark:8000/v1/models is longer than 1 MiB: not read",
    )
    assert sum(sent) < 1.2 * (1 << 20)


def test_a_compressed_body_is_refused_unread() -> None:
    answer = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b""))
    error = fault(ModelsSource(mocked(lambda _: answer), CLOCK))
    assert error.kind == "parse"
    assert "compressed" in error.message


# The source against real sockets


def test_a_real_connection_and_what_is_sent() -> None:
    body = json.dumps(DS4).encode()
    with serving(plain(body)) as server:
        source = ModelsSource(patient(server), CLOCK)
        source.open()
        (answer,) = source.read(0.0)
        source.close()
        head = server.requests[0]
    assert isinstance(answer, ModelsAnswer)
    assert answer.ready
    assert 0 < answer.latency_s < 2.0
    assert head.startswith("GET /v1/models HTTP/1.1\r\n")
    lines = {line.lower() for line in head.splitlines()}
    assert {"connection: close", "accept-encoding: identity", "user-agent: ds4top"} <= lines


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = fault(ModelsSource(HttpGetter(f"http://127.0.0.1:{port}"), CLOCK))
    assert error.kind == "refused"
    assert error.message.startswith(f"http://127.0.0.1:{port}: nothing listens there")


def silent(peer: socket.socket, path: str, done: Event) -> None:
    done.wait(60.0)


def drip(head: bytes) -> Callable[[socket.socket, str, Event], None]:
    """A byte now and then: no single read ever times out."""

    def reply(peer: socket.socket, path: str, done: Event) -> None:
        peer.sendall(head)
        while not done.wait(0.02):
            peer.sendall(b"x")

    return reply


@pytest.mark.parametrize(
    "reply",
    [
        silent,
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nX-Header: "),
    ],
    ids=["silent", "dripping body", "dripping header"],
)
def test_a_server_that_hangs_is_left_in_time(
    reply: Callable[[socket.socket, str, Event], None],
) -> None:
    with serving(reply) as server:
        begin = time.monotonic()
        error = fault(ModelsSource(patient(server, total_s=0.3), CLOCK))
        spent_s = time.monotonic() - begin
    assert error.kind == "timeout"
    assert error.message == f"{server.url}/v1/models gave no whole answer in 0.3 s"
    assert spent_s < 15.0


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\x01\x02\r\n\r\n"])
def test_what_speaks_no_http(said: bytes) -> None:
    with serving(lambda peer, path, done: peer.sendall(said)) as server:
        error = fault(ModelsSource(patient(server), CLOCK))
    assert error.kind == "parse"
    assert f"{server.url} speaks no HTTP" in error.message


def test_a_read_that_lasts_too_long_names_the_limit() -> None:
    with serving(silent) as server:
        error = fault(ModelsSource(patient(server, read_s=0.1), CLOCK))
    assert error.kind == "timeout"
    assert error.message == f"{server.url}/v1/models did not answer in 0.1 s"


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = fault(ModelsSource(HttpGetter("http://nowhere.invalid:1"), CLOCK))
    assert error.kind == "error"
    assert error.message == (
        "http://nowhere.invalid:1 is out of reach: [Errno -2] Name or service not known"
    )


def test_two_sources_have_one_request_in_flight() -> None:
    gate = Event()
    in_flight, most = 0, 0

    def reply(peer: socket.socket, path: str, done: Event) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        gate.wait(15.0)
        # Over before it is sent: who has the answer may ask again at once.
        in_flight -= 1
        plain(json.dumps(DS4).encode())(peer, path, done)

    with serving(reply) as server:
        getter = patient(server)
        threads = [Thread(target=getter.get, args=("/v1/models",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join(15.0)
        assert len(server.requests) == 4
        assert most == 1
        getter.close()


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(plain(json.dumps(DS4).encode())) as server:
        assert patient(server).get("/v1/models").status == 200


def test_httpx_is_loaded_when_opened_and_without_its_command() -> None:
    code = (
        "import sys; from ds4top.sources.http import HttpGetter\n"
        "getter = HttpGetter('http://127.0.0.1:1'); assert 'httpx' not in sys.modules\n"
        "getter.open(); assert 'httpx' in sys.modules\n"
        "assert not {'httpx._main', 'click', 'pygments', 'rich'} & set(sys.modules)\n"
        "print(sys.modules['httpx'].__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout) == (0, "httpx\n"), done.stderr
