"""The requests of a client under load: appends and matches, each at a fixed rate.

The module imports only the SDK, so that it runs with this version and with the previous version.

Requests start when they are due, even if earlier requests are still open (an open loop). A series
accepts ticks only in order of time. So there are several series; an append takes a series that no
other append is using, and a failed append is repeated later with the same ticks.

Each finished request, each attempt that the SDK retried, and each acknowledgement is reported as a
map for `client_reports.Heard.take`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from midstreamer import AsyncClient, Specification, Tick
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.specification import Transform

UNIVERSE = "driven"
HOUR = 3_600_000_000
SERIES = 24
HISTORY = 96
WARM_MATCHES = 3
POINTS_MAX = 20_000
TICKS = 4
"""Ticks in one append. Each tick ends a new window, so that the load always has new windows to send
in Match requests."""
WANTED = Specification(
    UNIVERSE, window=16, horizon=2, neighbours=10, band=2, grid=4, transform=Transform.IDENTITY
)


@dataclass
class Lane:
    """One series of a client: all its values, and how many of them are acknowledged."""

    name: str
    values: Any
    count: int = 0

    def ticks(self, count: int) -> list[Tick]:
        """Return the next ticks to append."""
        return [
            Tick(self.name, time_at(index), float(self.values[index]))
            for index in range(self.count, self.count + count)
        ]


def time_at(index: int) -> int:
    """Return the time of a tick; the first is one hour after the epoch."""
    return (index + 1) * HOUR


def values_of(name: str) -> Any:
    """Return all values of a series: a noisy wave, seeded by the series's name."""
    dice = np.random.default_rng(list(name.encode()))
    steps = np.arange(POINTS_MAX)
    phase = dice.uniform(0, 6)
    wave = 100.0 + 20.0 * np.sin(steps * (2 * np.pi / 24) + phase)
    return wave + dice.standard_normal(POINTS_MAX)


class Load:
    """The requests of one client."""

    def __init__(self, client: AsyncClient, name: str, say: Callable[[dict[str, Any]], None]):
        self._client, self._say = client, say
        self.lanes = [
            Lane(f"{UNIVERSE}/{name}-{number:02d}", values_of(f"{name}-{number:02d}"))
            for number in range(SERIES)
        ]
        self._free: asyncio.Queue[Lane] = asyncio.Queue()
        self._fresh: deque[tuple[Lane, int]] = deque(maxlen=1000)
        self._dice = random.Random(name)
        client.on_retry = self._retried

    async def begin(self) -> None:
        """Append the history that windows are matched against, and warm up the agents."""
        for lane in self.lanes:
            await self._client.append(lane.ticks(HISTORY))
            self._acknowledged(lane, HISTORY)
            self._free.put_nowait(lane)
        for lane in self.lanes[:WARM_MATCHES]:
            values = lane.values[HISTORY - WANTED.window : HISTORY]
            await self._client.match(lane.name, time_at(HISTORY - 1), values, WANTED)

    async def append(self, due_s: float) -> None:
        """Append the next ticks of a series that no other append is using."""
        lane = await self._free.get()
        try:
            if await self._timed("append", due_s, self._client.append(lane.ticks(TICKS))):
                self._acknowledged(lane, TICKS)
        finally:
            self._free.put_nowait(lane)

    async def match(self, due_s: float) -> None:
        """Match the oldest window that is not matched yet.

        If every window is matched, match the newest window of a series chosen at random.
        """
        if self._fresh:
            lane, end = self._fresh.popleft()
        else:
            lane = self._dice.choice(self.lanes)
            end = lane.count - 1
        values = lane.values[end + 1 - WANTED.window : end + 1]
        await self._timed(
            "match", due_s, self._client.match(lane.name, time_at(end), values, WANTED)
        )

    def _acknowledged(self, lane: Lane, count: int) -> None:
        self._say({"stored": [lane.name, lane.count, count]})
        self._fresh.extend((lane, index) for index in range(lane.count, lane.count + count))
        if lane.count == 0:  # the first append is the history: match none of its windows
            self._fresh.clear()
        lane.count += count

    async def _timed(self, what: str, due_s: float, asking: Awaitable[Any]) -> bool:
        report: dict[str, Any] = {"what": what, "due_s": due_s, "error": ""}
        try:
            answer = await asking
        except MidstreamerError as error:
            report["error"] = f"{error.code}: {error}"
        except Exception as error:
            report["error"] = f"{type(error).__name__}: {error}"
        else:
            if what == "match":
                report["decision"] = [answer.experience_id.hex(), answer.probability]
        self._say(report | {"end_s": time.monotonic()})
        return not report["error"]

    def _retried(self, error: MidstreamerError, delay_s: float) -> None:
        self._say({"retry": f"{error.code}: {error}", "at_s": time.monotonic()})


async def at_rate(
    ask: Callable[[float], Awaitable[None]], per_s: float, stop: asyncio.Event
) -> None:
    """Start a request whenever one is due; after ``stop``, wait for the open requests."""
    begin_s, number = time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            due_s = begin_s + number / per_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            group.create_task(ask(due_s))  # type: ignore[arg-type]
            number += 1


def say(words: dict[str, Any]) -> None:
    """Write a report as one line of JSON to stdout."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
