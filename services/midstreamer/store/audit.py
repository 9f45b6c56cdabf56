"""`midstreamer db check`: reads the whole store and recomputes every value that can be recomputed.

This module reads the tables and calls `store.row_checks` and `store.decision_audit`, which compare.
It reads pages of a cursor in a single read-only transaction, so a fleet can write meanwhile.
Memory is limited to one page, the cached blocks of ticks (`store.tick_cache`), one state per
stream, and the findings that are kept.

For each stream, the check learns the stored events again, one after the other, from the first one.
Whenever it reaches a state from which decisions were made, it makes these decisions again and
compares them.  With ``since``, it makes only the decisions from that time on again.  Then it need
not start at the first event: it starts at the newest snapshot from which it can still compute the
oldest state that these decisions used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from midstreamer.domain.decision import Decision
from midstreamer.domain.series import universe_of
from midstreamer.domain.specification import Specification
from midstreamer.domain.state import State
from midstreamer.domain.verdict import Verdict
from midstreamer.protocol.frames import Points
from midstreamer.store import decision_audit, migrate, row_checks, row_conversion
from midstreamer.store.decision_audit import Rules
from midstreamer.store.row_checks import Finding, Row, finding
from midstreamer.store.store_interface import SNAPSHOT_VERSIONS
from midstreamer.store.tick_cache import Blocks

EVER = -(2**63)
"""Value of ``since`` that checks everything: the smallest possible time."""
PAGE_ROWS = 64
"""Rows read at once from tables whose rows may be large."""
FINDINGS_KEPT = 1000
"""Maximum findings that a report keeps in full; further findings are only counted."""
_READ: dict[str, Callable[[bytes], Decision | Verdict]] = {
    "D": row_conversion.decision,
    "V": row_conversion.verdict,
}


class Reader(Protocol):
    """A database connection inside a transaction that reads one consistent snapshot."""

    checks: Iterable[str]
    """Names of the queries that look for broken invariants. Each row that such a query returns is a
    sentence about one broken invariant."""

    async def fetch(self, name: str, *arguments: Any) -> list[Any]:
        """Return all rows of a named query."""

    def pages(self, name: str, *arguments: Any, size: int) -> AsyncIterator[list[Any]]:
        """Yield the rows of a named query in pages of ``size`` rows."""


@dataclass
class Report:
    """Result of a check: how many rows were checked, and what is wrong."""

    checked: Counter[str] = field(default_factory=Counter)
    """Number of checked rows, by table."""
    total: int = 0
    """Number of findings, including those that are not in `kept`."""
    kept: list[Finding | str] = field(default_factory=list)
    """The first `FINDINGS_KEPT` findings. A `Finding` is about one row; a string describes a broken
    invariant of several rows."""
    foreign: int = 0
    """Number of decisions that another version of `reasoning` made. They cannot be recomputed, so
    only their columns, ids and ticks were compared."""
    unlearned: int = 0
    """Number of verdicts that their stream cannot learn: learning them raises an error. Such a
    verdict is not a finding: sync stores it without an event, and the stream learns the later
    events without it."""

    def add(self, found: Iterable[Finding | str]) -> None:
        """Count findings, and keep them while there are fewer than `FINDINGS_KEPT`."""
        for problem in found:
            self.total += 1
            if len(self.kept) < FINDINGS_KEPT:
                self.kept.append(problem)


@dataclass(frozen=True)
class Progress:
    """Progress of the check of one table."""

    table: str
    done: int
    """Rows checked so far."""
    whole: int
    """Number of rows in the table."""


class Audit:
    """One check of one store; call `run` once."""

    def __init__(
        self,
        reader: Reader,
        rules: Rules,
        *,
        since: int = EVER,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.report = Report()
        self._reader = reader
        self._rules = rules
        self._since = since
        self._tell = progress
        self._ticks = Blocks(reader)
        self._wholes: dict[str, int] = {}
        self._windows: Counter[str] = Counter()
        """Number of points of each universe. A climatology cannot count more windows than that,
        because each window ends at a point of its own."""
        self._specifications: dict[str, Specification] = {}
        """Specification of each stream."""

    async def run(self) -> Report:
        """Check the whole store and return the complete report."""
        (totals,) = await self._reader.fetch("audit_totals", self._since)
        self._wholes = dict(totals)
        await self._promises()
        await self._series()
        versions = await self._streams()
        await self._feed(versions)
        for stream, specification in sorted(self._specifications.items()):
            await self._stream(stream, specification, versions.get(stream, 0))
        await self._verdicts()
        return self.report

    # --- simple checks ----------------------------------------------------------------------------

    async def _promises(self) -> None:
        for name in self._reader.checks:
            self.report.add(row[0] for row in await self._reader.fetch(name))
        known = {migration.number: migration for migration in migrate.shipped()}
        applied = await self._reader.fetch("audit_migrations")
        for row in applied:
            self.report.add(row_checks.of_migration(row, known))
        self.report.add(row_checks.of_missing_migrations(row["number"] for row in applied))

    async def _series(self) -> None:
        async for page in self._reader.pages("audit_series", size=1024):
            for row in page:
                self.report.add(row_checks.of_series(row))
                self._windows[universe_of(row["name"])] += row["count_there"] or 0
            self._checked("series", len(page))
        async for page in self._reader.pages("audit_points", size=1024):
            for row in page:
                self.report.add(row_checks.of_points(row))

    async def _streams(self) -> dict[str, int]:
        """Check specifications and states; return the version of the state of each stream.

        Also find snapshots, events and decisions that belong to no stream.
        """
        for row in await self._reader.fetch("audit_specifications"):
            specification, found = row_checks.of_specification(row)
            self.report.add(found)
            if specification is not None and specification.digest == row["digest"]:
                self._specifications[specification.stream] = specification
            self._checked("specifications", 1)
        versions = {}
        async for page in self._reader.pages("audit_states", size=1):
            for row in page:
                self.report.add(row_checks.of_stream(row, self._specifications))
                versions[row["stream"]] = row["version"]
        await self._strays()
        return versions

    async def _strays(self) -> None:
        kept = f"a multiple of {SNAPSHOT_VERSIONS} that its stream has reached"
        async for page in self._reader.pages("audit_snapshots", SNAPSHOT_VERSIONS, size=1024):
            for row in page:
                key = f"{row['stream']}/{row['version']}"
                self.report.add([finding("snapshots", key, "version", row["version"], kept)])
        async for page in self._reader.pages("audit_stray_events", size=1024):
            for row in page:
                key = f"{row['stream']}/{row['version']}"
                self.report.add([finding("events", key, "stream", row["stream"], "a state's")])
        async for page in self._reader.pages("audit_stray_decisions", size=1024):
            for row in page:
                key, digest = row["experience_id"], row["specification"]
                self.report.add(
                    [finding("decisions", key, "specification", digest, "a stored one")]
                )

    async def _feed(self, versions: dict[str, int]) -> None:
        async for page in self._reader.pages("audit_feed", size=PAGE_ROWS):
            for row in page:
                change, found = row_checks.change_of(row)
                self.report.add(found)
                if change is None:
                    continue
                ticks = None
                if isinstance(change, Points):
                    run = change.column.series, change.start, change.start + len(change.column)
                    ticks = (await self._ticks.runs([run]))[run]
                self.report.add(row_checks.of_change(row["position"], change, ticks, versions))
            self._checked("feed", len(page))

    async def _verdicts(self) -> None:
        async for page in self._reader.pages("audit_verdicts", self._since, size=PAGE_ROWS):
            for row in page:
                await self._verdict(row)
            self._checked("verdicts", len(page))

    async def _verdict(self, row: Row) -> None:
        verdict, found = decision_audit.verdict_of(row)
        self.report.add(found)
        try:
            decision = row_conversion.decision(row["decision"])
        except Exception:
            return  # no finding here: the check of decisions has reported this decision
        if verdict is not None:
            ticks = await self._ticks.runs([decision_audit.due_of(decision)])
            self.report.add(decision_audit.judged_again(self._rules, verdict, decision, ticks))

    # --- streams ----------------------------------------------------------------------------------

    async def _stream(self, stream: str, specification: Specification, newest: int) -> None:
        """Learn the events of a stream again, and make its decisions again on the way."""
        digest = specification.digest
        (least,) = await self._reader.fetch("audit_least_version", digest, self._since)
        begin = newest if least["version"] is None else min(least["version"], newest)
        folding = _Folding(self._reader, self._rules, stream, specification, self.report)
        await folding.begin(begin if self._since > EVER else 0)
        async for page in self._reader.pages(
            "audit_decisions", digest, self._since, size=PAGE_ROWS
        ):
            for row in page:
                await self._decision(row, folding)
            self._checked("decisions", len(page))
            self._checked("events", folding.taken())
        await folding.reach(newest)
        await folding.compare_newest()
        async for page in self._reader.pages("audit_unlearned", digest, size=PAGE_ROWS):
            for row in page:
                folding.unlearned(row)
        self._checked("events", folding.taken())

    async def _decision(self, row: Row, folding: _Folding) -> None:
        decision, found = decision_audit.decision_of(row)
        self.report.add(found)
        if decision is None:
            return
        ticks = await self._ticks.runs(decision_audit.runs_of(decision))
        self.report.add(decision_audit.of_ticks(decision, ticks, self._rules.distances))
        if decision.library != self._rules.library:
            self.report.foreign += 1
            return
        state = await folding.at(decision)
        if state is not None:
            most = self._windows[decision.specification.universe]
            self.report.add(decision_audit.decided_again(self._rules, decision, state, most))

    def _checked(self, table: str, count: int) -> None:
        self.report.checked[table] += count
        done = self.report.checked[table]
        self._tell(Progress(table, done, max(done, self._wholes.get(table, 0))))


class _Folding:
    """Computes the state of one stream, version after version, from its stored events.

    At the first wrong event the computation ends, because every later state would be wrong too.
    """

    def __init__(
        self,
        reader: Reader,
        rules: Rules,
        stream: str,
        specification: Specification,
        report: Report,
    ) -> None:
        self._reader = reader
        self._rules = rules
        self._stream = stream
        self._report = report
        self._state: State = rules.initial(specification)
        self._events: AsyncIterator[Row] = self._rows(0)
        self._broken = False
        self._taken = 0

    async def begin(self, version: int) -> None:
        """Start from the newest snapshot that is not newer than ``version``.

        If there is no such snapshot, start from the first event.
        """
        for row in await self._reader.fetch("snapshot_before", self._stream, version):
            try:
                self._state = self._rules.decode(row["body"])
            except Exception as error:
                key = f"{self._stream}/{row['version']}"
                self._report.add([row_checks.undecodable("snapshots", key, row["body"], error)])
                return
            self._events = self._rows(row["version"])

    async def _rows(self, after: int) -> AsyncIterator[Row]:
        async for page in self._reader.pages("audit_events", self._stream, after, size=PAGE_ROWS):
            for row in page:
                yield row

    def taken(self) -> int:
        """Return the number of events learned since the last call."""
        taken, self._taken = self._taken, 0
        return taken

    async def at(self, decision: Decision) -> State | None:
        """Return the state from which a decision was made.

        If the stream has no such state, report a finding and return None.
        """
        version, key = decision.state_version, decision.experience_id
        if decision.specification.stream != self._stream:
            # No finding here: the check of decisions has already reported that the stream is wrong.
            return None
        await self.reach(version)
        if self._broken:
            return None
        if self._state.version != version:
            derived = f"0 to {self._state.version}, and not below that of the row before"
            self._report.add([finding("decisions", key, "body.state_version", version, derived)])
            return None
        return self._state

    async def reach(self, version: int) -> None:
        """Learn the events up to a version of the state."""
        while not self._broken and self._state.version < version:
            row = await anext(self._events, None)
            if row is None:
                return
            await self._learn(row)

    async def _learn(self, row: Row) -> None:
        key = f"{self._stream}/{row['version']}"
        try:
            after = self._rules.learn(self._state, _READ[row["kind"]](row["body"]))
        except Exception as error:
            self._broken = True
            wrong = finding(
                "events", key, "experience_id", row["experience_id"], f"can be learned: {error}"
            )
            self._report.add([wrong])
            return
        if after.version != row["version"]:
            self._broken = True
            self._report.add([finding("events", key, "version", row["version"], after.version)])
        self._state = after
        self._taken += 1
        if after.version % SNAPSHOT_VERSIONS == 0:
            found = await self._reader.fetch("audit_snapshot", self._stream, after.version)
            self._compare("snapshots", key, found)

    def unlearned(self, row: Row) -> None:
        """Check a verdict that has no event.

        Sync stores a verdict without an event only if the stream cannot learn the verdict.  So if
        the stream can learn the verdict here, an event is missing, and a finding is added.  After a
        wrong event, the states of the stream are no longer computed.  Then it cannot be tested
        whether the stream can learn the verdict, and a finding is added too.
        """
        key = row["experience_id"]
        try:
            verdict = row_conversion.verdict(row["body"])
        except Exception:
            return  # no finding here: the check of verdicts reports this verdict
        if not self._broken:
            try:
                self._rules.learn(self._state, verdict)
            except Exception:
                self._report.unlearned += 1
                return
        self._report.add([finding("verdicts", key, "events", None, "an event: it can be learned")])

    async def compare_newest(self) -> None:
        """Compare the stored state with the state that all events led to."""
        found = await self._reader.fetch("states_of", [self._stream])
        if not self._broken and (found or self._state.version):
            self._compare("states", self._stream, found)

    def _compare(self, table: str, key: str, found: list[Any]) -> None:
        derived = self._rules.encode(self._state)
        if not found:
            self._report.add([finding(table, key, "version", None, self._state.version)])
        for row in found:
            self._report.add(row_checks.of_version(table, key, row["body"], derived))
