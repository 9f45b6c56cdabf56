"""What Prometheus keeps of the objectives: the share that failed, and what is left of the budget.

Coordinators are asked by clients, so they are what is measured.  Available: a Match, Append, Lookup
or Survey was answered without a fault of the server (`domain.errors.FAULTS_OF_THE_SERVER`); a
client's own mistake is an answer.  In time: an answer to a Match within 0.2 s, to an Append within
0.1 s.  docs/explanation/slos.md says why these.
"""

from __future__ import annotations

from dashboards import promql
from dashboards.promql import among
from dashboards.rules import Pace, Recording, rate
from dashboards.series import BUDGET_LEFT, OBJECTIVE, SLI_ERROR, WINDOWS
from midstreamer.domain.errors import FAULTS_OF_THE_SERVER
from midstreamer.telemetry import metrics, words

AVAILABILITY, LATENCY = "availability", "latency"
OBJECTIVES = {AVAILABILITY: 0.999, LATENCY: 0.99}
"""Share of requests that must be good, over thirty days."""
ASKED = ("Match", "Append", "Lookup", "Survey")
"""What a client asks."""
IN_TIME_S = {"Match": 0.2, "Append": 0.1}
"""Within how many seconds an answer must come; each is a bucket of the histogram."""
PERIOD = "30d"


def asked(over: str) -> str:
    """Requests of clients each second."""
    frames = among(*ASKED)
    return rate(metrics.REQUEST_LATENCY_S, over, "namespace", suffix="_count",
                component="coordinator", frame=frames)  # fmt: skip


def failed(over: str) -> str:
    """Those each second that failed by a fault of the server."""
    return rate(metrics.REQUEST_LATENCY_S, over, "namespace", suffix="_count",
                component="coordinator", frame=among(*ASKED),
                result=among(*sorted(FAULTS_OF_THE_SERVER), words.OTHER))  # fmt: skip


def answered(over: str) -> str:
    """Answers each second to requests that have a time to keep."""
    return rate(metrics.REQUEST_LATENCY_S, over, "namespace", suffix="_count",
                component="coordinator", frame=among(*IN_TIME_S), result=words.OK)  # fmt: skip


def in_time(over: str) -> str:
    """Those each second that came in time."""
    parts = [
        rate(metrics.REQUEST_LATENCY_S, over, "namespace", suffix="_bucket",
             component="coordinator", frame=frame, result=words.OK, le=f"{limit_s}")
        for frame, limit_s in IN_TIME_S.items()
    ]  # fmt: skip
    # A kind of request that nobody makes counts as nothing.
    whole = f"{answered(over)} * 0"
    return " + ".join(f"({part} or {whole})" for part in parts)


def error_ratio(slo: str, over: str) -> str:
    """The share of requests that failed an objective; nothing while nobody asks."""
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
