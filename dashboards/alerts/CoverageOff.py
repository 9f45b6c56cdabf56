"""Alert: prediction intervals contain far more or far fewer outcomes than their target."""

from __future__ import annotations

from dashboards.alert_cases import fires, of, silent
from dashboards.promql import largest
from dashboards.rules import TICKET, Alert, Grows, Holds, increase, ours
from midstreamer.telemetry import metrics

SETTLED_MIN, OFF_MAX = 200, 0.1


def _settled(over: str, covered: str = "") -> str:
    chosen = {"covered": covered} if covered else {}
    return increase(metrics.INTERVALS, over, "namespace", "universe", **chosen)


def _target() -> str:
    return largest(ours(metrics.INTERVAL_TARGET), "namespace", "universe")


ALERT = Alert(
    name="CoverageOff",
    expression=lambda over: (
        f"abs({_settled(over('1d'), 'true')} / ({_settled(over('1d'))} >"
        f" {SETTLED_MIN}) - {_target()}) > {OFF_MAX}"
    ),
    wait="1h",
    severity=TICKET,
    summary=(
        "the coverage of intervals of {{ $labels.universe }} in "
        "{{ $labels.namespace }} is off its target"
    ),
    description=(
        "Over one day, the share of outcomes of {{ $labels.universe }} in "
        "{{ $labels.namespace }} that lie inside their interval differs from the "
        "target by {{ $value | humanizePercentage }} of all outcomes."
    ),
    fault="every outcome is the opposite of the forecast and lies outside its interval",
    board="reasoning",
    cases=(
        fires(
            {
                of(metrics.INTERVALS, "sync", "s1", universe="plant", covered="true"): Grows(6),
                of(metrics.INTERVALS, "sync", "s1", universe="plant", covered="false"): Grows(4),
                of(metrics.INTERVAL_TARGET, "sync", "s1", universe="plant"): Holds(0.8),
            },
            at="26h",
            labels={"namespace": "fleet", "universe": "plant"},
            says=(
                "the coverage of intervals of plant in fleet is off its target",
                (
                    "Over one day, the share of outcomes of plant in fleet that lie inside "
                    "their interval differs from the target by 20% of all outcomes."
                ),
            ),
        ),
        silent(
            {
                of(metrics.INTERVALS, "sync", "s1", universe="plant", covered="true"): Grows(8),
                of(metrics.INTERVALS, "sync", "s1", universe="plant", covered="false"): Grows(2),
                of(metrics.INTERVAL_TARGET, "sync", "s1", universe="plant"): Holds(0.8),
            },
            at="26h",
        ),
        silent(
            {
                of(metrics.INTERVALS, "sync", "s1", universe="plant", covered="true"): Grows(0.06),
                of(metrics.INTERVALS, "sync", "s1", universe="plant", covered="false"): Grows(0.04),
                of(metrics.INTERVAL_TARGET, "sync", "s1", universe="plant"): Holds(0.8),
            },
            at="26h",
            what="too few decisions were settled",
        ),
    ),
)
