"""Derives decisions and verdicts again from ticks and states: pure, as `store.findings` is.

A decision is proved in four steps: its columns against its body, its id against its content, its
window and each of its matches against the ticks, and all the rest by deciding again with the
recorded evidence and the state of the recorded version.  A verdict is judged again from its
decision and the tick at the due position.

Two things that a decision rested on are not recorded beside it.  How many windows the agents held,
and how many of those rose, is taken from the first arm, which is their ratio.  Whether the window
ended at the last known tick is taken from the reason.  Whether the matches were the nearest of all
windows is not proved: that would be the whole search again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from midstreamer.domain import decision as decisions
from midstreamer.domain import outcome
from midstreamer.domain import specification as specifications
from midstreamer.domain.decision import Decision, Evidence, Reason
from midstreamer.domain.errors import BadInput
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Floats, Window, universe_of
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.store import rows
from midstreamer.store.findings import (
    Finding,
    Row,
    Ticks,
    columns,
    fields,
    finding,
    first_apart,
    undecodable,
    unknown,
)

Key = tuple[str, int, int]
"""Series, first position, position after the last."""
Stored = Mapping[Key, Ticks | None]
"""The ticks of each run that was asked for; None unless all of its points are stored."""
Distances = Callable[[Specification, Floats, Floats], Floats]
"""(specification, transformed window (m,), transformed others (k, m)) -> distances (k,)."""

_DECISION = (
    *("experience_id", "specification", "series", "time", "index", "due_index", "direction"),
    *("reason", "probability", "confidence", "low", "high", "state_version", "library", "kernel"),
)
_VERDICT = (
    *("experience_id", "series", "time", "due_time", "change", "outcome", "hit", "covered"),
    *("brier", "winkler"),
)


class Rules(NamedTuple):
    """The functions of `reasoning` that made what is stored."""

    initial: Callable[[Specification], State]
    learn: Callable[[State, Any], State]
    encode: Callable[[State], bytes]
    decode: Callable[[bytes], State]
    decide: Callable[[Evidence, State], Decision]
    judge: Callable[[Decision, float, int], Verdict]
    library: str
    """Decisions of another one cannot be derived again."""
    distances: Distances | None = None
    """How windows are compared; without it distances are not derived again."""


def decision_of(row: Row) -> tuple[Decision | None, list[Finding]]:
    """The decision of a row and what contradicts its columns and its id."""
    key = row["experience_id"]
    try:
        made = rows.decision(row["body"])
    except Exception as error:
        return None, [undecodable("decisions", key, row["body"], error)]
    *plain, _ = (column[0] for column in rows.decisions([made]))
    found = list(
        columns("decisions", key, row, dict(zip(_DECISION, plain, strict=True)), body="body")
    )
    found += unknown("decisions", key, row["body"], Decision)
    window = Window(made.series, made.time, made.window)
    right = decisions.experience_id(made.specification, window)
    if right != made.experience_id:
        found.append(finding("decisions", key, "body.experience_id", made.experience_id, right))
    try:
        specifications.check(made.specification)
    except BadInput as error:
        # Nothing more is derived: its lengths say how much would be read.
        found.append(finding("decisions", key, "body.specification", "invalid", error.message))
        return None, found
    return made, found


def runs_of(decision: Decision) -> list[Key]:
    """The ticks that a decision's window and matches are compared with."""
    length, horizon = decision.specification.window, decision.specification.horizon
    asked = []
    if decision.settles:
        stop = decision.index + 1
        asked.append((decision.series, stop - length, stop))
    for name, start in _places(decision.matches):
        # One horizon to the outcome, and another until it may be used.
        asked.append((name, start, start + length + 2 * horizon))
    return asked


def _places(matches: Matches) -> list[tuple[str, int]]:
    """(series, first position) of each match; those that name no series are left out."""
    names, count = matches.series, len(matches.which) // 2
    which, start = matches.which[: 2 * count], matches.start[: 8 * (len(matches.start) // 8)]
    places = np.frombuffer(which, "<u2").tolist(), np.frombuffer(start, "<i8").tolist()
    pairs = zip(*places, strict=False)  # changed bytes may have cut either
    return [(names[each], first) for each, first in pairs if each < len(names)]


def of_ticks(decision: Decision, ticks: Stored, distances: Distances | None) -> list[Finding]:
    """What in a decision contradicts the stored ticks: its window, its time, its matches."""
    try:
        return [*_window(decision, ticks), *_matches(decision, ticks, distances)]
    except Exception as error:
        key = decision.experience_id
        return [finding("decisions", key, "body", f"not comparable: {error}", "its ticks")]


def _window(decision: Decision, ticks: Stored) -> Iterator[Finding]:
    if not decision.settles:
        return
    key, stop = decision.experience_id, decision.index + 1
    start = stop - decision.specification.window
    there = ticks.get((decision.series, start, stop))
    if there is None:
        place = f"{decision.series} {start} to {decision.index}"
        yield finding("decisions", key, "body.index", decision.index, f"no ticks at {place}")
        return
    values = np.frombuffer(decision.window, "<f8")
    at = first_apart(values, there.values)
    if at >= 0:
        told = values[at].item() if at < len(values) else None
        stored = there.values[at].item() if at < len(there.values) else None
        derived = f"{stored!r} (points {decision.series}/{start + at})"
        yield finding("decisions", key, f"body.window[{at}]", told, derived)
    if int(there.times[-1]) != decision.time:
        derived = f"{int(there.times[-1])} (points {decision.series}/{decision.index})"
        yield finding("decisions", key, "body.time", decision.time, derived)


def _matches(decision: Decision, ticks: Stored, distances: Distances | None) -> Iterator[Finding]:
    matches, specification = decision.matches, decision.specification
    key, places = decision.experience_id, _places(decision.matches)
    shape = _shape(decision, places)
    if shape:
        yield finding("decisions", key, "body.matches", f"{len(places)} matches", shape)
        return
    if not places:
        return
    length, horizon = specification.window, specification.horizon
    there = [ticks.get((name, at, at + length + 2 * horizon)) for name, at in places]
    missing = next((place for place, run in zip(places, there, strict=True) if run is None), None)
    whole = [run for run in there if run is not None]
    if missing is not None:
        derived = f"no ticks at {missing[0]} from {missing[1]}"
        yield finding("decisions", key, "body.matches.start", missing[1], derived)
        return
    values = np.stack([run.values for run in whole])
    points = outcome.history(values.ravel(), specification.transform).reshape(values.shape)
    yield from _apart(key, "time", matches.time_array(), [r.times[length - 1] for r in whole])
    late = [at for at, run in enumerate(whole) if run.times[-1] > decision.time]
    if late:
        derived = f"known by {decision.time}, not at {int(whole[late[0]].times[-1])}"
        yield finding("decisions", key, f"body.matches[{late[0]}]", places[late[0]], derived)
    made = _outcomes(points, specification)
    yield from _apart(key, "outcome", matches.outcome_array(), made)
    if distances is not None and specification.window * 8 == len(decision.window):
        window = outcome.transformed(np.frombuffer(decision.window), specification.transform)
        others = outcome.searchable(points[:, :length])
        yield from _apart(
            key, "distance", matches.distance_array(), distances(specification, window, others)
        )


def _outcomes(points: Floats, specification: Specification) -> Floats:
    """Outcomes of transformed runs, shape (k, m + 2h), that each begin with a window."""
    firsts = np.arange(len(points), dtype=np.int64) * points.shape[1]
    return outcome.outcomes(points.ravel(), firsts, specification)


def _shape(decision: Decision, places: list[tuple[str, int]]) -> str:
    """What every list of matches keeps to; empty when this one does."""
    matches, specification = decision.matches, decision.specification
    others = (matches.start, matches.time, matches.distance, matches.outcome)
    if {len(part) for part in others} != {8 * len(places)} or len(matches.which) % 2:
        return "arrays of one length that name their series"
    if len(places) > specification.neighbours:
        return f"at most {specification.neighbours}"
    if tuple(sorted({name for name, _ in places})) != matches.series:
        return f"exactly the series named: {', '.join(matches.series)}"
    if any(universe_of(name) != specification.universe for name in matches.series):
        return f"series of {specification.universe}"
    if any(start % specification.grid for _, start in places):
        return f"positions on the grid of {specification.grid}"
    nearest = [
        (far, *place) for far, place in zip(matches.distance_array().tolist(), places, strict=True)
    ]
    if any(one >= next_one for one, next_one in pairwise(nearest)):
        return "nearest first, each once"
    return ""


def _apart(key: bytes, name: str, told: Any, derived: Any) -> Iterator[Finding]:
    right = np.asarray(derived, dtype=told.dtype)
    at = first_apart(told, right)
    if at >= 0:
        yield finding(
            "decisions", key, f"body.matches.{name}[{at}]", told[at].item(),
            f"{right[at].item()!r} (points)",
        )  # fmt: skip


# --- deciding and judging again -------------------------------------------------------------------


def decided_again(
    rules: Rules, decision: Decision, state: State, windows_max: int
) -> Iterator[Finding]:
    """The fields of a decision that are not what its evidence and state lead to."""
    key = decision.experience_id
    evidence = evidence_of(decision, windows_max)
    if evidence is None:
        derived = f"a share of at most {windows_max:,} windows"
        yield finding("decisions", key, "body.arms[0]", decision.arms[:1], derived)
        return
    try:
        again = rules.decide(evidence, state)
    except Exception as error:
        yield finding("decisions", key, "body", f"not decidable: {error}", "a decision")
        return
    yield from fields("decisions", key, decision, again)


def evidence_of(decision: Decision, windows_max: int) -> Evidence | None:
    """The evidence that a decision was made of; None when no count of windows explains it."""
    counts = counts_of(decision.arms[0], windows_max) if decision.arms else None
    if counts is None:
        return None
    return Evidence(
        decision.specification,
        Window(decision.series, decision.time, decision.window),
        decision.matches,
        decision.index,
        newest=decision.reason is not Reason.STALE_DATA,
        ups=counts[0],
        known=counts[1],
        kernel=decision.kernel,
    )


def counts_of(share: float, windows_max: int) -> tuple[int, int] | None:
    """(ups, known) with ``(ups + 1) / (known + 2) == share``; None when there are none.

    Any pair will do, because only their ratio enters a decision.
    """
    if not 0.0 < share < 1.0:
        return None
    # 1/100 and 99/100 are the bounds of climatology, however many windows there are.
    found = Fraction(share).limit_denominator(max(windows_max + 2, 100))
    if found.numerator / found.denominator != share or found.denominator < 2:
        return None
    return found.numerator - 1, found.denominator - 2


def verdict_of(row: Row) -> tuple[Verdict | None, list[Finding]]:
    """The verdict of a row and what contradicts its columns."""
    key = row["experience_id"]
    try:
        made = rows.verdict(row["body"])
    except Exception as error:
        return None, [undecodable("verdicts", key, row["body"], error)]
    *plain, _ = (column[0] for column in rows.verdicts([made]))
    derived = dict(zip(_VERDICT, plain, strict=True))
    found = list(columns("verdicts", key, row, derived, body="body"))
    return made, [*found, *unknown("verdicts", key, row["body"], Verdict)]


def due_of(decision: Decision) -> Key:
    """The one tick that settles a decision."""
    return decision.series, decision.due_index, decision.due_index + 1


def judged_again(
    rules: Rules, verdict: Verdict, decision: Decision, ticks: Stored
) -> Iterator[Finding]:
    """The fields of a verdict that are not what the tick at the due position makes of it."""
    key, due = decision.experience_id, ticks.get(due_of(decision))
    if due is None:
        place = f"{decision.series}/{decision.due_index}"
        yield finding("verdicts", key, "body", "a verdict", f"none: no tick at {place}")
        return
    try:
        derived = rules.judge(decision, float(due.values[0]), int(due.times[0]))
    except Exception as error:
        yield finding("verdicts", key, "body", f"not judgeable: {error}", "a verdict")
        return
    yield from fields("verdicts", key, verdict, derived)
