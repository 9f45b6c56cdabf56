"""What a caller wants stored, and what became of it: what the outbox packs and settles."""

from __future__ import annotations

from dataclasses import dataclass

from midstreamer.domain.decision import Decision
from midstreamer.domain.series import Column
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol import frames, sizes

CALLER_BYTES = 32
"""Of who asked, without its name: an item with nothing in it takes room too."""


@dataclass(frozen=True)
class Item:
    """What one caller wants stored: all of it or nothing."""

    columns: tuple[Column, ...] = ()
    decisions: tuple[Decision, ...] = ()
    deadline_s: float | None = None
    """When its caller stops waiting; None: it must be stored."""
    identity: str = ""
    """``<kind>/<id>`` of the caller: its places, new series and streams are counted for it. Empty
    for what is played again from the spool of an older version."""
    trace: str = ""
    """The span that it was asked in, as a ``traceparent``, when its trace is kept."""

    @property
    def ticks(self) -> int:
        """How many ticks."""
        return sum(len(column) for column in self.columns)

    @property
    def size(self) -> int:
        """Bytes on the wire, roughly."""
        columns = sum(map(sizes.column_bytes, self.columns))
        caller = CALLER_BYTES + len(self.identity) + len(self.trace)
        return caller + columns + sum(map(sizes.decision_bytes, self.decisions))


@dataclass(frozen=True)
class Receipt:
    """What became of an item."""

    position: int
    stored: int = 0
    repeated: int = 0
    decisions: tuple[Decision, ...] = ()
    """The item's, in its order; the stored one where it had been stored before."""
    verdicts: tuple[Verdict, ...] = ()
    """Those that its ticks brought."""


def receipts_of(items: list[Item], written: frames.Written) -> list[Receipt]:
    """One Receipt for each item of a Write, in its order."""
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
    """How many ticks of each column had been stored before."""
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
