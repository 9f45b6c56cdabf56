"""Transfer the catalogue of series in pages: cut it at the server, join the pages at the client.

All processes request the catalogue through this module.  A page fills at most about a quarter of a
frame, however many series there are.  Each page is read at its own feed position, which is not
earlier than that of the page before.  Use the position of the first page as that of the whole
catalogue: all later changes follow it in the change feed, and applying a change twice is harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from midstreamer.domain.errors import BadInput, RemoteProtocolError
from midstreamer.domain.series import NAME_CHARACTERS_MAX
from midstreamer.protocol.frames import SeriesSummary, Survey, Surveyed
from midstreamer.runtime.peer import Peer

PAGE_BYTES = 1024 * 1024
"""Approximate limit of the bytes of one page."""
SUMMARY_BYTES = 100
"""Maximum encoded bytes of one series in a page, without its name."""
PAGE_SERIES = PAGE_BYTES // SUMMARY_BYTES
"""Maximum series in one page."""

Ask = Callable[[Survey], Awaitable[Surveyed]]


def check(request: Survey) -> None:
    """Raise BadInput if ``request.after`` cannot be the name of a series."""
    after = request.after
    if len(after) > NAME_CHARACTERS_MAX or not after.isprintable():
        raise BadInput(
            f"a page of the catalogue was requested after {after[:80]!r} ({len(after):,}"
            " characters), which cannot be the name of a series: send the name of the last series"
            f" of the page before, of at most {NAME_CHARACTERS_MAX} characters"
        )


def cut(series: Sequence[SeriesSummary]) -> tuple[SeriesSummary, ...]:
    """Return the first page of a sorted list of series: as many of the first series as fit."""
    room = PAGE_BYTES
    for place, summary in enumerate(series):
        room -= SUMMARY_BYTES + len(summary.series)
        if room < 0:
            return tuple(series[:place])
    return tuple(series)


async def pages(ask: Ask) -> AsyncIterator[Surveyed]:
    """Request and yield all pages in order.

    Only the first page holds the members of the fleet and the counts, such as the number of ticks.
    Raises RemoteProtocolError when the last series of a page does not sort after the last series of
    the page before.
    """
    after = ""
    while True:
        page = await ask(Survey(after=after))
        yield page
        if not page.more:
            return
        last = page.series[-1].series if page.series else ""
        if last <= after:
            raise RemoteProtocolError(
                f"the page of the catalogue after {after!r} ends at {last!r}: it must end later"
            )
        after = last


async def whole(ask: Ask) -> Surveyed:
    """Request all pages and return them joined into one answer."""
    answers = [page async for page in pages(ask)]
    series = tuple(summary for page in answers for summary in page.series)
    return msgspec.structs.replace(answers[0], series=series, more=False)


def by(peer: Peer, budget_s: float) -> Ask:
    """Return a function that requests one page from ``peer`` and waits at most ``budget_s``
    seconds."""

    async def ask(survey: Survey) -> Surveyed:
        answer = await peer.ask(survey, budget_s=budget_s)
        if not isinstance(answer, Surveyed):
            raise RemoteProtocolError(
                f"{peer.identity.name} answered a Survey with {type(answer).__name__}"
            )
        return answer

    return ask
