"""The table of line templates: what each known line of the ds4-server log looks like.

Data, not code: a template is a name, a regular expression and how to build its event. Adding a
line of a newer build is adding a row. Sources of the templates: ds4_server.c, ds4_kvstore.c,
ds4.c, ds4_cuda.cu of antirez/ds4, May to September 2026, and the branches that add lines.

Every number is bounded in length, every pattern is anchored at both ends, and free text (paths,
error texts, model text) stands only where the server prints it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ds4top.core import events as ev

Build = Callable[[float | None, "Groups"], ev.Event]
Groups = Mapping[str, str]

INT = r"\d{1,18}"
NUM = r"-?(?:\d{1,18}(?:\.\d{1,9})?|nan|inf)"
SPAN = rf"ctx=(?P<a>{INT})\.\.(?P<b>{INT}):(?P<c>{INT})"
FLAGS = r"(?P<flags>(?:[A-Z][A-Z0-9_]{1,31} ){0,16})"


class Template(NamedTuple):
    """One row of the table."""

    name: str
    pattern: re.Pattern[str]
    build: Build


def number(text: str) -> float:
    """A printed rate or time; ``nan`` and ``inf`` (division by no time) mean no sample: 0."""
    return 0.0 if text[-1] in "nf" else float(text)


_flag_sets: dict[str, ev.Flags] = {"": ev.NO_FLAGS}


def flags_of(text: str) -> ev.Flags:
    """The set of flag words; unknown words of newer builds are kept."""
    found = _flag_sets.get(text)
    if found is None:
        found = frozenset(text.split())
        if len(_flag_sets) < 512:
            _flag_sets[text] = found
    return found


def _typed(text: str) -> str | int | float:
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?\d{1,18}\.\d{1,9}", text):
        return float(text)
    return text


def note(name: str, level: str) -> Build:
    """Build a ``Note``: the named groups are its fields, ``text`` what follows them."""

    def build(at: float | None, g: Groups) -> ev.Event:
        fields = {k: _typed(v) for k, v in g.items() if v is not None and k != "text"}
        return ev.Note(at, name, level, g.get("text") or "", fields)

    return build


def rows(table: str, level: str) -> list[Template]:
    """Rows of ``Note`` templates, one per line: ``name | regular expression``."""
    found = []
    for line in table.strip().splitlines():
        name, _, pattern = line.strip().partition(" | ")
        pattern = pattern.replace("{INT}", INT).replace("{NUM}", NUM).replace("{FLAGS}", FLAGS)
        pattern = pattern.replace("{SPAN}", SPAN)
        found.append(Template(name, re.compile(pattern, re.ASCII | re.DOTALL), note(name, level)))
    return found


def row(name: str, pattern: str, build: Build) -> Template:
    """One template with its own way to build the event."""
    return Template(name, re.compile(pattern, re.ASCII | re.DOTALL), build)


def _pairs(text: str | None) -> ev.Extra:
    found = (word.partition("=") for word in (text or "").split(", "))
    return tuple((key, value) for key, mark, value in found if mark)


def _abc(g: Groups) -> tuple[int, int, int]:
    return int(g["a"]), int(g["b"]), int(g["c"])


def _lost(cause: str) -> Build:
    def build(at: float | None, g: Groups) -> ev.Event:
        kind = g.get("kind") or "chat"
        return ev.StreamLost(at, kind, *_abc(g), flags_of(g["flags"]), cause, g["text"])

    return build


def _prefill(at: float | None, g: Groups) -> ev.Event:
    return ev.PrefillChunk(
        at, g["kind"], *_abc(g), flags_of(g["flags"]), g["phase"] != "prefill",
        int(g["done"]), int(g["total"]), number(g["ct"]), number(g["avg"]), number(g["s"]),
    )  # fmt: skip


def _decoding(at: float | None, g: Groups) -> ev.Event:
    return ev.Decoding(
        at, g["kind"], *_abc(g), int(g["gen"]), flags_of(g["flags"]),
        number(g["ct"]), number(g["avg"]), number(g["s"]),
    )  # fmt: skip


def _finish(at: float | None, g: Groups) -> ev.Event:
    return ev.Finish(
        at, g["kind"], *_abc(g), int(g["gen"]), flags_of(g["flags"]),
        g["finish"], g["error"], number(g["s"]),
    )  # fmt: skip


def words(text: str) -> tuple[str, ...]:
    """The words of a comma-separated list."""
    return tuple([word for word in text.split(",") if word])


def _tool_calls(at: float | None, g: Groups) -> ev.Event:
    raw = int(g["raw"]) if g["raw"] else None
    return ev.ToolCalls(at, *_abc(g), int(g["n"]), raw, words(g["ids"]), words(g["names"]))


_K = r"(?P<kind>[a-z][a-z_]{1,15})"
REQUEST: tuple[Template, ...] = (
    row("prompt-start", rf"{_K} {SPAN} {FLAGS}prompt start",
         lambda at, g: ev.PromptStart(at, g["kind"], *_abc(g), flags_of(g["flags"]))),
    row("prefill", rf"{_K} {SPAN} {FLAGS}(?P<phase>prefill|tool checkpoint rebuild) chunk (?P<done>{INT})/(?P<total>{INT})"
         rf" \({NUM}%\) chunk=(?P<ct>{NUM}) t/s avg=(?P<avg>{NUM}) t/s (?P<s>{NUM})s", _prefill),
    row("prompt-done", rf"{_K} {SPAN} {FLAGS}prompt done (?P<s>{NUM})s",
         lambda at, g: ev.PromptDone(at, g["kind"], *_abc(g), flags_of(g["flags"]), number(g["s"]))),
    row("decoding", rf"{_K} {SPAN} gen=(?P<gen>{INT}) {FLAGS}decoding chunk=(?P<ct>{NUM}) t/s avg=(?P<avg>{NUM}) t/s"
         rf" (?P<s>{NUM})s", _decoding),
    row("finish", rf'{_K} {SPAN} gen=(?P<gen>{INT}) {FLAGS}finish=(?P<finish>[a-z_]{{1,32}})(?: error="(?P<error>.*)")?'
         rf" (?P<s>{NUM})s", _finish),
    row("stream-closed", rf"{_K} {SPAN} {FLAGS}(?P<text>stream closed during prefill)", _lost("prefill_closed")),
    row("sse-headers", rf"{_K} {SPAN} {FLAGS}(?P<text>sse headers failed)", _lost("start_failed")),
    row("start-failed", rf"{_K} {SPAN} {FLAGS}(?P<text>(?:anthropic|openai|responses) (?:stream start|role chunk|created event) failed)",
         _lost("start_failed")),
    row("disconnected", rf"{_K} {SPAN} {FLAGS}(?P<text>client disconnected)", _lost("disconnected")),
    row("final-failed", rf"{_K} {SPAN} {FLAGS}(?P<text>final stream failed)", _lost("final_failed")),
    *rows(r"""
        prefill-failed | (?P<kind>[a-z]+) {SPAN} {FLAGS}prefill failed after stream closed: (?P<text>.*)
        prefill-sse-failed | (?P<kind>[a-z]+) {SPAN} {FLAGS}prefill SSE error failed: (?P<text>.*)
        bad-tool-call | (?P<kind>[a-z]+) {SPAN} {FLAGS}invalid tool call returned as assistant text finish=(?P<finish>\w+)(?P<text> \[text_len=.*)?
        unterminated-tool | (?P<kind>[a-z]+) {SPAN} {FLAGS}(?:invalid|unterminated) tool call; continuing (?P<text>.*)
        repaired-tool | (?P<kind>[a-z]+) {SPAN} {FLAGS}repaired unterminated tool call(?P<text>.*)
        tool-snippet | (?P<kind>[a-z]+) {SPAN} {FLAGS}invalid tool call dsml_snippet: (?P<text>.*)
        """, "warning"),
    *rows(r"""
        orphan-tool-end | (?P<kind>[a-z]+) {SPAN} {FLAGS}ignored orphan tool-call end marker after (?P<tokens>{INT}) generated tokens
        recovered-tool | (?P<kind>[a-z]+) {SPAN} {FLAGS}recovered a complete tool call from unclosed reasoning after (?P<tokens>{INT}) generated tokens
        tool-continued | (?P<kind>[a-z]+) {SPAN} {FLAGS}tool-error continuation appended (?P<tokens>{INT}) tokens
        open-thinking | (?P<kind>[a-z]+) {SPAN} {FLAGS}thinking not closed, ignoring incomplete DSML in reasoning
        repetition | (?P<kind>[a-z]+) {SPAN} {FLAGS}stopped repetitive decode after (?P<tokens>{INT}) generated tokens ngram=(?P<ngram>{INT}) repeats=(?P<repeats>{INT})
        """, "warning"),
)  # fmt: skip
"""Lines that begin ``KIND ctx=``."""

_FREE_NOTES = r"""
accept-failed | accept failed: (?P<text>.*)
bad-tool-call | (?:chat )?invalid tool call returned as assistant text(?P<text>.*)
tool-snippet | (?:chat )?invalid tool call dsml_snippet: (?P<text>.*)
repaired-tool | (?:chat )?repaired unterminated tool call(?P<text>.*)
unterminated-tool | (?:chat )?(?:invalid|unterminated) tool call; continuing (?P<text>.*)
checkpoint-failed | tool checkpoint (?:canonicalization|rebuild) failed {SPAN}(?: request_ctx=(?P<request_ctx>\S+))?(?: source=(?P<source>\w+) cached=(?P<cached>{INT}) replay=(?P<replay>{INT}) target=(?P<target>{INT}))?(?: common=(?P<common>{INT}) live=(?P<live>{INT}) canonical=(?P<canonical>{INT}))? error="(?P<text>.*)"
checkpoint-rebuild | tool checkpoint canonicalization needs (?P<tokens>{INT}) tokens rebuild {SPAN} request_ctx=(?P<request_ctx>\S+) reason=(?P<reason>\S+) tail=(?P<tail>-?{INT}) discard=(?P<discard>-?{INT}) common=(?P<common>{INT}) live=(?P<live>{INT}) target=(?P<target>{INT}) cached=(?P<cached>{INT}) source=(?P<source>\w+)(?: file=(?P<text>.*))?
"""
_NOTES = r"""
checkpoint | tool checkpoint canonicalized {SPAN} common=(?P<common>{INT}) live=(?P<live>{INT}) canonical=(?P<canonical>{INT})
checkpoint-rebuilt | tool checkpoint rebuild done {SPAN} request_ctx=(?P<request_ctx>\S+) source=(?P<source>\w+) cached=(?P<cached>{INT}) replay=(?P<replay>{INT}) target=(?P<target>{INT}) (?P<elapsed_s>{NUM})s
thinking-remembered | thinking live checkpoint remembered {SPAN} live=(?P<live>{INT}) visible=(?P<visible>{INT})
tool-continued | tool-error continuation appended (?P<tokens>{INT}) tokens
open-thinking | thinking not closed, ignoring incomplete DSML in reasoning
recovered-tool | recovered a complete tool call from unclosed reasoning after (?P<tokens>{INT}) generated tokens
rewound | rewound GLM live prefix from (?P<from_tokens>{INT}) to (?P<to_tokens>{INT}); final prompt token will be reevaluated
sessions | (?P<sessions>{INT}) resident sessions request at least (?P<size_gib>{NUM}) GiB of context buffers
no-exact-replay | exact DSML tool replay disabled; .*
mtp-off | MTP speculative decoding is disabled while native session batching is active
decode-batch | decode batch count=(?P<count>{INT}) elapsed=(?P<elapsed_ms>{NUM}) ms status=(?P<status>\w+)
queued | request queued behind (?P<jobs>{INT}) job\(s\)(?: \(worker busy\))?
queue-dropped | dropping queued request: client disconnected
prefill-cancelled | prefill cancelled {SPAN} reason=(?P<reason>\S+)
sampling-ignored | thinking mode ignores request sampling params.*
images | request images=(?P<images>{INT}).*
multimodal-hit | multimodal live kv hit.*
rewind-remembered | rewind point remembered pos=(?P<pos>{INT}) text=(?P<visible>{INT})
rewind-hit | rewind point hit pos=(?P<pos>{INT}) live=(?P<live>{INT}) prompt=(?P<prompt>{INT})
repetition | stopped repetitive decode after (?P<tokens>{INT}) generated tokens ngram=(?P<ngram>{INT}) repeats=(?P<repeats>{INT})
backends | valid server backends are: .*
"""


def _miss(at: float | None, g: Groups) -> ev.Event:
    return ev.LiveMiss(
        at, bool(g["resp"]), int(g["live"]), int(g["prompt"]), int(g["common"]), g["reason"]
    )


def _continued(protocol: str, *, replay: bool = False) -> Build:
    def build(at: float | None, g: Groups) -> ev.Event:
        ids = g.get("ids")
        return ev.Continuation(
            at, protocol, g["match"], int(ids) if ids else None, int(g["cached"]), int(g["prompt"]), replay,
        )  # fmt: skip

    return build


def fatal(reason: str, exit_code: int) -> Build:
    """Build a ``StartFatal`` with this reason; ``detail`` and ``text`` come from the pattern."""

    def build(at: float | None, g: Groups) -> ev.Event:
        return ev.StartFatal(at, reason, g.get("detail") or "", g["text"], exit_code)

    return build


_CACHED = rf"cached=(?P<cached>{INT}) prompt=(?P<prompt>{INT})"
SERVER: tuple[Template, ...] = (
    row("live-miss", rf"live kv cache miss(?P<resp> RESPPROTO)? live=(?P<live>{INT}) prompt=(?P<prompt>{INT})"
         rf" common=(?P<common>{INT}) reason=(?P<reason>\S+)", _miss),
    row("continuation", rf"responses live continuation RESPPROTO match=(?P<match>\S+) ids=(?P<ids>{INT}) {_CACHED}", _continued("responses")),
    row("continuation", rf"anthropic live continuation match=(?P<match>\S+) ids=(?P<ids>{INT}) {_CACHED}", _continued("anthropic")),
    row("continuation", rf"thinking live continuation match=(?P<match>\S+) {_CACHED}", _continued("thinking")),
    row("replay", rf"responses replay RESPPROTO missing reasoning state; continuing from visible history source=(?P<match>\S+) {_CACHED}",
         _continued("responses", replay=True)),
    row("tool-calls", rf"tool calls {SPAN} (?:RESPPROTO )?n=(?P<n>{INT})(?: raw_(?:dsml|tool_text)=(?P<raw>{INT}))?"
         r" ids=\[(?>(?P<ids>.*?)\] names=\[)(?P<names>.*)\]", _tool_calls),
    row("persisting", rf"persisting (?:current|resident) KV cache before shutdown (?:slot=(?P<slot>{INT}) )?tokens=(?P<tokens>{INT})",
         lambda at, g: ev.Persisting(at, int(g["tokens"]), int(g["slot"]) if g["slot"] else None)),
    row("context-buffers", rf"context buffers (?P<mib>{NUM}) MiB \(ctx=(?P<ctx>{INT}), backend=(?P<backend>\w+), prefill_chunk=(?P<chunk>{INT}),"
         rf" raw_kv_rows=(?P<raw>{INT}), compressed_kv_rows=(?P<comp>{INT})\)",
         lambda at, g: ev.ContextBuffers(at, number(g["mib"]), int(g["ctx"]), g["backend"], int(g["chunk"]), int(g["raw"]), int(g["comp"]))),
    row("kv-disk-cache", rf"KV disk cache (?P<dir>.*) \(budget=(?P<budget>{INT}) MiB, cross-quant=(?P<quant>\w+), min=(?P<min>{INT}), cold_max=(?P<cold>{INT}),"
         rf" continued=(?P<cont>{INT}), trim=(?P<trim>{INT}), align=(?P<align>{INT})(?:, (?P<rest>[^()]*))?\)",
         lambda at, g: ev.KvDiskCache(at, g["dir"], int(g["budget"]), g["quant"], int(g["min"]), int(g["cold"]), int(g["cont"]), int(g["trim"]), int(g["align"]), _pairs(g["rest"]))),
    row("listening", r"listening on (?P<url>http://\S{1,200})", lambda at, g: ev.Listening(at, g["url"])),
    row("shutdown", r"shutdown requested, draining requests", lambda at, g: ev.ShutdownRequested(at)),
    row("batched", rf"batched mode enabled resident_sessions=(?P<n>{INT})(?: prefill_quantum={INT})?(?: mixed_prefill_quantum={INT})?(?: decode_coalesce_us=-?{INT})?",
         lambda at, g: ev.BatchedMode(at, int(g["n"]))),
    row("unknown-option", r"(?P<text>unknown option: (?P<detail>.*))", fatal("unknown_option", 2)),
    row("missing-value", r"(?P<text>missing value for (?P<detail>.*))", fatal("missing_value", 2)),
    row("invalid-value", r"(?P<text>invalid value for (?P<detail>.*))", fatal("invalid_value", 2)),
    row("invalid-value", r"(?P<text>invalid (?P<detail>\S+ value: .*))", fatal("invalid_value", 2)),
    row("invalid-value", r"(?P<text>(?P<detail>--kv-cache-cold-max-tokens) must be 0 or >= --kv-cache-min-tokens)", fatal("invalid_value", 2)),
    row("chdir", r"(?P<text>failed to chdir to (?P<detail>.*))", fatal("chdir_failed", 1)),
    row("trace-file", r"(?P<text>failed to open trace file (?P<detail>.*))", fatal("trace_file", 1)),
    row("listen", r"(?P<text>failed to listen on (?P<detail>.*: Address already in use))", fatal("port_in_use", 1)),
    row("listen", r"(?P<text>failed to listen on (?P<detail>.*))", fatal("listen_failed", 1)),
    row("memory", r"(?P<text>out of memory)", fatal("out_of_memory", 1)),
    row("session", r"(?P<text>failed to create (?P<detail>\w+) session(?: \d+/\d+)?)", fatal("session_failed", 1)),
    *rows(r"""
        kv-dir-failed | failed to create KV cache directory (?P<directory>.*): (?P<text>.*)
        """, "error"),
    *rows(r"""
        tracing | tracing session to (?P<text>.*)
        """, "info"),
    *rows(_FREE_NOTES, "warning"),
    *rows(_NOTES, "info"),
)  # fmt: skip
"""Lines of the server itself, after ``ds4-server: ``."""

_SKIP = (
    rf"kv cache skipped tokens=(?P<tokens>{INT})(?: reason=(?P<reason>\S+))? because (?P<why>.*)"
)
KV: tuple[Template, ...] = (
    row("kv-stored", rf"kv cache stored tokens=(?P<tokens>{INT}) trimmed=(?P<trim>-?{INT}) reason=(?P<reason>\S+) key=(?P<key>\S+)"
         rf" size=(?P<size>{NUM}) MiB save=(?P<save>{NUM}) ms",
         lambda at, g: ev.KvStored(at, int(g["tokens"]), int(g["trim"]), g["reason"], g["key"], number(g["size"]), number(g["save"]))),
    row("kv-hit", rf"kv cache hit \w+(?: RESPPROTO)? tokens=(?P<tokens>{INT}) text=(?P<bytes>{INT}) quant=(?P<quant>{INT}) key=(?P<key>\S+)"
         rf" load=(?P<load>{NUM}) ms(?P<consumed> consumed)? file=(?P<file>.*)",
         lambda at, g: ev.KvHit(at, int(g["tokens"]), int(g["bytes"]), int(g["quant"]), g["key"], number(g["load"]), bool(g["consumed"]), g["file"])),
    row("kv-evicted", rf"kv cache evicted reason=(?P<reason>\S+) tokens=(?P<tokens>{INT}) hits=(?P<hits>{INT}) size=(?P<size>{NUM}) MiB file=(?P<file>.*)",
         lambda at, g: ev.KvEvicted(at, g["reason"], int(g["tokens"]), int(g["hits"]), number(g["size"]), g["file"])),
    row("kv-skipped", _SKIP, lambda at, g: ev.KvSkipped(at, int(g["tokens"]), g["reason"] or "", g["why"])),
    row("kv-store-failed", rf"kv cache (?>(?P<what>failed to create .*?|store failed \(.*?\)): )(?P<error>.*) save=(?P<save>{NUM}) ms",
         lambda at, g: ev.KvStoreFailed(at, g["what"], g["error"], number(g["save"]))),
    row("kv-load-failed", rf"kv cache load failed(?: RESPPROTO)? (?>(?P<file>.*?): )(?P<error>.*) load=(?P<load>{NUM}) ms",
         lambda at, g: ev.KvLoadFailed(at, g["file"], g["error"], number(g["load"]))),
    *rows(r"""
        kv-discarded | kv cache discarded corrupt text-prefix payload(?: RESPPROTO)? (?P<text>.*)
        kv-replaced | kv cache replaced incompatible file (?P<text>.*)
        kv-discarded | kv cache discarded reason=(?P<reason>\S+) file=(?P<text>.*)
        kv-discard-failed | kv cache failed to discard (?P<reason>\S+) file=(?P<text>.*)
        """, "warning"),
)  # fmt: skip
"""Lines of the disk cache, after ``ds4-server: ``."""
