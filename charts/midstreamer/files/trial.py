"""What `helm test` runs: real ticks through the fleet, and its answer compared with one made here.

The ticks are the same each time, so a second run adds nothing: keys are natural.  The match is not
recorded.  The comparison is written once more, in numpy and plain loops, and loads no kernel.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from midstreamer import Client, Column, MidstreamerError, Scale, Specification, Transform, column
from midstreamer.cluster import account, api, naming
from midstreamer.cluster.requesting import ClusterIssuer
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.security.requested import RequestedSource

UNIVERSE = "helm-test"
SERIES, POINTS = 3, 300
FIRST_TIME, STEP = 946_684_800_000_000, 60_000_000
"""Microseconds: the year 2000, a minute apart."""
SPECIFICATION = Specification(
    UNIVERSE,
    window=24,
    horizon=4,
    neighbours=12,
    band=2,
    grid=4,
    transform=Transform.IDENTITY,
    scale=Scale.DEVIATION,
)
CLOSE = 1e-9


class Found(NamedTuple):
    """One of the nearest windows."""

    series: str
    start: int
    distance: float
    outcome: float


def history() -> list[Column]:
    """The ticks: waves with noise of a generator that is the same everywhere."""
    times = FIRST_TIME + STEP * np.arange(POINTS, dtype=np.int64)
    return [column(f"{UNIVERSE}/{name}", times, values) for name, values in _values().items()]


def asked() -> tuple[str, int, np.ndarray]:
    """The series, the time and the values of the window that is asked about: the last of one."""
    name, values = next(iter(_values().items()))
    return f"{UNIVERSE}/{name}", FIRST_TIME + STEP * (POINTS - 1), values[-SPECIFICATION.window :]


def expected() -> list[Found]:
    """The nearest windows of the history, nearest first."""
    length, horizon = SPECIFICATION.window, SPECIFICATION.horizon
    query = _normal(asked()[2])
    found = []
    for name, values in _values().items():
        # An outcome must be known, and may not overlap what is foretold.
        for start in range(0, POINTS - 2 * horizon - length + 1, SPECIFICATION.grid):
            window = values[start : start + length]
            change = values[start + length - 1 + horizon] - window[-1]
            distance = _distance(query, _normal(window), SPECIFICATION.band)
            found.append(Found(f"{UNIVERSE}/{name}", start, distance, change / np.std(window)))
    found.sort(key=lambda one: (one.distance, one.series, one.start))
    return found[: SPECIFICATION.neighbours]


def differences(matches: Iterable) -> list[str]:
    """What the fleet's matches have otherwise than they should; empty when all agrees."""
    told = [Found(one.series, one.start, one.distance, one.outcome) for one in matches]
    wanted = expected()
    wrong = [
        f"match {place}: the fleet has {one}, here it is {other}"
        for place, (one, other) in enumerate(zip(told, wanted, strict=False))
        if one[:2] != other[:2] or not np.allclose(one[2:], other[2:], rtol=CLOSE, atol=CLOSE)
    ]
    if len(told) != len(wanted):
        wrong.append(f"the fleet has {len(told)} matches, here it is {len(wanted)}")
    return wrong


def _values() -> dict[str, np.ndarray]:
    state, made = 1, {}
    for place in range(SERIES):
        noise = np.empty(POINTS)
        for at in range(POINTS):
            state = (1_103_515_245 * state + 12_345) % 2**31
            noise[at] = state / 2**31
        made[f"wave-{place}"] = 100 + 8 * np.sin(np.arange(POINTS) / (5 + place)) + 4 * noise
    return made


def _normal(window: np.ndarray) -> np.ndarray:
    return (window - np.mean(window)) / np.std(window)


def _distance(one: np.ndarray, other: np.ndarray, band: int) -> float:
    """Dynamic time warping: the root of the least sum of squares within the band."""
    size = len(one)
    cost = np.full((size + 1, size + 1), np.inf)
    cost[0, 0] = 0.0
    for i in range(1, size + 1):
        for j in range(max(1, i - band), min(size, i + band) + 1):
            least = min(cost[i - 1, j], cost[i, j - 1], cost[i - 1, j - 1])
            cost[i, j] = (one[i - 1] - other[j - 1]) ** 2 + least
    return float(np.sqrt(cost[size, size]))


def _client(namespace: str, release: str) -> Client:
    """A client of the name that the chart lets in, certified by the fleet's operator."""
    me = identity.make(os.environ["TRUST_DOMAIN"], Kind.CLIENT, f"{release}-test")
    issuer = ClusterIssuer(
        api.Client(account.in_pod(), idle_max=0), namespace=namespace, release=release
    )
    address = f"{naming.coordinators(namespace, release)}:{os.environ['PORT']}"
    return Client.connect(
        address,
        credentials=RequestedSource(me, issuer),
        deadline_s=float(os.environ["DEADLINE_S"]),
    )


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def main() -> int:
    """Append, match, compare; the exit status says whether all agrees."""
    begun = time.monotonic()
    try:
        with _client(os.environ["NAMESPACE"], os.environ["RELEASE"]) as client:
            client.append(history())
            series, at, values = asked()
            decision = client.match(series, at, values, SPECIFICATION, record=False)
    except MidstreamerError as error:
        _say(f"the fleet does not serve: {error}")
        return 1
    if wrong := differences(decision.matches):
        _say(*wrong)
        return 1
    took_s = time.monotonic() - begun
    _say(
        f"{SERIES * POINTS} ticks are stored, and the {len(decision.matches)} nearest windows are"
        f" those that were found here; {took_s:.1f} s with the certificate"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
