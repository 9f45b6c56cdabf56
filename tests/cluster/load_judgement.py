"""Assign the requests of a load to the events in a cluster, and check them against limits.  Pure.

A request belongs to every event during which it was open: the request began before the end of the
event and ended after the event's beginning.  So two simultaneous events share requests.  Requests
that belong to no event are checked too, against the strictest limit, because without an event no
request may fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.load.client_reports import BadRecords, Request

CALM = "nothing happens"


class Kind(StrEnum):
    """The way in which an event ends a pod or a process."""

    DELETION = "deletion"
    """A pod gets SIGTERM and drains."""
    CRASH = "crash"
    """A pod or process is killed, without any notice to its peers."""

    @property
    def limit_s(self) -> float:
        """The greatest permitted latency of requests during an event of this kind, in seconds."""
        return {Kind.DELETION: 5.0, Kind.CRASH: 15.0}[self]


@dataclass(frozen=True)
class Event:
    """One disturbance of the cluster; times are of the machine's monotonic clock, in seconds."""

    name: str
    kind: Kind
    from_s: float
    to_s: float
    complaint: str = ""
    """Why the installation did not recover from the event in time; empty when it did."""

    def meets(self, request: Request) -> bool:
        """Whether a request was open at any time of the event."""
        return request.due_s <= self.to_s and request.end_s >= self.from_s


@dataclass
class Row:
    """A row of the report: an event with its requests, or the requests without an event."""

    event: Event | None
    requests: list[Request] = field(default_factory=list)
    most_s: float | None = None
    """The latency limit of the row in seconds; None means the limit of the event's kind."""

    @property
    def name(self) -> str:
        """The name of the event; `CALM` for the row of requests without an event."""
        return self.event.name if self.event else CALM

    @property
    def failed(self) -> list[Request]:
        """The requests whose caller got an error."""
        return [each for each in self.requests if each.error]

    @property
    def limit_s(self) -> float:
        """The greatest latency that a request of this row may have, in seconds."""
        if self.most_s is not None:
            return self.most_s
        return self.event.kind.limit_s if self.event else Kind.DELETION.limit_s

    def slowest_s(self, what: str = "") -> float:
        """Return the greatest latency of the requests in seconds, failed requests included.

        `what` limits the requests to one kind, "append" or "match".
        """
        return max((e.took_s for e in self.requests if what in ("", e.what)), default=0.0)

    @property
    def held(self) -> bool:
        """Whether no request failed, none was too slow, and the installation recovered."""
        return self.broken() == []

    def broken(self) -> list[str]:
        """Return a sentence for each failed check of this row."""
        wrong = []
        if self.event and self.event.complaint:
            wrong.append(f"{self.name}: {self.event.complaint}")
        if self.event and not self.requests:
            wrong.append(f"{self.name}: no request was open meanwhile, so nothing was checked")
        wrong += [
            f"{self.name}: {len(self.failed)} requests failed; the first was {first.what}, after"
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
    """Return the row of requests without an event, then one row per event, by its beginning.

    `most_s`, if given, is the latency limit of every row in seconds, instead of `Kind.limit_s`.
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
    """Return a sentence for each failed check of each row.

    `heard_of` is the number of all requests of the load; if it is 0, one more sentence says so.
    """
    wrong = [] if heard_of else ["no request was made"]
    return wrong + [each for row in found for each in row.broken()]


# --- tables -----------------------------------------------------------------------------------

HEADINGS = ("event", "kind", "lasted s", "requests", "failed",
            "slowest append s", "slowest match s", "limit s", "held")  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """Return the texts of a row's cells, in the order of `HEADINGS`."""
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
    """Return the table as Markdown, for a page of the documentation."""
    lines = [HEADINGS, *(cells(row) for row in found)]
    shown = [f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines]
    shown.insert(1, "|" + "".join("---|" if at < 2 else "--:|" for at in range(len(HEADINGS))))
    return "\n".join(shown) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def plain(found: Sequence[Row]) -> str:
    """Return the table as plain text in columns, for a terminal."""
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
    """Return an event as a line of JSON."""
    return json.dumps({**vars(event), "kind": event.kind.value}) + "\n"


def read(name: str, lines: Iterable[str]) -> list[Event]:
    """Return the events in the lines of a file; raises BadRecords with file, line and reason.

    `name` is the file's name for the message of BadRecords.
    """
    return [_event(name, number, text) for number, text in enumerate(lines, start=1)]


def _event(name: str, number: int, text: str) -> Event:
    try:
        fields: dict[str, Any] = json.loads(text)
        event = Event(**(fields | {"kind": Kind(fields["kind"])}))
        if not event.from_s <= event.to_s:
            raise ValueError(f"it ends at {event.to_s:g} s, before it begins at {event.from_s:g} s")
    except (ValueError, KeyError, TypeError) as error:
        raise BadRecords(
            f"{name}:{number}: {text[:80]!r} is no event ({error}): give a file that"
            " `python -m tests.cluster.disturb --write` wrote"
        ) from error
    return event
