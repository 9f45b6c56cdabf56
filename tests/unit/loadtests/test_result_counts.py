"""A load test counts its requests, computes percentiles, and checks its thresholds."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import result_counts, thresholds
from loadtests.result_counts import Durations, Tally
from midstreamer.domain.errors import BadInput

SECONDS = st.lists(st.floats(1e-5, 100), min_size=1, max_size=60)


def counted(seconds: list[float]) -> Durations:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    return durations


@given(SECONDS, st.floats(1, 100))
def test_a_percentile_is_right_to_one_percent(seconds: list[float], percent: float) -> None:
    exact = float(np.percentile(seconds, percent, method="inverted_cdf"))
    assert exact * 0.999 <= counted(seconds).percentile(percent) <= exact * 1.011


@given(SECONDS, SECONDS)
def test_two_processes_add_up_to_one(first: list[float], second: list[float]) -> None:
    durations = counted(first)
    durations.merge(counted(second))
    both = counted(first + second)
    assert (durations.buckets, durations.count, durations.most_s) == (
        both.buckets,
        both.count,
        both.most_s,
    )


@given(SECONDS)
def test_a_tally_survives_being_written(seconds: list[float]) -> None:
    counts = Tally()
    for each in seconds:
        counts.ok("match", latency_s=each, service_s=each / 2)
        counts.sent(each / 10)
    counts.failed("append", "unavailable")
    assert result_counts.from_plain(json.loads(json.dumps(result_counts.plain(counts)))) == counts


def test_a_stop_of_the_server_is_felt_by_every_request_that_was_due_in_it() -> None:
    """Latency counts from the due time, so a pause of the server shows in many requests.

    A client that waits for each response before it sends the next request would see one slow
    request in a thousand.
    """
    counts, free_s = Tally(), 0.0
    for number in range(1000):
        due_s = number * 0.01
        begun_s = max(due_s, free_s)
        free_s = begun_s + (1.0 if number == 500 else 0.001)
        counts.ok("lookup", latency_s=free_s - due_s, service_s=free_s - begun_s)
    requests = counts.requests["lookup"]
    assert requests.service.percentile(99) < 0.002
    assert requests.latency.percentile(99) > 0.8


def test_thresholds_say_what_was_not_held() -> None:
    counts = Tally()
    for number in range(100):
        counts.ok("match", latency_s=0.001 * (number + 1), service_s=0.001)
    counts.failed("match", "overloaded")
    counts.sent(0.02)
    lines = thresholds.broken(
        counts,
        map(
            thresholds.parse,
            ("match.p50<=60ms", "match.p99<=50ms", "failures<=0.5%", "late<=5ms", "max<=1s"),
        ),
    )
    assert [line.partition(":")[0] for line in lines] == [
        "match.p99<=50ms", "failures<=0.5%", "late<=5ms",
    ]  # fmt: skip


def test_a_threshold_without_measurements_is_broken() -> None:
    assert thresholds.broken(Tally(), [thresholds.parse("match.p99<=1s")])
    assert thresholds.broken(Tally(), [thresholds.parse("failures<=0%")])
    assert thresholds.broken(Tally(), [thresholds.parse("late<=1s")])


@given(
    st.sampled_from(["", "match", "sdk.append"]), st.sampled_from(["p50", "p99", "max"]),
    st.integers(1, 5000),
)  # fmt: skip
def test_a_threshold_is_read_as_it_is_written(name: str, what: str, most_ms: int) -> None:
    threshold = thresholds.Threshold(name, what, most_ms / 1e3)
    assert thresholds.parse(threshold.written) == threshold


@pytest.mark.parametrize("text", ["", "match", "p99<=5", "p99<=5%", "failures<=1ms", "p100<=1ms"])
def test_what_is_no_threshold_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="match.p99<=50ms|failures in %"):
        thresholds.parse(text)
