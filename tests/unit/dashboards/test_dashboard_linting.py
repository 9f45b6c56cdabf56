"""The rules for dashboards: a good dashboard passes, and each fault is reported by its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dashboards import dashboard_linting, panels, promql, query_checks
from dashboards.board import Board, Row, pods
from dashboards.dashboard_linting import Exempt
from dashboards.panels import Line, Says, above, graph
from dashboards.query_scope import Scope
from midstreamer.telemetry import metrics

SAYS = Says("It shows something.", "Above one.", "Look elsewhere.")
OF = Scope("coordinator", by_pod=True)


def good() -> dict[str, Any]:
    """Return a small dashboard that keeps every rule."""
    latency = OF.quantile(0.99, metrics.REQUEST_LATENCY_S, "pod", frame="Match")
    shown = [
        graph("How long", panels.SECONDS, SAYS, Line(latency, "{{pod}}", exemplars=True)),
        graph(
            "How full",
            panels.COUNT,
            SAYS,
            Line(OF.total(metrics.QUEUE_DEPTH, "queue"), "{{queue}}"),
            limits=above(2),
        ),
    ]
    board = Board("good", "Good", "It is good.", [Row("Is it good?", shown)], [pods("coordinator")])
    return board.read()


def panel(board: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """Return the panel with this number in the dashboard; rows of panels are not counted."""
    found: dict[str, Any] = [each for each in board["panels"] if each["type"] != "row"][number]
    return found


def asks(board: dict[str, Any], query: str, legend: str = "all") -> None:
    """Set the query and the legend of the dashboard's second panel."""
    panel(board, 1)["targets"][0].update(expr=query, legendFormat=legend)


def complaints(board: dict[str, Any]) -> list[str]:
    """Return the complaints of the rules about the dashboard."""
    return [str(each) for each in dashboard_linting.complaints([board])]


def test_a_good_board_passes() -> None:
    assert complaints(good()) == []


Spoil = Callable[[dict[str, Any]], object]
CHOSEN = '{job="midstreamer",namespace="$namespace",pod=~"$pod"'

FAULTS: dict[str, tuple[Spoil, str]] = {
    "no title": (lambda board: board.update(title=""), "it has no title"),
    "no description": (lambda board: board.pop("description"), "it has no description"),
    "no tag": (lambda board: board.update(tags=[]), "does not have the tag midstreamer"),
    "editable": (lambda board: board.update(editable=True), "it is editable"),
    "one data source": (
        lambda board: panel(board)["datasource"].update(uid="prom-1"),
        "its data source is not the variable",
    ),
    "one data source of a query": (
        lambda board: panel(board)["targets"][0]["datasource"].update(uid="prom-1"),
        "its data source is not the variable",
    ),
    "no data source to choose": (
        lambda board: board["templating"]["list"].pop(0),
        "no variable for the data source",
    ),
    "no namespace": (
        lambda board: board["templating"]["list"].pop(1),
        "it has no variable namespace",
    ),
    "a variable that stays": (
        lambda board: board["templating"]["list"][1].update(refresh=1),
        "is not refreshed when the time range changes",
    ),
    "a variable of nothing": (
        lambda board: board["templating"]["list"][1].update(
            query="label_values(midstreamer_gone, namespace)"
        ),
        "nobody publishes midstreamer_gone",
    ),
    "a variable of another kind": (
        lambda board: board["templating"]["list"][1].update(query="metrics(up)"),
        "use label_values",
    ),
    "a variable for nothing": (
        lambda board: board["templating"]["list"].append(
            {"name": "pool", "type": "custom", "query": "a"}
        ),
        "no panel uses the variable pool",
    ),
    "a variable that is not there": (
        lambda board: board["templating"]["list"].pop(2),
        "uses $pod, which is no variable",
    ),
    "a row that says": (
        lambda board: board["panels"][0].update(title="Latencies"),
        "its title is no question",
    ),
    "no row": (lambda board: board["panels"].pop(0), "it belongs to no row"),
    "no title of a panel": (lambda board: panel(board).update(title=""), "has 0 characters"),
    "two of one title": (
        lambda board: panel(board).update(title="How full"),
        "another panel of the row has the same title",
    ),
    "a panel that says little": (
        lambda board: panel(board).update(description="Latency."),
        "what it shows, what is bad",
    ),
    "no unit": (
        lambda board: panel(board)["fieldConfig"]["defaults"].pop("unit"),
        "its unit is ''",
    ),
    "a unit of nobody": (
        lambda board: panel(board)["fieldConfig"]["defaults"].update(unit="furlong"),
        "its unit is 'furlong'",
    ),
    "a pie": (lambda board: panel(board).update(type="piechart"), "it is a piechart"),
    "over another": (lambda board: panel(board, 1)["gridPos"].update(x=6), "it overlaps"),
    "beyond the grid": (lambda board: panel(board, 1)["gridPos"].update(x=18), "column 30 of 24"),
    "no query": (lambda board: panel(board).update(targets=[]), "it has no query"),
    "no name of a line": (
        lambda board: panel(board)["targets"][0].update(legendFormat=""),
        "one of its queries has no legend",
    ),
    "lines of one name": (
        lambda board: panel(board)["targets"][0].update(legendFormat="99 %"),
        "its lines differ by pod",
    ),
    "a name that is not there": (
        lambda board: panel(board)["targets"][0].update(legendFormat="{{pod}} {{node}}"),
        "its legend names node, which the result does not have",
    ),
    "no way to traces": (
        lambda board: panel(board)["targets"][0].update(exemplar=False),
        "none of its queries has exemplars",
    ),
    "no PromQL": (lambda board: asks(board, "sum(("), "is not valid PromQL"),
    "a metric of nobody": (
        lambda board: asks(board, f"sum(midstreamer_gone{CHOSEN}}})"),
        "nobody publishes midstreamer_gone",
    ),
    "a histogram as such": (
        lambda board: asks(board, f"sum(midstreamer_loop_lag_seconds{CHOSEN}}})"),
        "nobody publishes midstreamer_loop_lag_seconds",
    ),
    "a label of nobody": (
        lambda board: asks(board, f'sum(midstreamer_links{CHOSEN},color="red"}})'),
        "midstreamer_links has no label color",
    ),
    "a word of nobody": (
        lambda board: asks(board, f'sum(midstreamer_links{CHOSEN},kind=~"agent|clients"}})'),
        "never has the value 'clients'",
    ),
    "a counter as it is": (
        lambda board: asks(board, f"sum(midstreamer_ticks_total{CHOSEN}}})"),
        "midstreamer_ticks_total only grows",
    ),
    "the slope of a counter": (
        lambda board: asks(
            board, f"sum(deriv(midstreamer_ticks_total{CHOSEN}}}[$__rate_interval]))"
        ),
        "take rate, which handles restarts",
    ),
    "the rate of a gauge": (
        lambda board: asks(board, f"sum(rate(midstreamer_links{CHOSEN}}}[$__rate_interval]))"),
        "midstreamer_links is a gauge",
    ),
    "the rate of a sum": (
        lambda board: asks(board, f"rate(sum(midstreamer_ticks_total{CHOSEN}}})[5m:])"),
        "taken before its rate",
    ),
    "a quantile without limits": (
        lambda board: asks(
            board,
            "histogram_quantile(0.9, sum by (pod)"
            f" (rate(midstreamer_loop_lag_seconds_bucket{CHOSEN}}}[$__rate_interval])))",
            "{{pod}}",
        ),
        "keep it in the sum",
    ),
    "a quantile of a sum": (
        lambda board: asks(
            board,
            "histogram_quantile(0.9, sum by (pod)"
            f" (rate(midstreamer_loop_lag_seconds_sum{CHOSEN}}}[$__rate_interval])))",
            "{{pod}}",
        ),
        "histogram_quantile needs buckets",
    ),
    "a label that is gone": (
        lambda board: asks(board, f"sum by (node) (midstreamer_links{CHOSEN}}})", "{{node}}"),
        "there is no label node to keep",
    ),
    "sides that never match": (
        lambda board: asks(
            board,
            f"sum by (pod) (midstreamer_links{CHOSEN}}}) / sum(midstreamer_links{CHOSEN}}})",
            "{{pod}}",
        ),
        "different labels and never match",
    ),
    "a window of its own": (
        lambda board: asks(board, f"sum(rate(midstreamer_ticks_total{CHOSEN}}}[5m]))"),
        "rate over 5m",
    ),
    "an increase of minutes": (
        lambda board: asks(board, f"sum(increase(midstreamer_ticks_total{CHOSEN}}}[5m]))"),
        "increase over 5m",
    ),
    "an expression of one word": (
        lambda board: asks(board, f'sum(midstreamer_links{CHOSEN},kind=~"agent"}})'),
        "compares one word",
    ),
    "an anchor": (
        lambda board: asks(board, f'sum(midstreamer_links{CHOSEN},kind=~"^a.*"}})'),
        "is anchored",
    ),
    "two fleets": (
        lambda board: asks(board, 'sum(midstreamer_links{job="midstreamer",pod=~"$pod"})'),
        "not narrowed by namespace",
    ),
    "two jobs": (
        lambda board: asks(board, 'sum(up{namespace="$namespace",pod=~"$pod"})'),
        "not narrowed by job",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_board_with_a_fault_is_refused_for_it(fault: str) -> None:
    spoil, why = FAULTS[fault]
    board = good()
    spoil(board)
    found = complaints(board)
    assert any(why in each for each in found), found


def test_every_rule_has_refused_something() -> None:
    found = []
    for spoil, _ in FAULTS.values():
        board = good()
        spoil(board)
        found += complaints(board)
    text = "\n".join(found)
    for rule in dashboard_linting.RULES:
        assert f"[{rule.__name__}]" in text
    for asked in query_checks.RULES:
        assert f"({asked.__name__})" in text


def test_an_exception_allows_one_complaint_and_is_reported_when_not_needed() -> None:
    board = good()
    board["editable"] = True
    exempt = Exempt("boards_are_code", "midstreamer-good", "", "the test wants it so")
    assert dashboard_linting.complaints([board], (exempt,)) == []
    left = dashboard_linting.complaints([good()], (exempt,))
    assert [each.why for each in left] == ["nothing is excused from boards_are_code"]


def test_exceptions_have_reasons() -> None:
    assert all(len(each.reason) > 20 for each in dashboard_linting.EXCEPTIONS)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("time()", None),
        ("vector(0)", frozenset()),
        (promql.number_of('count_values("b", up)'), frozenset()),
        ("sum by (pod) (up) / scalar(sum(up))", frozenset({"pod"})),
        ("1 - sum by (pod) (up)", frozenset({"pod"})),
        ("-sum without (job, instance) (up)", frozenset({"namespace", "component", "pod"})),
        ("midstreamer:slo_objective:ratio", frozenset({"slo"})),
        ("midstreamer:error_budget:remaining", frozenset({"slo", "namespace"})),
    ],
)
def test_what_labels_a_result_has_is_known(query: str, labels: frozenset[str] | None) -> None:
    assert query_checks.kept(query_checks.parsed(query)) == labels
