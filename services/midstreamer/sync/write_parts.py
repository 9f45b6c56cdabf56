"""Splits a Write into parts, one for each caller, so that each part is accepted or refused alone.

A coordinator puts the requests of several clients (callers) into one Write.  If sync refused the
whole Write because of one bad part, the coordinator would have to halve the Write and send it
again until the bad part is alone.  Then a client that sends only bad requests would delay all
clients whose requests share its Writes (measured: 60 bad requests in progress raised the latency
of other clients from 11 ms to 0.9 s).  A Write without callers is a single part, and the refusal
of that part is the answer to the Write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from midstreamer.domain.errors import BadInput
from midstreamer.protocol.frames import Write

Outcome = TypeVar("Outcome")


class Given(NamedTuple):
    """One Write, or one part of a Write, with its writer."""

    writer: tuple[str, str]
    """The coordinator that sent the Write: (identity, incarnation)."""
    write: Write

    @property
    def caller(self) -> str:
        """Identity whose quota is used: the client that the part names, else the writer."""
        callers = self.write.callers
        return (callers[0].identity if callers else "") or self.writer[0]


def check_callers(write: Write) -> None:
    """Check that each column and each decision of a Write belongs to one of its callers.

    Each caller says how many columns and how many decisions are its own.  Raise BadInput if these
    numbers do not add up to the columns and decisions in the Write.  A Write without callers is
    valid.
    """
    if not write.callers:
        return
    columns = [caller.columns for caller in write.callers]
    decisions = [caller.decisions for caller in write.callers]
    claimed, sent = (sum(columns), sum(decisions)), (len(write.columns), len(write.decisions))
    if claimed != sent or min(*columns, *decisions) < 0:
        raise BadInput(
            f"a Write of {sent[0]:,} columns and {sent[1]:,} decisions names callers for"
            f" {claimed[0]:,} columns and {claimed[1]:,} decisions: name one caller for each"
        )


def parts_of(batch: Iterable[Given]) -> Iterator[Given]:
    """Yield the parts of these Writes in order; a Write without callers is a single part."""
    for given in batch:
        if len(given.write.callers) < 2:
            yield given
            continue
        columns, decisions = iter(given.write.columns), iter(given.write.decisions)
        for caller in given.write.callers:
            part = msgspec.structs.replace(
                given.write,
                columns=tuple(islice(columns, caller.columns)),
                decisions=tuple(islice(decisions, caller.decisions)),
                callers=(caller,),
            )
            yield Given(given.writer, part)


def by_write(
    batch: Iterable[Given], outcomes: Sequence[Outcome]
) -> Iterator[tuple[Given, list[Outcome]]]:
    """Yield each Write with the outcomes of its parts.

    ``outcomes`` are those of all parts of the batch, in the order of `parts_of`.
    """
    left = iter(outcomes)
    for given in batch:
        yield given, list(islice(left, max(1, len(given.write.callers))))
