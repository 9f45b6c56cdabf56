"""Recomputes stored decisions and verdicts from ticks and states, and compares; pure functions.

A decision is checked in four steps: its columns against its body, its id against its content, its
window and matches against the ticks, and its other fields by deciding again from the recorded
evidence and the state of the recorded version.  A verdict is computed again from its decision and
the tick at the due position.

Two inputs of a decision are not stored, so they are inferred from its result:

* the number of windows that rose, and the number of windows with a known outcome: from the
  climatology, which was computed from them;
* whether the window ended at the last known tick: from the reason of the decision.

One thing is not checked: that the matches were the nearest of all windows.  That check would
repeat the whole search.
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
from midstreamer.store import row_conversion
from midstreamer.store.row_checks import (
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
"""A run of positions: (series, first position, position after the last)."""
Stored = Mapping[Key, Ticks | None]
"""The ticks of each requested run; None if one of its points is not stored."""
Distances = Callable[[Specification, Floats, Floats], Floats]
"""Function that returns the distances (k,) from a window (m,) to other windows (k, m).

Its arguments are the specification, the window and the other windows.  The transform of the
specification has already been applied to all windows."""


class Rules(NamedTuple):
    """The functions of the package `reasoning` that make decisions, verdicts and states."""

    initial: Callable[[Specification], State]
    learn: Callable[[State, Any], State]
    encode: Callable[[State], bytes]
    decode: Callable[[bytes], State]
    decide: Callable[[Evidence, State], Decision]
    judge: Callable[[Decision, float, int], Verdict]
    library: str
    """Version of `reasoning`; a decision of another version cannot be recomputed."""
    distances: Distances | None = None
    """Function that computes the distances of matches; if None, distances are not checked."""


def decision_of(row: Row) -> tuple[Decision | None, list[Finding]]:
    """Return the decision of a row, and the findings about its columns and its id.

    The decision is None if its body cannot be decoded or its specification is invalid.
    """
    key = row["experience_id"]
    try:
        decision = row_conversion.decision(row["body"])
    except Exception as error:
        return None, [undecodable("decisions", key, row["body"], error)]
    derived = _first(row_conversion.decisions([decision]))
    found = list(columns("decisions", key, row, derived, body="body"))
    found += unknown("decisions", key, row["body"], Decision)
    window = Window(decision.series, decision.time, decision.window)
    right = decisions.experience_id(decision.specification, window)
    if right != decision.experience_id:
        found.append(finding("decisions", key, "body.experience_id", decision.experience_id, right))
    try:
        specifications.check(decision.specification)
    except BadInput as error:
        # Stop here: an invalid window or horizon could make the next reads arbitrarily large.
        found.append(finding("decisions", key, "body.specification", "invalid", error.message))
        return None, found
    return decision, found


def _first(values: row_conversion.Columns) -> dict[str, Any]:
    """Return the values of one row; each of the columns holds only this row.

    The column ``body`` is left out.
    """
    return {name: column[0] for name, column in values.items() if name != "body"}


def runs_of(decision: Decision) -> list[Key]:
    """Return the runs of ticks that are needed to check the window and the matches."""
    length, horizon = decision.specification.window, decision.specification.horizon
    asked = []
    if decision.settles:
        stop = decision.index + 1
        asked.append((decision.series, stop - length, stop))
    for name, start in _places(decision.matches):
        # The outcome of a match ends one horizon after its window.  A match may be used only when
        # another horizon has passed (`outcome.known_until`), so 2 horizons of ticks are needed.
        asked.append((name, start, start + length + 2 * horizon))
    return asked


def _places(matches: Matches) -> list[tuple[str, int]]:
    """Return (series, first position) of each match, without matches that name no series."""
    names, count = matches.series, len(matches.which) // 2
    which, start = matches.which[: 2 * count], matches.start[: 8 * (len(matches.start) // 8)]
    places = np.frombuffer(which, "<u2").tolist(), np.frombuffer(start, "<i8").tolist()
    pairs = zip(*places, strict=False)  # in a corrupt row the lengths may differ
    return [(names[each], first) for each, first in pairs if each < len(names)]


def of_ticks(decision: Decision, ticks: Stored, distances: Distances | None) -> list[Finding]:
    """Compare the window, the time and the matches of a decision with the stored ticks."""
    try:
        return [*_window(decision, ticks), *_matches(decision, ticks, distances)]
    except Exception as error:
        key = decision.experience_id
        return [finding("decisions", key, "body", f"not comparable: {error}", "as its ticks")]


def _window(decision: Decision, ticks: Stored) -> Iterator[Finding]:
    if not decision.settles:
        return
    key, stop = decision.experience_id, decision.index + 1
    start = stop - decision.specification.window
    run = ticks.get((decision.series, start, stop))
    if run is None:
        place = f"{decision.series} {start} to {decision.index}"
        yield finding("decisions", key, "body.index", decision.index, f"no ticks at {place}")
        return
    values = np.frombuffer(decision.window, "<f8")
    at = first_apart(values, run.values)
    if at >= 0:
        value = values[at].item() if at < len(values) else None
        stored = run.values[at].item() if at < len(run.values) else None
        derived = f"{stored!r} (points {decision.series}/{start + at})"
        yield finding("decisions", key, f"body.window[{at}]", value, derived)
    if int(run.times[-1]) != decision.time:
        derived = f"{int(run.times[-1])} (points {decision.series}/{decision.index})"
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
    found = [ticks.get((name, at, at + length + 2 * horizon)) for name, at in places]
    missing = next((place for place, run in zip(places, found, strict=True) if run is None), None)
    runs = [run for run in found if run is not None]
    if missing is not None:
        derived = f"no ticks at {missing[0]} from {missing[1]}"
        yield finding("decisions", key, "body.matches.start", missing[1], derived)
        return
    values = np.stack([run.values for run in runs])
    points = outcome.history(values.ravel(), specification.transform).reshape(values.shape)
    yield from _apart(key, "time", matches.time_array(), [r.times[length - 1] for r in runs])
    late = [at for at, run in enumerate(runs) if run.times[-1] > decision.time]
    if late:
        derived = f"known by {decision.time}, not at {int(runs[late[0]].times[-1])}"
        yield finding("decisions", key, f"body.matches[{late[0]}]", places[late[0]], derived)
    outcomes = _outcomes(points, specification)
    yield from _apart(key, "outcome", matches.outcome_array(), outcomes)
    if distances is not None and specification.window * 8 == len(decision.window):
        window = outcome.transformed(np.frombuffer(decision.window), specification.transform)
        others = outcome.searchable(points[:, :length])
        yield from _apart(
            key, "distance", matches.distance_array(), distances(specification, window, others)
        )


def _outcomes(points: Floats, specification: Specification) -> Floats:
    """Return the outcomes of k windows, shape (k,).

    ``points`` holds k runs of transformed values, shape (k, m + 2h), where m is the length of a
    window and h is the horizon.  Each run begins with its window.  The outcome is computed from the
    first m + h points of the run; the last h points are not used here.
    """
    firsts = np.arange(len(points), dtype=np.int64) * points.shape[1]
    return outcome.outcomes(points.ravel(), firsts, specification)


def _shape(decision: Decision, places: list[tuple[str, int]]) -> str:
    """Return the rule that the list of matches breaks, or an empty string if it breaks none."""
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
    if any(match >= next_match for match, next_match in pairwise(nearest)):
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


# --- recomputing ----------------------------------------------------------------------------------


def decided_again(
    rules: Rules, decision: Decision, state: State, windows_max: int
) -> Iterator[Finding]:
    """Make a decision again from its evidence and state; yield a finding for each difference.

    ``windows_max`` is an upper bound on the windows that were counted for the decision.
    """
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
    """Return the evidence of a decision; the counts of windows are inferred.

    They are inferred from the first of the decision's ``arms``, the climatology.  Return None if no
    counts up to ``windows_max`` give that climatology.
    """
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
    """Return counts (rises, windows with a known outcome) that give a climatology of ``share``.

    The climatology is ``(rises + 1) / (known + 2)``, but at least 1/100 and at most 99/100.  Any
    counts with the same ratio are right, because a decision depends only on the ratio.  Return None
    if no counts give ``share``.
    """
    if not 0.0 < share < 1.0:
        return None
    # A climatology at its limit, 1/100 or 99/100, has the denominator 100. This may be greater than
    # ``windows_max + 2``, if there are only few windows.
    found = Fraction(share).limit_denominator(max(windows_max + 2, 100))
    if found.numerator / found.denominator != share or found.denominator < 2:
        return None
    return found.numerator - 1, found.denominator - 2


def verdict_of(row: Row) -> tuple[Verdict | None, list[Finding]]:
    """Return the verdict of a row (None if it cannot be decoded), and findings on its columns."""
    key = row["experience_id"]
    try:
        verdict = row_conversion.verdict(row["body"])
    except Exception as error:
        return None, [undecodable("verdicts", key, row["body"], error)]
    derived = _first(row_conversion.verdicts([verdict]))
    found = list(columns("verdicts", key, row, derived, body="body"))
    return verdict, [*found, *unknown("verdicts", key, row["body"], Verdict)]


def due_of(decision: Decision) -> Key:
    """Return the run of positions that contains only the due position of a decision."""
    return decision.series, decision.due_index, decision.due_index + 1


def judged_again(
    rules: Rules, verdict: Verdict, decision: Decision, ticks: Stored
) -> Iterator[Finding]:
    """Compute a verdict again from the tick at the due position; yield the findings."""
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
