"""How many series and streams may exist: in all, and of each identity that made them.

Nothing that is stored is ever removed, and all of it is told to every process that starts: a
series is a row of the catalogue and a shard, a stream is a learning state of up to 1 MiB.  So one
client could stop the fleet for good.  A Write that goes beyond a quota is refused whole, by the
name of the client that asked for it, which the coordinator took from that client's certificate.

`asked` says what must be read, `Ledger` decides; both are pure.  The counts were read in the
transaction that adds to them, and writers are serial, so several syncs never exceed a quota
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import NamedTuple, Protocol

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput, QuotaExceeded
from midstreamer.domain.series import Column
from midstreamer.protocol.frames import Write
from midstreamer.store.ports import NOTHING, Usage

SERIES_MAX = 100_000
STREAMS_MAX = 1024

_SERIES, _STREAMS = range(2)
"""Places in a Usage."""
_WAY_OUT = (
    "append to series that exist",
    "match with a specification that is in use, or with record = false",
)


@dataclass(frozen=True)
class Quotas:
    """The most that may exist. None: half of all, so that one identity never takes the whole."""

    series_max: int = SERIES_MAX
    series_per_identity_max: int | None = None
    streams_max: int = STREAMS_MAX
    streams_per_identity_max: int | None = None

    @property
    def whole(self) -> Usage:
        """Of all identities together."""
        return Usage(self.series_max, self.streams_max)

    @property
    def each(self) -> Usage:
        """Of one identity."""
        series, streams = self.series_per_identity_max, self.streams_per_identity_max
        return Usage(
            max(1, self.series_max // 2) if series is None else series,
            max(1, self.streams_max // 2) if streams is None else streams,
        )


DEFAULT = Quotas()


class Sent(Protocol):
    """A Write and who sent it, as `sync.core.Given` is."""

    @property
    def writer(self) -> tuple[str, str]:
        """(identity, incarnation) of the coordinator."""

    @property
    def write(self) -> Write:
        """What it asks for."""


@dataclass(frozen=True)
class Counted:
    """What exists, as far as a batch may add to it."""

    whole: Usage = NOTHING
    of: Mapping[str, Usage] = field(default_factory=dict)
    """Of each identity that asks for something new."""
    streams: Container[str] = frozenset()
    """Those of the streams asked for that exist."""


class Asked(NamedTuple):
    """What a batch may add: to be held against what exists."""

    series: Mapping[str, str]
    """New series, and who asks for them first."""
    streams: Mapping[str, str]
    """Streams of new decisions, likewise; they may exist."""

    @property
    def identities(self) -> list[str]:
        """Who asks for something."""
        return sorted({*self.series.values(), *self.streams.values()})


def check_callers(write: Write) -> None:
    """Raise BadInput unless the callers of a Write share out exactly what is in it."""
    if not write.callers:
        return
    told = [(caller.columns, caller.decisions) for caller in write.callers]
    columns, decisions = (sum(part) for part in zip(*told, strict=True))
    there = len(write.columns), len(write.decisions)
    if min(chain(*told)) < 0 or (columns, decisions) != there:
        raise BadInput(
            f"a Write of {there[0]:,} columns and {there[1]:,} decisions names callers for"
            f" {columns:,} and {decisions:,}: each has exactly one"
        )


def asked(
    batch: Iterable[Sent], stored_series: Container[str], stored_decisions: Container[bytes]
) -> Asked:
    """What these Writes may add; the first who asks for a thing counts as its maker."""
    series: dict[str, str] = {}
    streams: dict[str, str] = {}
    for sent in batch:
        columns, decisions = _by_caller(sent)
        for identity, column in columns:
            if column.series not in stored_series and len(column):
                series.setdefault(column.series, identity)
        for identity, decision in decisions:
            if decision.settles and decision.experience_id not in stored_decisions:
                streams.setdefault(decision.specification.stream, identity)
    return Asked(series, streams)


def _by_caller(
    sent: Sent,
) -> tuple[Iterable[tuple[str, Column]], Iterable[tuple[str, Decision]]]:
    """Each column and decision with the identity that asked for it; else with the writer's."""
    write, writer = sent.write, sent.writer[0]
    if not write.callers:
        return zip(repeat(writer), write.columns), zip(repeat(writer), write.decisions)
    columns = (repeat(one.identity or writer, one.columns) for one in write.callers)
    decisions = (repeat(one.identity or writer, one.decisions) for one in write.callers)
    return (
        zip(chain.from_iterable(columns), write.columns, strict=True),
        zip(chain.from_iterable(decisions), write.decisions, strict=True),
    )


class Ledger:
    """What exists as the next Write sees it: what was counted, and what those before it add."""

    def __init__(
        self,
        quotas: Quotas,
        counted: Counted,
        stored_series: Container[str],
        stored_decisions: Container[bytes],
    ) -> None:
        self._quotas = quotas
        self._counted = counted
        self._stored = stored_series, stored_decisions
        self.series: dict[str, str] = {}
        """New series, and who made each."""
        self.streams: dict[str, str] = {}
        """New streams, likewise."""

    def take(self, sent: Sent) -> None:
        """Count what a Write adds; QuotaExceeded when that is too much, and then count nothing."""
        wanted = asked([sent], *self._stored)
        exist = self._counted.streams
        series = {k: v for k, v in wanted.series.items() if k not in self.series}
        streams = {
            k: v for k, v in wanted.streams.items() if k not in self.streams and k not in exist
        }
        self._check(_SERIES, series, self.series)
        self._check(_STREAMS, streams, self.streams)
        self.series |= series
        self.streams |= streams

    def _check(self, place: int, new: Mapping[str, str], before: Mapping[str, str]) -> None:
        """Raise when these new ones are too many beside those counted and those ``before``."""
        made = Counter(before.values())
        for identity, count in sorted(Counter(new.values()).items()):
            held = self._counted.of.get(identity, NOTHING)[place] + made[identity]
            most = self._quotas.each[place]
            if held + count > most:
                raise _exceeded(place, identity, count, f"it made {held:,}", most, "per_identity_")
        held, most = self._counted.whole[place] + len(before), self._quotas.whole[place]
        if new and held + len(new) > most:
            stored = f"{held:,} are stored"
            raise _exceeded(place, min(new.values()), len(new), stored, most, "")


def _exceeded(
    place: int, identity: str, new: int, held: str, most: int, of_whom: str
) -> QuotaExceeded:
    name = Usage._fields[place]
    return QuotaExceeded(
        f"{identity}: {new:,} new {name} were asked for and {held}, at most"
        f" sync.{name}_{of_whom}max = {most:,}: {_WAY_OUT[place]}, or raise the setting"
    )
