"""Each part of a Write, which holds the data of one caller, is accepted or refused by itself."""

from __future__ import annotations

import msgspec

from midstreamer.domain.errors import StaleTick
from midstreamer.domain.series import Column
from midstreamer.protocol.frames import Caller, Write, Written
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Mark
from midstreamer.sync import write_parts, write_planning
from midstreamer.sync.write_planning import Facts
from tests.support import store_builders as build


def a_write(*columns: Column, sequence: int = 1) -> Write:
    """Return a Write in which every column belongs to a different caller."""
    callers = tuple(Caller(f"client/u{place}", 1) for place in range(len(columns)))
    return Write(sequence=sequence, columns=columns, callers=callers)


async def test_a_part_that_is_refused_leaves_its_neighbours_as_they_are() -> None:
    store = MemoryStore()
    committer = build.a_committer(store)
    first = a_write(build.a_column(2, 5), build.a_column(0, 3, name="test/B"))
    await build.commit(committer, first)
    wrong = build.a_column(0, 2)
    write = a_write(build.a_column(3, 6), wrong, build.a_column(1, 5, name="test/B"), sequence=2)
    answer = await build.commit(committer, write)
    assert (answer.stored, answer.repeated, answer.column_repeats) == (3, 4, (2, 0, 2))
    assert [(refusal.place, refusal.code) for refusal in answer.refused] == [(1, "stale_tick")]
    assert [len(kept.times) for kept in store.series.values()] == [4, 5]
    assert store.mark_of == {("c1", "first"): Mark("c1", "first", 2, 0, 0)}


async def test_a_part_sees_what_the_parts_before_it_added_and_nothing_of_refused_ones() -> None:
    mixed = build.a_column(0, 4), build.a_column(0, 4, shift=1.0), build.a_column(4, 6)
    answer = await build.commit(build.a_committer(MemoryStore()), a_write(*mixed))
    assert isinstance(answer, Written)
    assert (answer.stored, [refusal.code for refusal in answer.refused]) == (6, ["conflict"])


async def test_a_write_of_one_part_is_refused_by_a_failure() -> None:
    committer = build.a_committer(MemoryStore())
    await build.commit(committer, a_write(build.a_column(3, 5)))
    committed = await committer.commit([build.given(a_write(build.a_column(0, 1), sequence=2))])
    assert isinstance(committed.outcomes[0], StaleTick)


def test_a_part_of_two_columns_that_fails_at_the_second_takes_back_the_first() -> None:
    columns = build.a_column(0, 4), build.a_column(0, 4, name="test/B")
    twice = (build.a_column(0, 2, name="test/C"), build.a_column(0, 4, shift=1.0))
    write = Write(
        sequence=1,
        columns=(*columns, *twice, build.a_column(4, 5, name="test/B")),
        callers=(Caller("client/u1", 2), Caller("client/u2", 2), Caller("client/u3", 1)),
    )
    plan = write_planning.plan([build.given(write)], Facts())
    assert [(start, column.series) for start, column in plan.points] == [
        (0, "test/A"), (0, "test/B"), (4, "test/B")
    ]  # fmt: skip
    assert set(plan.series_makers) == {"test/A", "test/B"}


def test_the_parts_of_a_write_are_all_of_it() -> None:
    decisions = build.a_decision(5), build.a_decision(6)
    write = msgspec.structs.replace(
        a_write(build.a_column(0, 4), build.a_column(4, 8)),
        decisions=decisions,
        callers=(Caller("client/u1", 2, 1), Caller("", 0, 0), Caller("", 0, 1)),
    )
    found = list(write_parts.parts_of([build.given(write)]))
    assert [(len(part.write.columns), len(part.write.decisions)) for part in found] == [
        (2, 1), (0, 0), (0, 1)
    ]  # fmt: skip
    assert tuple(d for part in found for d in part.write.decisions) == decisions
    assert [part.caller for part in found] == ["client/u1", "c1", "c1"]
