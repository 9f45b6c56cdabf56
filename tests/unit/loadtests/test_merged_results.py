"""The results of several load generators are summed, and a missing result is reported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loadtests import merged_results, result_counts
from loadtests.result_counts import Durations, Tally
from midstreamer.domain.errors import BadInput


def a_result(*, seconds: float = 10.0, latency_s: float = 0.01, failed: int = 0) -> dict[str, Any]:
    stage, rtt = Tally(), Durations()
    for _ in range(10):
        stage.ok("match", latency_s=latency_s, service_s=latency_s)
    for _ in range(failed):
        stage.failed("match", "unavailable")
    rtt.add(latency_s / 10)
    figures = {
        "stages": [result_counts.plain(stage)],
        "sdk": result_counts.plain(Tally()),
        "users": 3,
        "seconds": seconds,
        "processors": 0.25,
        "repeats": {"draining": 1},
        "transport": {
            "links": 3,
            "lost_packets": 2,
            "rtt": result_counts.plain_durations(rtt),
            "window": result_counts.plain_durations(rtt),
        },
    }
    # Makes a copy, as if the figures came from another process.
    return dict(json.loads(json.dumps(figures)))


def test_counts_are_added_and_the_time_is_that_of_the_longest() -> None:
    total = merged_results.one([a_result(seconds=10.0), a_result(seconds=12.0)])

    assert result_counts.from_plain(total["stages"][0]).requests["match"].count == 20
    assert (total["users"], total["seconds"], total["processors"]) == (6, 12.0, 0.5)
    assert total["repeats"] == {"draining": 2}
    assert (total["transport"]["links"], total["transport"]["lost_packets"]) == (6, 4)


def test_percentiles_are_those_of_all_links_and_not_a_mean() -> None:
    links = merged_results.transport(
        [each["transport"] for each in (a_result(), a_result(latency_s=1.0))]
    )

    assert links["rtt_p50_s"] == pytest.approx(0.001, rel=0.02)
    assert links["rtt_p99_s"] == pytest.approx(0.1, rel=0.02)


def test_a_failure_in_one_generator_breaks_the_threshold_of_all() -> None:
    judgement = merged_results.judged([a_result(), a_result(failed=1)], ["failures<=0%"], 2)

    assert judgement["broken"] == ["failures<=0%: match had 4.76 %"]


def test_a_generator_without_a_result_breaks_a_threshold() -> None:
    judgement = merged_results.judged([a_result()], ["failures<=0%"], 2)

    assert judgement["broken"] == ["1 of 2 generators have sent their results"]
    assert merged_results.judged([a_result()], ["failures<=0%"], 1)["broken"] == []


def test_without_figures_there_is_nothing_to_judge() -> None:
    with pytest.raises(BadInput, match="no generator has sent its results"):
        merged_results.judged([], ["failures<=0%"], 2)
