"""Numbers as the screen and the reports print them: fixed shapes, where a change moves only digits.

Every function takes ``None`` (or a value that is no finite number) for *unknown* and answers with
``dash``, never with a zero. ``width`` right-aligns the answer. In text K is 1,000 tokens and GiB is
2**30 bytes; the ticks of a context axis, powers of two, are formatted by the plot itself.
"""

from __future__ import annotations

from math import floor, isfinite

DASH = "\N{EN DASH}"
"""Stands for an unknown value; pass ``dash="-"`` where only ASCII may be printed."""

GIB = 1 << 30
MIB = 1 << 20

_AGE_STEPS = ((5, 1), (120, 5), (600, 15), (3_600, 60), (86_400, 600), (float("inf"), 3_600))
_SHORT = (("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))


def _known(value: float | None) -> bool:
    return value is not None and isfinite(value)


def _number(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def fmt_num(
    value: float | None, digits: int = 0, unit: str = "", *, width: int = 0, dash: str = DASH
) -> str:
    """Any figure with thousands separators, ``digits`` decimals and, after a blank, its unit."""
    if value is None or not isfinite(value):
        return dash.rjust(width)
    text = _number(value, digits)
    return (f"{text} {unit}" if unit else text).rjust(width)


def count_of(number: int, one: str, many: str = "") -> str:
    """A count with its noun: ``1 start``, ``3 starts``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def fmt_tokens(tokens: float | None, *, width: int = 0, dash: str = DASH) -> str:
    """Tokens to the last one: ``48,325``."""
    return fmt_num(tokens, width=width, dash=dash)


def fmt_k(tokens: float | None, *, width: int = 0, dash: str = DASH) -> str:
    """Tokens in at most five characters, K = 1,000: ``612``, ``1.2K``, ``48K``, ``6.81M``."""
    if tokens is None or not isfinite(tokens):
        return dash.rjust(width)
    sign, size = ("-", -tokens) if tokens < 0 else ("", tokens)
    if size < 999.5:
        return _number(tokens, 0).rjust(width)
    digits_of = {"K": ((9.95, 1), (999.5, 0))}
    default = ((9.995, 2), (99.95, 1), (999.5, 0))
    for letter, unit in _SHORT:
        for limit, digits in digits_of.get(letter, default):
            if size / unit < limit:
                return f"{sign}{size / unit:.{digits}f}{letter}".rjust(width)
    return f"{sign}{size / 1e12:,.0f}T".rjust(width)


def fmt_gib(
    size_bytes: float | None,
    digits: int = 1,
    *,
    unit: bool = False,
    width: int = 0,
    dash: str = DASH,
) -> str:
    """Bytes as GiB: ``24.1``, with ``unit`` ``24.1 GiB``."""
    scaled = None if size_bytes is None else size_bytes / GIB
    return fmt_num(scaled, digits, "GiB" if unit else "", width=width, dash=dash)


def fmt_mib(
    size_bytes: float | None,
    digits: int = 0,
    *,
    unit: bool = False,
    width: int = 0,
    dash: str = DASH,
) -> str:
    """Bytes as MiB: ``1,731``, with ``unit`` ``1,731 MiB``."""
    scaled = None if size_bytes is None else size_bytes / MIB
    return fmt_num(scaled, digits, "MiB" if unit else "", width=width, dash=dash)


def fmt_tps(rate_tps: float | None, *, unit: bool = False, width: int = 0, dash: str = DASH) -> str:
    """Tokens per second: ``9.6``; from 100 up without a decimal: ``222``."""
    digits = 0 if _known(rate_tps) and abs(rate_tps or 0.0) >= 99.95 else 1
    return fmt_num(rate_tps, digits, "tok/s" if unit else "", width=width, dash=dash)


def fmt_pct(share: float | None, digits: int = 0, *, width: int = 0, dash: str = DASH) -> str:
    """A share of one as a percentage: 0.37 is ``37 %``."""
    return fmt_num(None if share is None else share * 100, digits, "%", width=width, dash=dash)


def fmt_ratio(ratio: float | None, *, width: int = 0, dash: str = DASH) -> str:
    """How many times another figure: ``1.02 x``."""
    return fmt_num(ratio, 2, "x", width=width, dash=dash)


def fmt_ms(time_ms: float | None, *, width: int = 0, dash: str = DASH) -> str:
    """Milliseconds: ``4.2 ms`` below ten, ``87 ms`` above."""
    digits = 1 if _known(time_ms) and abs(time_ms or 0.0) < 9.95 else 0
    return fmt_num(time_ms, digits, "ms", width=width, dash=dash)


def fmt_seconds(time_s: float | None, digits: int = 1, *, width: int = 0, dash: str = DASH) -> str:
    """Seconds, never turned into minutes, for columns that are compared: ``157.8 s``."""
    return fmt_num(time_s, digits, "s", width=width, dash=dash)


def _clock(whole_s: int) -> str:
    if whole_s < 60:
        return f"{whole_s} s"
    if whole_s < 3_600:
        return f"{whole_s // 60} m {whole_s % 60:02d} s"
    if whole_s < 86_400:
        return f"{whole_s // 3_600} h {whole_s % 3_600 // 60:02d} m"
    return f"{whole_s // 86_400} d {whole_s % 86_400 // 3_600} h"


def fmt_duration(time_s: float | None, *, width: int = 0, dash: str = DASH) -> str:
    """A duration with its two largest units: ``5.2 s``, ``57 s``, ``2 m 08 s``, ``3 d 4 h``."""
    if time_s is None or not isfinite(time_s):
        return dash.rjust(width)
    sign, size = ("-", -time_s) if time_s < 0 else ("", time_s)
    if size < 9.95:
        return fmt_num(time_s, 1, "s", width=width)
    return (sign + _clock(floor(size + 0.5))).rjust(width)


def fmt_age(age_s: float | None, *, width: int = 0, dash: str = DASH) -> str:
    """An age that seldom changes its text: by the second up to 5 s, then in steps of 5 s, and
    coarser from two minutes on (15 s, 1 m, 10 m, 1 h). It never says more than the true age.
    """
    if age_s is None or not isfinite(age_s):
        return dash.rjust(width)
    age_s = max(age_s, 0.0)
    step = next(step for limit, step in _AGE_STEPS if age_s < limit)
    whole = floor(age_s / step) * step
    text = f"{whole // 60} m" if 600 <= whole < 3_600 else _clock(whole)
    return text.rjust(width)
