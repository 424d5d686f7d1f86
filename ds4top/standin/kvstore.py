"""The disk cache: what is stored when, what a prompt finds, what goes when the budget is full."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ds4top.standin import grammar, kvfile
from ds4top.standin.clock import Pace
from ds4top.standin.faults import Faults
from ds4top.standin.grammar import Log, Tint
from ds4top.standin.kvfile import Entry, Header
from ds4top.standin.options import ServerOptions
from ds4top.standin.profiles import Profile
from ds4top.standin.sizes import payload_bytes

HALF_LIFE_S = 21600
_MIN_HITS = 0.01
_SAVE_S_PER_BYTE = 1.0 / 950e6
_LOAD_BASE_S = 0.0458
_LOAD_S_PER_TOKEN = 0.000824e-3
_KEYS = (
    (kvfile.FLAG_RESPONSES_VISIBLE, "responses-visible"),
    (kvfile.FLAG_THINKING_VISIBLE, "thinking-visible"),
)


def key_of(flags: int) -> str:
    """What the text of a file is: the tokens' own, or a visible transcript."""
    return next((name for bit, name in _KEYS if flags & bit), "token-text")


@dataclass(frozen=True)
class CacheOptions:
    """The `--kv-*` options, in tokens and bytes."""

    budget_bytes: int
    min_tokens: int
    cold_max_tokens: int
    continued_tokens: int
    trim_tokens: int
    align_tokens: int
    reject_quant: bool

    @classmethod
    def of(cls, options: ServerOptions) -> CacheOptions:
        """From the argument vector."""
        number = options.number
        return cls(
            budget_bytes=number("kv-disk-space-mb", 4096) * grammar.MIB,
            min_tokens=number("kv-cache-min-tokens", 512),
            cold_max_tokens=number("kv-cache-cold-max-tokens", 30000),
            continued_tokens=number("kv-cache-continued-interval-tokens", 10000),
            trim_tokens=number("kv-cache-boundary-trim-tokens", 32),
            align_tokens=number("kv-cache-boundary-align-tokens", 2048),
            reject_quant=options.flag("kv-cache-reject-different-quant"),
        )

    @property
    def step_tokens(self) -> int:
        """Distance of continued saves: the interval rounded up to the alignment; 0 is none."""
        if self.continued_tokens <= 0 or self.align_tokens <= 0:
            return self.continued_tokens
        return -(-self.continued_tokens // self.align_tokens) * self.align_tokens

    def boundary(self, tokens: int) -> int:
        """Length of a cold save of a prompt without an anchor."""
        if tokens > self.min_tokens + self.trim_tokens:
            stable = tokens - self.trim_tokens
            if self.align_tokens > 0:
                stable -= stable % self.align_tokens
            if stable >= self.min_tokens:
                return stable
        return tokens


@dataclass(frozen=True)
class Hit:
    """A loaded checkpoint: its text stands for `tokens` tokens."""

    tokens: int
    text: bytes
    flags: int


def score(entry: Entry, now_s: float) -> float:
    """Worth of a file to the older builds: (decayed hits + 1) * tokens / bytes."""
    header = entry.header
    hits = float(header.hits)
    used = header.last_used_s or header.created_s
    if used == 0:
        hits = 0.0
    elif now_s > used:
        hits *= 2.0 ** (-(now_s - used) / HALF_LIFE_S)
        hits = hits if hits >= _MIN_HITS else 0.0
    return (hits + 1.0) * header.tokens / entry.size_bytes


def score_for(entry: Entry, now_s: float, incoming: bytes) -> float:
    """Worth of a file to builds that make room first for a file with the text `incoming`.

    Anchors (cold, evict, shutdown) count double; a continued file that the incoming one goes
    beyond counts a twentieth, or up to a half where it was used.
    """
    value = score(entry, now_s)
    if entry.header.reason in ("cold", "evict", "shutdown"):
        return value * 2.0
    size = entry.header.text_bytes
    if entry.header.reason == "continued" and size < len(incoming):
        inside = kvfile.sha1_hex(incoming[:size]) == entry.sha
        hits = entry.header.hits
        return value * (0.05 + 0.45 * hits / (hits + 1)) if inside else value
    return value


class KvStore:
    """The directory under its budget. Every method may be called from any worker."""

    def __init__(
        self,
        directory: str,
        options: CacheOptions,
        profile: Profile,
        context_tokens: int,
        log: Log,
        faults: Faults,
    ) -> None:
        """Makes the directory (mode 0700); raises OSError where that fails."""
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.directory = directory
        self.options = options
        self._profile = profile
        self._context_tokens = context_tokens
        self._log = log
        self._faults = faults
        self._lock = threading.RLock()

    def open(self) -> None:
        """Bring the directory under the budget and log the settings."""
        self._make_room(0, None, b"")
        o = self.options
        self._log.server(
            f"KV disk cache {self.directory} (budget={o.budget_bytes // grammar.MIB} MiB, "
            f"cross-quant={'reject' if o.reject_quant else 'accept'}, min={o.min_tokens}, "
            f"cold_max={o.cold_max_tokens}, continued={o.continued_tokens}, trim={o.trim_tokens}, "
            f"align={o.align_tokens}, hit_half_life={HALF_LIFE_S}s)",
            Tint.CACHE,
        )

    def store(
        self,
        text: bytes,
        tokens: int,
        reason: str,
        pace: Pace,
        *,
        trimmed: int = 0,
        flags: int = 0,
        calls: Mapping[str, bytes] | None = None,
    ) -> bool:
        """Save a state of `tokens` tokens under its text; False where it was not saved."""
        options = self.options
        if tokens < options.min_tokens:
            return False
        trailer = kvfile.tool_map(calls or {}, text)
        payload = payload_bytes(tokens)
        size = kvfile.HEADER_BYTES + len(text) + payload + len(trailer)
        needed = size + -(-size // 100)
        if needed > options.budget_bytes:
            self._say(grammar.kv_too_large(tokens, reason, size, needed, options.budget_bytes))
            return False
        sha = kvfile.sha1_hex(text)
        path = f"{self.directory}/{sha}.kv"
        with self._lock:
            if self._already_there(path, sha):
                return True
            if self._profile.evicts_before_writing:
                self._make_room(size, None, text)
            started = time.monotonic()
            now = int(time.time())
            header = Header(
                reason=reason,
                tokens=tokens,
                context_tokens=self._context_tokens,
                created_s=now,
                last_used_s=now,
                payload_bytes=payload,
                text_bytes=len(text),
                flags=flags | (kvfile.FLAG_TOOL_MAP if trailer else 0),
                abi=self._profile.kv_abi,
            )
            try:
                if self._faults.disk_full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                pace.begin()
                pace.wait(size * _SAVE_S_PER_BYTE * pace.jitter())
                kvfile.write(path, header, text, trailer)
            except OSError as error:
                words = error.strerror or "unknown error"
                self._say(
                    grammar.kv_store_failed(reason, words, (time.monotonic() - started) * 1e3)
                )
                return False
            save_ms = (time.monotonic() - started) * 1e3
            self._say(grammar.kv_stored(tokens, trimmed, reason, key_of(flags), size, save_ms))
            if not self._profile.evicts_before_writing:
                self._make_room(0, sha, text)
        return True

    def load(self, prompt: bytes, pace: Pace, *, respproto: bool) -> Hit | None:
        """Load the longest checkpoint whose text begins the prompt; None where there is none."""
        with self._lock:
            best: Entry | None = None
            for entry in kvfile.scan(self.directory, self._profile.kv_abi):
                if self._fits(entry, prompt) and (
                    best is None
                    or (entry.header.text_bytes, entry.header.tokens)
                    > (best.header.text_bytes, best.header.tokens)
                ):
                    best = entry
            if best is None:
                return None
            started = time.monotonic()
            header = best.header
            try:
                text = kvfile.read_text(best)
            except OSError:
                return None
            pace.begin()
            pace.wait((_LOAD_BASE_S + _LOAD_S_PER_TOKEN * header.tokens) * pace.jitter())
            load_ms = (time.monotonic() - started) * 1e3
            cold_max = self.options.cold_max_tokens
            consumed = self._profile.consumes_hits and 0 < cold_max < header.tokens
            if consumed:
                os.unlink(best.path)
            else:
                kvfile.touch(best)
            self._say(
                grammar.kv_hit(
                    respproto,
                    header.tokens,
                    header.text_bytes,
                    header.quant,
                    key_of(header.flags),
                    load_ms,
                    consumed,
                    best.path,
                )
            )
            return Hit(header.tokens, text, header.flags)

    def _fits(self, entry: Entry, prompt: bytes) -> bool:
        header = entry.header
        return (
            header.text_bytes <= len(prompt)
            and header.tokens >= self.options.min_tokens
            and header.context_tokens <= self._context_tokens
            and not (self.options.reject_quant and header.quant != kvfile.QUANT_BITS)
            and kvfile.sha1_hex(prompt[: header.text_bytes]) == entry.sha
        )

    def _already_there(self, path: str, sha: str) -> bool:
        if not os.path.exists(path):
            return False
        entry = next((e for e in self._scan() if e.sha == sha), None)
        if entry is not None and entry.header.context_tokens <= self._context_tokens:
            return True
        os.unlink(path)
        self._say(f"kv cache replaced incompatible file {path}")
        return False

    def _scan(self) -> list[Entry]:
        return kvfile.scan(self.directory, self._profile.kv_abi)

    def _make_room(self, incoming_bytes: int, protected: str | None, text: bytes) -> None:
        entries = self._scan()
        now = time.time()
        total = sum(entry.size_bytes for entry in entries) + incoming_bytes

        def worth(entry: Entry) -> tuple[float, int]:
            if entry.sha == protected and entry.size_bytes <= self.options.budget_bytes:
                return (float("inf"), entry.header.last_used_s)
            if self._profile.evicts_before_writing:
                return (score_for(entry, now, text), entry.header.last_used_s)
            return (score(entry, now), entry.header.last_used_s)

        entries.sort(key=worth, reverse=True)
        while total > self.options.budget_bytes and entries:
            victim = entries.pop()
            try:
                os.unlink(victim.path)
            except OSError:
                return
            total -= victim.size_bytes
            header = victim.header
            self._say(
                grammar.kv_evicted(header.tokens, header.hits, victim.size_bytes, victim.path)
            )

    def _say(self, text: str) -> None:
        self._log.server(text, Tint.CACHE)
