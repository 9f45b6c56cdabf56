"""Format values for people: a number with three significant digits and the unit of its panel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dashboards import panels

_SECONDS: Sequence[tuple[float, str]] = (
    (86_400.0, "d"),
    (3600.0, "h"),
    (60.0, "min"),
    (1.0, "s"),
    (1e-3, "ms"),
    (1e-6, "µs"),
)
_BYTES: Sequence[tuple[float, str]] = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
_LARGE: Sequence[tuple[float, str]] = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def said(value: float, unit: str) -> str:
    """Return a value with its unit, such as ``12 ms``; a dash if the value is not finite."""
    if not math.isfinite(value):
        return "–"
    return SAYERS.get(unit, _plain)(value)


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, steps: Sequence[tuple[float, str]], least: str, gap: str) -> str:
    for factor, name in steps:
        if abs(value) >= factor:
            return f"{_digits(value / factor)}{gap}{name}"
    return f"{_digits(value)}{gap}{least}".rstrip()


def _time(value: float) -> str:
    if value == 0:
        return "0 s"
    return _scaled(value, _SECONDS, "s", " ")


def _share(value: float) -> str:
    return f"{_digits(value * 100)} %"


def _plain(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else _digits(value)


SAYERS: dict[str, Callable[[float], str]] = {
    panels.SECONDS: _time,
    panels.MILLISECONDS: lambda value: _time(value / 1e3),
    panels.BYTES: lambda value: _scaled(value, _BYTES, "B", " "),
    panels.BYTES_PER_S: lambda value: f"{_scaled(value, _BYTES, 'B', ' ')}/s",
    panels.SHARE: _share,
    panels.PER_S: lambda value: f"{_scaled(value, _LARGE, '', '')}/s",
    panels.COUNT: lambda value: _scaled(value, _LARGE, "", ""),
    panels.PLAIN: _plain,
}
