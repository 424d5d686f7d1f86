"""What views have more of where the screen is large, over the recorded demo and the example log."""

from __future__ import annotations

import pytest

from ds4top.core.lint import RULES
from ds4top.core.model import Model
from ds4top.report.day import day_rows
from ds4top.view.compose import page, page_height
from ds4top.view.kv import story
from ds4top.view.launchmore import more_rows
from ds4top.view.memlog import context_spec, log_rows
from ds4top.view.sourcesview import GIVES, sources_view
from ds4top.view.text import row, row_text, row_width
from tests.frames import DECODE_S, OWN, demo, example


def lines_of(rows: object) -> list[str]:
    return [row_text(each).rstrip() for each in rows]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def busy() -> Model:
    return demo(DECODE_S).model


@pytest.fixture(scope="module")
def alone() -> Model:
    return example().model


def test_every_rule_is_named_with_where_it_is_known_from(busy: Model) -> None:
    lines = lines_of(more_rows(busy, 98))
    at = lines.index(" RULES   8 of 32 speak, the others see no reason to, or no facts")
    assert len(RULES) == 32
    assert len(lines) == at + 1 + 2 * len(RULES)
    for rule in RULES:
        (place,) = [
            n for n, line in enumerate(lines) if n > at and line[5:].split()[:1] == [rule.id]
        ]
        assert lines[place + 1].strip().removesuffix("…") in rule.source
    assert (
        lines[lines.index("  !  swap-on              16.0 GiB of swap") + 1]
        .strip()
        .startswith("NVIDIA/open-gpu-kernel-modules#1358")
    )


def test_the_process_and_its_command_line_stand_there_whole(busy: Model) -> None:
    server = busy.machine.server
    assert server is not None
    assert server.argv is not None
    lines = lines_of(more_rows(busy, 98))
    begin, end = lines.index(" COMMAND LINE   secrets masked"), lines.index(" PROCESS")
    assert " ".join(" ".join(lines[begin + 1 : end]).split()) == " ".join(server.argv)
    facts = dict(line.split(None, 1) for line in lines[end + 1 : lines.index("", end)])
    assert facts["pid"] == "17180, root (0), since 29 Nov 11:30:51"
    assert facts["model"] == f"{server.model_path}, 80.8 GiB"
    assert facts["environment"] == "1 variable of the server's, under SET"


def test_each_life_of_a_log_alone(alone: Model) -> None:
    lines = lines_of(more_rows(alone, 98))
    at = lines.index(" LIFE 2   from 24 Nov 18:27:28")
    assert [line.split(None, 1) for line in lines[at + 1 : at + 6]] == [
        ["listening", "http://127.0.0.1:18100 at 18:27:28"],
        ["context", "131,072 tokens, 1,731 MiB, cpu"],
        ["disk", "cache    /var/lib/ds4/kv, 1,024 MiB"],
        ["requests", "4, 276 tokens generated"],
        ["largest", "a prompt of 13,718 tokens"],
    ]
    assert " COMMAND LINE   secrets masked" not in lines


def test_memory_as_the_log_tells_it(alone: Model) -> None:
    lines = lines_of(log_rows(alone))
    assert "  2        131,072   1,731 MiB           –           –              –" in lines
    assert "  to   4,096 tokens     1 save      75 MiB each    18.8 MiB per 1K" in lines
    at = next(n for n, line in enumerate(lines) if line.startswith(" LONGEST PREFILLS"))
    assert lines[at + 1] == "  24 Nov 18:27:08   13,317 of   13,317 tokens in  18.4 s"
    spec = context_spec(alone)
    assert spec.now_s == spec.tracks[0].points[-1][0]
    assert spec.now_s - spec.tracks[0].points[0][0] == spec.span_s
    # In thousands; the tokens of the newest decode line.
    assert spec.tracks[0].points[-1][1] == 13.949
    assert spec.marks[0].value == 131.072
    assert log_rows(Model(type(alone.log)(), 0.0)) == []


def test_saves_are_told_with_their_time(alone: Model) -> None:
    lines = lines_of(each for _, each in story(alone))
    at = lines.index(" SAVED TO DISK   newest first")
    assert lines[at + 1] == "    13,949 tokens     206 MiB    100 ms  18:28:01  shutdown"
    assert len(alone.log.stores) == 23
    assert [line == "" for line in lines[at + 23 : at + 25]] == [False, True]


def test_the_plot_of_the_day_takes_what_is_left(alone: Model) -> None:
    assert len(day_rows(alone, 200)) == 39
    assert len(day_rows(alone, 200, height=47)) == 47
    assert len(day_rows(alone, 200, height=20)) == 39
    assert len(day_rows(alone, 120, height=47)) == len(day_rows(alone, 120))


def test_what_a_source_is_good_for_stands_under_it(busy: Model) -> None:
    busy.own = OWN
    words = " ".join(" ".join(line[:98].split()) for line in lines_of(sources_view(busy, 200)))
    for source in busy.health:
        assert GIVES[source.name] in words
    assert GIVES["memory"] not in " ".join(lines_of(sources_view(busy, 120)))
    assert "cache    27 saves, 10 loads, 20 evictions, 18 misses" in "\n".join(
        lines_of(sources_view(busy, 120))
    )
    assert all(row_width(each) <= 200 for each in sources_view(busy, 200))


def test_what_is_to_stand_at_the_right_does() -> None:
    left = [row("a"), row(""), row("b")]
    shown = lines_of(page(left, 200, right=[row("c"), row(""), row("d")]))
    assert [line.split() for line in shown] == [["a", "c"], [], ["b", "d"]]
    assert lines_of(page(left, 100, right=[row("c")])) == ["a", "", "b", "c"]
    assert page_height([3, 3, 4]) == 7
