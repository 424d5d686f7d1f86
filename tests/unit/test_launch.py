"""The effective launch configuration: value, default, and where each was set."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.helptext import Flag, parse_help
from ds4top.core.launch import (
    UNLISTED,
    LaunchSpec,
    Setting,
    StartFacts,
    parse_argv,
    program_words,
    settings,
    start_facts,
    value_of,
)
from ds4top.core.launch_units import env_files, env_source, exec_source, units_of, words_of
from ds4top.core.logread import LogReader
from ds4top.core.machine import log_residency
from ds4top.core.memory import Residency
from ds4top.core.reduce import Reducer
from ds4top.core.secrets import MASK, is_secret, shown
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.core.unitfile import quoted
from tests.unit.keep_tools import log_of

LATEST = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
DATA = Path(__file__).parent.parent / "data"
STOCK = parse_help((DATA / "help" / "ds4-stock-2026-05.txt").read_text(encoding="utf-8"))
AGENT = parse_help((DATA / "help" / "standin-daily-agent.txt").read_text(encoding="utf-8"))
LLAMA = parse_help((DATA / "help" / "llama-server.txt").read_text(encoding="utf-8"))

ARGV = (
    "./ds4-server", "-m", "/models/flash.gguf", "--ctx=131072", "--kv-disk-dir", "/var/cache/ds4",
    "--no-mmap", "--power", "100", "--power", "75", "--metrics-port", "9000", "--odd",
)  # fmt: skip


def find(found: tuple[Setting, ...], name: str) -> Setting:
    hits = [setting for setting in found if setting.name == name]
    assert len(hits) == 1, (name, hits)
    return hits[0]


def start_of_real_log() -> StartFacts:
    state, reader = LogState(), LogReader(StampClock(LATEST, UTC))
    head = (DATA / "ds4" / "h200-copy" / "server.log").read_bytes()[:1200]
    Reducer(state).apply(reader.feed(head))
    return start_facts(state.life)


def test_values_defaults_and_where_they_are_set() -> None:
    found = settings(LaunchSpec(ARGV, (("HOME", "/root"),), "/srv", "/opt/ds4-server"), AGENT)
    expected = {
        "--model": ("/models/flash.gguf", "ds4flash.gguf", "argv"),
        "--ctx": ("131072", "32768", "argv"),
        "--kv-disk-dir": ("/var/cache/ds4", None, "argv"),
        "--kv-disk-space-mb": ("4096", "4096", "default"),
        "--no-mmap": ("on", "off", "argv"),
        "--power": ("75", "100", "argv"),
        "--cors": ("off", "off", "default"),
        "--trace": (None, None, "default"),
        "--host": ("127.0.0.1", "127.0.0.1", "default"),
    }
    for name, (value, default, origin) in expected.items():
        setting = find(found, name)
        assert (setting.value, setting.default, setting.origin) == (value, default, origin), name
        assert setting.listed
    unlisted = find(found, "--metrics-port")
    assert (unlisted.value, unlisted.section, unlisted.listed) == ("9000", UNLISTED, False)
    assert find(found, "--odd").value == "on"
    assert value_of(found, "--context", "--ctx") == "131072"
    assert not [s for s in found if s.name in ("--help", "HOME")]


def test_every_flag_of_the_build_has_its_row() -> None:
    found = settings(LaunchSpec(("ds4-server",), ()), STOCK)
    assert [s.name for s in found] == [f.name for f in STOCK if f.name != "--help"]
    assert {s.origin for s in found} == {"default"}


def test_without_a_help_only_what_was_given_is_told() -> None:
    found = settings(LaunchSpec(ARGV, ()), None)
    assert [(s.name, s.value, s.default) for s in found] == [
        ("-m", "/models/flash.gguf", None),
        ("--ctx", "131072", None),
        ("--kv-disk-dir", "/var/cache/ds4", None),
        ("--no-mmap", "on", None),
        ("--power", "75", None),
        ("--metrics-port", "9000", None),
        ("--odd", "on", None),
    ]
    assert all(s.listed for s in found)


@pytest.mark.parametrize(
    ("first", "held"),
    [
        ("registered 80.76 GiB model mapping for device access", "mapped, registered with the GPU"),
        (
            "host registration skipped: operation not supported",
            "copied to the GPU, tensor by tensor",
        ),
    ],
)
def test_mapped_weights_that_are_gone_through_by_tensor_stay_mapped(first: str, held: str) -> None:
    """Constructed of ds4's own lines; the header goes by the same rule."""
    lines = (first, "loading model tensors into device cache",
             "loading model tensors 16.02 GiB cached")  # fmt: skip
    life = log_of("".join(f"ds4: CUDA {line}\n" for line in lines).encode()).life
    assert dict(start_facts(life).facts)["weights"].startswith(held)
    assert (log_residency(life) is Residency.MMAP) == held.startswith("mapped")


def test_start_up_lines_of_a_real_start() -> None:
    start = start_of_real_log()
    assert dict(start.facts) == {
        "device": "NVIDIA H200",
        "compute capability": "sm_90",
        "weights": "copied whole to the GPU",
        "copy to the GPU took": "46.257 s",
        "preparation of weights took": "0 s",
        "context buffers": "2425.71 MiB",
        "prefill chunk": "2048 tokens",
        "raw KV rows": "2304",
        "compressed KV rows": "32770",
    }
    assert start.flags["--ctx"] == "131072"
    assert start.flags["--kv-disk-space-mb"] == "1024"
    assert (start.flags["--host"], start.flags["--port"]) == ("127.0.0.1", "8000")


def test_start_up_lines_tell_what_an_unreadable_command_line_does_not() -> None:
    start = start_of_real_log()
    found = settings(LaunchSpec(), STOCK, start)
    ctx = find(found, "--ctx")
    assert (ctx.value, ctx.default, ctx.origin) == ("131072", "32768", "start-up line")
    port = find(found, "--port")
    assert (port.value, port.origin) == ("8000", "start-up line")
    cors = find(found, "--cors")
    assert (cors.value, cors.origin, cors.detail) == (
        None,
        "unknown",
        "the command line may not be read",
    )
    device = find(found, "device")
    assert (device.value, device.origin) == ("NVIDIA H200", "start-up line")
    bare = settings(LaunchSpec(), None, start)
    assert find(bare, "--kv-disk-dir").value == "/var/cache/ds4-kv"


def test_a_start_up_line_that_contradicts_is_said() -> None:
    start = StartFacts({"--ctx": "65536", "--host": "127.0.0.1", "--port": "8000"})
    argv = ("ds4-server", "--ctx", "131072", "--host", "localhost", "--port", "08000")
    found = settings(LaunchSpec(argv, ()), STOCK, start)
    ctx = find(found, "--ctx")
    assert (ctx.value, ctx.detail) == ("131072", "the start-up line says 65536")
    assert find(found, "--host").detail == ""
    assert find(found, "--port").detail == ""


def test_variables_of_the_environment() -> None:
    env = (
        ("PATH", "/bin"),
        ("DS4_CUDA_DIRECT_MODEL", "0"),
        ("DS4_CUDA_COPY_MODEL", ""),
        ("DS4_CUDA_BUILD_ARTIFACTS", "0"),
        ("CUDA_VISIBLE_DEVICES", "0"),
        ("HF_TOKEN", "hf_abc"),
    )
    found = settings(LaunchSpec(("ds4-server",), env), STOCK)
    rows = {s.name: (s.value, s.origin, s.detail) for s in found if s.section == "Environment"}
    assert rows == {
        "CUDA_VISIBLE_DEVICES": ("0", "environment", ""),
        "DS4_CUDA_BUILD_ARTIFACTS": ("0", "environment", ""),
        "DS4_CUDA_COPY_MODEL": ("", "environment", ""),
        "DS4_CUDA_DIRECT_MODEL": ("0", "environment", "its presence alone counts"),
        "HF_TOKEN": (MASK, "environment", ""),
    }
    assert "no tensor cache" in find(found, "DS4_CUDA_DIRECT_MODEL").help


def test_llama_flags_from_variables_and_switches() -> None:
    argv = ("llama-server", "-c", "32768", "-nkvo", "--no-perf", "-ctk", "q8_0", "--temp", "-1")
    env = (("LLAMA_ARG_HOST", "0.0.0.0"), ("LLAMA_ARG_CTX_SIZE", "8192"), ("LLAMA_API_KEY", "s3"))
    found = settings(LaunchSpec(argv, env), LLAMA)
    assert find(found, "--ctx-size").value == "32768"
    assert find(found, "--kv-offload").value == "off"
    assert find(found, "--kv-offload").default == "on"
    assert find(found, "--perf").value == "off"
    assert find(found, "--cache-type-k").value == "q8_0"
    assert find(found, "--temp").value == "-1"
    host = find(found, "--host")
    assert (host.value, host.origin, host.detail) == ("0.0.0.0", "environment", "LLAMA_ARG_HOST")
    key = find(found, "--api-key")
    assert (key.value, key.origin) == (MASK, "environment")


@pytest.mark.parametrize(
    ("argv", "exe", "words"),
    [
        (("ds4-server", "-m", "x"), None, ("ds4-server",)),
        (("ds4-server", "-m", "x"), "/opt/ds4-server", ("ds4-server",)),
        (
            ("/venv/bin/python", "-m", "server.main", "-m", "x"),
            "/usr/bin/python3.11",
            ("/venv/bin/python", "-m", "server.main"),
        ),
        (
            ("python3", "-u", "-X", "dev", "s.py", "-m"),
            None,
            ("python3", "-u", "-X", "dev", "s.py"),
        ),
        (("bash", "run.sh", "--ctx", "1"), "/usr/bin/bash", ("bash", "run.sh")),
        (("python3", "-m"), None, ("python3", "-m")),
        ((), None, ()),
    ],
)
def test_the_words_that_name_the_program(
    argv: tuple[str, ...], exe: str | None, words: tuple[str, ...]
) -> None:
    assert program_words(argv, exe) == words


def test_an_interpreters_own_options_are_not_the_servers() -> None:
    argv = ("/usr/bin/python3", "-m", "server", "-m", "/models/flash.gguf", "--ctx", "4096")
    found = settings(LaunchSpec(argv, (), None, "/usr/bin/python3.11"), STOCK)
    assert find(found, "--model").value == "/models/flash.gguf"
    assert find(found, "--ctx").value == "4096"


def test_secrets_are_masked_wherever_they_stand() -> None:
    argv = (
        "llama-server", "--api-key", "hidden-1", "--hf-token=hidden-2", "--rpc", "http://me:hidden-3@box:1/",
        "--unheard-secret", "hidden-4", "-n", "128",
    )  # fmt: skip
    text = repr(settings(LaunchSpec(argv, (("LLAMA_API_KEY", "hidden-5"),)), LLAMA))
    assert not [
        secret
        for secret in ("hidden-1", "hidden-2", "hidden-3", "hidden-4", "hidden-5")
        if secret in text
    ]
    assert shown("--kv-cache-min-tokens", "512") == "512"
    assert shown("--tokens", "100") == "100"
    assert is_secret("MY_ACCESS_TOKENS")
    assert not is_secret("DS4_CUDA_WEIGHT_CACHE")


CAT = r"""# /etc/systemd/system/ds4.service
[Unit]
Description=DeepSeek
[Service]
# a comment
Environment="DS4_LOCK_FILE=/run/ds4.lock" DS4_CUDA_WEIGHT_CACHE=1 API_KEY=hidden
EnvironmentFile=-/etc/default/ds4
ExecStart=@/opt/ds4-server ds4-server \
    --ctx 65536 \
# in between
    --kv-disk-dir "/var/cache/my kv"
TimeoutStopSec=600

# /etc/systemd/system/ds4.service.d/50-ds4top.conf
[Service]
UnsetEnvironment=DS4_CUDA_WEIGHT_CACHE
Environment=DS4_CUDA_DIRECT_MODEL=1
ExecStart=
ExecStart=/opt/ds4-server --ctx 131072 --cost 5%% --word "a\"b$$"
"""


def test_constructed_unit_files_say_where_a_setting_is_set() -> None:
    units = units_of(CAT)
    assert [(unit.path, unit.kind) for unit in units] == [
        ("/etc/systemd/system/ds4.service", "unit file"),
        ("/etc/systemd/system/ds4.service.d/50-ds4top.conf", "drop-in"),
    ]
    assert units[0].exec_start == (
        "/opt/ds4-server", "ds4-server", "--ctx", "65536", "--kv-disk-dir", "/var/cache/my kv",
    )  # fmt: skip
    assert dict(units[0].env)["API_KEY"] == MASK
    last = exec_source(units)
    assert last is units[1]
    assert last.exec_start is not None
    assert last.exec_start[3:] == ("--cost", "5%", "--word", 'a"b$')
    assert env_source(units, "DS4_CUDA_WEIGHT_CACHE") is None
    assert env_source(units, "DS4_LOCK_FILE") is units[0]
    assert env_files(units) == ("/etc/default/ds4",)
    spec = LaunchSpec(
        ("/opt/ds4-server", "--ctx", "131072", "--host", "127.0.0.1"),
        (
            ("DS4_CUDA_DIRECT_MODEL", "1"),
            ("DS4_LOCK_FILE", "/run/ds4.lock"),
            ("DS4_DSPARK_STATS", "1"),
        ),
    )
    found = settings(spec, STOCK, None, units)
    ctx = find(found, "--ctx")
    assert (ctx.origin, ctx.detail) == ("drop-in", units[1].path)
    assert find(found, "--host").origin == "argv"
    assert find(found, "DS4_CUDA_DIRECT_MODEL").origin == "drop-in"
    assert find(found, "DS4_LOCK_FILE").origin == "unit file"
    stats = find(found, "DS4_DSPARK_STATS")
    assert (stats.origin, stats.detail) == ("environment", "perhaps from /etc/default/ds4")


def test_constructed_empty_environment_forgets_what_came_before() -> None:
    units = units_of(
        "# /a.service\n[Service]\nEnvironment=DS4_X=1\n"
        "# /a.service.d/b.conf\n[Service]\nEnvironment=\n"
    )
    assert env_source(units, "DS4_X") is None


_WORDS = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\n\r"), max_size=12
)


@given(st.lists(_WORDS.filter(bool), max_size=6))
def test_what_the_drop_in_quotes_is_read_back(words: list[str]) -> None:
    line = " ".join(quoted(word, command=True) for word in words)
    assert words_of(line) == words


FLAGS = (
    Flag(("-a", "--alpha"), "N"),
    Flag(("--beta",)),
    Flag(("--gamma", "--no-gamma")),
    Flag(("--pair",), "START END"),
)


def test_options_of_every_shape() -> None:
    words = ["-a", "1", "--alpha=2", "--beta", "--no-gamma", "--gamma", "--pair", "3", "4", "stray"]
    assert [(g.name, g.value) for g in parse_argv(words, FLAGS)] == [
        ("--alpha", "1"),
        ("--alpha", "2"),
        ("--beta", "on"),
        ("--gamma", "off"),
        ("--gamma", "on"),
        ("--pair", "3 4"),
        ("", "stray"),
    ]
    assert [(g.name, g.value) for g in parse_argv(["--alpha"], FLAGS)] == [("--alpha", None)]


@given(st.lists(_WORDS, max_size=12))
def test_no_word_of_an_argument_vector_is_lost(words: list[str]) -> None:
    found = parse_argv(words, FLAGS)
    told = " ".join(f"{item.word} {item.value or ''}" for item in found)
    for word in words:
        for part in word.split("=", 1) if word.startswith("-") else [word]:
            assert (
                part in told
                or part in ("", "1", "on", "true")
                or word.startswith(("--beta=", "--gamma=", "--no-gamma="))
            )
    settings(LaunchSpec(("x", *words), ()), FLAGS)
