"""What the processes of one load test have counted, as one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadtests import tally, thresholds
from loadtests.tally import Durations, Tally
from midstreamer.domain.errors import BadInput


def one(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of several generators (`locustfile.Generator.told`) added up.

    BadInput without any. Seconds are those of the longest, processors of all together.
    """
    if not told:
        raise BadInput("no generator has told its figures")
    stages = [Tally() for _ in told[0]["stages"]]
    repeats: Counter[str] = Counter()
    for each in told:
        for whole, made in zip(stages, each["stages"], strict=True):
            whole.merge(tally.from_plain(made))
        repeats.update(each["repeats"])
    sdk = _merged(tally.from_plain(each["sdk"]) for each in told)
    return {
        "stages": [tally.plain(each) for each in stages],
        "sdk": tally.plain(sdk),
        "users": sum(each["users"] for each in told),
        "seconds": max(each["seconds"] for each in told),
        "processors": sum(each["processors"] for each in told),
        "repeats": dict(repeats),
        "transport": transport([each["transport"] for each in told]),
    }


def transport(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all links came to; no percentiles where there was no link."""
    rtt, window = Durations(), Durations()
    for each in told:
        rtt.merge(tally.durations(each["rtt"]))
        window.merge(tally.durations(each["window"]))
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
    """The figures of all with the thresholds that were not held, below ``broken``.

    That one of so many ``generators`` has told nothing is such a line, too.
    """
    made = one(told)
    whole = _merged(tally.from_plain(each) for each in (*made["stages"], made["sdk"]))
    broken = thresholds.broken(whole, [thresholds.parse(each) for each in wanted])
    if len(told) != generators:
        broken.append(f"{len(told)} of {generators} generators have told their figures")
    return made | {"broken": broken}


def _merged(some: Iterable[Tally]) -> Tally:
    whole = Tally()
    for each in some:
        whole.merge(each)
    return whole
