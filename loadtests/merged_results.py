"""Merge the results of the generator processes of one load test. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadtests import result_counts, thresholds
from loadtests.result_counts import Durations, Tally
from midstreamer.domain.errors import BadInput


def one(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the merged results of several generators.

    ``results`` has what `locustfile.Generator.told` returned in each generator. The merged
    ``seconds`` is that of the generator that ran longest; ``users`` and ``processors`` are sums
    over the generators. Raise BadInput if ``results`` is empty.
    """
    if not results:
        raise BadInput("no generator has sent its results")
    stages = [Tally() for _ in results[0]["stages"]]
    repeats: Counter[str] = Counter()
    for each in results:
        for total, stage in zip(stages, each["stages"], strict=True):
            total.merge(result_counts.from_plain(stage))
        repeats.update(each["repeats"])
    sdk = _merged(result_counts.from_plain(each["sdk"]) for each in results)
    return {
        "stages": [result_counts.plain(each) for each in stages],
        "sdk": result_counts.plain(sdk),
        "users": sum(each["users"] for each in results),
        "seconds": max(each["seconds"] for each in results),
        "processors": sum(each["processors"] for each in results),
        "repeats": dict(repeats),
        "transport": transport([each["transport"] for each in results]),
    }


def transport(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the transport measurements of all links.

    If no link was measured, the percentiles are None.
    """
    rtt, window = Durations(), Durations()
    for each in results:
        rtt.merge(result_counts.durations(each["rtt"]))
        window.merge(result_counts.durations(each["window"]))
    some = bool(rtt.count)
    return {
        "links": sum(each["links"] for each in results),
        "lost_packets": sum(each["lost_packets"] for each in results),
        "rtt_p50_s": rtt.percentile(50) if some else None,
        "rtt_p99_s": rtt.percentile(99) if some else None,
        "window_p50_bytes": window.percentile(50) if some else None,
    }


def judged(
    results: Sequence[Mapping[str, Any]], wanted: Iterable[str], generators: int
) -> dict[str, Any]:
    """Return the merged results; its field ``broken`` has a line for each exceeded threshold.

    If not all ``generators`` have sent their results, ``broken`` has a line that says so.
    """
    merged = one(results)
    total = _merged(result_counts.from_plain(each) for each in (*merged["stages"], merged["sdk"]))
    broken = thresholds.broken(total, [thresholds.parse(each) for each in wanted])
    if len(results) != generators:
        broken.append(f"{len(results)} of {generators} generators have sent their results")
    return merged | {"broken": broken}


def _merged(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for each in tallies:
        total.merge(each)
    return total
