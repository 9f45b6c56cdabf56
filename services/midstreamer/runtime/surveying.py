"""The catalogue in pages: cut where it is answered, put together where it is asked for.

All who need the catalogue ask through this module.  A page is about a quarter of a frame, however
many series there are.  Each page is read at its own feed position, none earlier than the page
before.  So take the position of the first page as that of the whole: every later change is in the
change feed after it, and taking a change in twice does no harm.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from midstreamer.domain.errors import BadInput, RemoteProtocolError
from midstreamer.domain.series import NAME_CHARACTERS_MAX
from midstreamer.protocol.frames import SeriesSummary, Survey, Surveyed
from midstreamer.runtime.peer import Peer

PAGE_BYTES = 1024 * 1024
"""Of series in one answer, about."""
SUMMARY_BYTES = 100
"""Most of one series on the wire without its name."""
PAGE_SERIES = PAGE_BYTES // SUMMARY_BYTES
"""No page holds more series."""

Ask = Callable[[Survey], Awaitable[Surveyed]]


def check(request: Survey) -> None:
    """Raise BadInput for a page after what cannot be the name of a series."""
    after = request.after
    if len(after) > NAME_CHARACTERS_MAX or not after.isprintable():
        raise BadInput(
            f"a page of the catalogue after {after[:80]!r} of {len(after):,} characters: name the"
            f" last series of the page before, of at most {NAME_CHARACTERS_MAX} characters"
        )


def cut(series: Sequence[SeriesSummary]) -> tuple[SeriesSummary, ...]:
    """The first of these series, as many as one page takes."""
    room = PAGE_BYTES
    for place, summary in enumerate(series):
        room -= SUMMARY_BYTES + len(summary.series)
        if room < 0:
            return tuple(series[:place])
    return tuple(series)


async def pages(ask: Ask) -> AsyncIterator[Surveyed]:
    """One page after another; the first tells of members and counts as well."""
    after = ""
    while True:
        page = await ask(Survey(after=after))
        yield page
        if not page.more:
            return
        last = page.series[-1].series if page.series else ""
        if last <= after:
            raise RemoteProtocolError(
                f"the page of the catalogue after {after!r} ends at {last!r}: it must lead further"
            )
        after = last


async def whole(ask: Ask) -> Surveyed:
    """All pages as one value."""
    told = [page async for page in pages(ask)]
    series = tuple(summary for page in told for summary in page.series)
    return msgspec.structs.replace(told[0], series=series, more=False)


def by(peer: Peer, budget_s: float) -> Ask:
    """Ask this peer, each page within a budget."""

    async def ask(survey: Survey) -> Surveyed:
        answer = await peer.ask(survey, budget_s=budget_s)
        if not isinstance(answer, Surveyed):
            raise RemoteProtocolError(
                f"{peer.identity.name} answered a Survey with {type(answer).__name__}"
            )
        return answer

    return ask
