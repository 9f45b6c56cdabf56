"""The metrics of a commit agree with the verdicts and learning states in the commit."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer import reasoning
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Learned, Skipped
from midstreamer.sync import forecast_metrics
from midstreamer.telemetry import metrics
from tests.support.fleet import a_specification
from tests.support.metric_values import shown


def a_verdict(series: str = "counted/a", **changes: Any) -> Verdict:
    verdict = Verdict(b"k", series, 1, 2, 0.1, 1.0, True, True, 0.16, (0.25,), 5.0)
    return msgspec.structs.replace(verdict, **changes)


def of(universe: str) -> dict[str, float]:
    return {
        "hits": shown(metrics.VERDICTS, hit="true", universe=universe),
        "misses": shown(metrics.VERDICTS, hit="false", universe=universe),
        "void": shown(metrics.VERDICTS, hit="void", universe=universe),
        "covered": shown(metrics.INTERVALS, covered="true", universe=universe),
        "confidence": shown(metrics.CONFIDENCE, universe=universe),
        "winkler": shown(metrics.WINKLER, universe=universe),
        "bounded": shown(metrics.BOUNDED_INTERVALS, universe=universe),
        "brier": shown(metrics.BRIER, universe=universe),
    }


def test_each_verdict_counts_in_its_universe_with_its_scores() -> None:
    before = of("counted")
    forecast_metrics.count_verdicts([a_verdict(), a_verdict(hit=False, covered=False, brier=0.36)])
    gained = {key: value - before[key] for key, value in of("counted").items()}
    assert gained == pytest.approx(
        {
            "hits": 1,
            "misses": 1,
            "void": 0,
            "covered": 1,
            "confidence": 0.6 + 0.6,
            "winkler": 10.0,
            "bounded": 2,
            "brier": 0.52,
        }
    )


def test_a_void_verdict_has_no_scores() -> None:
    before = of("voided")
    forecast_metrics.count_verdicts([a_verdict("voided/a", void=True, hit=False, covered=False)])
    assert of("voided") == {**before, "void": before["void"] + 1}


def test_an_interval_without_an_end_has_no_score_and_does_not_spoil_the_sum() -> None:
    before = of("endless")
    forecast_metrics.count_verdicts(
        [a_verdict("endless/a", winkler=math.inf), a_verdict("endless/a")]
    )
    gained = {key: value - before[key] for key, value in of("endless").items()}
    assert (gained["covered"], gained["bounded"], gained["winkler"]) == (2, 1, 5.0)


@given(st.floats(0.0, 1.0), st.booleans())
def test_the_confidence_is_read_back_from_the_brier_score(probability: float, rose: bool) -> None:
    verdict = a_verdict(brier=(probability - rose) ** 2)
    assert forecast_metrics.confidence(verdict) == pytest.approx(
        max(probability, 1.0 - probability)
    )


def test_streams_are_counted_by_whether_they_hold_a_licence() -> None:
    universe = "licensed"
    state = reasoning.initial(a_specification(universe=universe))
    held = msgspec.structs.replace(state.licence, held=True)
    licences = forecast_metrics.Licences()
    for stream in ("a", "b", "c"):
        licences.remember(stream, state)
    licences.remember("c", msgspec.structs.replace(state, licence=held))
    assert shown(metrics.LICENCES, held="false", universe=universe) == 2
    assert shown(metrics.LICENCES, held="true", universe=universe) == 1
    assert shown(metrics.INTERVAL_TARGET, universe=universe) == state.specification.coverage
    licences.forget("a")
    assert shown(metrics.LICENCES, held="false", universe=universe) == 1
    licences.clear()
    assert shown(metrics.LICENCES, held="true", universe=universe) == 0


def test_a_stream_is_counted_by_the_sync_that_taught_it_last() -> None:
    universe = "overtaken"
    state = reasoning.initial(a_specification(universe=universe))
    own = msgspec.structs.replace(state, version=7)
    licences = forecast_metrics.Licences()
    licences.remember("a", own)
    licences.overtaken([Learned("a", 7, b""), Learned("b", 9, b""), Skipped("other")])
    assert shown(metrics.LICENCES, held="false", universe=universe) == 1
    licences.overtaken([Learned("a", 8, b"")])
    assert shown(metrics.LICENCES, held="false", universe=universe) == 0
