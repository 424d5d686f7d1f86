"""Which settings of a launch hurt, by how much, and what mends each.

The table of rules is ``lint_machine.RULES``; a rule without the facts it needs says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ds4top.core.launch import ENVIRONMENT, ON, LaunchSpec, Setting, value_of
from ds4top.core.lint_facts import SEVERITIES, GpuServer, LintFacts, LogKind, Rule, Said, Severity
from ds4top.core.lint_machine import RULES
from ds4top.core.units import MIB

__all__ = [
    "RULES",
    "Finding",
    "GpuServer",
    "Judged",
    "LintFacts",
    "LogKind",
    "Rule",
    "Said",
    "Severity",
    "facts_of",
    "judge",
    "lint",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found. ``fix`` is the exact flag or command; empty where all is well."""

    rule: str
    severity: Severity
    setting: str | None
    figure: str
    why: str
    fix: str
    source: str

    @property
    def named(self) -> str:
        """The figure, with what it is a figure of where it does not say that itself."""
        name = self.setting or ""
        return self.figure if name in self.figure else f"{name} {self.figure}"

    @property
    def text(self) -> str:
        """In one line: the figure, why it matters, and what mends it."""
        return f"{self.named}: {self.why}" + (f"; {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Judged:
    """A setting with what the rules say of it; ``verdict`` is ``None`` where none speaks."""

    setting: Setting
    verdict: Severity | None = None
    why: str | None = None
    fix: str | None = None
    figure: str | None = None


def lint(facts: LintFacts, rules: Iterable[Rule] = RULES) -> tuple[Finding, ...]:
    """Every finding, the worst first, those of one severity in the order of the table."""
    found: list[Finding] = []
    for rule in rules:
        said = rule.check(facts)
        if said is not None:
            setting = said.setting or rule.setting
            found.append(
                Finding(
                    rule.id, said.severity, setting, said.figure, said.why, said.fix, rule.source
                )
            )
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def judge(settings: Iterable[Setting], findings: Sequence[Finding]) -> tuple[Judged, ...]:
    """Each setting with its worst finding; ``findings`` as ``lint`` sorts them."""
    out: list[Judged] = []
    for setting in settings:
        worst = next((f for f in findings if f.setting in _names(setting.name)), None)
        if worst is None:
            out.append(Judged(setting))
        else:
            out.append(Judged(setting, worst.severity, worst.why, worst.fix or None, worst.figure))
    return tuple(out)


_JUDGED_AS = {
    "-c": ("--ctx", "--ctx-size"),
    "-m": ("--model",),
    "-ctk": ("--cache-type-k",),
    "-ctv": ("--cache-type-v",),
    "-np": ("--parallel",),
    "--load-mode": ("--no-mmap",),
    "DS4_CUDA_DIRECT_MODEL": ("--no-mmap",),
}
"""Settings by the names under which rules know them; short ones stand where no help was read."""


def _names(name: str) -> frozenset[str]:
    return frozenset((name, *_JUDGED_AS.get(name, ())))


_SIZE = re.compile(r"\d+")


def _whole(settings: Sequence[Setting], *names: str) -> int | None:
    """A whole number; the server reads what stands before any suffix."""
    value = value_of(settings, *names)
    found = _SIZE.match(value) if value is not None else None
    return int(found[0]) if found else None


def _is_on(settings: Sequence[Setting], name: str) -> bool | None:
    value = value_of(settings, name)
    return None if value is None else value == ON


def facts_of(
    settings: Sequence[Setting],
    spec: LaunchSpec,
    base: LintFacts,
    *,
    llama: bool = False,
) -> LintFacts:
    """``base`` (what is known of machine and log) with what the settings themselves tell.

    What ``base`` knows already stays: a start-up line or a socket is better than a flag.
    """
    by_name = {setting.name: setting for setting in settings}
    budget = _whole(settings, "--kv-disk-space-mb")
    kv_dir = by_name.get("--kv-disk-dir")
    kv_known = kv_dir is not None and kv_dir.origin != "unknown"
    variables = {s.name: s.value or "" for s in settings if s.section == ENVIRONMENT}
    host = value_of(settings, "--host")
    several = tuple(
        name
        for name in ("--gpu-vram", "--gpu-devices", "--cuda-tensor-parallel")
        if name in by_name and by_name[name].given
    )
    found = LintFacts(
        flavour="llama.cpp" if llama else "ds4",
        model=value_of(settings, "--model", "-m"),
        ctx_tokens=_whole(settings, "--ctx", "--ctx-size", "-c"),
        prefill_chunk=_whole(settings, "--prefill-chunk"),
        kv_disk=kv_dir.value is not None if kv_known and kv_dir is not None else None,
        kv_dir=kv_dir.value if kv_dir is not None else None,
        kv_budget_bytes=None if budget is None or not kv_known else budget * MIB,
        cold_max_tokens=_whole(settings, "--kv-cache-cold-max-tokens"),
        power_pct=_whole(settings, "--power"),
        batch_size=_whole(settings, "--max-batch-size"),
        batched_sessions=_whole(settings, "--batched-session", "--parallel", "-np"),
        cache_type_k=value_of(settings, "--cache-type-k", "-ctk"),
        cache_type_v=value_of(settings, "--cache-type-v", "-ctv"),
        hosts=None if host is None else tuple(part.strip() for part in host.split(",")),
        api_key=_has_key(by_name, spec) if llama else False,
        ssd_streaming=_is_on(settings, "--ssd-streaming"),
        dspark=_is_on(settings, "--dspark"),
        trace=value_of(settings, "--trace"),
        several_gpus=several or None,
        simulated_memory=value_of(settings, "--simulate-used-memory"),
        variables=None if spec.env is None else variables,
    )
    blank = LintFacts()
    known = {
        name: getattr(base, name)
        for name in LintFacts.__slots__
        if getattr(base, name) != getattr(blank, name)
    }
    return replace(found, **known)


def _has_key(by_name: dict[str, Setting], spec: LaunchSpec) -> bool | None:
    keys = ("--api-key", "--api-key-file", "LLAMA_API_KEY", "LLAMA_ARG_API_KEY_FILE")
    if any(name in by_name and by_name[name].given for name in keys):
        return True
    return None if spec.argv is None or spec.env is None else False
