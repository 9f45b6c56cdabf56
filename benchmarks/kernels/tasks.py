"""The tasks of the benchmark; a task compares calls of several packages that do the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A call of one package, with the process that runs it and its arguments (``given``)."""

    name: str
    where: str
    """Name of the process that runs the call: ours, peers or javascript."""
    call: str
    given: tuple[Any, ...] = ()
    same_question: bool = True
    """Whether the answer must equal the answer of the task's first entry."""
    rounds_max: int | None = None
    """Maximum number of rounds, for a call that takes seconds; None means no limit."""


@dataclass(frozen=True)
class Task:
    """Calls that answer one question; they are measured alternately."""

    name: str
    title: str
    needs: tuple[str, ...]
    entries: tuple[Entry, ...]
    rounds: int = 9
    budget_s: float = 0.15
    """Seconds for which each call is repeated in each round."""


def _ours(call: str, *given: Any) -> Entry:
    words = {"float32": "f32", "float64": "f64", "numba": "", "wasm": "WebAssembly in wasmtime"}
    told = " ".join(filter(None, (words.get(each, "") for each in given)))
    return Entry(f"midstreamer {told}".strip(), "ours", call, given)


def _peers(call: str, *names: str, given: tuple[Any, ...] = ()) -> tuple[Entry, ...]:
    return tuple(Entry(name, "peers", f"{name}_{call}", given) for name in names)


_ALL = ("dtaidistance", "tslearn", "aeon", "wildboar", "augurs")

_PAIR = Task(
    "pair", "DTW of two series of 1,000 points", ("pair",),
    (
        _ours("pair", "float64", "numba"),
        _ours("pair", "float32", "numba"),
        _ours("pair", "float32", "wasm"),
        Entry("midstreamer f32 WebAssembly in V8", "javascript", "midstreamer"),
        *_peers("pair", *_ALL),
        Entry("augurs WebAssembly in V8", "javascript", "augurs"),
        # npm midstreamer sums absolute differences, so its answer differs.
        Entry("npm midstreamer WebAssembly in V8", "javascript", "namesake", same_question=False),
        Entry("JavaScript, textbook", "javascript", "textbook"),
        Entry("JavaScript, rows filled at once", "javascript", "filled"),
        Entry("JavaScript, typed arrays", "javascript", "typed"),
    ),
)  # fmt: skip

_BAND = Task(
    "band", "DTW of two series of 1,000 points, band 100", ("pair",),
    (
        _ours("band", "float64", "numba"),
        _ours("band", "float32", "numba"),
        _ours("band", "float32", "wasm"),
        *_peers("band", *_ALL),
    ),
)  # fmt: skip

_LCSS = Task(
    "lcss", "LCSS of two series of 1,000 points", ("pair",),
    (
        _ours("common", "float64", "numba"),
        _ours("common", "float32", "numba"),
        _ours("common", "float32", "wasm"),
        *_peers("lcss", "aeon", "tslearn"),
    ),
)  # fmt: skip

_COLLECTION = Task(
    "collection", "nearest of 100,000 rows of 128 points, band 6", ("rows", "queries"),
    (
        Entry("midstreamer, brute force in lanes", "ours", "brute_collection"),
        Entry("midstreamer, indexed", "ours", "collection"),
        Entry("dtaidistance with LB_Keogh", "peers", "dtaidistance_collection"),
        Entry("wildboar", "peers", "wildboar_collection"),
        Entry("aeon", "peers", "aeon_collection"),
        Entry("tslearn", "peers", "tslearn_collection", rounds_max=3),
    ),
    rounds=9, budget_s=0.4,
)  # fmt: skip


def _history(query: str, told: str) -> Task:
    return Task(
        f"history-{query}", f"nearest of 1,000,000 windows of 128 points, band 6, {told}",
        ("history", query),
        (
            Entry("midstreamer", "ours", "history", (query,)),
            Entry("wildboar", "peers", "wildboar_history", (query,)),
            Entry("stumpy, Euclidean", "peers", "stumpy_history", (query,), same_question=False),
        ),
        budget_s=0.3,
    )  # fmt: skip


_MONITOR = Task(
    "monitor", "one tick against 1,024 patterns of 128 points", ("patterns", "stream"),
    (
        Entry("midstreamer", "ours", "monitor"),
        Entry("SPRING in lanes", "ours", "plain_spring", same_question=False),
    ),
    rounds=15,
)  # fmt: skip

_LIMIT = Task(
    "limit", "cells of one vector of arithmetic after the other", ("pair", "rows", "queries"),
    (
        Entry("sub, two min, fma", "ours", "cells_at_most"),
        Entry("one pair f32", "ours", "pair", ("float32", "numba"), same_question=False),
        Entry("candidates in lanes f32", "ours", "brute_collection", same_question=False),
    ),
    rounds=15,
)  # fmt: skip

TASKS = (
    _PAIR, _BAND, _LCSS, _COLLECTION, _history("easy", "an easy query"),
    _history("hard", "a hard query"), _MONITOR, _LIMIT,
)  # fmt: skip
