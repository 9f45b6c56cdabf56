"""Measure a task: every call is warmed up, then all take turns, and each has its median.

Taking turns lets the noise of a shared machine fall on all of them alike; each round begins with
another. What cannot be measured, since a package is missing or fails, has a reason instead of
figures.
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
"""How far an answer in float32 may be from the same in float64."""
Spent = Callable[[float], None]


@dataclass(frozen=True)
class Row:
    """What one call came to."""

    task: str
    name: str
    where: str
    median_s: float | None = None
    """Half of the samples took less."""
    low_s: float | None = None
    high_s: float | None = None
    """A quarter of the samples took less than `low_s`, a quarter more than `high_s`."""
    samples: int = 0
    answer: Any = None
    agrees: bool | None = None
    """Whether the answer is that of the task's first entry; None: it answers another question."""
    missing: str | None = None
    """Why there are no figures."""


def measured(task: Task, children: Children, *, quick: bool, spent: Spent) -> list[Row]:
    """One row for each entry of a task; `spent` is told the share that is done, as it grows."""
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
    """Measure each once more; what fails is measured no more, and returned with the reason."""
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
    """The quartiles; of one sample, itself three times."""
    if len(samples) < 2:
        return samples[0], samples[0], samples[0]
    low, median, high = statistics.quantiles(samples, method="inclusive")
    return low, median, high


def close(answer: Any, expected: Any) -> bool:
    """Whether two answers say the same: equal positions, distances but for rounding."""
    ours, theirs = (each if isinstance(each, list) else [each] for each in (expected, answer))
    return len(ours) == len(theirs) and all(
        math.isclose(mine, other, rel_tol=RELATIVE)
        for mine, other in zip(ours, theirs, strict=True)
    )
