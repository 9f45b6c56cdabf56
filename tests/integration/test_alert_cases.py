"""The real promtool accepts the test cases of every alert, and rejects a wrong case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboards import promtool, rules
from tests.cluster import program_builds
from tests.support import prometheus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not prometheus.is_built(), reason=f"promtool is not built: {prometheus.BUILD}"
    ),
]


def test_promtool_has_nothing_against_the_rules() -> None:
    assert promtool.checked(program_builds.program("promtool")) == ""


def test_alerts_fire_and_stay_silent_as_their_cases_say() -> None:
    assert promtool.tested(program_builds.program("promtool"), rules.alerts()) == ""


def test_an_alert_that_fires_where_its_case_says_silent_is_noticed() -> None:
    alert = next(each for each in rules.alerts() if each.name == "PostgresDown")
    wrong = replace(alert, cases=(replace(alert.cases[0], labels=(), says=()),))

    assert "MidstreamerPostgresDown" in promtool.tested(program_builds.program("promtool"), [wrong])
