"""Values on dashboards are written for people, with their units."""

from __future__ import annotations

import math

import pytest

from dashboards import panels, value_format


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        (0.0, panels.SECONDS, "0 s"),
        (0.012, panels.SECONDS, "12 ms"),
        (90.0, panels.SECONDS, "1.5 min"),
        (-7200.0, panels.SECONDS, "-2 h"),
        (7_776_000.0, panels.SECONDS, "90 d"),
        (0.00025, panels.SECONDS, "250 µs"),
        (20.0, panels.MILLISECONDS, "20 ms"),
        (0.999, panels.SHARE, "99.9 %"),
        (3 * 2.0**20, panels.BYTES, "3 MiB"),
        (512.0, panels.BYTES_PER_S, "512 B/s"),
        (12_345.0, panels.COUNT, "12.3k"),
        (0.5, panels.PER_S, "0.5/s"),
        (161_618_614_479_785.0, panels.PLAIN, "161618614479785"),
        (math.nan, panels.SECONDS, "–"),
        (math.inf, panels.COUNT, "–"),
    ],
)
def test_a_value_is_written_with_its_unit(value: float, unit: str, message: str) -> None:
    assert value_format.said(value, unit) == message


def test_every_unit_of_panels_can_be_written() -> None:
    assert set(value_format.SAYERS) == panels.UNITS
