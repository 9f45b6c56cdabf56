"""Quotas: how many series and streams may exist, in all and per identity that created them.

Series and streams are never deleted, and every process loads them when it starts: a series is a
row of the catalogue and at least one shard, a stream is a learning state of up to 1 MiB.  Without
quotas a single client could create so many that the fleet stops for good.  A part of a Write that
would exceed a quota is refused whole.  New series and streams count for the client that sent the
part.  The coordinator names this client by the identity in the client's certificate.

`asked` returns what must be read from the store, and `Ledger` decides; both are pure.  The counts
are read in the transaction that adds to them, and only one transaction writes at a time, so several
syncs together never exceed a quota.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from midstreamer.domain.errors import QuotaExceeded
from midstreamer.store.store_interface import NOTHING, Usage
from midstreamer.sync.write_parts import Given, parts_of

SERIES_MAX = 100_000
"""Default limit on the series of all identities together."""
STREAMS_MAX = 1024
"""Default limit on the streams of all identities together: at most 1 GiB of learning states."""

_SERIES, _STREAMS = range(2)
"""Indexes of the two counts in a `Usage`."""
_WAY_OUT = (
    "append to series that exist",
    "match with a specification that is in use, or with record = false",
)


@dataclass(frozen=True)
class Quotas:
    """Limits on the number of series and streams, for all identities together and for one.

    If the limit for one identity is None, it is half of the limit for all identities together. So
    no single identity can use up the whole quota.
    """

    series_max: int = SERIES_MAX
    series_per_identity_max: int | None = None
    streams_max: int = STREAMS_MAX
    streams_per_identity_max: int | None = None

    @property
    def whole(self) -> Usage:
        """Limits for all identities together."""
        return Usage(self.series_max, self.streams_max)

    @property
    def each(self) -> Usage:
        """Limits for one identity."""
        series, streams = self.series_per_identity_max, self.streams_per_identity_max
        return Usage(
            max(1, self.series_max // 2) if series is None else series,
            max(1, self.streams_max // 2) if streams is None else streams,
        )


DEFAULT = Quotas()


@dataclass(frozen=True)
class Counted:
    """How many series and streams are stored: the counts that the check of one batch needs."""

    whole: Usage = NOTHING
    """Counts over all identities."""
    of: Mapping[str, Usage] = field(default_factory=dict)
    """How many series and streams each of the identities in `Asked.identities` has created."""
    streams: Container[str] = frozenset()
    """Streams of the batch that exist already."""


class Asked(NamedTuple):
    """Series and streams that a batch could add, and the identities whose parts name them."""

    series: set[str]
    """Series that do not exist yet."""
    streams: set[str]
    """Streams of new decisions; some of these streams may exist already."""
    identities: set[str]
    """Identities of all parts that name a series or stream listed here.

    Some of these parts may be refused later.
    """


def asked(
    batch: Iterable[Given], stored_series: Container[str], stored_decisions: Container[bytes]
) -> Asked:
    """Return the series and streams that these Writes could add to the store."""
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
    """Return the new series of a part, and the streams of its new decisions."""
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
    """Checks the parts of a batch against the quotas, one part after another.

    A part is accepted if three numbers together stay within the quotas: what is stored, what the
    accepted parts before it add, and what the part itself adds.
    """

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
        """New series of the accepted parts, each with the identity that named it first."""
        self.streams: dict[str, str] = {}
        """New streams of the accepted parts, each with the identity that named it first."""

    def take(self, part: Given) -> None:
        """Count the series and streams that a part adds.

        Raise QuotaExceeded, and count nothing, when the part would exceed a quota.
        """
        series, streams = _new(part, *self._stored)
        if not (series or streams):
            return
        # Do not write `series - self.series.keys()`: its cost grows with `self.series`, which holds
        # the new series of the whole batch.  `series` holds only those of one part.
        series = {name for name in series if name not in self.series}
        streams = {
            name
            for name in streams
            if name not in self.streams and name not in self._counted.streams
        }
        self._check(_SERIES, part.caller, len(series), len(self.series))
        self._check(_STREAMS, part.caller, len(streams), len(self.streams))
        self.series |= dict.fromkeys(series, part.caller)
        self.streams |= dict.fromkeys(streams, part.caller)
        self._made[_SERIES][part.caller] += len(series)
        self._made[_STREAMS][part.caller] += len(streams)

    def _check(self, place: int, identity: str, new: int, before: int) -> None:
        """Raise QuotaExceeded if the quotas do not allow what a part adds.

        ``place`` is `_SERIES` or `_STREAMS`.  The part adds ``new`` of these, and uses the quota of
        ``identity``.  The accepted parts before it add ``before`` of them.
        """
        if not new:
            return
        held = self._counted.of.get(identity, NOTHING)[place] + self._made[place][identity]
        most = self._quotas.each[place]
        if held + new > most:
            raise _exceeded(place, identity, new, f"it has made {held:,}", most, "per_identity_")
        held, most = self._counted.whole[place] + before, self._quotas.whole[place]
        if held + new > most:
            raise _exceeded(place, identity, new, f"{held:,} are stored", most, "")


def _exceeded(
    place: int, identity: str, new: int, held: str, most: int, of_whom: str
) -> QuotaExceeded:
    name = Usage._fields[place]
    return QuotaExceeded(
        f"{identity}: {new:,} new {name} were requested and {held}; the limit"
        f" sync.{name}_{of_whom}max is {most:,}: {_WAY_OUT[place]}, or raise the limit"
    )
