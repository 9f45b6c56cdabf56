"""The items that callers want stored, and the receipts that they get for them.

The outbox packs items of many callers into one Write.
"""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.domain.decision import Decision
from midstreamer.domain.series import Column
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import encoded_sizes, frames

CALLER_BYTES = 32
"""Bytes counted for each item in addition to its content and its caller's name, so that an empty
item counts too."""


@dataclass(frozen=True)
class Item:
    """Ticks (in columns) and decisions that one caller wants stored, either all or none."""

    columns: tuple[Column, ...] = ()
    decisions: tuple[Decision, ...] = ()
    deadline_s: float | None = None
    """Loop time at which the caller stops waiting.  None: no caller waits, and the item is retried
    until it is stored or refused."""
    identity: str = ""
    """``<kind>/<id>`` of the caller, whose quotas and places in queues the item uses.  Empty for an
    item in the spool that was written by an older version, which did not keep the caller."""
    trace: str = ""
    """The span of the caller's request as a ``traceparent``; empty if the trace is not kept."""

    @property
    def ticks(self) -> int:
        """Number of ticks in all columns."""
        return sum(len(column) for column in self.columns)

    @property
    def size(self) -> int:
        """Approximate number of bytes that the item takes in a frame."""
        columns = sum(map(encoded_sizes.column_bytes, self.columns))
        caller = CALLER_BYTES + len(self.identity) + len(self.trace)
        return caller + columns + sum(map(encoded_sizes.decision_bytes, self.decisions))


@dataclass(frozen=True)
class Receipt:
    """The result of storing one item."""

    position: int
    """Position of the commit in the change feed; 0 when the item is not committed yet."""
    stored: int = 0
    """Number of ticks and decisions that are newly stored."""
    repeated: int = 0
    """Number of ticks and decisions that had been stored before."""
    decisions: tuple[Decision, ...] = ()
    """The decisions of the item, in their order.  If the store already had a decision with the same
    experience id, that stored decision takes the place of the item's decision."""
    verdicts: tuple[Verdict, ...] = ()
    """The verdicts that became known through the ticks of the item."""


def receipts_of(items: list[Item], written: frames.Written) -> list[Receipt]:
    """Return one Receipt for each item of a Write, in the order of the items."""
    before = {decision.experience_id: decision for decision in written.decisions}
    repeats = iter(_column_repeats(items, written))
    receipts = []
    for item in items:
        decisions = tuple(before.get(d.experience_id, d) for d in item.decisions)
        known = sum(decision.experience_id in before for decision in item.decisions)
        repeated = known + sum(next(repeats) for _ in item.columns)
        receipts.append(
            Receipt(
                written.position,
                item.ticks + len(item.decisions) - repeated,
                repeated,
                decisions,
                _verdicts_of(item, written.verdicts),
            )
        )
    return receipts


def _column_repeats(items: list[Item], written: frames.Written) -> list[int]:
    """Return for each column of a Write how many of its ticks had been stored before."""
    columns = [column for item in items for column in item.columns]
    if len(written.column_repeats) == len(columns):
        return list(written.column_repeats)
    left = written.repeated - len(written.decisions)
    shares = []
    for column in columns:
        shares.append(min(left, len(column)))
        left -= shares[-1]
    return shares


def _verdicts_of(item: Item, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    if not verdicts or not item.columns:
        return ()
    spans = {
        column.series: (int(column.times_array()[0]), int(column.times_array()[-1]))
        for column in item.columns
        if len(column)
    }
    return tuple(
        verdict
        for verdict in verdicts
        if verdict.series in spans
        and spans[verdict.series][0] <= verdict.due_time <= spans[verdict.series][1]
    )
