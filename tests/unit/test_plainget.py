"""A GET without httpx: the same answers and the same words as with it."""

from __future__ import annotations

import socket
import subprocess
import sys
from threading import Event

import pytest

from ds4top.sources.base import SourceFault
from ds4top.sources.http import OWN_ENDS, HttpGetter
from ds4top.sources.plainget import PlainGetter
from tests.unit.http_tools import Reply, plain, serving


def raw(data: bytes) -> Reply:
    """Bytes as they are."""

    def send(peer: socket.socket, path: str, done: Event) -> None:
        peer.sendall(data)

    return send


def silent(peer: socket.socket, path: str, done: Event) -> None:
    """Takes the question and says nothing."""
    done.wait(10)


def outcome(getter: HttpGetter) -> tuple[object, ...]:
    """What a GET gives, or the kind of its fault and its words."""
    try:
        answer = getter.get("/v1/models")
    except SourceFault as fault:
        return fault.kind, str(fault)
    return answer.status, answer.kind, answer.body


@pytest.mark.parametrize(
    "reply",
    [
        plain(b'{"data": []}'),
        plain(b"", "404 Not Found", "text/plain"),
        plain(b'{"error": {"message": "no key"}}', "401 Unauthorized"),
        plain(b"", "302 Found"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nto the end"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_it_answers_as_the_other_one(reply: Reply) -> None:
    with serving(reply) as server:
        assert outcome(PlainGetter(server.url)) == outcome(HttpGetter(server.url))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"220 smtp ready\r\n\r\n", "parse"),
        (b"", "parse"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "parse"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * ((1 << 20) + 1), "parse"),
    ],
)
def test_what_is_no_answer_is_a_fault(data: bytes, kind: str) -> None:
    with serving(raw(data)) as server:
        assert outcome(PlainGetter(server.url))[0] == kind


def test_silence_has_an_end() -> None:
    with serving(silent) as server:
        assert outcome(PlainGetter(server.url, total_s=0.2))[0] == "timeout"


def test_nobody_there_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    kind, words = outcome(PlainGetter(f"http://127.0.0.1:{port}"))
    assert kind == "refused"
    assert "nothing listens there" in str(words)


def test_the_key_goes_along_and_its_own_end_is_remembered() -> None:
    OWN_ENDS.clear()
    with serving(plain(b"{}")) as server:
        PlainGetter(server.url, api_key="hush").get("/v1/models")
        head = server.requests[0]
    assert "Authorization: Bearer hush" in head
    assert head.startswith("GET /v1/models HTTP/1.1\r\n")
    assert [host for host, _ in OWN_ENDS] == ["127.0.0.1"]


def test_a_look_does_not_load_httpx() -> None:
    code = (
        "import sys, ds4top.reach.status; heavy = {'httpx', 'textual', 'rich', 'tomllib',"
        " 'statistics', 'ds4top.view.plot', 'ds4top.sources.replay'} & set(sys.modules);"
        " sys.exit(' '.join(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
