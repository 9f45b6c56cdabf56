"""Commits one batch of Writes in one transaction.

`Committer` reads the facts that `sync.write_planning` asks for, computes the verdicts on decisions
that are due, lets their streams learn, and writes everything at once.

The learning states of recently used streams are cached in memory.  Inside the transaction, under
the stream's lock, PostgreSQL says whether a cached version is still the newest.  Any failure
empties the cache, because after an unanswered commit only PostgreSQL knows whether it happened.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput, MidstreamerError
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Change, PartRefused, Points, Write, Written
from midstreamer.store.store_interface import Effects, Span, Store, Transaction, Unreadable
from midstreamer.sync import forecast_metrics, quota, settling, write_parts, write_planning
from midstreamer.sync.quota import Counted, Quotas
from midstreamer.sync.settling import Folded, Rules, Settlement, Unsettled
from midstreamer.sync.write_parts import Given
from midstreamer.sync.write_planning import BatchPlan, Facts, PartTaken
from midstreamer.telemetry import logs

log = logs.get(__name__)


@dataclass(frozen=True)
class Committed:
    """The result of a committed batch; everything in this result is durable."""

    outcomes: tuple[Written | MidstreamerError, ...]
    """The answer or the refusal of each Write of the batch, in the order of the Writes."""
    before: int
    """Position of the change feed before this commit."""
    changes: tuple[Change, ...]
    """Changes that this commit added to the feed, in order."""
    verdicts: tuple[Verdict, ...]
    """Verdicts that this commit added."""
    rows: int
    """Number of ticks, decisions and verdicts that this commit added."""


class Committer:
    """Commits batches of Writes: one batch at a time, each in one transaction."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        *,
        verdicts_max: int,
        streams_memory: int,
        quotas: Quotas = quota.DEFAULT,
    ) -> None:
        self._store = store
        self._rules = rules
        self._verdicts_max = verdicts_max
        self._streams_memory = streams_memory
        self._quotas = quotas
        self._states: OrderedDict[str, State] = OrderedDict()
        self.licences = forecast_metrics.Licences()
        self._position = 0
        """Position of the change feed after the last commit of this process."""

    async def commit(self, batch: Sequence[Given]) -> Committed:
        """Commit a batch and return its outcomes.

        Raise StoreError when PostgreSQL fails; the batch may or may not be committed then.
        """
        try:
            async with self._store.transaction() as transaction:
                before = transaction.position
                # The position is lower if the database was replaced by an older copy. The copy
                # lacks the newest of the cached states, so all cached states are dropped.
                if before < self._position:
                    self._forget()
                facts = await self._read(transaction, batch)
                plan = write_planning.plan(batch, facts, self._quotas)
                judged = settling.judged(self._rules, plan.due, plan.decisions)
                folded = await self._learn(transaction, judged)
                settling.check_sizes(self._rules, folded, judged.lessons)
                effects = _effects(plan, judged, folded)
                position = await transaction.apply(effects)
            self._position = position
        except BaseException:
            self._forget()
            raise
        self._keep(folded)
        for failed in judged.unsettled:
            log.error("decision.unsettled", **_keys(failed))
        for failed in folded.unlearned:
            log.error("verdict.unlearned", **_keys(failed))
        verdicts = (*facts.settled, *judged.verdicts)
        return Committed(
            tuple(
                _answer(given, outcomes, verdicts, position, self._verdicts_max)
                for given, outcomes in write_parts.by_write(batch, plan.outcomes)
            ),
            before,
            tuple(effects.changes),
            judged.verdicts,
            effects.rows,
        )

    async def _read(self, transaction: Transaction, batch: Sequence[Given]) -> Facts:
        # First read the series and decisions that the batch names. The rows found decide which
        # points and due decisions are read next, and which counts the quota check needs.
        asked = write_planning.asked(batch)
        summaries = await transaction.summaries(asked.series)
        stored = await transaction.decisions(asked.experience_ids)
        decisions = {key: found for key, found in stored.items() if isinstance(found, Decision)}
        needed = write_planning.needed(batch, summaries, decisions)
        return Facts(
            summaries,
            decisions,
            await transaction.marks(asked.writers),
            await transaction.ticks(needed.ticks),
            await transaction.points_at(needed.points),
            await transaction.windows(needed.windows),
            _readable(await transaction.due(needed.runs)),
            await transaction.settled(needed.spans, self._verdicts_max),
            await self._count(transaction, quota.asked(batch, summaries, decisions)),
            {key: found.detail for key, found in stored.items() if isinstance(found, Unreadable)},
        )

    async def _count(self, transaction: Transaction, asked: quota.Asked) -> Counted:
        """Return the counts that the quota check needs.

        Most batches name no new series and no new stream; their quota check reads no counts.
        """
        known = asked.streams & self._states.keys()
        if unknown := asked.streams - known:
            known |= await transaction.known_streams(sorted(unknown))
        if not asked.series and known.issuperset(asked.streams):
            return Counted(streams=known)
        total, by_identity = await transaction.usage(sorted(asked.identities))
        return Counted(total, by_identity, known)

    async def _learn(self, transaction: Transaction, judged: Settlement) -> Folded:
        streams = {lesson.specification.stream for lesson in judged.lessons}
        known = {s: self._states[s].version if s in self._states else 0 for s in streams}
        newer = await transaction.states(known)
        states = {stream: self._states[stream] for stream in streams if stream in self._states}
        unreadable: dict[str, BadInput] = {}
        for stream, state in newer.items():
            states.pop(stream, None)
            try:
                states[stream] = self._rules.decode(state.body)
            except BadInput as error:
                unreadable[stream] = error
        return settling.fold(self._rules, states, judged.lessons, unreadable)

    def _forget(self) -> None:
        self._states.clear()
        self.licences.clear()

    def _keep(self, folded: Folded) -> None:
        for stream, state in folded.states.items():
            self._states[stream] = state
            self._states.move_to_end(stream)
            self.licences.remember(stream, state)
        while len(self._states) > self._streams_memory:
            oldest, _ = self._states.popitem(last=False)
            self.licences.forget(oldest)


def _readable(due: Iterable[Decision | Unreadable]) -> list[Decision]:
    """Return the due decisions that this version can decode, and log the others.

    A newer version of sync may have written the others; such a decision gets no verdict here.
    """
    decisions = []
    for row in due:
        if isinstance(row, Unreadable):
            log.error("decision.unsettled", **_keys(Unsettled("", row.experience_id, row.detail)))
        else:
            decisions.append(row)
    return decisions


def _keys(failed: Unsettled) -> dict[str, str]:
    experience = failed.experience_id.hex()
    return {"stream": failed.stream, "experience": experience, "detail": failed.detail}


def _effects(plan: BatchPlan, judged: Settlement, folded: Folded) -> Effects:
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
        series_makers=plan.series_makers,
        stream_makers=plan.stream_makers,
    )


def _answer(
    given: Given,
    outcomes: Sequence[PartTaken | MidstreamerError],
    verdicts: Iterable[Verdict],
    position: int,
    most: int,
) -> Written | MidstreamerError:
    """Return the answer to a Write, or the error when its only part was refused.

    One Write may settle any number of decisions, so the answer holds at most ``most`` verdicts:
    those with the latest due times.
    """
    if len(outcomes) == 1 and isinstance(outcomes[0], MidstreamerError):
        return outcomes[0]
    taken = [part for part in outcomes if isinstance(part, PartTaken)]
    repeats = tuple(chain.from_iterable(_column_repeats(given.write, outcomes)))
    concerned = [verdict for verdict in verdicts if any(_concerns(verdict, part) for part in taken)]
    if len(concerned) > most:
        concerned = sorted(concerned, key=lambda verdict: verdict.due_time)[-most:]
    return Written(
        position=position,
        stored=sum(part.stored for part in taken),
        repeated=sum(part.repeated for part in taken),
        column_repeats=repeats if any(repeats) else (),
        decisions=tuple(decision for part in taken for decision in part.decisions),
        verdicts=tuple(concerned),
        refused=tuple(
            PartRefused(place, outcome.code, outcome.message)
            for place, outcome in enumerate(outcomes)
            if isinstance(outcome, MidstreamerError)
        ),
    )


def _column_repeats(
    write: Write, outcomes: Sequence[PartTaken | MidstreamerError]
) -> Iterator[Iterable[int]]:
    """Yield, for each part of a Write, one number per column of the part.

    The number says how many ticks of the column were already stored.  It is 0 in a refused part.
    """
    several = len(outcomes) > 1
    for place, outcome in enumerate(outcomes):
        repeats = outcome.column_repeats if isinstance(outcome, PartTaken) else ()
        columns = write.callers[place].columns if several else len(write.columns)
        yield repeats or repeat(0, columns)


def _concerns(verdict: Verdict, taken: PartTaken) -> bool:
    return verdict.experience_id in taken.brought or any(
        _within(verdict, span) for span in taken.spans
    )


def _within(verdict: Verdict, span: Span) -> bool:
    return span.series == verdict.series and span.first <= verdict.due_time <= span.last
