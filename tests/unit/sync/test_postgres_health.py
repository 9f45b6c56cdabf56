"""The metric that says whether PostgreSQL answers."""

from __future__ import annotations

from midstreamer.domain.errors import StoreError
from midstreamer.sync.postgres_health import CLASH_S, StoreHealth
from midstreamer.telemetry import metrics
from tests.support.metric_values import shown


def test_postgresql_is_up_from_its_answer_until_it_fails() -> None:
    health = StoreHealth()
    assert shown(metrics.POSTGRES_UP) == 0
    health.answers(1)
    assert shown(metrics.POSTGRES_UP) == 1
    health.failed(StoreError("it is shutting down", retry_after_s=0.5))
    assert shown(metrics.POSTGRES_UP) == 0
    health.answers(1)
    assert shown(metrics.POSTGRES_UP) == 1


def test_a_clash_and_an_objection_leave_it_up() -> None:
    health = StoreHealth()
    health.answers(1)
    health.failed(StoreError("another transaction was in the way", retry_after_s=CLASH_S))
    health.failed(StoreError("it refused"))
    assert shown(metrics.POSTGRES_UP) == 1
