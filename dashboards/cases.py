"""Cases of alerts: written as short tables beside each alert, run by promtool.

    cases=(
        fires({of(metrics.POSTGRES_UP, "sync", "s1"): Holds(0)}, at="3m", ...),
        silent({of(metrics.POSTGRES_UP, "sync", "s1"): Holds(1)}, at="1h"),
    )

Of each case with a counter a second one is made in which the counter begins anew in the middle, as
after a restart: it must say the same.  And no alert may fire when there are no series at all, but
for those that tell of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dashboards import promql
from dashboards.promql import Metric
from dashboards.rules import PREFIX, Alert, Case, Grows, Holds, Values, Written, seconds
from dashboards.series import JOB

NAMESPACE = "fleet"
COUNTER_S = 60
QUIET_AT = "6h"


def target(component: str, pod: str) -> dict[str, str]:
    """The labels that Prometheus gives a target."""
    return {
        "job": JOB,
        "namespace": NAMESPACE,
        "component": component,
        "pod": pod,
        "instance": f"{pod}:9090",
    }


def of(metric: Metric, component: str, pod: str, /, *, suffix: str = "", **labels: str) -> str:
    """One series of a metric, as it is scraped from a pod."""
    return promql.series(metric, suffix=suffix, **labels, **target(component, pod))


def fires(
    series: Mapping[str, Values],
    *,
    at: str,
    labels: Mapping[str, str],
    says: tuple[str, str],
    what: str = "",
) -> Case:
    """With these series it fires once, with these labels, summary and description."""
    return Case(series, at, (labels,), (says,), what)


def silent(series: Mapping[str, Values], *, at: str, what: str = "") -> Case:
    """With these series nobody hears of it."""
    return Case(series, at, what=what)


def all_of(alert: Alert) -> Iterator[Case]:
    """Its cases, and those that follow from them."""
    for case in alert.cases:
        yield case
        if any(isinstance(each, Grows) for each in case.series.values()):
            yield replace(case, what=f"{case.what}, begun anew")
    if not alert.absence:
        yield Case({}, QUIET_AT, what="no series")


def promtool(alert: Alert) -> dict[str, Any]:
    """The file of tests of one alert, as promtool reads it."""
    tests = [_test(alert, case) for case in all_of(alert)]
    return {
        "rule_files": ["recordings.yaml", "alerts.yaml"],
        "evaluation_interval": "1m",
        "tests": tests,
    }


def _test(alert: Alert, case: Case) -> dict[str, Any]:
    anew = case.what.endswith("begun anew")
    length = int(seconds(case.at)) // COUNTER_S + 1
    return {
        "name": f"{alert.name}: {'fires' if case.labels else 'silent'}, {case.what or case.at}",
        "interval": "1m",
        "input_series": [
            {"series": series, "values": _values(each, length, anew=anew)}
            for series, each in case.series.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": case.at,
                "alertname": f"{PREFIX}{alert.name}",
                "exp_alerts": [
                    _expected(alert, *each) for each in zip(case.labels, case.says, strict=True)
                ],
            }
        ],
    }


def _values(values: Values, length: int, *, anew: bool) -> str:
    if isinstance(values, Written):
        return values.values
    if isinstance(values, Holds):
        return f"{values.value:g}x{length}"
    if not anew:
        return f"0+{values.each_minute:g}x{length}"
    half = length // 2
    return f"0+{values.each_minute:g}x{half} 0+{values.each_minute:g}x{length - half}"


def _expected(alert: Alert, labels: Mapping[str, str], says: tuple[str, str]) -> dict[str, Any]:
    summary, description = says
    return {
        "exp_labels": {**labels, "severity": alert.severity},
        "exp_annotations": {
            "summary": summary,
            "description": description,
            "runbook_url": alert.runbook,
            "dashboard": f"midstreamer-{alert.board}",
        },
    }
