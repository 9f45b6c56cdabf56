"""Checks of alerts and recording rules: our own, and some of pint, a linter for Prometheus rules.

Expressions must follow the rules of `dashboards.query_checks`, like the queries of dashboards.  An
alert must also compare a value, wait before it fires, name what it is about, and link to a runbook
and a dashboard that exist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dashboards import query_checks
from dashboards.rules import PAGE, ROOT, TICKET, Alert, Pace, Recording, seconds
from dashboards.uncatalogued_series import RECORDED

NAMED = re.compile(r"\{\{ \$labels\.(\w+)")
BOARDS = ROOT / "dashboards/boards"
RULES: tuple[query_checks.Rule, ...] = (
    query_checks.metrics_exist,
    query_checks.labels_exist,
    query_checks.counters_grow,
    query_checks.rates_come_first,
    query_checks.quantiles_have_buckets,
    query_checks.sums_keep_what_is_there,
    query_checks.sides_match,
    query_checks.expressions_are_needed,
)
FREE_OF_JOB = frozenset(each.name for each in RECORDED)
"""Series of our recording rules: queries for them need no condition on the label `job`.

The recording rules read only our own processes. So no other software is counted in these series.
"""
WAIT_LEAST_S = 60
"""Shortest time in seconds that an alert must wait before it fires."""


class Complaint(NamedTuple):
    """One violation: the broken check, the alert or recording rule, and the reason."""

    rule: str
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why} [{self.rule}]"


Found = Iterator[tuple[str, str]]
"""Complaints about one alert or query, as pairs: name of the check, and the reason."""


def complaints(alerts: Iterable[Alert], recordings: Iterable[Recording]) -> Iterator[Complaint]:
    """Yield all complaints about these alerts and recording rules."""
    several, kept = tuple(alerts), tuple(recordings)
    for alert in several:
        for rule, why in _of(alert):
            yield Complaint(rule, alert.name, why)
    for recording in kept:
        for rule, why in _of_query(recording.expression(Pace())):
            yield Complaint(rule, recording.name, why)
    yield from _duplicates(several, kept)


def _of(alert: Alert) -> Found:
    text = alert.expression(Pace())
    wrong = list(_of_query(text))
    yield from wrong
    if any(rule == "parses" for rule, _ in wrong):
        return
    yield from _compares(alert, text)
    yield from _waits(alert)
    yield from _speaks(alert, text)
    yield from _leads(alert)
    yield from _is_tried(alert)


def _of_query(text: str) -> Found:
    wrong = list(query_checks.complaints(text, RULES))
    yield from wrong
    if any(rule == "parses" for rule, _ in wrong):
        return
    for selector, _ in query_checks.selectors(query_checks.parsed(text)):
        compared = {matcher.name for matcher in selector.matchers.matchers}
        if "job" not in compared and selector.name not in FREE_OF_JOB:
            yield "job_is_named", f"{selector.name} matches any job: add the label job"


def _compares(alert: Alert, text: str) -> Found:
    """Complain about an expression without a comparison: it fires whenever a series exists."""
    if not any(f" {sign} " in text for sign in query_checks.COMPARISONS) and "absent(" not in text:
        yield "compares", "its expression compares nothing: it fires as long as the series exists"


def _waits(alert: Alert) -> Found:
    if seconds(alert.wait) < WAIT_LEAST_S:
        yield "waits", f"it waits for {alert.wait} only: it fires when one scrape fails"
    if alert.severity not in (PAGE, TICKET):
        yield "severity", f"its severity is {alert.severity!r}: take {PAGE} or {TICKET}"


def _speaks(alert: Alert, text: str) -> Found:
    """Check the summary and the description of an alert.

    Both must exist. They may only name labels that the result of the expression has, or that the
    expression names. One of them must name the namespace, unless the alert is about missing series.
    """
    for what, said in (("summary", alert.summary), ("description", alert.description)):
        if not said:
            yield "annotations", f"it has no {what}"
    has = query_checks.kept(query_checks.parsed(text)) or frozenset()
    named = {*NAMED.findall(alert.summary), *NAMED.findall(alert.description)}
    # label_replace() and absent() can add labels that `query_checks.kept` does not know.  A label
    # that the expression itself names is therefore accepted too.
    for label in sorted(label for label in named - has if f'"{label}"' not in text):
        if f"{label}=" not in text:
            yield "labels", f"its texts name the label {label}, which the result does not have"
    if "namespace" not in named and not alert.absence:
        yield "labels", "its texts do not name the namespace"


def _leads(alert: Alert) -> Found:
    if not (ROOT / alert.runbook).is_file():
        yield "runbook", f"{alert.runbook} is missing: write the runbook"
    if not (BOARDS / f"{alert.board}.py").is_file():
        yield "board", f"there is no dashboard {alert.board}"


def _is_tried(alert: Alert) -> Found:
    if not any(case.labels for case in alert.cases):
        yield "cases", "no case makes it fire"
    if not any(not case.labels for case in alert.cases):
        yield "cases", "no case keeps it silent"
    if not alert.fault:
        yield "cases", "it has no fault: say what makes it fire"


def _duplicates(
    alerts: tuple[Alert, ...], recordings: tuple[Recording, ...]
) -> Iterator[Complaint]:
    texts = Counter(alert.expression(Pace()) for alert in alerts)
    for alert in alerts:
        if texts[alert.expression(Pace())] > 1:
            yield Complaint("duplicate", alert.name, "another alert has the same expression")
    named = Counter((each.name, *sorted(each.labels.items())) for each in recordings)
    for key, count in named.items():
        if count > 1:
            yield Complaint("duplicate", str(key[0]), "it is recorded twice with the same labels")
