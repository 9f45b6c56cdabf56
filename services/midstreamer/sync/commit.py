"""Carries out one batch: reads what the core asks for, judges, learns, writes, commits.

Learning states of the streams last seen are kept in memory; inside the transaction, under the
stream's lock, PostgreSQL says whether a kept version is still the newest.  After any failure all
are dropped: whether a commit that was not answered happened is something only PostgreSQL knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Change, Points, Written
from midstreamer.store.ports import Effects, Span, Store, Transaction
from midstreamer.sync import core, settle
from midstreamer.sync.core import Facts, Given, Plan, Taken
from midstreamer.sync.settle import Folded, Judged, Rules


@dataclass(frozen=True)
class Committed:
    """What a batch became; everything in it is durable."""

    outcomes: tuple[Written | MidstreamerError, ...]
    """One for each Write, in order."""
    before: int
    """Feed position before it."""
    changes: tuple[Change, ...]
    verdicts: tuple[Verdict, ...]
    rows: int


class Committer:
    """Commits batches one at a time, in one transaction each."""

    def __init__(
        self, store: Store, rules: Rules, *, verdicts_max: int, streams_memory: int
    ) -> None:
        self._store = store
        self._rules = rules
        self._verdicts_max = verdicts_max
        self._streams_memory = streams_memory
        self._states: OrderedDict[str, State] = OrderedDict()

    async def commit(self, batch: Sequence[Given]) -> Committed:
        """Store a batch. StoreError: none of it is known to be stored."""
        try:
            async with self._store.transaction() as transaction:
                before = transaction.position
                facts = await self._read(transaction, batch)
                plan = core.plan(batch, facts)
                judged = settle.judged(self._rules, plan.due, plan.decisions)
                folded = await self._learn(transaction, judged)
                settle.check_sizes(self._rules, folded, judged.lessons)
                effects = _effects(plan, judged, folded)
                position = await transaction.apply(effects)
        except BaseException:
            self._states.clear()
            raise
        self._keep(folded)
        verdicts = (*facts.settled, *judged.verdicts)
        return Committed(
            tuple(
                _answer(outcome, verdicts, position, self._verdicts_max)
                for outcome in plan.outcomes
            ),
            before,
            tuple(effects.changes),
            judged.verdicts,
            effects.rows,
        )

    async def _read(self, transaction: Transaction, batch: Sequence[Given]) -> Facts:
        asked = core.asked(batch)
        summaries = await transaction.summaries(asked.series)
        decisions = await transaction.decisions(asked.experience_ids)
        needed = core.needed(batch, summaries, decisions)
        return Facts(
            summaries,
            decisions,
            await transaction.marks(asked.writers),
            await transaction.ticks(needed.ticks),
            await transaction.points_at(needed.points),
            await transaction.windows(needed.windows),
            await transaction.due(needed.runs),
            await transaction.settled(needed.spans, self._verdicts_max),
        )

    async def _learn(self, transaction: Transaction, judged: Judged) -> Folded:
        streams = {lesson.specification.stream for lesson in judged.lessons}
        known = {s: self._states[s].version if s in self._states else 0 for s in streams}
        newer = await transaction.states(known)
        states = {stream: self._states[stream] for stream in streams if stream in self._states}
        states |= {stream: self._rules.decode(state.body) for stream, state in newer.items()}
        return settle.fold(self._rules, states, judged.lessons)

    def _keep(self, folded: Folded) -> None:
        for stream, state in folded.states.items():
            self._states[stream] = state
            self._states.move_to_end(stream)
        while len(self._states) > self._streams_memory:
            self._states.popitem(last=False)


def _effects(plan: Plan, judged: Judged, folded: Folded) -> Effects:
    points = tuple(Points(start, column) for start, column in plan.points)
    return Effects(
        points=plan.points,
        decisions=plan.decisions,
        verdicts=judged.verdicts,
        events=folded.events,
        states=folded.stored,
        snapshots=folded.snapshots,
        marks=plan.marks,
        changes=(*points, *folded.changes),
    )


def _answer(
    outcome: Taken | MidstreamerError, verdicts: Iterable[Verdict], position: int, most: int
) -> Written | MidstreamerError:
    """What its writer is told; of the verdicts the latest, since one Write may bring any number."""
    if isinstance(outcome, MidstreamerError):
        return outcome
    concerned = [one for one in verdicts if _concerns(one, outcome)]
    if len(concerned) > most:
        concerned = sorted(concerned, key=lambda one: one.due_time)[-most:]
    return Written(
        position=position,
        stored=outcome.stored,
        repeated=outcome.repeated,
        column_repeats=outcome.column_repeats,
        decisions=outcome.decisions,
        verdicts=tuple(concerned),
    )


def _concerns(verdict: Verdict, taken: Taken) -> bool:
    return verdict.experience_id in taken.brought or any(
        _within(verdict, span) for span in taken.spans
    )


def _within(verdict: Verdict, span: Span) -> bool:
    return span.series == verdict.series and span.first <= verdict.due_time <= span.last
