"""A coordinator's refusal names the bad value, its place, and how to avoid the refusal."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from midstreamer.coordinator import request_checks
from midstreamer.coordinator.store_mirror import Catalogue
from midstreamer.domain import identity
from midstreamer.domain.decision import Evidence
from midstreamer.domain.errors import BadInput, NotGranted, StaleTick, UnknownSeries
from midstreamer.domain.grant import EVERYTHING, NOTHING, Grant
from midstreamer.domain.identity import Kind
from midstreamer.domain.match import Matches
from midstreamer.domain.series import TIME_MAX, TIME_MIN, Column, Window, column
from midstreamer.domain.specification import Transform
from midstreamer.protocol import frames
from midstreamer.protocol.frames import Lookup, Match, Retire, SeriesSummary, Surveyed
from tests.support.fleet import a_column, a_specification, a_window
from tests.support.link_builders import CLIENT

WINDOW = a_window(a_column(100), 99, 16)


def a_match(**changes: object) -> Match:
    return msgspec.structs.replace(
        Match(specification=a_specification(), windows=(WINDOW,)), **changes
    )


def changed(**changes: object) -> tuple[Window, ...]:
    return (msgspec.structs.replace(WINDOW, **changes),)


def with_value(value: float) -> bytes:
    values = WINDOW.array().copy()
    values[3] = value
    return values.tobytes()


def test_a_match_in_order_passes() -> None:
    request_checks.check_match(a_match())


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (lambda: a_match(windows=()), "0 windows"),
        (lambda: a_match(windows=changed(time=2**63)), "window 0 at 9223372036854775808"),
        (lambda: a_match(windows=changed(time=-(2**63) - 1, series="")), "64 bits"),
        (lambda: a_match(windows=(WINDOW,) * 257), "257 windows"),
        (lambda: a_match(specification=a_specification(band=99)), "specification.band = 99"),
        (lambda: a_match(windows=changed(values=WINDOW.values[8:])), "window 0 has 15 values"),
        (lambda: a_match(windows=changed(values=WINDOW.values[1:])), "15.875 values"),
        (lambda: a_match(windows=changed(values=with_value(np.nan))), "value 3 is nan"),
        (lambda: a_match(windows=changed(series="other/a")), "both must have the same universe"),
        (lambda: a_match(windows=changed(series="nameless")), "both must have the same universe"),
        (
            lambda: a_match(
                specification=a_specification(transform=Transform.LOG),
                windows=changed(values=with_value(-1.0)),
            ),
            "log needs values above zero",
        ),
        (
            lambda: a_match(windows=(WINDOW, *changed(values=with_value(1.0)))),
            "windows of the same series and time must be equal",
        ),
        (
            lambda: a_match(
                specification=a_specification(neighbours=1000), windows=(WINDOW,) * 200
            ),
            "send at most 18 windows in one Match",
        ),
    ],
)
def test_a_match_that_makes_no_sense_is_refused(match: Callable[[], Match], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        request_checks.check_match(match())


def a_catalogue(**counts: int) -> Catalogue:
    catalogue = Catalogue()
    series = tuple(SeriesSummary(f"walk/{n}", c, 0, c, 1.0) for n, c in counts.items())
    catalogue.surveyed(Surveyed(series=series, shard_points=64))
    return catalogue


def test_an_unknown_universe_is_refused_and_the_known_ones_named() -> None:
    request = a_match(specification=a_specification(universe="elsewhere"))
    with pytest.raises(UnknownSeries, match="stored: walk"):
        request_checks.check_known(request, a_catalogue(a=100))


def test_an_unknown_series_is_refused() -> None:
    with pytest.raises(UnknownSeries, match="series walk/a;"):
        request_checks.check_known(a_match(), a_catalogue(b=100))


def test_a_window_longer_than_all_history_is_refused_with_the_points_there_are() -> None:
    with pytest.raises(BadInput, match="walk/a, has 15 points"):
        request_checks.check_known(a_match(), a_catalogue(a=15, b=3))


def test_a_window_as_long_as_the_history_passes() -> None:
    request_checks.check_known(a_match(), a_catalogue(a=16))


def found(**changes: object) -> Evidence:
    given = {"specification": a_specification(), "window": WINDOW, "matches": Matches()}
    return Evidence(**(given | {"index": 99} | changes))  # type: ignore[arg-type]


def test_a_window_that_is_stored_passes() -> None:
    request_checks.check_found(a_match(), [found()], a_catalogue(a=100))


def test_a_window_without_its_tick_is_refused_and_the_last_tick_named() -> None:
    with pytest.raises(BadInput, match=r"walk/a at \d+: .* no tick .* last tick is at 98\. Append"):
        request_checks.check_found(a_match(), [found(index=-1)], a_catalogue(a=98))


def test_a_window_without_its_tick_is_answered_when_nothing_is_recorded() -> None:
    request_checks.check_found(a_match(record=False), [found(index=-1)], a_catalogue(a=98))


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize(
    ("stored", "message"), [(7.5, "7.5 is stored"), (None, "nothing is stored there")]
)
def test_a_window_of_another_past_is_refused_with_both_values(
    record: bool, stored: float | None, message: str
) -> None:
    other = found(agrees=False, differs_at=3, stored=stored)
    with pytest.raises(BadInput, match=f"walk/a at .*: value 3 is {WINDOW.array()[3]}, {message}"):
        request_checks.check_found(a_match(record=record), [other], a_catalogue(a=100))


@pytest.mark.parametrize(
    ("column", "error"),
    [
        (Column("walk/a", b"1" * 8, b""), BadInput),
        (Column("walk/a", np.array([2, 1]).tobytes(), np.ones(2).tobytes()), StaleTick),
        (Column("walk/a", np.array([1]).tobytes(), np.array([np.nan]).tobytes()), BadInput),
        (Column("a", np.array([1]).tobytes(), np.ones(1).tobytes()), BadInput),
        (a_column(frames.TICKS_MAX + 1), BadInput),
        (Column("walk/a", b"", b""), BadInput),
    ],
)
def test_a_column_that_cannot_be_stored_is_refused(column: Column, error: type[BadInput]) -> None:
    with pytest.raises(error):
        request_checks.check_append(frames.Append(columns=(a_column(10, series="walk/b"), column)))


NOW_S = 1_800_000_000.0


def an_append(*times: int, series: str = "walk/a") -> frames.Append:
    return frames.Append(columns=(column(series, times, [1.0] * len(times)),))


@pytest.mark.parametrize("time", [TIME_MAX, int((NOW_S + 61) * 1e6)])
def test_a_tick_too_far_ahead_of_the_clock_is_refused_with_the_setting(time: int) -> None:
    with pytest.raises(BadInput, match=rf"walk/a at {time}: .*coordinator\.ahead_s = 60 "):
        request_checks.check_times(an_append(5, time), now_s=NOW_S, ahead_s=60)


@pytest.mark.parametrize(
    ("time", "ahead_s"), [(TIME_MIN, 60), (0, 60), (int((NOW_S + 59) * 1e6), 60), (TIME_MAX, 0)]
)
def test_a_tick_that_is_old_or_a_little_ahead_is_taken(time: int, ahead_s: float) -> None:
    request_checks.check_times(an_append(time), now_s=NOW_S, ahead_s=ahead_s)
    request_checks.check_times(
        frames.Append(columns=(Column("a/b", b"", b""),)), now_s=0, ahead_s=60
    )


def test_times_that_jump_from_the_end_to_the_beginning_are_out_of_order() -> None:
    times = np.array([TIME_MAX, TIME_MIN]).tobytes()
    with pytest.raises(StaleTick, match="not later than the tick before"):
        request_checks.check_append(frames.Append(columns=(Column("a/b", times, bytes(16)),)))


def test_an_append_to_a_universe_that_is_not_granted_names_those_that_are() -> None:
    request = frames.Append(columns=(*an_append(1, series="fx/a").columns, *an_append(1).columns))
    granted = Grant(frozenset({"fx", "load"}))
    with pytest.raises(NotGranted, match=r"client/u1 may not append to walk/a: .*: fx, load; add"):
        request_checks.check_granted(request, CLIENT, granted)
    request_checks.check_granted(request, CLIENT, granted | Grant(frozenset({"walk"})))
    request_checks.check_granted(request, CLIENT, EVERYTHING)


def test_a_client_that_may_not_drain_is_told_the_line_that_is_missing() -> None:
    with pytest.raises(NotGranted, match=f"the line `{CLIENT.name}  drain` into the allowlist"):
        request_checks.check_may_drain(CLIENT, EVERYTHING)


def test_an_operator_and_a_client_with_the_grant_may_drain() -> None:
    request_checks.check_may_drain(CLIENT, Grant(drain=True))
    request_checks.check_may_drain(identity.make("local", Kind.OPERATOR, "o1"), NOTHING)


def test_more_columns_than_allowed_are_refused_before_they_are_looked_at() -> None:
    column = Column("no name at all", b"", b"")
    with pytest.raises(
        BadInput, match="1,025 columns in one Append, at most 1,024 are allowed: split the Append"
    ):
        request_checks.check_append(frames.Append(columns=(column,) * 1025))


@pytest.mark.parametrize("name", ["x" * 300, "agent/a\x00", "agent/\u202e"])
def test_what_cannot_be_the_name_of_a_member_is_not_passed_on(name: str) -> None:
    with pytest.raises(BadInput, match="name of a member"):
        request_checks.check_retire(Retire(name=name))


def test_an_id_of_any_length_is_not_looked_up() -> None:
    request_checks.check_lookup(Lookup(experience_ids=(b"x" * 32,)))
    with pytest.raises(BadInput, match="experience 1"):
        request_checks.check_lookup(Lookup(experience_ids=(b"x" * 32, b"x" * 65)))
