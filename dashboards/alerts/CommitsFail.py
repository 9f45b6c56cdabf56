"""Alert: a large share of the transactions that write to PostgreSQL fail."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.rules import PAGE, Alert, Grows, Holds, rate
from midstreamer.telemetry import metrics

SHARE_MAX = 0.1


def _commits(over: str, result: str = "") -> str:
    chosen = {"result": result} if result else {}
    return rate(metrics.COMMITS, over, "namespace", **chosen)


ALERT = Alert(
    name="CommitsFail",
    expression=lambda over: (
        f"{_commits(over('5m'), 'failed')} / {_commits(over('5m'))} > {SHARE_MAX}"
    ),
    wait="5m",
    severity=PAGE,
    summary="transactions in {{ $labels.namespace }} fail",
    description=(
        "{{ $value | humanizePercentage }} of the write transactions in "
        "{{ $labels.namespace }} failed within the last five minutes."
    ),
    fault="PostgreSQL is stopped while clients append",
    board="sync",
    cases=(
        fires(
            {
                of(metrics.COMMITS, "sync", "s1", result="committed"): Grows(90),
                of(metrics.COMMITS, "sync", "s1", result="failed"): Grows(30),
            },
            at="20m",
            labels={"namespace": "fleet"},
            says=(
                "transactions in fleet fail",
                ("25% of the write transactions in fleet failed within the last five minutes."),
            ),
        ),
        silent(
            {
                of(metrics.COMMITS, "sync", "s1", result="committed"): Grows(90),
                of(metrics.COMMITS, "sync", "s1", result="clashed"): Grows(30),
            },
            at="1h",
            what="transactions that clash are retried",
        ),
        silent(
            {
                of(metrics.COMMITS, "sync", "s1", result="committed"): Holds(5),
                of(metrics.COMMITS, "sync", "s1", result="failed"): Holds(5),
            },
            at="1h",
            what="nothing is written",
        ),
    ),
)
