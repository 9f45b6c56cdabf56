"""Merge the results of the generator processes of one load test. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadtests import result_counts, thresholds
from loadtests.result_counts import Durations, Tally
from midstreamer.domain.errors import BadInput


def one(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the merged results of several generators.

    ``told`` has what `locustfile.Generator.told` returned in each generator. The merged ``seconds``
    is that of the generator that ran longest; ``users`` and ``processors`` are sums over the
    generators. Raise BadInput if ``told`` is empty.
    """
    if not told:
        raise BadInput("no generator has sent its results")
    stages = [Tally() for _ in told[0]["stages"]]
    repeats: Counter[str] = Counter()
    for each in told:
        for total, stage in zip(stages, each["stages"], strict=True):
            total.merge(result_counts.from_plain(stage))
        repeats.update(each["repeats"])
    sdk = _merged(result_counts.from_plain(each["sdk"]) for each in told)
    return {
        "stages": [result_counts.plain(each) for each in stages],
        "sdk": result_counts.plain(sdk),
        "users": sum(each["users"] for each in told),
        "seconds": max(each["seconds"] for each in told),
        "processors": sum(each["processors"] for each in told),
        "repeats": dict(repeats),
        "transport": transport([each["transport"] for each in told]),
    }


def transport(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the transport measurements of all links.

    If no link was measured, the percentiles are None.
    """
    rtt, window = Durations(), Durations()
    for each in told:
        rtt.merge(result_counts.durations(each["rtt"]))
        window.merge(result_counts.durations(each["window"]))
    some = bool(rtt.count)
    return {
        "links": sum(each["links"] for each in told),
        "lost_packets": sum(each["lost_packets"] for each in told),
        "rtt_p50_s": rtt.percentile(50) if some else None,
        "rtt_p99_s": rtt.percentile(99) if some else None,
        "window_p50_bytes": window.percentile(50) if some else None,
    }


def judged(
    told: Sequence[Mapping[str, Any]], wanted: Iterable[str], generators: int
) -> dict[str, Any]:
    """Return the merged results; its field ``broken`` has a line for each exceeded threshold.

    If not all ``generators`` have sent their results, ``broken`` has a line that says so.
    """
    merged = one(told)
    total = _merged(result_counts.from_plain(each) for each in (*merged["stages"], merged["sdk"]))
    broken = thresholds.broken(total, [thresholds.parse(each) for each in wanted])
    if len(told) != generators:
        broken.append(f"{len(told)} of {generators} generators have sent their results")
    return merged | {"broken": broken}


def _merged(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for each in tallies:
        total.merge(each)
    return total
