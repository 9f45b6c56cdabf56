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
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import codec
from midstreamer.protocol.frames import Change, Learned, Member, SeriesSummary
from midstreamer.store.ports import Effects, Event, Unreadable, Usage

Columns = list[list[Any]]
"""Arguments of a query, one list for each column."""

_encode = msgspec.msgpack.Encoder().encode
_decision = msgspec.msgpack.Decoder(Decision)
_verdict = msgspec.msgpack.Decoder(Verdict)


def _turned(rows: Iterable[tuple[Any, ...]]) -> Columns:
    return [list(column) for column in zip(*rows, strict=True)]


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
    """Decode the body of a change of the feed; a Learned has no state there.

    A change of a kind that this version does not know becomes `Skipped`; a newer sync wrote it.
    """
    return codec.decode_change(body)


def specification(text: str) -> Specification:
    """Decode the specification in a jsonb column."""
    return msgspec.json.decode(text, type=Specification)


def summary(row: Mapping[str, Any]) -> SeriesSummary:
    """Return the summary of the series of a row."""
    return SeriesSummary(
        row["name"], row["count"], row["first_time"], row["last_time"], row["last_value"]
    )


def member(row: Mapping[str, Any]) -> Member:
    """Return the member of a row of the table members."""
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


def specifications(decisions: Sequence[Decision]) -> Columns:
    """Return the columns digest, stream and JSON of each distinct specification."""
    distinct = {decision.specification for decision in decisions}
    return _turned(sorted((spec.digest, spec.stream, json(spec)) for spec in distinct))


def decisions(made: Sequence[Decision]) -> Columns:
    """Return the columns of these decisions, in the order of the table decisions."""
    return _turned(
        (
            *(d.experience_id, d.specification.digest, d.series, d.time, d.index),
            *(d.due_index, d.direction, d.reason, d.probability, d.confidence),
            *(d.low, d.high, d.state_version, d.library, d.kernel, _encode(d)),
        )
        for d in made
    )


def verdicts(made: Sequence[Verdict]) -> Columns:
    """Return the columns of these verdicts, in the order of the table verdicts."""
    return _turned(
        (
            *(v.experience_id, v.series, v.time, v.due_time, v.change, v.outcome),
            *(v.hit, v.covered, v.brier, v.winkler, _encode(v)),
        )
        for v in made
    )


def identities(brought: Mapping[str, Usage]) -> Columns:
    """Return the columns identity, new series and new streams, for the table identities."""
    return _turned((who, *usage) for who, usage in brought.items())


def states(effects: Effects) -> Columns:
    """Return the columns of the changed states.

    The columns are stream, specification, version before, version, body and identity.
    """
    learned = Counter(event.stream for event in effects.events)
    return _turned(
        (
            *(state.stream, json(spec)),
            *(state.version - learned[state.stream], state.version, state.body),
            effects.stream_makers.get(state.stream, ""),
        )
        for spec, state in effects.states
    )


def events(made: Sequence[Event]) -> Columns:
    """Return the columns of these events, in the order of the table events."""
    return _turned(
        (event.stream, event.version, event.kind.value, event.experience_id) for event in made
    )


def feed(changes: Sequence[Change], after: int) -> Columns:
    """Return the columns position and body of changes that follow position ``after``.

    A Learned is stored without its state, which is in the table states.
    """
    light = (
        msgspec.structs.replace(change, state=b"") if isinstance(change, Learned) else change
        for change in changes
    )
    return _turned((after + 1 + at, _encode(change)) for at, change in enumerate(light))
