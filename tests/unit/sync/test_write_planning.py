"""`planning`: which parts of a write are stored, which are repeats, which are refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from midstreamer import reasoning
from midstreamer.domain import series
from midstreamer.domain.decision import Decision, Evidence
from midstreamer.domain.errors import BadInput, Conflict, MidstreamerError, StaleTick
from midstreamer.domain.match import Matches
from midstreamer.domain.series import Column
from midstreamer.domain.specification import Transform
from midstreamer.protocol import frames
from midstreamer.store.store_interface import Mark, Run
from midstreamer.sync import write_planning
from midstreamer.sync.write_planning import Facts, PartTaken
from tests.support.store_builders import (
    SPECIFICATION,
    STEP,
    a_column,
    a_decision,
    a_write,
    given,
    renamed,
    value_at,
)


def _outcomes(*writes: frames.Write) -> tuple[PartTaken | MidstreamerError, ...]:
    return write_planning.plan([given(write) for write in writes], Facts()).outcomes


def _refused(*writes: frames.Write) -> str:
    outcome = _outcomes(*writes)[-1]
    assert isinstance(outcome, MidstreamerError)
    return f"{outcome.code}: {outcome.message}"


def _taken(*writes: frames.Write) -> PartTaken:
    outcome = _outcomes(*writes)[-1]
    assert isinstance(outcome, PartTaken)
    return outcome


def test_new_ticks_get_the_next_positions() -> None:
    plan = write_planning.plan([given(a_write(a_column(0, 3), a_column(3, 5)))], Facts())
    assert [(start, len(column)) for start, column in plan.points] == [(0, 3), (3, 2)]


def test_the_same_ticks_again_are_repeated() -> None:
    taken = _taken(a_write(a_column(0, 5)), a_write(a_column(0, 5)))
    assert (taken.stored, taken.repeated, taken.column_repeats) == (0, 5, (5,))


def test_a_column_that_overlaps_its_past_adds_only_what_is_new() -> None:
    batch = [given(a_write(a_column(0, 5))), given(a_write(a_column(3, 8)))]
    plan = write_planning.plan(batch, Facts())
    assert [(start, len(column)) for start, column in plan.points] == [(0, 5), (5, 3)]
    assert plan.points[1][1] == a_column(5, 8)


def test_another_value_at_a_stored_time_names_both() -> None:
    message = _refused(a_write(a_column(0, 5)), a_write(a_column(4, 5, shift=1.0)))
    assert message.startswith(f"conflict: test/A at {4 * STEP}: ")
    assert str(value_at(4)) in message
    assert str(value_at(4) + 1.0) in message


def test_an_old_time_that_is_not_stored_is_stale() -> None:
    half = Column("test/A", a_column(0, 1).times, a_column(0, 1).values)
    later = a_write(a_column(2, 5))
    message = _refused(later, a_write(half))
    assert message.startswith("stale_tick: test/A at 0: no tick is stored at this time")
    assert str(4 * STEP) in message


def test_a_column_is_taken_whole_or_not_at_all() -> None:
    good, bad = a_column(0, 5, name="test/B"), a_column(4, 9, shift=1.0)
    plan = write_planning.plan([given(a_write(a_column(0, 5))), given(a_write(good, bad))], Facts())
    assert isinstance(plan.outcomes[1], Conflict)
    assert [column.series for _, column in plan.points] == ["test/A"]


def test_a_refused_write_leaves_no_trace_for_its_neighbours() -> None:
    bad = a_write(a_column(5, 9), a_column(0, 1, shift=1.0), sequence=2)
    plan = write_planning.plan(
        [given(w) for w in (a_write(a_column(0, 5)), bad, a_write(a_column(5, 7), sequence=3))],
        Facts(),
    )
    assert [(start, len(column)) for start, column in plan.points] == [(0, 5), (5, 2)]
    assert isinstance(plan.outcomes[2], PartTaken)


def test_an_empty_column_changes_nothing() -> None:
    taken = _taken(a_write(a_column(0, 0)))
    assert (taken.stored, taken.repeated) == (0, 0)


def test_the_same_decision_again_is_returned_as_stored() -> None:
    first = a_decision(5)
    again = renamed(first, probability=0.9, state_version=77)
    taken = _taken(
        a_write(a_column(0, 6), decisions=[first]), a_write(decisions=[again], sequence=2)
    )
    assert taken.decisions == (first,)
    assert (taken.stored, taken.repeated) == (0, 1)


def test_the_same_decision_with_another_window_names_both() -> None:
    first, other = a_decision(5), a_decision(5, shift=2.0)
    assert first.experience_id == other.experience_id
    message = _refused(a_write(a_column(0, 6), decisions=[first]), a_write(decisions=[other]))
    assert message.startswith(f"conflict: decision {first.experience_id.hex()} of test/A")
    assert str(value_at(2) + 2.0) in message
    assert str(value_at(2)) in message


def test_a_decision_about_ticks_that_are_not_stored_is_refused() -> None:
    assert "of the series holds nothing" in _refused(a_write(decisions=[a_decision(5)]))
    shifted = renamed(a_decision(5), index=4)
    message = _refused(a_write(a_column(0, 6), decisions=[shifted]))
    assert f"position 4 of the series holds the tick of {4 * STEP}" in message


def test_a_decision_becomes_due_when_its_tick_comes() -> None:
    early = [given(a_write(a_column(0, 7), decisions=[a_decision(5)]))]
    assert write_planning.plan(early, Facts()).due == ()
    late = [*early, given(a_write(a_column(7, 8), sequence=2))]
    ((decision, point),) = write_planning.plan(late, Facts()).due
    assert (decision, point.value) == (a_decision(5), value_at(7))


def test_a_decision_that_does_not_settle_is_stored_and_never_due() -> None:
    window = series.window([1.0, 2.0, 4.0, 3.0])
    unsettled = reasoning.decide(
        Evidence(SPECIFICATION, window, Matches()), reasoning.initial(SPECIFICATION)
    )
    write_planning.check_write(a_write(decisions=[unsettled]))
    plan = write_planning.plan([given(a_write(a_column(0, 20), decisions=[unsettled]))], Facts())
    assert plan.decisions == (unsettled,)
    assert plan.due == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": b"\0" * 8}, "not 4 values"),
        ({"time": 7}, "its id should be"),
        ({"experience_id": b"\0" * 16}, "its id should be"),
        ({"reason": None}, "an abstention only a reason"),
        ({"arms": ()}, "0 arms, from 1 to 16 are allowed"),
        ({"arms": (0.5,) * 17}, "17 arms"),
        ({"arms": (0.5, 1e200)}, "an arm is 1e"),
        ({"arms": (float("nan"),)}, "an arm is nan"),
        ({"time": 2**63}, "64 bits"),
        ({"index": -1}, "names a series and has no position in it"),
        ({"probability": float("nan")}, "not a number"),
        ({"specification": msgspec.structs.replace(SPECIFICATION, horizon=0)}, "horizon"),
    ],
)
def test_a_decision_that_contradicts_itself_is_refused(
    changes: dict[str, object], says: str
) -> None:
    wrong = renamed(a_decision(5), **changes)
    with pytest.raises(BadInput, match=says):
        write_planning.check_write(a_write(decisions=[wrong]))


def test_a_decision_of_another_universe_is_refused() -> None:
    wrong = a_decision(5, name="other/A")
    with pytest.raises(BadInput, match="universe test"):
        write_planning.check_write(a_write(decisions=[wrong]))


def test_a_write_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadInput, match="split the Write"):
        write_planning.check_write(a_write(a_column(0, frames.TICKS_MAX + 1)))


@pytest.mark.parametrize(("value", "error"), [(float("nan"), BadInput), (float("inf"), BadInput)])
def test_a_value_that_is_no_number_is_refused(value: float, error: type[Exception]) -> None:
    column = a_column(0, 1)
    wrong = msgspec.structs.replace(column, values=bytes(msgspec.msgpack.encode(value))[1:][::-1])
    with pytest.raises(error, match="not a finite number"):
        write_planning.check_write(a_write(wrong))


def test_ticks_out_of_order_are_refused() -> None:
    wrong = Column("test/A", a_column(1, 2).times + a_column(0, 1).times, a_column(0, 2).values)
    with pytest.raises(StaleTick, match="send each series in time order"):
        write_planning.check_write(a_write(wrong))


def test_sequences_are_counted_for_each_writer() -> None:
    writes = [given(a_write(sequence=n)) for n in (1, 2, 5, 2)]
    other = given(a_write(sequence=9), writer="c2")
    marks = write_planning.advanced([*writes, other], {})
    assert marks == (Mark("c1", "first", 5, 2, 1), Mark("c2", "first", 9, 0, 0))


def test_only_what_may_repeat_is_read() -> None:
    summary = frames.SeriesSummary("test/A", 5, 0, 4 * STEP, 1.0)
    fresh = write_planning.needed([given(a_write(a_column(5, 8)))], {"test/A": summary})
    assert fresh.spans == ()
    assert fresh.runs == (("test/A", 5, 8),)
    overlapping = write_planning.needed([given(a_write(a_column(3, 8)))], {"test/A": summary})
    assert overlapping.spans == (("test/A", 3 * STEP, 4 * STEP),)
    assert overlapping.ticks["test/A"].tolist() == [3 * STEP, 4 * STEP]


def test_only_the_times_in_a_column_are_read_however_wide_its_span() -> None:
    summary = frames.SeriesSummary("test/A", 10**7, 0, 10**7 * STEP, 1.0)
    sparse = series.column("test/A", [0, 10**7 * STEP], [1.0, 1.0])
    read = write_planning.needed([given(a_write(sparse))], {"test/A": summary})
    assert read.ticks["test/A"].tolist() == [0, 10**7 * STEP]


def test_nothing_is_read_for_decisions_that_are_stored() -> None:
    decision = a_decision(5)
    batch = [given(a_write(decisions=[decision]))]
    assert write_planning.needed(batch, {}).windows == (("test/A", 2, 6),)
    stored = write_planning.needed(batch, {}, {decision.experience_id})
    assert (stored.points, stored.windows) == ((), ())


@pytest.mark.parametrize("columns", [[a_column(0, 6)], [a_column(0, 4), a_column(4, 6)]])
def test_a_decision_about_other_values_than_are_stored_is_refused(columns: list[Column]) -> None:
    message = _refused(a_write(*columns, decisions=[a_decision(5, shift=2.0)]))
    assert f"value 0 of its window is {value_at(2) + 2.0!r}" in message
    assert f"{value_at(2)!r} is stored at position 2" in message
    assert isinstance(_outcomes(a_write(*columns, decisions=[a_decision(5)]))[0], PartTaken)


def test_a_window_is_compared_with_what_is_stored_and_what_the_batch_adds() -> None:
    summary = frames.SeriesSummary("test/A", 4, 0, 3 * STEP, value_at(3))
    stored = np.array([value_at(2), value_at(3)])
    facts = Facts(summaries={"test/A": summary}, windows={Run("test/A", 2, 6): stored})
    for shift, kind in ((0.0, PartTaken), (1.0, BadInput)):
        write = a_write(a_column(4, 6), decisions=[a_decision(5, shift=shift)])
        assert isinstance(write_planning.plan([given(write)], facts).outcomes[0], kind)


def test_a_window_longer_than_its_series_is_refused() -> None:
    early = renamed(a_decision(2), window=a_column(0, 4).values)
    assert "cannot end at position 2" in _refused(a_write(a_column(0, 6), decisions=[early]))


def test_the_sign_of_a_zero_makes_no_difference() -> None:
    def about(zero: float) -> frames.Write:
        values = np.array([1.0, zero, 2.0, 3.0])
        decided = renamed(a_decision(3), window=values.tobytes())
        column = Column("test/A", a_column(0, 4).times, values.tobytes())
        return write_planning.check_write(a_write(column, decisions=[decided]))

    assert about(-0.0) == about(0.0)
    assert _taken(about(0.0), about(-0.0)).repeated == 5


def test_windows_that_differ_in_the_sign_of_a_zero_alone_are_told_apart() -> None:
    def about(zero: float) -> Decision:
        return renamed(a_decision(3), window=np.array([1.0, zero, 2.0, 3.0]).tobytes())

    stored = Facts(decisions={about(0.0).experience_id: about(0.0)})
    (refused,) = write_planning.plan([given(a_write(decisions=[about(-0.0)]))], stored).outcomes
    assert isinstance(refused, Conflict)
    assert "value 1: -0.0 was sent and 0.0 is stored" in refused.message


def test_an_id_depends_on_the_specification() -> None:
    other = msgspec.structs.replace(SPECIFICATION, transform=Transform.LOG)
    assert a_decision(5).experience_id != a_decision(5, specification=other).experience_id
