"""What the panels of a board ask of: the namespace, component and pods that its variables choose.

    of = Scope("coordinator")
    of.rate(metrics.DECISIONS, "outcome")

Each gives PromQL with the board's variables in it; the words after a metric are the labels that
are kept, everything else is summed up.
"""

from __future__ import annotations

from dataclasses import dataclass

from dashboards import promql
from dashboards.promql import Metric, Wanted
from dashboards.series import JOB

OVER = "$__rate_interval"
"""Grafana's own: at least four scrapes, and at least a point of the graph."""
NAMESPACE = "$namespace"
POD = promql.like("$pod")
FOLLOWERS = promql.among("agent", "coordinator", "sync")
"""Components that follow the feed; others say 0 of it."""
SERVERS = promql.among("agent", "coordinator", "operator", "postgres", "sync")
"""Components that can lack something; clients and load tests say 0 of it."""
UNIVERSE = promql.like("$universe")
POOL = promql.like("$pool")


@dataclass(frozen=True)
class Scope:
    """Processes of one component, or of every one when it is empty."""

    component: str | promql.Match = ""
    by_pod: bool = False
    """Whether only the pods are meant that the board's variable `pod` chooses."""

    def labels(self, more: dict[str, Wanted]) -> dict[str, Wanted]:
        """The labels by which its series are chosen, and these."""
        chosen: dict[str, Wanted] = {"job": JOB, "namespace": NAMESPACE}
        if self.component:
            chosen["component"] = self.component
        if self.by_pod:
            chosen["pod"] = POD
        return chosen | more

    def series(self, metric: Metric, /, *, suffix: str = "", **more: Wanted) -> str:
        """The series as they are."""
        return promql.series(metric, suffix=suffix, **self.labels(more))

    def total(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """The sum of a gauge."""
        return promql.total(self.series(metric, suffix="", **more), *by)

    def largest(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """The largest of a gauge."""
        return promql.largest(self.series(metric, suffix="", **more), *by)

    def smallest(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """The smallest of a gauge."""
        return promql.smallest(self.series(metric, suffix="", **more), *by)

    def known(self, metric: Metric, /, **more: Wanted) -> str:
        """The series of a gauge that were ever set: 0 is what one says before."""
        return f"{self.series(metric, suffix='', **more)} > 0"

    def rate(self, metric: Metric, /, *by: str, suffix: str = "", **more: Wanted) -> str:
        """How fast a counter grows each second."""
        return promql.total(promql.rate(metric, OVER, suffix=suffix, **self.labels(more)), *by)

    def observed(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """How many observations a histogram takes each second."""
        return self.rate(metric, *by, suffix="_count", **more)

    def quantile(self, share: float, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """Below what value this share of a histogram's observations lies."""
        return promql.quantile(share, metric, OVER, *by, **self.labels(more))

    def mean(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """The mean of a histogram's observations."""
        return promql.mean(metric, OVER, *by, **self.labels(more))

    def buckets(self, metric: Metric, /, **more: Wanted) -> str:
        """A histogram over time, for a heatmap."""
        return self.rate(metric, promql.LE, suffix="_bucket", **more)

    def increase(self, metric: Metric, over: str, /, *by: str, **more: Wanted) -> str:
        """How much a counter grew within a window, such as ``1h``."""
        return promql.total(promql.increase(metric, over, suffix="", **self.labels(more)), *by)

    def slope(self, metric: Metric, /, **more: Wanted) -> str:
        """How fast a gauge that only rises does so each second, for each of its series."""
        return f"deriv({self.series(metric, suffix='', **more)}[{OVER}])"
