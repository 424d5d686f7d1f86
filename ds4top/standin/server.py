"""The server: listening, one thread a client, a queue before the workers, and an orderly end."""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ds4top.standin import grammar
from ds4top.standin.clock import Pace
from ds4top.standin.engine import Engine, Limits, Session
from ds4top.standin.faults import FaultSpecError
from ds4top.standin.grammar import Log, Tint
from ds4top.standin.lookup import store_live
from ds4top.standin.options import ServerOptions
from ds4top.standin.requests import BadRequestError, Request, read_request
from ds4top.standin.state import StateWriter
from ds4top.standin.text import TOKEN_BYTES, common_bytes
from ds4top.standin.wire import HttpRequest, Wire, compact
from ds4top.standin.worker import Generation, Shared

_POSTS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
_CONTROL_POLL_S = 0.25
_BACKLOG = 128
_USEFUL_TOKENS = 512
FAIL_PATH = "/standin/fail"


class StopFlag:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once with 130."""

    def __init__(self) -> None:
        """Not set."""
        self.is_set = False
        self.on_stop: Callable[[], None] | None = None

    def install(self) -> None:
        """Take over the signals."""
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if self.is_set:
            os._exit(130)
        self.is_set = True
        if self.on_stop is not None:
            self.on_stop()


@dataclass
class _Job:
    request: Request
    wire: Wire
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Slot:
    index: int
    session: Session = field(default_factory=Session)
    job: _Job | None = None
    busy: bool = False


class Server:
    """Everything after the model is loaded."""

    def __init__(
        self,
        options: ServerOptions,
        shared: Shared,
        stop: StopFlag,
        speed: float,
        limits: Limits,
        control: str | None,
        state: StateWriter,
    ) -> None:
        """One session, or as many as `--batched-session` says."""
        self._options = options
        self._shared = shared
        self._log: Log = shared.log
        self._stop = stop
        self._speed = speed
        self._limits = limits
        self._control = control
        self._doing = state
        self._batched = options.number("batched-session", 0)
        self._slots = [_Slot(index) for index in range(max(1, self._batched))]
        self._queue: deque[_Job] = deque()
        self._state = threading.Condition()
        self._draining = False
        self._clients = 0

    def listen(self) -> socket.socket:
        """Bind and listen. Raises OSError."""
        host = self._options.text("host", "127.0.0.1")
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                address = socket.inet_ntoa(
                    socket.inet_aton("127.0.0.1" if host == "localhost" else host)
                )
            except OSError:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
            sock.bind((address, self._options.number("port", 8000)))
            sock.listen(_BACKLOG)
        except (OSError, OverflowError):
            sock.close()
            raise
        return sock

    def serve(self, sock: socket.socket) -> None:
        """Accept until told to stop, then drain and save."""
        workers = [
            threading.Thread(target=self._work, args=(slot,), daemon=True) for slot in self._slots
        ]
        for worker in workers:
            worker.start()
        self._accept(sock)
        sock.close()
        self._log.server("shutdown requested, draining requests")
        self._doing.drains()
        with self._state:
            self._draining = True
            refused = list(self._queue) if self._batched else []
            for job in refused:
                self._queue.remove(job)
            self._state.notify_all()
        for job in refused:
            job.wire.error(503, "server shutting down", always=True)
            job.done.set()
        for worker in workers:
            worker.join()
        with self._state:
            while self._clients:
                self._state.wait()
        self._persist()

    def _accept(self, sock: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        old = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        sock.setblocking(False)
        with selectors.DefaultSelector() as selector, ours, theirs:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(ours, selectors.EVENT_READ)
            poll = _CONTROL_POLL_S if self._control else None
            while not self._stop.is_set:
                selector.select(poll)
                if self._control:
                    self._shared.faults.read_control(self._control)
                while not self._stop.is_set:
                    try:
                        client, _ = sock.accept()
                    except BlockingIOError:
                        break
                    except OSError as error:
                        self._log.server(f"accept failed: {error.strerror}")
                        break
                    self._start_client(client)
            signal.set_wakeup_fd(old)

    def _start_client(self, client: socket.socket) -> None:
        with self._state:
            self._clients += 1
        wire = Wire(client, self._options.flag("cors"), lambda: self._stop.is_set)
        threading.Thread(target=self._client, args=(wire,), daemon=True).start()

    def _client(self, wire: Wire) -> None:
        try:
            request = wire.read()
            if request is None:
                wire.error(400, "bad HTTP request")
            else:
                self._route(wire, request)
        finally:
            wire.close()
            with self._state:
                self._clients -= 1
                self._state.notify_all()

    def _route(self, wire: Wire, http: HttpRequest) -> None:
        if http.method == "OPTIONS":
            wire.respond(204)
            return
        if http.method == "GET" and http.path == "/v1/models":
            models = [self._model(name) for name in self._shared.profile.model_ids]
            wire.respond(200, compact({"object": "list", "data": models}) + "\n")
            return
        name = http.path.removeprefix("/v1/models/")
        if http.method == "GET" and name in self._shared.profile.model_ids:
            wire.respond(200, compact(self._model(name)) + "\n")
            return
        if http.method == "POST" and http.path == FAIL_PATH:
            self._fail(wire, http.body)
            return
        api = _POSTS.get(http.path) if http.method == "POST" else None
        if api is None:
            wire.error(404, "unknown endpoint")
            return
        try:
            request = read_request(
                api, http.body, self._options.number("tokens", 393216), self._knows
            )
        except BadRequestError as error:
            wire.error(400, str(error))
            return
        if request.prompt_tokens >= self._limits.context_tokens:
            self._too_long(wire, request)
            return
        wire.queue()
        job = _Job(request, wire)
        if self._enqueue(job):
            job.done.wait()
        else:
            wire.error(503, "server shutting down", always=True)

    def _model(self, name: str) -> dict[str, object]:
        context = self._limits.context_tokens
        return {
            "id": name,
            "object": "model",
            "created": 1767225600,
            "owned_by": "ds4.c",
            "name": "DeepSeek V4 Flash",
            "context_length": context,
            "top_provider": {
                "context_length": context,
                "max_completion_tokens": min(self._options.number("tokens", 393216), context),
                "is_moderated": False,
            },
            "supported_parameters": [
                "tools",
                "tool_choice",
                "max_tokens",
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "stop",
                "seed",
                "stream",
                "reasoning_effort",
            ],
        }

    def _fail(self, wire: Wire, body: bytes) -> None:
        try:
            asked = json.loads(body)
            spec = str(asked["kind"])
            if asked.get("after"):
                spec += f"@{int(asked['after'])}"
            self._shared.faults.arm(spec)
        except (ValueError, KeyError, TypeError, FaultSpecError):
            wire.error(400, "no such failure")
            return
        wire.respond(200, compact({"ok": True}) + "\n")

    def _too_long(self, wire: Wire, request: Request) -> None:
        tokens, context = request.prompt_tokens, self._limits.context_tokens
        words = f"Prompt has {tokens} tokens, but the configured context size is {context} tokens"
        counts: dict[str, object] = {"n_prompt_tokens": tokens, "n_ctx": context}
        kind = "invalid_request_error"
        if request.api == "messages":
            body = {"type": "error", "error": {"type": kind, "message": words, **counts}}
        else:
            where = {"responses": "input", "completions": "prompt"}.get(request.api, "messages")
            body = {
                "error": {
                    "message": words,
                    "type": kind,
                    "param": where,
                    "code": "context_length_exceeded",
                    **counts,
                }
            }
        wire.respond(400, compact(body) + "\n")

    def _knows(self, api: str, identifier: str) -> bool:
        return any(slot.session.waits_for(api, identifier) for slot in self._slots)

    def _enqueue(self, job: _Job) -> bool:
        with self._state:
            if self._draining:
                return False
            self._queue.append(job)
            self._dispatch()
            return True

    def _dispatch(self) -> None:
        """Give waiting jobs to free slots, each to the one that shares most of its beginning."""
        while self._queue:
            free = [slot for slot in self._slots if slot.job is None and not slot.busy]
            if not free:
                break
            job = self._queue.popleft()
            self._best_slot(free, job.request.prompt).job = job
        self._state.notify_all()

    @staticmethod
    def _best_slot(free: list[_Slot], prompt: bytes) -> _Slot:
        """The slot that shares most; where none shares enough to matter, an empty one."""

        def worth(slot: _Slot) -> tuple[int, bool, int]:
            common = common_bytes(bytes(slot.session.text), prompt)
            useful = common if common >= _USEFUL_TOKENS * TOKEN_BYTES else 0
            return (useful, slot.session.tokens == 0, -slot.index)

        return max(free, key=worth)

    def _active(self) -> int:
        return max(1, sum(slot.busy for slot in self._slots))

    def _work(self, slot: _Slot) -> None:
        pace = Pace(self._speed, self._shared.seed + slot.index)
        batched = bool(self._batched)
        engine = Engine(
            self._shared.profile,
            self._limits,
            pace,
            self._shared.faults,
            self._active,
            lambda: batched and self._stop.is_set,
            self._doing,
            slot.index,
        )
        while True:
            with self._state:
                while slot.job is None:
                    if self._draining and not self._queue:
                        return
                    self._dispatch()
                    if slot.job is None:
                        self._state.wait()
                job, slot.job, slot.busy = slot.job, None, True
            try:
                Generation(self._shared, engine, slot.session, job.request, job.wire).run()
            finally:
                self._doing.rests(slot.index)
                with self._state:
                    slot.busy = False
                    self._dispatch()
                job.done.set()

    def _persist(self) -> None:
        store = self._shared.store
        if store is None:
            return
        pace = Pace(self._speed, self._shared.seed)
        for slot in self._slots:
            tokens = slot.session.tokens
            if tokens < store.options.min_tokens:
                continue
            number = slot.index if self._shared.profile.persists_by_slot else None
            self._log.server(grammar.persisting(number, tokens), Tint.CACHE)
            store_live(slot.session, store, "shutdown", pace, self._shared.calls)
