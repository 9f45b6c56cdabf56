"""The measured calls of our kernels; `benchmarks.kernels.peers` has those of other packages.

Preparation is not timed, neither here nor for other packages: a `Collection` computes the data of
its lower bounds when it is created, and a `History` keeps statistics after its first search.  If
all inputs are float32, a pair is compared in float32.  A search of a collection excludes most rows
in float32 and compares the few others in float64, so that it returns exact distances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import midstreamer_kernels as kernels
from benchmarks.kernels import processor_limit, spring_baseline
from benchmarks.kernels.data import BAND, EPSILON, NARROW, THRESHOLD, Files
from midstreamer_kernels.collection import scan_all

Call = Callable[[int], Any]


def pair(files: Files, dtype: str, engine: str) -> Call:
    a, b = files.read("pair").astype(dtype)
    return lambda _: kernels.dtw(a, b, engine=engine)


def band(files: Files, dtype: str, engine: str) -> Call:
    a, b = files.read("pair").astype(dtype)
    return lambda _: kernels.dtw(a, b, band=BAND, engine=engine)


def common(files: Files, dtype: str, engine: str) -> Call:
    a, b = files.read("pair").astype(dtype)
    return lambda _: kernels.lcss(a, b, epsilon=EPSILON, engine=engine)


def collection(files: Files) -> Call:
    rows = kernels.Collection(files.read("rows").astype(np.float32))
    queries = files.read("queries").astype(np.float32)

    def call(number: int) -> list[float]:
        found = rows.nearest(queries[number % len(queries)], band=NARROW)
        return [found.index[0], found.distance[0]]

    return call


def brute_collection(files: Files) -> Call:
    """Return a call that compares a query with every row, without lower bounds."""
    rows = kernels.Collection(files.read("rows").astype(np.float32))
    queries = files.read("queries").astype(np.float32)

    def call(number: int) -> list[float]:
        found = scan_all(rows, queries[number % len(queries)], band=NARROW)
        return [found.index[0], found.distance[0]]

    return call


def history(files: Files, query: str) -> Call:
    values, wanted = kernels.History(files.read("history")), files.read(query)

    def call(_: int) -> list[float]:
        found = values.search(wanted, band=NARROW)
        return [found.index[0], found.distance[0]]

    return call


def monitor(files: Files) -> Call:
    stream = files.read("stream").astype(np.float32).tolist()
    watching = kernels.Monitor(files.read("patterns").astype(np.float32), threshold=THRESHOLD)
    return lambda number: len(watching.push(stream[number % len(stream)]))


def plain_spring(files: Files) -> Call:
    stream = files.read("stream").tolist()
    watching = spring_baseline.Spring(files.read("patterns"))
    return lambda number: watching.push(stream[number % len(stream)])


def cells_at_most(files: Files) -> Call:
    """Return the micro-benchmark that the module `processor_limit` contains, as a call.

    The micro-benchmark computes matrix cells as fast as the processor can.  The call returns the
    number of cells that it computes.
    """
    mix, cells = processor_limit.best_mix()

    def call(_: int) -> int:
        mix()
        return cells

    return call
