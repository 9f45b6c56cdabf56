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

    series: set[str]
    """New series."""
    streams: set[str]
    """Streams of new decisions; they may exist."""
    identities: set[str]
    """Everybody who asks for one of them: whose request is taken is not known yet."""


def asked(
    batch: Iterable[Given], stored_series: Container[str], stored_decisions: Container[bytes]
) -> Asked:
    """What these Writes may add."""
    found = Asked(set(), set(), set())
    for part in parts_of(batch):
        series, streams = _new(part, stored_series, stored_decisions)
        found.series.update(series)
        found.streams.update(streams)
        if series or streams:
            found.identities.add(part.caller)
    return found


def _new(
    part: Given, stored_series: Container[str], stored_decisions: Container[bytes]
) -> tuple[set[str], set[str]]:
    """New series of a part, and the streams of its new decisions."""
    series = {
        column.series
        for column in part.write.columns
        if column.series not in stored_series and len(column)
    }
    streams = {
        decision.specification.stream
        for decision in part.write.decisions
        if decision.settles and decision.experience_id not in stored_decisions
    }
    return series, streams


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
        self._made: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        self.series: dict[str, str] = {}
        """New series, and who made each: whose request came first."""
        self.streams: dict[str, str] = {}
        """New streams, likewise."""

    def take(self, part: Given) -> None:
        """Count what a part adds; QuotaExceeded when that is too much, and then count nothing."""
        series, streams = _new(part, *self._stored)
        if not (series or streams):
            return
        # One by one: `set - dict.keys()` would walk through all that parts before have added.
        series = {one for one in series if one not in self.series}
        streams = {
            one for one in streams if one not in self.streams and one not in self._counted.streams
        }
        self._check(_SERIES, part.caller, len(series), len(self.series))
        self._check(_STREAMS, part.caller, len(streams), len(self.streams))
        self.series |= dict.fromkeys(series, part.caller)
        self.streams |= dict.fromkeys(streams, part.caller)
        self._made[_SERIES][part.caller] += len(series)
        self._made[_STREAMS][part.caller] += len(streams)

    def _check(self, place: int, identity: str, new: int, before: int) -> None:
        """Raise when so many are too many, beside those counted and those of parts before."""
        if not new:
            return
        held = self._counted.of.get(identity, NOTHING)[place] + self._made[place][identity]
        most = self._quotas.each[place]
        if held + new > most:
            raise _exceeded(place, identity, new, f"it made {held:,}", most, "per_identity_")
        held, most = self._counted.whole[place] + before, self._quotas.whole[place]
        if held + new > most:
            raise _exceeded(place, identity, new, f"{held:,} are stored", most, "")


def _exceeded(
    place: int, identity: str, new: int, held: str, most: int, of_whom: str
) -> QuotaExceeded:
    name = Usage._fields[place]
    return QuotaExceeded(
        f"{identity}: {new:,} new {name} were asked for and {held}, at most"
        f" sync.{name}_{of_whom}max = {most:,}: {_WAY_OUT[place]}, or raise the setting"
    )
