"""Values to the columns of a query and back; no connection, no SQL.

The body of a decision, a verdict or a change is msgpack, decoded by type.  The columns beside it
repeat what people and queries want to read; nothing is ever read back from them.
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

_encode = msgspec.msgpack.Encoder().encode
_decision = msgspec.msgpack.Decoder(Decision)
_verdict = msgspec.msgpack.Decoder(Verdict)


def _turned(rows: Iterable[tuple[Any, ...]]) -> Columns:
    return [list(column) for column in zip(*rows, strict=True)]


def json(value: Any) -> str:
    """Text for a jsonb column."""
    return msgspec.json.encode(value).decode()


def decision(body: bytes) -> Decision:
    """A decision as it was stored."""
    return _decision.decode(body)


def readable(row: Mapping[str, Any]) -> Decision | Unreadable:
    """A stored decision, if it can be read: a newer version may say what this one cannot."""
    try:
        return decision(row["body"])
    except (msgspec.MsgspecError, MidstreamerError) as error:
        return Unreadable(row["experience_id"], str(error))


def read(row: Mapping[str, Any]) -> Decision:
    """A stored decision; BadInput names one that this version cannot read."""
    one = readable(row)
    if isinstance(one, Unreadable):
        raise BadInput(
            f"decision {one.experience_id.hex()} is stored and cannot be read by this version"
            f" ({one.detail}): upgrade sync"
        )
    return one


def verdict(body: bytes) -> Verdict:
    """A verdict as it was stored."""
    return _verdict.decode(body)


def change(body: bytes) -> Change:
    """A change of the feed; a Learned comes without its state.

    One of a kind that this version does not know is `Skipped`: a newer sync wrote it.
    """
    return codec.decode_change(body)


def specification(text: str) -> Specification:
    """A specification of a jsonb column."""
    return msgspec.json.decode(text, type=Specification)


def summary(row: Mapping[str, Any]) -> SeriesSummary:
    """One line of the catalogue."""
    return SeriesSummary(
        row["name"], row["count"], row["first_time"], row["last_time"], row["last_value"]
    )


def member(row: Mapping[str, Any]) -> Member:
    """A member of a row."""
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
    """Of each specification that occurs: digest, stream, JSON."""
    distinct = {one.specification for one in decisions}
    return _turned(sorted((one.digest, one.stream, json(one)) for one in distinct))


def decisions(made: Sequence[Decision]) -> Columns:
    """Columns of the table decisions, in its order."""
    return _turned(
        (
            *(one.experience_id, one.specification.digest, one.series, one.time, one.index),
            *(one.due_index, one.direction, one.reason, one.probability, one.confidence),
            *(one.low, one.high, one.state_version, one.library, one.kernel, _encode(one)),
        )
        for one in made
    )


def verdicts(made: Sequence[Verdict]) -> Columns:
    """Columns of the table verdicts, in its order."""
    return _turned(
        (
            *(one.experience_id, one.series, one.time, one.due_time, one.change, one.outcome),
            *(one.hit, one.covered, one.brier, one.winkler, _encode(one)),
        )
        for one in made
    )


def identities(brought: Mapping[str, Usage]) -> Columns:
    """Columns of the table identities, in its order."""
    return _turned((who, *usage) for who, usage in brought.items())


def states(effects: Effects) -> Columns:
    """stream, specification, version before, version, body, identity."""
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
    """Columns of the table events, in its order."""
    return _turned((one.stream, one.version, one.kind.value, one.experience_id) for one in made)


def feed(changes: Sequence[Change], after: int) -> Columns:
    """position, body."""
    light = (
        msgspec.structs.replace(one, state=b"") if isinstance(one, Learned) else one
        for one in changes
    )
    return _turned((after + 1 + at, _encode(one)) for at, one in enumerate(light))
