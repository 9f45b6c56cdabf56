"""Quotas bound series and streams in total and per client; a refusal names the client."""

from __future__ import annotations

import msgspec
import pytest

from midstreamer.coordinator import outbox
from midstreamer.coordinator.outbox import Outbox, Post, Reject, Settle
from midstreamer.coordinator.stored_items import Item
from midstreamer.domain.errors import BadInput, Conflict, MidstreamerError, QuotaExceeded
from midstreamer.domain.series import Column
from midstreamer.domain.specification import Specification
from midstreamer.protocol.frames import Caller, SeriesSummary, Write
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Usage
from midstreamer.sync import write_planning
from midstreamer.sync.config import SyncSettings
from midstreamer.sync.quota import Counted, Quotas
from midstreamer.sync.write_planning import Facts, PartTaken
from tests.support import store_builders as build

QUOTAS = Quotas(series_max=5, series_per_identity_max=3, streams_max=3, streams_per_identity_max=2)


def a_write(*names: str, by: str = "client/u1") -> Write:
    """Return a write of one client, with eight points for each of these series."""
    columns = tuple(build.a_column(0, 8, name=f"test/{name}") for name in names)
    return Write(sequence=1, columns=columns, callers=(Caller(by, len(columns)),))


def a_specification(horizon: int) -> Specification:
    return msgspec.structs.replace(build.SPECIFICATION, horizon=horizon)


def a_decided(*horizons: int, by: str = "client/u1") -> Write:
    """Return a write of one client, with one decision for each horizon, each in its own stream."""
    decisions = tuple(
        build.a_decision(5, specification=a_specification(horizon)) for horizon in horizons
    )
    return Write(sequence=1, decisions=decisions, callers=(Caller(by, 0, len(decisions)),))


def outcomes(*writes: Write, facts: Facts | None = None) -> list[str]:
    """Plan the writes as one batch; return the error of each write, empty where it succeeded."""
    plan = write_planning.plan([build.given(write) for write in writes], facts or Facts(), QUOTAS)
    return [
        "" if isinstance(outcome, PartTaken) else f"{outcome.code}: {outcome}"
        for outcome in plan.outcomes
    ]


async def commit_outcomes(*writes: Write) -> list[str]:
    """Commit the writes one after another; return the error of each, empty where it succeeded."""
    committer = build.a_committer(MemoryStore(), QUOTAS)
    found = []
    for write in writes:
        (outcome,) = (await committer.commit([build.given(write)])).outcomes
        found.append(f"{outcome.code}: {outcome}" if isinstance(outcome, MidstreamerError) else "")
    return found


def test_a_client_that_made_its_share_of_series_makes_no_more() -> None:
    facts = Facts(counted=Counted(Usage(2, 0), {"client/u1": Usage(2, 0)}))
    (refusal,) = outcomes(a_write("a", "b"), facts=facts)
    assert refusal == (
        "quota_exceeded: client/u1: 2 new series were requested and it has made 2; the limit"
        " sync.series_per_identity_max is 3: append to series that exist, or raise the limit"
    )


def test_the_store_takes_no_more_series_than_its_quota_from_anybody() -> None:
    facts = Facts(counted=Counted(Usage(4, 0)))
    assert outcomes(a_write("a", by="client/u2"), a_write("b"), facts=facts) == [
        "",
        "quota_exceeded: client/u1: 1 new series were requested and 5 are stored; the limit"
        " sync.series_max is 5: append to series that exist, or raise the limit",
    ]


def test_series_that_exist_grow_whatever_the_quota() -> None:
    known = SeriesSummary("test/a", 8, 0, 7 * build.STEP, build.value_at(7))
    facts = Facts({"test/a": known}, counted=Counted(Usage(99, 0), {"client/u1": Usage(99, 0)}))
    more = Write(sequence=1, columns=(build.a_column(8, 12, name="test/a"),))
    assert outcomes(more, facts=facts) == [""]


def test_a_refused_write_uses_up_nothing() -> None:
    refused, *others = outcomes(
        a_write("a", "b", "c", "d"), a_write("a", "b", "c"), a_write("d", by="client/u2")
    )
    assert refused.startswith("quota_exceeded: client/u1: 4 new series were requested")
    assert others == ["", ""]


def test_a_series_counts_for_the_client_that_asked_first() -> None:
    first, second = a_write("a", "b"), a_write("b", "c", by="client/u2")
    plan = write_planning.plan([build.given(first), build.given(second)], Facts(), QUOTAS)
    assert plan.series_makers == {
        "test/a": "client/u1", "test/b": "client/u1", "test/c": "client/u2"
    }  # fmt: skip


async def test_a_series_counts_for_the_second_client_when_the_first_is_refused() -> None:
    """A series counts for the client whose write creates it.

    The first write names the new series too, but it is refused for another reason. So the series
    counts for the second client, whose quota is full. If the series counted for the first client,
    the second write would be accepted.
    """
    wrong = Write(
        sequence=3,
        columns=(
            build.a_column(0, 4, name="test/new"),
            build.a_column(0, 4, name="test/a", shift=1),
        ),
        callers=(Caller("client/u2", 2),),
    )
    full = a_write("a", "b", "c")
    committer = build.a_committer(MemoryStore(), QUOTAS)
    await committer.commit([build.given(full)])
    batch = [build.given(wrong), build.given(a_write("new"))]
    first, second = (await committer.commit(batch)).outcomes
    assert isinstance(first, Conflict)
    assert isinstance(second, QuotaExceeded)


async def test_each_specification_that_is_recorded_uses_up_a_stream() -> None:
    found = await commit_outcomes(a_write("A"), a_decided(2, 3), a_decided(2, 3), a_decided(4))
    assert found[:3] == ["", "", ""]
    assert found[3] == (
        "quota_exceeded: client/u1: 1 new streams were requested and it has made 2; the limit"
        " sync.streams_per_identity_max is 2: match with a specification that is in use, or with"
        " record = false, or raise the limit"
    )


async def test_streams_are_bounded_in_all_and_learn_on() -> None:
    writes = a_decided(2, 3), a_decided(4, by="client/u2"), a_decided(5, by="client/u2")
    again = Write(sequence=9, columns=(build.a_column(8, 12),))
    found = await commit_outcomes(a_write("A"), *writes, again)
    assert found[3].startswith("quota_exceeded: client/u2: 1 new streams were requested and 3 are")
    assert [*found[:3], found[4]] == ["", "", "", ""]


async def test_without_callers_the_writer_is_counted() -> None:
    columns = a_write("a", "b", "c", "d").columns
    (refusal,) = await commit_outcomes(Write(sequence=1, columns=columns))
    assert refusal.startswith("quota_exceeded: c1: 4 new series were requested")


@pytest.mark.parametrize(
    "callers",
    [(Caller("client/u1", 1),), (Caller("client/u1", 3), Caller("client/u2", -1)),
     (Caller("client/u1", 2, 1),)],
)  # fmt: skip
def test_callers_that_do_not_share_out_a_write_are_refused(callers: tuple[Caller, ...]) -> None:
    write = msgspec.structs.replace(a_write("a", "b"), callers=callers)
    with pytest.raises(BadInput, match="2 columns and 0 decisions names callers for"):
        write_planning.check_write(write)


def test_more_columns_than_allowed_are_refused_before_they_are_looked_at() -> None:
    column = Column("no name at all", b"", b"")
    with pytest.raises(BadInput, match=r"0 ticks in 1,025 columns .* at most 100,000, 1,024 and"):
        write_planning.check_write(Write(sequence=1, columns=(column,) * 1025))


def test_one_client_gets_half_unless_told_otherwise() -> None:
    assert SyncSettings(series_max=10, streams_max=1).quotas.each == Usage(5, 1)
    assert SyncSettings(series_per_identity_max=7).quotas.each == Usage(7, 512)


async def test_a_refused_item_fails_alone_and_by_the_name_of_its_caller() -> None:
    committer = build.a_committer(MemoryStore(), QUOTAS)
    box, errors_by_key = Outbox(), dict[int, str]()
    items = {
        1: Item(a_write("u1-a").columns, identity="client/u1"),
        2: Item(a_write("u1-b").columns, identity="client/u1"),
        3: Item(a_write("a", "b", "c", "d").columns, identity="client/greedy"),
        4: Item(a_write("u2-a").columns, identity="client/u2"),
    }
    todo = [effect for key, item in items.items()
            for effect in box.handle(outbox.Offered(key, item), 0.0)]  # fmt: skip
    posts = 0
    while todo:
        match todo.pop(0):
            case Post(write):
                posts += 1
                (outcome,) = (
                    await committer.commit([build.given(write_planning.check_write(write))])
                ).outcomes
                failed = isinstance(outcome, MidstreamerError)
                event = outbox.Failed if failed else outbox.Answered
                todo += box.handle(event(write.sequence, outcome), 0.0)  # type: ignore[arg-type]
            case Settle(key):
                errors_by_key[key] = ""
            case Reject(key, error):
                assert isinstance(error, QuotaExceeded)
                errors_by_key[key] = error.message.partition(":")[0]
    assert errors_by_key == {1: "", 2: "", 3: "client/greedy", 4: ""}
    assert posts == 2
