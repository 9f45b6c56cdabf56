"""How many series and streams may exist: in all, and of each identity that made them.

Nothing that is stored is ever removed, and all of it is told to every process that starts: a
series is a row of the catalogue and a shard, a stream is a learning state of up to 1 MiB.  So one
client could stop the fleet for good.  A request that goes beyond a quota is refused whole, by the
name of the client that made it, which the coordinator took from that client's certificate.

`asked` says what must be read, `Ledger` decides; both are pure.  The counts were read in the
transaction that adds to them, and writers are serial, so several syncs never exceed a quota
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from midstreamer.domain.errors import QuotaExceeded
from midstreamer.store.ports import NOTHING, Usage
from midstreamer.sync.parts import Given, parts_of

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


def asked(
    batch: Iterable[Given], stored_series: Container[str], stored_decisions: Container[bytes]
) -> Asked:
    """What these Writes may add; the first who asks for a thing counts as its maker."""
    series: dict[str, str] = {}
    streams: dict[str, str] = {}
    for part in parts_of(batch):
        for column in part.write.columns:
            if column.series not in stored_series and len(column):
                series.setdefault(column.series, part.caller)
        for decision in part.write.decisions:
            if decision.settles and decision.experience_id not in stored_decisions:
                streams.setdefault(decision.specification.stream, part.caller)
    return Asked(series, streams)


class Ledger:
    """What exists as the next part sees it: what was counted, and what those before it add."""

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

    def take(self, part: Given) -> None:
        """Count what a part adds; QuotaExceeded when that is too much, and then count nothing."""
        wanted = asked([part], *self._stored)
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
