"""What clients told: requests, repeated attempts, and what was acknowledged to them.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Request(NamedTuple):
    """One call of the SDK, as its caller saw it; times are of the machine's monotonic clock."""

    client: str
    what: str
    due_s: float
    end_s: float
    error: str = ""
    """``<code>: <message>``; empty when it was answered."""

    @property
    def took_s(self) -> float:
        """Seconds from when the request was due, so that a stall is felt by all behind it."""
        return self.end_s - self.due_s


class Retry(NamedTuple):
    """One attempt that failed and was repeated by the SDK; its caller does not see that."""

    client: str
    at_s: float
    error: str


class BadRecords(ValueError):
    """A file of records that cannot be read; the message names file, line and reason."""


@dataclass
class Heard:
    """What the clients told."""

    requests: list[Request] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)
    stored: list[tuple[str, int, int]] = field(default_factory=list)
    """Acknowledged ticks: series, index of the first, how many."""
    decisions: dict[str, float] = field(default_factory=dict)
    """Acknowledged decisions: probability by experience id."""
    troubles: list[str] = field(default_factory=list)

    def take(self, client: str, said: dict[str, Any]) -> None:
        """One line of a client."""
        if "stored" in said:
            series, first, count = said["stored"]
            self.stored.append((series, first, count))
        elif "retry" in said:
            self.retries.append(Retry(client, said["at_s"], said["retry"]))
        elif "what" in said:
            made = Request(client, said["what"], said["due_s"], said["end_s"], said["error"])
            self.requests.append(made)
            if "decision" in said:
                self._decided(*said["decision"])

    def _decided(self, experience_id: str, probability: float) -> None:
        before = self.decisions.setdefault(experience_id, probability)
        if before != probability:
            self.troubles.append(
                f"decision {experience_id} was answered as {before} and again as {probability}"
            )

    @property
    def ticks(self) -> int:
        """How many ticks were acknowledged."""
        return sum(count for _, _, count in self.stored)

    def read(self, name: str, lines: Iterable[str]) -> None:
        """All lines of a client's file; raises BadRecords for what is none.

        A line that was never ended is left out: its writer was killed while it wrote.
        """
        for number, text in enumerate(lines, start=1):
            if not text.endswith("\n"):
                self.troubles.append(f"{name}:{number}: the last line has no end")
                return
            try:
                self.take(name, json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                raise BadRecords(
                    f"{name}:{number}: {text[:80]!r} is no record of a load ({error!r}): name a"
                    " file that `python -m tests.cluster.load --write` wrote"
                ) from error
