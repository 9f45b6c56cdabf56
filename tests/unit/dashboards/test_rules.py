"""Alerts and recording rules are up to date and valid; each alert has a complete runbook."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboards import alert_cases, built_files, promql, recording_rules, rule_linting, rules
from dashboards.alerts_live import Fired, Outcome
from dashboards.faults import FAULTS
from dashboards.recording_rules import RECORDINGS
from dashboards.rules import RUNBOOKS, Alert, Case, Grows, Holds, Pace, ours
from midstreamer.domain import errors
from midstreamer.telemetry import metrics

ALERTS = {alert.name: alert for alert in rules.alerts()}
GOOD = ALERTS["PostgresDown"]
FOLDER = rules.ROOT / RUNBOOKS
PARTS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
HALF_AN_HOUR = Pace(2)


def complaints(alert: Alert) -> list[str]:
    """Return the names of the rules in `rule_linting` that this alert breaks."""
    return [each.rule for each in rule_linting.complaints([alert], [])]


def test_what_the_chart_ships_is_what_is_built() -> None:
    assert built_files.behind(rules.files()) == []


def test_alerts_and_recordings_keep_every_rule() -> None:
    assert list(map(str, rule_linting.complaints(rules.alerts(), RECORDINGS))) == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"expression": lambda _: "nobody_publishes_this{job='midstreamer'} > 0"}, "metrics_exist"),
        ({"expression": lambda _: f"{ours(metrics.TASK_FAILURES)} > 0"}, "counters_grow"),
        ({"expression": lambda _: f"rate({ours(metrics.POSTGRES_UP)}[5m]) > 0"}, "counters_grow"),
        ({"expression": lambda _: f"{promql.series(metrics.POSTGRES_UP)} > 0"}, "job_is_named"),
        ({"expression": lambda _: ours(metrics.POSTGRES_UP)}, "compares"),
        ({"expression": lambda _: f"{ours(metrics.POSTGRES_UP)} > > 0"}, "parses"),
        ({"expression": lambda _: f"max({ours(metrics.POSTGRES_UP)}) == 0"}, "labels"),
        ({"summary": ""}, "annotations"),
        ({"summary": "{{ $labels.queue }} is away"}, "labels"),
        ({"description": "It is away."}, "labels"),
        ({"wait": "10s"}, "waits"),
        ({"severity": "info"}, "severity"),
        ({"name": "NobodyWroteAboutIt"}, "runbook"),
        ({"board": "nowhere"}, "board"),
        ({"cases": GOOD.cases[:1]}, "cases"),
        ({"cases": GOOD.cases[1:]}, "cases"),
        ({"fault": ""}, "cases"),
    ],
)
def test_an_alert_with_one_fault_is_refused_for_it(change: dict[str, Any], rule: str) -> None:
    assert complaints(GOOD) == []

    assert rule in complaints(replace(GOOD, **change))


def test_the_same_expression_twice_is_refused() -> None:
    twice = [GOOD, replace(GOOD, name="ProcessDown")]

    assert [each.rule for each in rule_linting.complaints(twice, [])] == ["duplicate"] * 2


def test_the_same_recording_twice_is_refused() -> None:
    twice = [RECORDINGS[0], RECORDINGS[0]]

    assert [each.rule for each in rule_linting.complaints([], twice)] == ["duplicate"]


def test_a_factor_divides_durations_and_changes_nothing_else() -> None:
    for alert in rules.alerts():
        plain, faster = alert.rule(Pace()), alert.rule(HALF_AN_HOUR)
        for text in (plain, faster):
            text["expr"] = re.sub(r"\[[^\]]+\]", "[]", text["expr"])
            text.pop("for")
        ages = "time()" in plain["expr"]
        assert (plain == faster) != ages, alert.name
    assert Pace(30)("1h") == "120000ms"
    assert Pace(30).seconds("15m") == 30


def test_a_text_that_is_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="'5 minutes' is not a duration: write a whole number"):
        rules.seconds("5 minutes")


def test_each_alert_has_a_runbook_with_every_part_and_no_runbook_is_of_nothing() -> None:
    written = {path.stem for path in FOLDER.glob("*.md")} - {"index"}
    assert written == set(ALERTS)
    for name in ALERTS:
        text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS, name


def test_a_runbook_leads_to_pages_that_are_there() -> None:
    for path in FOLDER.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            assert (path.parent / Path(target)).is_file(), f"{path.name} leads to {target}"


def test_each_code_of_an_error_is_the_fault_of_one_side() -> None:
    server, caller = errors.FAULTS_OF_THE_SERVER, errors.FAULTS_OF_THE_CALLER
    assert server | caller == set(errors.BY_CODE)
    assert not server & caller
    assert {"store", "overloaded", "error", "deadline"} <= server
    assert {"bad_input", "stale_tick", "not_granted"} <= caller


def test_a_time_to_keep_is_a_bucket_of_the_histogram() -> None:
    buckets = promql.described(metrics.REQUEST_LATENCY_S).buckets
    assert set(recording_rules.IN_TIME_S.values()) <= set(buckets)


def test_a_counter_is_also_tried_with_a_restart_and_each_alert_without_series() -> None:
    series = alert_cases.of(metrics.TASK_FAILURES, "sync", "s1", task="sync.watch")
    alert = replace(GOOD, cases=(Case({series: Grows(2)}, "10m"), Case({series: Holds(2)}, "10m")))

    tests = alert_cases.promtool(alert)["tests"]

    values = [[each["values"] for each in test["input_series"]] for test in tests]
    assert values == [["0+2x11"], ["0+2x5 2+2x6"], ["2x11"], []]


def test_each_alert_has_one_fault_that_makes_it() -> None:
    names = [alert for fault in FAULTS for alert in fault.alerts]
    assert sorted(names) == sorted(ALERTS)


def test_a_run_fails_when_an_alert_stays_silent_or_fires_without_a_fault() -> None:
    fired, silent = Fired("QueueFull", "a flood", 3.0), Fired("FeedLag", "a frost", None)

    assert Outcome(120.0, set(), [fired]).code == 0
    assert Outcome(120.0, {"FeedLag"}, [fired]).code == 1
    assert Outcome(120.0, set(), [fired, silent]).code == 1
