"""Checks of requests.  Each check raises an error for the first rule that a request breaks.

`check_match` needs the request alone and runs first.  `check_known` compares the request with the
catalogue, after the catalogue has reached the feed position that the client requires.
`check_found` runs last: it uses what the agents found about the series of the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midstreamer.coordinator.store_mirror import Catalogue
from midstreamer.domain import outcome, specification
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import BadInput, NotGranted, UnknownSeries, quoted, shortened
from midstreamer.domain.grant import Grant
from midstreamer.domain.identity import Identity, Kind
from midstreamer.domain.series import (
    NO_64_BITS,
    Window,
    check_columns,
    fits_64_bits,
    qualified,
    universe_of,
)
from midstreamer.protocol import frames
from midstreamer.protocol.encoded_sizes import ANSWER_BYTES_MAX, decision_bytes_max

MICROSECONDS = 1_000_000
ID_BYTES_MAX = 64
"""Maximum length of an experience id in a Lookup, in bytes; today each id has 16.  The limit bounds
the memory of the Lookups that wait in this process until they are passed on to sync."""
MEMBER_CHARACTERS_MAX = 256
"""Maximum length of the name of a member, in characters."""


def check_append(request: frames.Append) -> None:
    """Raise BadInput if the Append is too large or one of its columns is invalid.  Raise StaleTick
    if the times of a column do not increase."""
    # Check the number of columns first, because that does not need to read the columns.
    if len(request.columns) > frames.COLUMNS_MAX:
        raise BadInput(
            f"{len(request.columns):,} columns in one Append, at most {frames.COLUMNS_MAX:,} are"
            " allowed: split the Append"
        )
    ticks = sum(len(column) for column in request.columns)
    if ticks > frames.TICKS_MAX:
        raise BadInput(
            f"{ticks:,} ticks in one Append, at most {frames.TICKS_MAX:,} are allowed: split the"
            " Append"
        )
    check_columns(request.columns)


def check_granted(request: frames.Append, sender: Identity, grant: Grant) -> None:
    """Raise NotGranted if the sender may not append to the universe of some column; the error names
    the first such universe."""
    for column in request.columns:
        universe = universe_of(column.series)
        if not grant.covers(universe):
            raise NotGranted(
                f"{sender.name} may not append to {column.series}: the allowlist of the coordinator"
                f" grants it these universes: {grant}; add {universe} to universes= behind its"
                " entry there, or append as a client with that grant"
            )


def check_may_drain(sender: Identity, grant: Grant) -> None:
    """Raise NotGranted unless the sender may ask members to drain.  Operators may, and clients
    whose entry in the allowlist has `drain`."""
    if sender.kind is Kind.OPERATOR or grant.drain:
        return
    raise NotGranted(
        f"{sender.name} may not ask members to drain: write the line `{sender.name}  drain` into"
        " the allowlist of the coordinators, or ask as an operator"
    )


def check_times(request: frames.Append, *, now_s: float, ahead_s: float) -> None:
    """Raise BadInput for a tick whose time is more than ``ahead_s`` seconds after ``now_s``.

    An ``ahead_s`` of 0 allows any time.  A series accepts no tick older than its last one, so a
    single tick far in the future would block all later ticks of its series.
    """
    if ahead_s == 0:
        return
    latest = int((now_s + ahead_s) * MICROSECONDS)
    for column in request.columns:
        # The last time of the column.  A column without ticks gives 0, which is never too late.
        last = int.from_bytes(column.times[-8:], "little", signed=True)
        if last > latest:
            raise BadInput(
                f"{column.series} at {last}: {(last / MICROSECONDS - now_s):,.0f} s ahead of the"
                f" coordinator's clock, coordinator.ahead_s = {ahead_s:,.0f} is allowed: send"
                " times in microseconds since 1970 UTC, or raise the setting"
            )


def check_match(request: frames.Match) -> None:
    """Raise BadInput unless the Match is valid, as far as the request alone can show."""
    for rule in _MATCH_RULES:
        rule(request)


def check_lookup(request: frames.Lookup) -> None:
    """Raise BadInput for too many experience ids, or for an id that is too long.  The answer to
    more ids could fill the link from sync, and sync would then drop other answers."""
    if len(request.experience_ids) > frames.DECISIONS_MAX:
        raise BadInput(
            f"{len(request.experience_ids):,} experiences in one Lookup, at most"
            f" {frames.DECISIONS_MAX} are allowed: ask for fewer at once"
        )
    for place, wanted in enumerate(request.experience_ids):
        if len(wanted) > ID_BYTES_MAX:
            raise BadInput(
                f"experience {place}: its id has {len(wanted):,} B, at most {ID_BYTES_MAX} B are"
                " allowed: use the experience_id of a decision"
            )


def check_retire(request: frames.Retire) -> None:
    """Raise BadInput when the name in the request cannot be the name of a member."""
    name = request.name
    if len(name) > MEMBER_CHARACTERS_MAX or not name.isprintable():
        raise BadInput(
            f"{quoted(name)} of {len(name):,} characters is not the name of a member: names have at"
            f" most {MEMBER_CHARACTERS_MAX} characters; `midstreamer status` lists all members"
        )


def check_known(request: frames.Match, catalogue: Catalogue) -> None:
    """Raise UnknownSeries when the universe or a series of the Match has no stored ticks, and
    BadInput when the window is longer than every stored series of the universe."""
    universe, length = request.specification.universe, request.specification.window
    longest = catalogue.longest(universe)
    if longest is None:
        known = shortened(", ".join(catalogue.universes()) or "nothing yet")
        raise UnknownSeries(
            f"nothing is stored of universe {quoted(universe)}; stored: {known}."
            " Append its ticks first"
        )
    if length > longest.count:
        raise BadInput(
            f"window of {length} points is longer than every series of universe {universe!r}:"
            f" its longest series, {longest.series}, has {longest.count} points; append more ticks"
            " or use a shorter window"
        )
    for window in request.windows:
        if window.series and catalogue.series(window.series) is None:
            raise UnknownSeries(
                f"nothing is stored of series {window.series}; append its ticks first, or ask"
                " without a series"
            )


def check_found(request: frames.Match, findings: Sequence[Evidence], catalogue: Catalogue) -> None:
    """Raise BadInput when a window names a series but differs from the stored points of the series.

    If the decisions are to be recorded, also raise BadInput when the last tick of such a window is
    not stored.  A recorded decision keeps its series and time for ever and never changes.  So it
    must be based on points that are stored, because these never change either.
    """
    for place, found in enumerate(findings):
        window = found.window
        if not window.series:
            continue
        name = f"window {place} of {window.series} at {window.time}"
        if not found.agrees:
            kept = (
                "nothing is stored there" if found.stored is None else f"{found.stored} is stored"
            )
            raise BadInput(
                f"{name}: value {found.differs_at} is {window.array()[found.differs_at]}, {kept};"
                " send the stored points, or send the window without a series"
            )
        if request.record and found.index < 0:
            known = catalogue.series(window.series)
            last = f"its last tick is at {known.last_time}" if known else "it has no ticks"
            raise BadInput(
                f"{name}: the series has no tick at this time, {last}. Append the tick first and"
                " send the position in the answer as at_least, or send record = false"
            )


def _sizes(request: frames.Match) -> None:
    wanted, count = request.specification, len(request.windows)
    if not 1 <= count <= frames.WINDOWS_MAX:
        raise BadInput(f"{count} windows in one Match, 1 to {frames.WINDOWS_MAX} are allowed")
    each = decision_bytes_max(wanted)
    if count > 1 and count * each > ANSWER_BYTES_MAX:
        raise BadInput(
            f"{count} windows with {wanted.neighbours} neighbours make an answer of up to"
            f" {count * each:,} B, at most {ANSWER_BYTES_MAX:,} B are allowed: send at most"
            f" {ANSWER_BYTES_MAX // each} windows in one Match"
        )


def _specification(request: frames.Match) -> None:
    specification.check(request.specification)


def _windows(request: frames.Match) -> None:
    for place, window in enumerate(request.windows):
        _length(request, place, window)
        if not fits_64_bits(window.time):
            raise BadInput(f"window {place} at {window.time}: its time {NO_64_BITS}")
        # Check the name of the series before the values: an error of _finite() quotes the whole
        # name, and a name that passed the check is short.
        _universe(request, place, window)
        _finite(place, window)
        outcome.transformed(window.array(), request.specification.transform)


def _length(request: frames.Match, place: int, window: Window) -> None:
    wanted = request.specification.window
    if len(window.values) != 8 * wanted:
        raise BadInput(
            f"window {place} has {len(window.values) / 8:g} values, specification.window is"
            f" {wanted}: send exactly {wanted} values"
        )


def _finite(place: int, window: Window) -> None:
    values = window.array()
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise BadInput(
            f"window {place} of {window.series or 'no series'}: value {int(wrong[0])} is"
            f" {values[wrong[0]]}, not a finite number"
        )


def _universe(request: frames.Match, place: int, window: Window) -> None:
    if not window.series:
        return
    universe = request.specification.universe
    if qualified(window.series) != window.series or universe_of(window.series) != universe:
        raise BadInput(
            f"window {place} is of series {quoted(window.series)}, but the specification is for"
            f" universe {quoted(universe)}: both must have the same universe"
        )


def _contradictions(request: frames.Match) -> None:
    seen: dict[tuple[str, int], bytes] = {}
    for window in request.windows:
        key = window.series, window.time
        if window.series and seen.setdefault(key, window.values) != window.values:
            raise BadInput(
                f"two windows of {window.series} at {window.time} have different values in one"
                " Match: windows of the same series and time must be equal"
            )


_MATCH_RULES: Sequence[Callable[[frames.Match], None]] = (
    _specification,
    _sizes,
    _windows,
    _contradictions,
)
