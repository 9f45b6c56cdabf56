"""What load clients report: requests, retried attempts and acknowledgements. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Request(NamedTuple):
    """One SDK call as its caller saw it; times are of the machine's monotonic clock, in seconds."""

    client: str
    what: str
    due_s: float
    end_s: float
    error: str = ""
    """``<code>: <message>``; empty when the request was answered."""

    @property
    def took_s(self) -> float:
        """Seconds from the due time to the end; if the request was sent late, the delay counts."""
        return self.end_s - self.due_s


class Retry(NamedTuple):
    """One failed attempt that the SDK retried; the caller of the SDK does not see it."""

    client: str
    at_s: float
    error: str


class BadRecords(ValueError):
    """A file of records cannot be read; the message names the file, the line and the reason."""


@dataclass
class Heard:
    """Everything that the clients of a load reported."""

    requests: list[Request] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)
    stored: list[tuple[str, int, int]] = field(default_factory=list)
    """Acknowledged ticks, as (series, index of the first tick, count)."""
    decisions: dict[str, float] = field(default_factory=dict)
    """Acknowledged decisions: probability by experience id."""
    troubles: list[str] = field(default_factory=list)

    def take(self, client: str, report: dict[str, Any]) -> None:
        """Add one report of a client."""
        if "stored" in report:
            series, first, count = report["stored"]
            self.stored.append((series, first, count))
        elif "retry" in report:
            self.retries.append(Retry(client, report["at_s"], report["retry"]))
        elif "what" in report:
            request = Request(
                client, report["what"], report["due_s"], report["end_s"], report["error"]
            )
            self.requests.append(request)
            if "decision" in report:
                self._decided(*report["decision"])

    def _decided(self, experience_id: str, probability: float) -> None:
        before = self.decisions.setdefault(experience_id, probability)
        if before != probability:
            self.troubles.append(
                f"decision {experience_id} was answered as {before} and again as {probability}"
            )

    @property
    def ticks(self) -> int:
        """Number of acknowledged ticks."""
        return sum(count for _, _, count in self.stored)

    def read(self, name: str, lines: Iterable[str]) -> None:
        """Add all lines of a client's file; raise BadRecords for a line that is not a record.

        A last line without a line end is skipped, because its writer was killed while writing.
        """
        for number, text in enumerate(lines, start=1):
            if not text.endswith("\n"):
                self.troubles.append(f"{name}:{number}: the last line is incomplete")
                return
            try:
                self.take(name, json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                raise BadRecords(
                    f"{name}:{number}: {text[:80]!r} is not a load record ({error!r}): name a"
                    " file that `python -m tests.cluster.load --write` wrote"
                ) from error
