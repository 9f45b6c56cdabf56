"""What each event in a cluster did to the requests of a load, and which limits held.  Pure.

A request belongs to every event in whose time it was open: it began before the end of the event
and ended after its beginning.  Two events at once therefore share their requests.  What belongs
to none is judged too, by the strictest limit: nothing may fail where nothing is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.load.records import BadRecords, Request

CALM = "nothing happens"


class Kind(StrEnum):
    """How something is taken away."""

    DELETION = "deletion"
    """It is told before, and drains."""
    CRASH = "crash"
    """It is gone without a word."""

    @property
    def limit_s(self) -> float:
        """The slowest answer that is allowed, in seconds."""
        return {Kind.DELETION: 5.0, Kind.CRASH: 15.0}[self]


@dataclass(frozen=True)
class Event:
    """One thing that was done; times are of the machine's monotonic clock."""

    name: str
    kind: Kind
    from_s: float
    to_s: float
    complaint: str = ""
    """What went wrong with the event itself: it was not whole again in time."""

    def meets(self, request: Request) -> bool:
        """Whether a request was open at any time of the event."""
        return request.due_s <= self.to_s and request.end_s >= self.from_s


@dataclass
class Row:
    """An event and the requests that belong to it; without an event, those of none."""

    event: Event | None
    requests: list[Request] = field(default_factory=list)
    most_s: float | None = None
    """A limit in place of that of its kind."""

    @property
    def name(self) -> str:
        """What was done."""
        return self.event.name if self.event else CALM

    @property
    def failed(self) -> list[Request]:
        """Requests whose caller got an error."""
        return [each for each in self.requests if each.error]

    @property
    def limit_s(self) -> float:
        """The slowest answer that is allowed, in seconds."""
        if self.most_s is not None:
            return self.most_s
        return self.event.kind.limit_s if self.event else Kind.DELETION.limit_s

    def slowest_s(self, what: str = "") -> float:
        """The longest that a request of this kind took, or of any; failed ones count too."""
        return max((e.took_s for e in self.requests if what in ("", e.what)), default=0.0)

    @property
    def held(self) -> bool:
        """Whether no request failed, none was too slow, and the event itself went well."""
        return self.broken() == []

    def broken(self) -> list[str]:
        """Every promise that did not hold, in words."""
        wrong = []
        if self.event and self.event.complaint:
            wrong.append(f"{self.name}: {self.event.complaint}")
        if self.event and not self.requests:
            wrong.append(f"{self.name}: no request was open in its time, so it shows nothing")
        wrong += [
            f"{self.name}: {len(self.failed)} requests failed, the first, {first.what}, after"
            f" {first.took_s:.1f} s with {first.error}"
            for first in self.failed[:1]
        ]
        if self.slowest_s() > self.limit_s:
            late = sum(each.took_s > self.limit_s for each in self.requests)
            wrong.append(
                f"{self.name}: {late} requests took over {self.limit_s:g} s, the slowest"
                f" {self.slowest_s():.2f} s"
            )
        return wrong


def rows(
    happened: Sequence[Event], requests: Iterable[Request], most_s: float | None = None
) -> list[Row]:
    """One row for each event, in the order of their beginnings, and a first one for no event.

    `most_s` is a limit for each, in place of those of their kinds.
    """
    calm = Row(None, most_s=most_s)
    found = [
        Row(event, most_s=most_s) for event in sorted(happened, key=lambda event: event.from_s)
    ]
    for request in requests:
        met = [row for row in found if row.event and row.event.meets(request)]
        for row in met or [calm]:
            row.requests.append(request)
    return [calm, *found]


def broken(found: Sequence[Row], heard_of: int) -> list[str]:
    """Every promise that did not hold; `heard_of` is how many requests there are in all."""
    wrong = [] if heard_of else ["no request was made"]
    return wrong + [each for row in found for each in row.broken()]


# --- tables -----------------------------------------------------------------------------------

HEADINGS = ("event", "kind", "lasted s", "requests", "failed",
            "slowest append s", "slowest match s", "limit s", "held")  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """One row in words, below `HEADINGS`."""
    return (
        row.name,
        row.event.kind.value if row.event else "",
        f"{row.event.to_s - row.event.from_s:.1f}" if row.event else "",
        str(len(row.requests)),
        str(len(row.failed)),
        f"{row.slowest_s('append'):.2f}",
        f"{row.slowest_s('match'):.2f}",
        f"{row.limit_s:g}",
        "yes" if row.held else "NO",
    )


def markdown(found: Sequence[Row]) -> str:
    """The table for a page of docs."""
    lines = [HEADINGS, *(cells(row) for row in found)]
    shown = [f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines]
    shown.insert(1, "|" + "".join("---|" if at < 2 else "--:|" for at in range(len(HEADINGS))))
    return "\n".join(shown) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def plain(found: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = [HEADINGS, *(cells(row) for row in found)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    return "".join(
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


# --- files ------------------------------------------------------------------------------------


def line(event: Event) -> str:
    """An event as a line of a file."""
    return json.dumps({**vars(event), "kind": event.kind.value}) + "\n"


def read(name: str, lines: Iterable[str]) -> list[Event]:
    """The events of a file; raises BadRecords that names file, line and reason."""
    return [_event(name, number, text) for number, text in enumerate(lines, start=1)]


def _event(name: str, number: int, text: str) -> Event:
    try:
        made: dict[str, Any] = json.loads(text)
        event = Event(**(made | {"kind": Kind(made["kind"])}))
        if not event.from_s <= event.to_s:
            raise ValueError(f"it ends at {event.to_s:g} s, before {event.from_s:g} s")
    except (ValueError, KeyError, TypeError) as error:
        raise BadRecords(
            f"{name}:{number}: {text[:80]!r} is no event ({error}): name a file that"
            " `python -m tests.cluster.disturbing --write` wrote"
        ) from error
    return event
