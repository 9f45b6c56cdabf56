"""`midstreamer db check`: reads everything that is stored and derives again what can be derived.

The shell of `store.findings` and `store.proofs`: passes over the tables, each in pages of a cursor,
all in one read-only transaction, so that a fleet may go on writing meanwhile.  Memory is bounded
by a page, the kept blocks of ticks (`store.blocks`), one state for each stream, and the bound on
kept findings.  Each stream is folded from its first event, or with ``since`` from the snapshot
before the first decision asked for, and every decision is made again on its way.
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
from midstreamer.store import findings, migrate, proofs, rows
from midstreamer.store.blocks import Blocks
from midstreamer.store.findings import Finding, Row, finding
from midstreamer.store.ports import SNAPSHOT_VERSIONS
from midstreamer.store.proofs import Rules

EVER = -(2**63)
PAGE_ROWS = 64
FINDINGS_KEPT = 1000
_READ: dict[str, Callable[[bytes], Decision | Verdict]] = {"D": rows.decision, "V": rows.verdict}


class Reader(Protocol):
    """A connection inside a transaction that sees one moment."""

    checks: Iterable[str]
    """Names of the queries that give promises broken, in words."""

    async def fetch(self, name: str, *arguments: Any) -> list[Any]:
        """All rows of a query."""

    def pages(self, name: str, *arguments: Any, size: int) -> AsyncIterator[list[Any]]:
        """The rows of a query, a page at a time."""


@dataclass
class Report:
    """What was checked, and what was found."""

    checked: Counter[str] = field(default_factory=Counter)
    """Rows derived again, by table."""
    total: int = 0
    """Findings, those that were not kept included."""
    kept: list[Finding | str] = field(default_factory=list)
    """The first of them; a string is a broken promise of several rows."""
    foreign: int = 0
    """Decisions of another library version: only their columns, ids and ticks were compared."""
    unlearned: int = 0
    """Verdicts that cannot be learned from: they stand, and their stream went on without them."""

    def add(self, found: Iterable[Finding | str]) -> None:
        """Count findings, and keep the first."""
        for one in found:
            self.total += 1
            if len(self.kept) < FINDINGS_KEPT:
                self.kept.append(one)


@dataclass(frozen=True)
class Progress:
    """How far the check has come."""

    table: str
    done: int
    whole: int


class Audit:
    """One check of one store; `run` it once."""

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
        """Points of each universe: no more windows than these can have been counted."""
        self._specifications: dict[str, Specification] = {}
        """By stream."""

    async def run(self) -> Report:
        """Derive everything again; the report is complete when this returns."""
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

    # --- what needs no deciding -------------------------------------------------------------------

    async def _promises(self) -> None:
        for name in self._reader.checks:
            self.report.add(row[0] for row in await self._reader.fetch(name))
        known = {made.number: made for made in migrate.shipped()}
        applied = await self._reader.fetch("audit_migrations")
        for row in applied:
            self.report.add(findings.of_migration(row, known))
        self.report.add(findings.of_missing_migrations(row["number"] for row in applied))

    async def _series(self) -> None:
        async for page in self._reader.pages("audit_series", size=1024):
            for row in page:
                self.report.add(findings.of_series(row))
                self._windows[universe_of(row["name"])] += row["count_there"] or 0
            self._checked("series", len(page))
        async for page in self._reader.pages("audit_points", size=1024):
            for row in page:
                self.report.add(findings.of_points(row))

    async def _streams(self) -> dict[str, int]:
        """Specifications, states and what belongs to none; returns the version of each stream."""
        for row in await self._reader.fetch("audit_specifications"):
            made, found = findings.of_specification(row)
            self.report.add(found)
            if made is not None and made.digest == row["digest"]:
                self._specifications[made.stream] = made
            self._checked("specifications", 1)
        versions = {}
        async for page in self._reader.pages("audit_states", size=1):
            for row in page:
                self.report.add(findings.of_stream(row, self._specifications))
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
                change, found = findings.change_of(row)
                self.report.add(found)
                if change is None:
                    continue
                ticks = None
                if isinstance(change, Points):
                    run = change.column.series, change.start, change.start + len(change.column)
                    ticks = (await self._ticks.runs([run]))[run]
                self.report.add(findings.of_change(row["position"], change, ticks, versions))
            self._checked("feed", len(page))

    async def _verdicts(self) -> None:
        async for page in self._reader.pages("audit_verdicts", self._since, size=PAGE_ROWS):
            for row in page:
                await self._verdict(row)
            self._checked("verdicts", len(page))

    async def _verdict(self, row: Row) -> None:
        made, found = proofs.verdict_of(row)
        self.report.add(found)
        try:
            decision = rows.decision(row["decision"])
        except Exception:
            return  # the decision cannot be read: the check of decisions names it
        if made is not None:
            ticks = await self._ticks.runs([proofs.due_of(decision)])
            self.report.add(proofs.judged_again(self._rules, made, decision, ticks))

    # --- streams ----------------------------------------------------------------------------------

    async def _stream(self, stream: str, specification: Specification, newest: int) -> None:
        """Fold a stream from its beginning and decide again on the way."""
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
        made, found = proofs.decision_of(row)
        self.report.add(found)
        if made is None:
            return
        ticks = await self._ticks.runs(proofs.runs_of(made))
        self.report.add(proofs.of_ticks(made, ticks, self._rules.distances))
        if made.library != self._rules.library:
            self.report.foreign += 1
            return
        state = await folding.at(made)
        if state is not None:
            most = self._windows[made.specification.universe]
            self.report.add(proofs.decided_again(self._rules, made, state, most))

    def _checked(self, table: str, count: int) -> None:
        self.report.checked[table] += count
        done = self.report.checked[table]
        self._tell(Progress(table, done, max(done, self._wholes.get(table, 0))))


class _Folding:
    """The state of one stream, version after version; stops for good where an event is wrong."""

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
        """Begin at the newest snapshot that is not newer than this version."""
        for row in await self._reader.fetch("snapshot_before", self._stream, version):
            try:
                self._state = self._rules.decode(row["body"])
            except Exception as error:
                key = f"{self._stream}/{row['version']}"
                self._report.add([findings.undecodable("snapshots", key, row["body"], error)])
                return
            self._events = self._rows(row["version"])

    async def _rows(self, after: int) -> AsyncIterator[Row]:
        async for page in self._reader.pages("audit_events", self._stream, after, size=PAGE_ROWS):
            for row in page:
                yield row

    def taken(self) -> int:
        """Events learned since the last call."""
        taken, self._taken = self._taken, 0
        return taken

    async def at(self, decision: Decision) -> State | None:
        """The state that a decision names; None when there is none, which is a finding."""
        version, key = decision.state_version, decision.experience_id
        if decision.specification.stream != self._stream:
            return None  # its column disagrees with its body, which is told already
        await self.reach(version)
        if self._broken:
            return None
        if self._state.version != version:
            derived = f"0 to {self._state.version}, and no less than that of the row before"
            self._report.add([finding("decisions", key, "body.state_version", version, derived)])
            return None
        return self._state

    async def reach(self, version: int) -> None:
        """Learn every event up to a version."""
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
                "events", key, "experience_id", row["experience_id"], f"learnable: {error}"
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
        """A verdict without an event; that is right only if learning it fails."""
        key = row["experience_id"]
        try:
            verdict = rows.verdict(row["body"])
        except Exception:
            return  # the check of verdicts names it
        if not self._broken:
            try:
                self._rules.learn(self._state, verdict)
            except Exception:
                self._report.unlearned += 1
                return
        self._report.add([finding("verdicts", key, "events", None, "an event: it can be learned")])

    async def compare_newest(self) -> None:
        """Compare the stored state with the one that all events gave."""
        found = await self._reader.fetch("states_of", [self._stream])
        if not self._broken and (found or self._state.version):
            self._compare("states", self._stream, found)

    def _compare(self, table: str, key: str, found: list[Any]) -> None:
        derived = self._rules.encode(self._state)
        if not found:
            self._report.add([finding(table, key, "version", None, self._state.version)])
        for row in found:
            self._report.add(findings.of_version(table, key, row["body"], derived))
