"""Measure the calls of a task: warm them up, measure them alternately, and report their medians.

The calls alternate, so that other work on the machine affects all of them equally.  Each round
begins with a different call than the round before.  The result of a call has the median of all its
samples.  If a call cannot be measured, because a package is missing or fails, its result has the
reason instead.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.kernels.children import ChildError, Children
from benchmarks.kernels.tasks import Entry, Task

RELATIVE = 2e-6
"""Largest relative difference between answers in float32 and float64 that count as equal."""
Spent = Callable[[float], None]
"""Callback that reports progress.

Its argument is the share of the measurement of one task that is done, from 0 to 1.
"""


@dataclass(frozen=True)
class Row:
    """The result of one call in a task."""

    task: str
    name: str
    where: str
    median_s: float | None = None
    """Median of the samples in seconds."""
    low_s: float | None = None
    high_s: float | None = None
    """Upper quartile of the samples in seconds; ``low_s`` is the lower quartile."""
    samples: int = 0
    answer: Any = None
    agrees: bool | None = None
    """Whether the answer of this call equals the answer of the first call of the task.

    None if the two answers cannot be compared.  Either this call computes something else
    (`Entry.same_question` is false), or the first call gave no answer.
    """
    missing: str | None = None
    """The reason why there are no results; None if there are."""


def measured(task: Task, children: Children, *, quick: bool, spent: Spent) -> list[Row]:
    """Return a row for each call of a task; ``spent`` is called with the share that is done."""
    answers: dict[Entry, Any] = {}
    missing: dict[Entry, str] = {}
    for number, entry in enumerate(task.entries, 1):
        try:
            asked = children[entry.where].ask(do="prepare", call=entry.call, given=entry.given)
            answers[entry] = asked["answer"]
        except (ChildError, OSError) as error:
            missing[entry] = str(error)
        spent(0.4 * number / len(task.entries))
    samples: dict[Entry, list[float]] = {entry: [] for entry in answers}
    rounds = 2 if quick else task.rounds
    for number in range(rounds):
        missing |= _round(task, children, samples, number)
        spent(0.4 + 0.6 * (number + 1) / rounds)
    children.drop()
    first = answers.get(task.entries[0])
    return [
        Row(task.name, entry.name, entry.where, missing=missing[entry])
        if entry in missing
        else _row(task, entry, samples[entry], answers[entry], first)
        for entry in task.entries
    ]


def _round(
    task: Task, children: Children, samples: dict[Entry, list[float]], number: int
) -> dict[Entry, str]:
    """Measure each entry of ``samples`` once more.

    Remove entries that fail from ``samples``, and return the reason for each of them.
    """
    entries, failed = list(samples), {}
    turn = number % max(1, len(entries))
    for entry in [*entries[turn:], *entries[:turn]]:
        if entry.rounds_max is not None and number >= entry.rounds_max:
            continue
        try:
            made = children[entry.where].ask(
                do="time", call=entry.call, given=entry.given, budget_s=task.budget_s
            )
        except ChildError as error:
            failed[entry] = str(error)
            del samples[entry]
        else:
            samples[entry] += made["samples_s"]
    return failed


def _row(task: Task, entry: Entry, samples: list[float], answer: Any, first: Any) -> Row:
    low, median, high = quartiles(samples)
    agrees = close(answer, first) if entry.same_question and first is not None else None
    return Row(task.name, entry.name, entry.where, median, low, high, len(samples), answer, agrees)


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """Return the three quartiles of samples; a single sample counts as all three."""
    if len(samples) < 2:
        return samples[0], samples[0], samples[0]
    low, median, high = statistics.quantiles(samples, method="inclusive")
    return low, median, high


def close(answer: Any, expected: Any) -> bool:
    """Return whether two answers are equal: the same positions, distances equal up to rounding."""
    ours, theirs = (each if isinstance(each, list) else [each] for each in (expected, answer))
    return len(ours) == len(theirs) and all(
        math.isclose(mine, other, rel_tol=RELATIVE)
        for mine, other in zip(ours, theirs, strict=True)
    )
