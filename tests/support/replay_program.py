"""A program that replays parts of the shipped data sets and prints hashes of all decisions.

It imports only `midstreamer`, so that any version can run it: PYTHONPATH chooses the version.
"""

from __future__ import annotations

import hashlib
import json
import sys

import msgspec

from midstreamer import reasoning
from midstreamer.domain.decision import Decision
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.market import datasets
from midstreamer.market.backtest import Points, Walk

try:
    from midstreamer.market import tick_rows
except ImportError:  # the previous version of Midstreamer has the module under this name:
    from midstreamer.market import rows as tick_rows  # type: ignore[attr-defined,no-redef]

STOCKS = ("sp500/AAPL", "sp500/GE", "sp500/JPM", "sp500/XOM")
PARTS = {
    # The dates are far enough apart for the stream to get its licence and emit signals.
    "load": (datasets.LOAD, ("load/ELEC",), "2014-01-01", "2014-03-01"),
    "sp500": (datasets.SP500, STOCKS, "2020-01-01", "2020-07-01"),
}
"""The parts by name. Each part has a data set, some of its series, and two dates.

Decisions begin on the first date; all earlier data are history. The second date is the day after
the last data."""


def replay(name: str) -> dict[str, object]:
    """Return the hashes and counts of the decisions, verdicts and states of one part."""
    dataset, series, start, stop = PARTS[name]
    universe = {
        column.series: Points(column.times_array(), column.values_array())
        for column in datasets.load(dataset).only(series).columns()
    }
    walk = Walk(universe, _specification(name), start=tick_rows.instant_of(start),
                stop=tick_rows.instant_of(stop))  # fmt: skip
    hashes = {kind: hashlib.sha256() for kind in ("decisions", "verdicts", "states")}
    counts = dict.fromkeys(("decisions", "verdicts", "emitted"), 0)
    for learned in walk:
        event: Decision | Verdict = learned
        kind = "decisions" if isinstance(event, Decision) else "verdicts"
        # The version of the kernels is not hashed: other kernels may give the same decisions.
        if isinstance(event, Decision):
            event = msgspec.structs.replace(event, kernel="")
        hashes[kind].update(msgspec.msgpack.encode(event))
        hashes["states"].update(reasoning.encode(walk.state))
        counts[kind] += 1
        counts["emitted"] += isinstance(event, Decision) and event.emitted
    return {"counts": counts} | {kind: sha.hexdigest() for kind, sha in hashes.items()}


def _specification(name: str) -> Specification:
    return PARTS[name][0].specification


if __name__ == "__main__":
    json.dump({name: replay(name) for name in sys.argv[1:] or PARTS}, sys.stdout, indent=2)
