"""Test cases of alerts: written as short tables beside each alert, run by promtool.

    cases=(
        fires({of(metrics.POSTGRES_UP, "sync", "s1"): Holds(0)}, at="3m", ...),
        silent({of(metrics.POSTGRES_UP, "sync", "s1"): Holds(1)}, at="1h"),
    )

For each case with a counter, a second case is derived in which the counter restarts from 0 in the
middle, as it does when a process restarts.  Both cases must have the same result.

Each alert also gets a case without any series, in which it must not fire.  Only alerts on missing
series do not get this case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml  # type: ignore[import-untyped]

from dashboards import promql
from dashboards.promql import Metric
from dashboards.recording_rules import RECORDINGS
from dashboards.rules import PREFIX, Alert, Case, Grows, Holds, Pace, Values, Written, seconds
from dashboards.uncatalogued_series import JOB

NAMESPACE = "fleet"
STEP_S, LONG_STEP_S, LONG_S = 60, 300, 8 * 3600
"""Seconds between two samples: in a normal test case, and in a long one.

A test case is long if its alert is evaluated more than ``LONG_S`` seconds after the first sample.
"""
QUIET_AT = "6h"
"""Time at which the case without any series, which `all_of` adds, is evaluated."""
ANEW = "begun anew"
"""Suffix of the name of a derived case, in which counters restart from 0 in the middle."""


def target(component: str, pod: str) -> dict[str, str]:
    """Return the labels that Prometheus adds to the series of a target."""
    return {
        "job": JOB,
        "namespace": NAMESPACE,
        "component": component,
        "pod": pod,
        "instance": f"{pod}:9090",
    }


def of(metric: Metric, component: str, pod: str, /, *, suffix: str = "", **labels: str) -> str:
    """Return the selector of one series of a metric, as it is scraped from a pod."""
    return promql.series(metric, suffix=suffix, **labels, **target(component, pod))


def fires(
    series: Mapping[str, Values],
    *,
    at: str,
    labels: Mapping[str, str],
    says: tuple[str, str],
    what: str = "",
) -> Case:
    """Return a case in which the alert fires exactly once.

    ``labels`` and ``says`` (summary and description) are what the alert must have when it fires.
    """
    return Case(series, at, (labels,), (says,), what)


def silent(series: Mapping[str, Values], *, at: str, what: str = "") -> Case:
    """Return a case in which the alert does not fire."""
    return Case(series, at, what=what)


def all_of(alert: Alert) -> Iterator[Case]:
    """Yield the cases of an alert and the cases that are derived from them."""
    for case in alert.cases:
        yield case
        if any(isinstance(each, Grows) for each in case.series.values()):
            yield replace(case, what=f"{case.what or case.at}, {ANEW}")
    if not alert.absence:
        yield Case({}, QUIET_AT, what="no series")


def promtool(alert: Alert) -> dict[str, Any]:
    """Return promtool's test file of one alert; it names the rule file that `rules_of` writes."""
    cases = tuple(all_of(alert))
    step_s = max(step_of(case) for case in cases)
    return {
        "rule_files": [f"{alert.name}.yaml"],
        "evaluation_interval": f"{step_s}s",
        "tests": [_test(alert, case, step_s) for case in cases],
    }


def rules_of(alert: Alert) -> str:
    """Return the rule file for an alert's test: the alert, and the recording rules it reads."""
    pace = Pace()
    rules = [alert.rule(pace)]
    # Add only the recording rules that the alert reads.  Some rules have windows of days; to
    # evaluate all rules for each alert would take minutes.
    rules = [each.rule(pace) for each in RECORDINGS if each.name in rules[0]["expr"]] + rules
    return str(yaml.safe_dump({"groups": [{"name": alert.name, "rules": rules}]}))


def step_of(case: Case) -> int:
    """Return the seconds between two samples: 60, or 300 in a case longer than 8 hours."""
    return LONG_STEP_S if seconds(case.at) > LONG_S else STEP_S


def _test(alert: Alert, case: Case, step_s: int) -> dict[str, Any]:
    restarts = case.what.endswith(ANEW)
    length = int(seconds(case.at)) // step_s + 1
    return {
        "name": f"{alert.name}: {'fires' if case.labels else 'silent'}, {case.what or case.at}",
        "interval": f"{step_s}s",
        "input_series": [
            {"series": series, "values": _values(each, length, step_s, anew=restarts)}
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


def _values(values: Values, length: int, step_s: int, *, anew: bool) -> str:
    if isinstance(values, Written):
        return values.values
    if isinstance(values, Holds):
        return f"{values.value:g}x{length}"
    each = f"{values.each_minute * step_s / STEP_S:g}"
    if not anew:
        return f"0+{each}x{length}"
    half = length // 2
    return f"0+{each}x{half} {each}+{each}x{length - half}"


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
