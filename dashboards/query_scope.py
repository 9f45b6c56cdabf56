"""PromQL for panels, limited to the namespace, component and pods that a dashboard shows.

    of = Scope("coordinator")
    of.rate(metrics.DECISIONS, "outcome")

Each method returns PromQL that contains the variables of the dashboard.  The strings after a metric
are the labels that the result keeps; series that differ in other labels are aggregated.
"""

from __future__ import annotations

from dataclasses import dataclass

from dashboards import promql
from dashboards.promql import Metric, Wanted
from dashboards.uncatalogued_series import JOB

OVER = "$__rate_interval"
"""Window of rates.

Grafana chooses its length: at least four scrape intervals, and more than the time between two
points of the graph.
"""
NAMESPACE = "$namespace"
POD = promql.like("$pod")
FOLLOWERS = promql.among("agent", "coordinator", "sync")
"""Components that follow the change feed; the metric of the feed's lag stays 0 in all others."""
SERVERS = promql.among("agent", "coordinator", "operator", "postgres", "sync")
"""Components that can be complete; the metric of completeness stays 0 in clients and load tests."""
UNIVERSE = promql.like("$universe")
POOL = promql.like("$pool")


@dataclass(frozen=True)
class Scope:
    """Writes PromQL about some of the processes.

    They are the processes of ``component``, or all processes if it is empty.
    """

    component: str | promql.Match = ""
    by_pod: bool = False
    """Whether a panel shows only the pods that the reader chose with the dashboard variable `pod`.
    """

    def labels(self, more: dict[str, Wanted]) -> dict[str, Wanted]:
        """Return the conditions on labels that select the processes, together with ``more``."""
        chosen: dict[str, Wanted] = {"job": JOB, "namespace": NAMESPACE}
        if self.component:
            chosen["component"] = self.component
        if self.by_pod:
            chosen["pod"] = POD
        return chosen | more

    def series(self, metric: Metric, /, *, suffix: str = "", **more: Wanted) -> str:
        """Return a selector of the series of a metric."""
        return promql.series(metric, suffix=suffix, **self.labels(more))

    def total(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """Return PromQL for the sum of a gauge's series, per combination of the labels ``by``."""
        return promql.total(self.series(metric, suffix="", **more), *by)

    def largest(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """Return PromQL for the largest value in a gauge's series, per combination of ``by``."""
        return promql.largest(self.series(metric, suffix="", **more), *by)

    def smallest(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """Return PromQL for the smallest value in a gauge's series, per combination of ``by``."""
        return promql.smallest(self.series(metric, suffix="", **more), *by)

    def known(self, metric: Metric, /, **more: Wanted) -> str:
        """Return PromQL for the series of a gauge that are above 0.

        A gauge is 0 until its process sets it for the first time.
        """
        return f"{self.series(metric, suffix='', **more)} > 0"

    def rate(self, metric: Metric, /, *by: str, suffix: str = "", **more: Wanted) -> str:
        """Return PromQL for the growth per second of a counter."""
        return promql.total(promql.rate(metric, OVER, suffix=suffix, **self.labels(more)), *by)

    def observed(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """Return PromQL for the number of observations of a histogram per second."""
        return self.rate(metric, *by, suffix="_count", **more)

    def quantile(self, share: float, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """Return PromQL for a quantile of a histogram; ``share`` 0.99 means 99 %."""
        return promql.quantile(share, metric, OVER, *by, **self.labels(more))

    def mean(self, metric: Metric, /, *by: str, **more: Wanted) -> str:
        """Return PromQL for the mean observation of a histogram."""
        return promql.mean(metric, OVER, *by, **self.labels(more))

    def buckets(self, metric: Metric, /, **more: Wanted) -> str:
        """Return PromQL for the growth of each bucket of a histogram, for a heatmap."""
        return self.rate(metric, promql.LE, suffix="_bucket", **more)

    def increase(self, metric: Metric, over: str, /, *by: str, **more: Wanted) -> str:
        """Return PromQL for the growth of a counter in a window, such as ``1h``."""
        return promql.total(promql.increase(metric, over, suffix="", **self.labels(more)), *by)

    def slope(self, metric: Metric, /, **more: Wanted) -> str:
        """Return PromQL for the growth per second of a gauge that never falls, for each series."""
        return f"deriv({self.series(metric, suffix='', **more)}[{OVER}])"
