"""Converts values to the columns of a query, and rows back to values; pure, without SQL.

The column ``body`` of a decision, verdict or change holds the whole value as msgpack, and only this
column is decoded.  The other columns repeat fields of the value, for people and for queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput, MidstreamerError
from midstreamer.domain.series import Column
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import codec
from midstreamer.protocol.frames import Change, Learned, Member, SeriesSummary
from midstreamer.store.store_interface import Effects, Event, Mark, StoredState, Unreadable, Usage

Columns = dict[str, list[Any]]
"""Arguments of a query by name, one list for each column; all lists have the same length."""

_encode = msgspec.msgpack.Encoder().encode
_decision = msgspec.msgpack.Decoder(Decision)
_verdict = msgspec.msgpack.Decoder(Verdict)


def _fields(values: Iterable[Any], *names: str) -> Columns:
    """Return one column for each field in ``names``; it holds that field of all ``values``."""
    kept = list(values)
    return {name: [getattr(value, name) for value in kept] for name in names}


def json(value: Any) -> str:
    """Return a value as JSON text, for a jsonb column."""
    return msgspec.json.encode(value).decode()


def decision(body: bytes) -> Decision:
    """Decode the body of a stored decision; raise msgspec's error if it cannot be decoded."""
    return _decision.decode(body)


def readable(row: Mapping[str, Any]) -> Decision | Unreadable:
    """Return the decision of a row, or `Unreadable` if this version cannot decode it.

    A newer version may have written a decision that this version does not understand.
    """
    try:
        return decision(row["body"])
    except (msgspec.MsgspecError, MidstreamerError) as error:
        return Unreadable(row["experience_id"], str(error))


def read(row: Mapping[str, Any]) -> Decision:
    """Return the decision of a row; raise BadInput if this version cannot decode it."""
    found = readable(row)
    if isinstance(found, Unreadable):
        raise BadInput(
            f"decision {found.experience_id.hex()} is stored, and this version cannot decode it"
            f" ({found.detail}): upgrade sync"
        )
    return found


def verdict(body: bytes) -> Verdict:
    """Decode the body of a stored verdict; raise msgspec's error if it cannot be decoded."""
    return _verdict.decode(body)


def change(body: bytes) -> Change:
    """Decode the body of a change of the feed.

    The change `Learned` announces a new learning state; its body does not hold that state.  A
    change of a kind that this version does not know becomes `Skipped`; a newer sync wrote it.
    """
    return codec.decode_change(body)


def specification(text: str) -> Specification:
    """Decode the specification in a jsonb column."""
    return msgspec.json.decode(text, type=Specification)


def summary(row: Mapping[str, Any]) -> SeriesSummary:
    """Convert a row of the table named series to the summary of one series."""
    return SeriesSummary(
        row["name"], row["count"], row["first_time"], row["last_time"], row["last_value"]
    )


def member(row: Mapping[str, Any]) -> Member:
    """Convert a row of the table members to a member."""
    return Member(
        row["name"],
        row["incarnation"],
        row["address"],
        row["position"],
        row["held"],
        msgspec.json.decode(row["evidence"], type=dict[str, str]),
        row["whole_for"],
        row["whole_at"],
    )


def series(columns: Sequence[Column], makers: Mapping[str, str]) -> Columns:
    """Return rows for the table named series, as columns: one row for each series with new ticks.

    ``columns`` holds the new ticks.  ``makers`` names, for each new series, the identity that
    created it.
    """
    grown: dict[str, SeriesSummary] = {}
    for column in columns:
        times, values = column.times_array(), column.values_array()
        before = grown.get(column.series)
        grown[column.series] = SeriesSummary(
            column.series,
            (before.count if before else 0) + len(column),
            before.first_time if before else int(times[0]),
            int(times[-1]),
            float(values[-1]),
        )
    same = _fields(grown.values(), "count", "first_time", "last_time", "last_value")
    creators = [makers.get(name, "") for name in grown]
    return same | {"name": list(grown), "identity": creators}


def points(placed: Sequence[tuple[int, int, Column]]) -> Columns:
    """Return rows for the table named points, as columns: one row for each tick.

    Each of ``placed`` is the id of a series, the position of the first tick, and the ticks.
    """
    columns: Columns = {"series_id": [], "index": [], "time": [], "value": []}
    for series_id, start, column in placed:
        columns["series_id"] += [series_id] * len(column)
        columns["index"] += range(start, start + len(column))
        columns["time"] += column.times_array().tolist()
        columns["value"] += column.values_array().tolist()
    return columns


def specifications(decisions: Sequence[Decision]) -> Columns:
    """Return the distinct specifications of these decisions, as columns of their table."""
    distinct = {decision.specification for decision in decisions}
    ordered = sorted(distinct, key=lambda specification: specification.digest)
    return _fields(ordered, "digest", "stream") | {"body": [json(each) for each in ordered]}


def decisions(values: Sequence[Decision]) -> Columns:
    """Return these decisions as columns of the table ``decisions``."""
    same = _fields(
        values,
        *("experience_id", "series", "time", "index", "due_index", "direction", "reason"),
        *("probability", "confidence", "low", "high", "state_version", "library", "kernel"),
    )
    digests = [decision.specification.digest for decision in values]
    return same | {"specification": digests, "body": [_encode(decision) for decision in values]}


def verdicts(values: Sequence[Verdict]) -> Columns:
    """Return these verdicts as columns of the table ``verdicts``."""
    same = _fields(
        values,
        *("experience_id", "series", "time", "due_time", "change", "outcome", "hit", "covered"),
        *("brier", "winkler"),
    )
    return same | {"body": [_encode(verdict) for verdict in values]}


def identities(brought: Mapping[str, Usage]) -> Columns:
    """Return how many new series and streams each identity created, as one row per identity."""
    return {"identity": list(brought), **_fields(brought.values(), "series", "streams")}


def states(effects: Effects) -> Columns:
    """Return the changed learning states as columns of the table ``states``.

    The additional column ``before`` is the version that each state had before this transaction.
    """
    learned = Counter(event.stream for event in effects.events)
    values = [state for _, state in effects.states]
    return {
        **_fields(values, "stream", "version", "body"),
        "specification": [json(specification) for specification, _ in effects.states],
        "before": [state.version - learned[state.stream] for state in values],
        "identity": [effects.stream_makers.get(state.stream, "") for state in values],
    }


def snapshots(values: Sequence[StoredState]) -> Columns:
    """Return these snapshots as columns of the table ``snapshots``."""
    return _fields(values, "stream", "version", "body")


def marks(values: Sequence[Mark]) -> Columns:
    """Return these marks (the progress of writers) as columns of the table ``writers``."""
    return _fields(values, "identity", "incarnation", "sequence", "gaps", "repeats")


def events(values: Sequence[Event]) -> Columns:
    """Return these events as columns of the table ``events``."""
    kinds = [event.kind.value for event in values]
    return _fields(values, "stream", "version", "experience_id") | {"kind": kinds}


def feed(changes: Sequence[Change], after: int) -> Columns:
    """Return these changes as columns of the table ``feed``, at the positions after ``after``.

    The change `Learned` announces a new learning state.  It is stored without that state, which
    is in the table ``states``.
    """
    light = [
        msgspec.structs.replace(change, state=b"") if isinstance(change, Learned) else change
        for change in changes
    ]
    return {
        "position": list(range(after + 1, after + 1 + len(light))),
        "body": [_encode(change) for change in light],
    }
