"""Options as the servers' own help tells them: real texts, the stand-in's builds, any text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.helptext import Flag, by_name, names_of, parse_help
from ds4top.standin.option_table import OPTIONS, Value, known_options
from ds4top.standin.options import help_text
from ds4top.standin.profiles import PROFILES

HELP = Path(__file__).parent.parent / "data" / "help"


def flags_of(name: str) -> tuple[Flag, ...]:
    return parse_help((HELP / name).read_text(encoding="utf-8"))


def test_stock_ds4_of_may() -> None:
    flags = flags_of("ds4-stock-2026-05.txt")
    assert len(flags) == 32
    found = by_name(flags)
    assert found["-c"] is found["--ctx"]
    assert found["--ctx"] == Flag(
        ("-c", "--ctx"),
        "N",
        "32768",
        "Context size allocated at startup. Default: 32768",
        "Model and runtime",
    )
    assert found["--ctx"].name == "--ctx"
    defaults = {flag.name: flag.default for flag in flags if flag.default is not None}
    assert defaults == {
        "--model": "ds4flash.gguf",
        "--mtp-draft": "1",
        "--mtp-margin": "3",
        "--ctx": "32768",
        "--tokens": "393216",
        "--dir-steering-ffn": "1",
        "--dir-steering-attn": "0",
        "--host": "127.0.0.1",
        "--port": "8000",
        "--kv-disk-space-mb": "4096",
        "--kv-cache-min-tokens": "512",
        "--kv-cache-cold-max-tokens": "30000",
        "--kv-cache-continued-interval-tokens": "10000",
        "--kv-cache-boundary-trim-tokens": "32",
        "--kv-cache-boundary-align-tokens": "2048",
        "--tool-memory-max-ids": "100000",
    }
    assert found["--kv-disk-space-mb"].when == "when enabled"
    assert found["--dir-steering-ffn"].when == "with file"
    assert {name: found[name].metavar for name in ("--metal", "--cuda", "--cpu", "--backend")} == {
        "--metal": None,
        "--cuda": None,
        "--cpu": None,
        "--backend": "NAME",
    }
    assert {flag.section for flag in flags} == {
        "Model and runtime",
        "HTTP API",
        "Disk KV cache",
        "Notes",
    }
    assert not names_of(flags) & {"--no-mmap", "--power", "--prefill-chunk"}


def test_a_help_text_inside_the_log_reads_the_same() -> None:
    logged = "1124 18:25:29 ds4-server: unknown option: --no-mmap\n"
    text = (HELP / "ds4-stock-2026-05.txt").read_text(encoding="utf-8")
    assert parse_help(logged + text) == parse_help(text)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_option_of_each_stand_in_build(profile: str) -> None:
    flags = parse_help(help_text(PROFILES[profile]))
    known = known_options(PROFILES[profile].options)
    assert names_of(flags) == set(known) | {"-h", "--help"}
    found = by_name(flags)
    for option in OPTIONS:
        if option.name in known:
            flag = found[option.name]
            assert flag.names == option.names
            assert flag.metavar == (option.argument or None)
            assert flag.values == (0 if option.value is Value.NONE else 1)
            assert flag.section == option.section
            _, _, said = option.help.partition("Default: ")
            assert flag.default == (said or None)


def test_the_daily_agent_build_has_what_it_is_known_for() -> None:
    names = names_of(flags_of("standin-daily-agent.txt"))
    assert {"--no-mmap", "--power", "--max-batch-size"} <= names
    assert "--prefill-chunk" not in names
    august = by_name(flags_of("standin-stock-2026-08.txt"))
    assert "--no-mmap" not in august
    assert august["--ssd-streaming-cache-experts"].metavar == "N|NGB"
    assert august["--gpu-vram"].metavar == "N,N|auto"


LLAMA: Sequence[tuple[str, str | None, str | None, str | None]] = [
    ("--ctx-size", "N", "0", "LLAMA_ARG_CTX_SIZE"),
    ("--threads", "N", "-1", "LLAMA_ARG_THREADS"),
    ("--threads-batch", "N", "same as --threads", None),
    ("--cpu-mask", "M", "", None),
    ("--cpu-strict", "<0|1>", "0", None),
    ("--poll", "<0...100>", "50", None),
    ("--flash-attn", "[on|off|auto]", "auto", "LLAMA_ARG_FLASH_ATTN"),
    ("--cache-type-k", "TYPE", "f16", "LLAMA_ARG_CACHE_TYPE_K"),
    ("-ctv", "TYPE", "f16", "LLAMA_ARG_CACHE_TYPE_V"),
    ("--load-mode", "MODE", "auto", "LLAMA_ARG_LOAD_MODE"),
    ("--kv-offload", None, "enabled", "LLAMA_ARG_KV_OFFLOAD"),
    ("--perf", None, "false", "LLAMA_ARG_PERF"),
    ("--split-mode", "{none,layer,row,tensor}", "layer", "LLAMA_ARG_SPLIT_MODE"),
    ("--override-tensor", "<tensor name pattern>=<buffer type>,...", None,
     "LLAMA_ARG_OVERRIDE_TENSOR"),
    ("--fit-target", "MiB0,MiB1,MiB2,...", "1024", "LLAMA_ARG_FIT_TARGET"),
    ("--cache-ram", "N", "8192", "LLAMA_ARG_CACHE_RAM"),
    ("--reasoning", "[on|off|auto]", "auto", "LLAMA_ARG_REASONING"),
    ("--cors-methods", "METHODS", "GET, POST, DELETE, OPTIONS", "LLAMA_ARG_CORS_METHODS"),
    ("--host", "HOST", "127.0.0.1", "LLAMA_ARG_HOST"),
    ("--port", "PORT", "8080", "LLAMA_ARG_PORT"),
    ("--parallel", "N", "-1", "LLAMA_ARG_N_PARALLEL"),
    ("--metrics", None, "disabled", "LLAMA_ARG_ENDPOINT_METRICS"),
    ("--api-key", "KEY", "none", "LLAMA_API_KEY"),
    ("--model", "FNAME", None, "LLAMA_ARG_MODEL"),
    ("--log-verbose", None, None, None),
    ("--verbosity", "N", "3", "LLAMA_ARG_LOG_VERBOSITY"),
]  # fmt: skip


def test_the_real_llama_server() -> None:
    flags = flags_of("llama-server.txt")
    assert len(flags) == 255
    found = by_name(flags)
    for name, metavar, default, env in LLAMA:
        flag = found[name]
        assert (name, flag.metavar, flag.default, flag.env) == (name, metavar, default, env)
    assert sum(flag.env is not None for flag in flags) == 148
    assert found["-c"].section == "common params"
    assert found["--seed"].section == "sampling params"
    assert found["--control-vector-layer-range"].values == 2
    assert found["--no-kv-offload"].negatives == {"-nkvo", "--no-kv-offload"}
    assert found["--agent"].negatives == {"-no-ag", "--no-agent"}
    assert found["--ui"].negatives == {"--no-ui", "--no-webui"}
    assert found["--no-host"].negatives == frozenset()
    assert "\n" not in "".join(flag.help + (flag.default or "") for flag in flags)


def test_constructed_names_and_words_on_one_line() -> None:
    text = (
        "Usage: server [options]\n\nOptions:\n"
        "  -p, --power N    GPU duty cycle (default: 100)\n"
        "  --cors           Add headers.\n"
        "  --mode A|B\n      Either. Default: A\n"
    )
    assert [(f.names, f.metavar, f.default, f.help) for f in parse_help(text)] == [
        (("-p", "--power"), "N", "100", "GPU duty cycle (default: 100)"),
        (("--cors",), None, None, "Add headers."),
        (("--mode",), "A|B", "A", "Either. Default: A"),
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "no such file\n", "- a list\n- of things\n", "--\n"])
def test_what_is_no_help_text_has_no_options(text: str) -> None:
    assert parse_help(text) == ()


@given(st.text(alphabet=st.sampled_from("-ab N\n\t(),:|[]<>=default: env"), max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for flag in parse_help(text):
        assert flag.names
        assert all(name.startswith("-") for name in flag.names)
        assert flag.values >= 0
        assert flag.name in flag.names


_NAMES = st.from_regex(r"--[a-z]{2,8}(?:-[a-z]{2,8}){0,2}", fullmatch=True)


@given(
    st.lists(
        st.tuples(_NAMES, st.sampled_from([None, "N", "FILE"]), st.integers(0, 10**6)),
        min_size=1,
        max_size=12,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_printed_in_the_shape_of_ds4_is_read_back(
    rows: list[tuple[str, str | None, int]],
) -> None:
    lines = ["Usage: ds4-server [options]", "", "Things:"]
    for name, metavar, default in rows:
        lines += [f"  {name} {metavar or ''}".rstrip(), f"      Some words. Default: {default}"]
    found = [(flag.name, flag.metavar, flag.default) for flag in parse_help("\n".join(lines))]
    assert found == [(name, metavar, str(default)) for name, metavar, default in rows]
