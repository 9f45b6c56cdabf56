"""Recording rules of the objectives: the share of failed requests, and the budget that is left.

The objectives are measured at coordinators, because clients send their requests there.  The
objective ``availability`` counts Match, Append, Lookup and Survey.  A request fails it if the
result is a fault of the server (`domain.errors.FAULTS_OF_THE_SERVER`); a refusal of a wrong request
does not fail it.  The objective ``latency`` asks for the answer to a Match within 0.2 s, and to an
Append within 0.1 s.  docs/explanation/slos.md gives the reasons.
"""

from __future__ import annotations

from dashboards import promql
from dashboards.promql import among
from dashboards.rules import Pace, Recording, rate
from dashboards.uncatalogued_series import BUDGET_LEFT, OBJECTIVE, SLI_ERROR, WINDOWS
from midstreamer.domain.errors import FAULTS_OF_THE_SERVER
from midstreamer.telemetry import label_values, metrics

AVAILABILITY, LATENCY = "availability", "latency"
OBJECTIVES = {AVAILABILITY: 0.999, LATENCY: 0.99}
"""Share of requests that must meet each objective, over thirty days (`PERIOD`)."""
ASKED = ("Match", "Append", "Lookup", "Survey")
"""Frames from clients that the objective of availability counts as requests."""
IN_TIME_S = {"Match": 0.2, "Append": 0.1}
"""For the objective of latency: seconds within which each of these frames must be answered.

Each number is also the limit of a bucket of the histogram of latencies.
"""
PERIOD = "30d"


def asked(over: str) -> str:
    """Return PromQL for the number of requests per second that clients send.

    ``over`` is the window over which the rate is computed, such as ``5m``.
    """
    frames = among(*ASKED)
    return rate(metrics.REQUEST_LATENCY_S, over, "namespace", suffix="_count",
                component="coordinator", frame=frames)  # fmt: skip


def failed(over: str) -> str:
    """Return PromQL for the number of requests per second that fail by a fault of the server.

    Only requests that clients send are counted.
    """
    return rate(metrics.REQUEST_LATENCY_S, over, "namespace", suffix="_count",
                component="coordinator", frame=among(*ASKED),
                result=among(*sorted(FAULTS_OF_THE_SERVER), label_values.OTHER))  # fmt: skip


def answered(over: str) -> str:
    """Return PromQL for the successful answers to Match and Append, as a number per second.

    Answers in time and late answers both count.
    """
    return rate(
        metrics.REQUEST_LATENCY_S,
        over,
        "namespace",
        suffix="_count",
        component="coordinator",
        frame=among(*IN_TIME_S),
        result=label_values.OK,
    )


def in_time(over: str) -> str:
    """Return PromQL for those answers of `answered` that came in time, as a number per second."""
    parts = [
        rate(metrics.REQUEST_LATENCY_S, over, "namespace", suffix="_bucket",
             component="coordinator", frame=frame, result=label_values.OK, le=f"{limit_s}")
        for frame, limit_s in IN_TIME_S.items()
    ]  # fmt: skip
    # A frame that no client sends has no series; it must count as 0 in the sum.
    zero = f"{answered(over)} * 0"
    return " + ".join(f"({part} or {zero})" for part in parts)


def error_ratio(slo: str, over: str) -> str:
    """Return PromQL for the share of requests that missed an objective.

    Its result is empty if there were no requests.
    """
    if slo == AVAILABILITY:
        return f"({failed(over)} or {asked(over)} * 0) / ({asked(over)} > 0)"
    return f"1 - ({in_time(over)}) / ({answered(over)} > 0)"


def _error(slo: str, window: str) -> Recording:
    return Recording(
        SLI_ERROR[window].name, lambda pace: error_ratio(slo, pace(window)), {"slo": slo}
    )


def _objective(slo: str, share: float) -> Recording:
    return Recording(OBJECTIVE.name, lambda _: f"vector({share})", {"slo": slo})


def _budget(slo: str, share: float) -> Recording:
    def left(pace: Pace) -> str:
        spent = f"avg_over_time({promql.series(SLI_ERROR['5m'], slo=slo)}[{pace(PERIOD)}])"
        return f"1 - {spent} / {1 - share:g}"

    return Recording(BUDGET_LEFT.name, left, {"slo": slo})


RECORDINGS = (
    *(_error(slo, window) for slo in OBJECTIVES for window in WINDOWS),
    *(_objective(slo, share) for slo, share in OBJECTIVES.items()),
    *(_budget(slo, share) for slo, share in OBJECTIVES.items()),
)
