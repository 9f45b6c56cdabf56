"""The program of `helm test`: append ticks to a fleet, and compare its matches with expected ones.

The ticks are the same in each run, and a tick is identified by series and time, so a second run
adds nothing.  The decision is not recorded.  The expected matches are computed here with numpy and
plain loops, without the kernels that the fleet uses.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from midstreamer import Client, Column, MidstreamerError, Scale, Specification, Transform, column
from midstreamer.cluster import api, kubernetes_names, service_account
from midstreamer.cluster.certificate_requests import ClusterIssuer
from midstreamer.domain import identity
from midstreamer.domain.identity import Kind
from midstreamer.security.requested_credentials import RequestedSource

UNIVERSE = "helm-test"
SERIES, POINTS = 3, 300
FIRST_TIME, STEP = 946_684_800_000_000, 60_000_000
"""Time of the first tick (2000-01-01) and step to the next tick (a minute), in microseconds."""
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
"""Tolerance of distances and outcomes, relative and absolute."""


class Found(NamedTuple):
    """A window of the history that is one of the nearest to the query."""

    series: str
    start: int
    distance: float
    outcome: float


def history() -> list[Column]:
    """Return the ticks, one column for each series: waves with reproducible noise."""
    times = FIRST_TIME + STEP * np.arange(POINTS, dtype=np.int64)
    return [column(f"{UNIVERSE}/{name}", times, values) for name, values in _values().items()]


def asked() -> tuple[str, int, np.ndarray]:
    """Return series, time and values of the query: the last window of the first series."""
    name, values = next(iter(_values().items()))
    return f"{UNIVERSE}/{name}", FIRST_TIME + STEP * (POINTS - 1), values[-SPECIFICATION.window :]


def expected() -> list[Found]:
    """Return the windows of the history that are nearest to the query, nearest first."""
    length, horizon = SPECIFICATION.window, SPECIFICATION.horizon
    query = _normal(asked()[2])
    found = []
    for name, values in _values().items():
        # The last windows of a series are left out, as in the fleet. The outcome of a window must
        # end at least one horizon before the last point of the series. This gap separates the
        # outcome of the window from the outcome that is forecast.
        for start in range(0, POINTS - 2 * horizon - length + 1, SPECIFICATION.grid):
            window = values[start : start + length]
            change = values[start + length - 1 + horizon] - window[-1]
            distance = _distance(query, _normal(window), SPECIFICATION.band)
            found.append(Found(f"{UNIVERSE}/{name}", start, distance, change / np.std(window)))
    found.sort(key=lambda one: (one.distance, one.series, one.start))
    return found[: SPECIFICATION.neighbours]


def differences(matches: Iterable) -> list[str]:
    """Return one line for each match of the fleet that differs from the expected one."""
    matches_found = [Found(m.series, m.start, m.distance, m.outcome) for m in matches]
    wanted = expected()
    wrong = [
        f"match {place}: the fleet has {match}, but {other} is expected"
        for place, (match, other) in enumerate(zip(matches_found, wanted, strict=False))
        if match[:2] != other[:2] or not np.allclose(match[2:], other[2:], rtol=CLOSE, atol=CLOSE)
    ]
    if len(matches_found) != len(wanted):
        wrong.append(f"the fleet has {len(matches_found)} matches, but {len(wanted)} are expected")
    return wrong


def _values() -> dict[str, np.ndarray]:
    """Return the values of each series, float64 of shape (POINTS,), by name of the series."""
    state, values = 1, {}
    for place in range(SERIES):
        noise = np.empty(POINTS)
        for at in range(POINTS):
            state = (1_103_515_245 * state + 12_345) % 2**31
            noise[at] = state / 2**31
        values[f"wave-{place}"] = 100 + 8 * np.sin(np.arange(POINTS) / (5 + place)) + 4 * noise
    return values


def _normal(window: np.ndarray) -> np.ndarray:
    """Return the window with mean 0 and standard deviation 1."""
    return (window - np.mean(window)) / np.std(window)


def _distance(one: np.ndarray, other: np.ndarray, band: int) -> float:
    """Return the dynamic time warping distance of two windows within a Sakoe-Chiba band."""
    size = len(one)
    cost = np.full((size + 1, size + 1), np.inf)
    cost[0, 0] = 0.0
    for i in range(1, size + 1):
        for j in range(max(1, i - band), min(size, i + band) + 1):
            least = min(cost[i - 1, j], cost[i, j - 1], cost[i - 1, j - 1])
            cost[i, j] = (one[i - 1] - other[j - 1]) ** 2 + least
    return float(np.sqrt(cost[size, size]))


def _client(namespace: str, release: str) -> Client:
    """Connect as `client/<release>-test`, with a certificate from the fleet's operator."""
    me = identity.make(os.environ["TRUST_DOMAIN"], Kind.CLIENT, f"{release}-test")
    issuer = ClusterIssuer(
        api.Client(service_account.in_pod(), idle_max=0), namespace=namespace, release=release
    )
    address = f"{kubernetes_names.coordinators(namespace, release)}:{os.environ['PORT']}"
    return Client.connect(
        address,
        credentials=RequestedSource(me, issuer),
        deadline_s=float(os.environ["DEADLINE_S"]),
    )


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def main() -> int:
    """Append ticks, match, and compare; return 0 when the matches agree, else 1."""
    begun = time.monotonic()
    try:
        with _client(os.environ["NAMESPACE"], os.environ["RELEASE"]) as client:
            client.append(history())
            series, at, values = asked()
            decision = client.match(series, at, values, SPECIFICATION, record=False)
    except MidstreamerError as error:
        _say(f"the request to the fleet failed: {error}")
        return 1
    if wrong := differences(decision.matches):
        _say(*wrong)
        return 1
    took_s = time.monotonic() - begun
    _say(
        f"{SERIES * POINTS} ticks are stored, and the {len(decision.matches)} nearest windows are"
        f" the expected ones; {took_s:.1f} s, including the request for a certificate"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
