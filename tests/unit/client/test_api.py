"""The asynchronous client against coordinators with scripted answers."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.client.api import AsyncClient
from midstreamer.domain.errors import (
    BadInput,
    Conflict,
    DeadlineExceeded,
    LocalProtocolError,
    MidstreamerError,
    NotGranted,
    Overloaded,
    Refused,
    Unavailable,
)
from midstreamer.domain.identity import Kind
from midstreamer.domain.series import Tick, column
from midstreamer.domain.specification import Specification
from midstreamer.protocol import frames
from midstreamer.protocol.frames import (
    Append,
    Appended,
    Experiences,
    Lookup,
    Match,
    Matched,
    Surveyed,
)
from midstreamer.transport.carrier import Link
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.client_builders import Script, a_carrier, a_decision, a_verdict, scripted

SPECIFICATION = Specification("sp500", window=8)
VALUES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


async def test_an_overloaded_coordinator_is_asked_again_until_it_answers() -> None:
    script = Script(Overloaded("full"), Overloaded("full"), Appended(stored=1))
    retried: list[str] = []
    async with scripted(script) as client:
        client.on_retry = lambda error, delay_s: retried.append(error.code)
        receipt = await client.append([Tick("sp500/AAPL", 1, 1.0)])
    assert receipt.stored == 1
    assert retried == ["overloaded", "overloaded"]


async def test_a_silent_coordinator_is_left_for_one_that_answers() -> None:
    script = Script(Surveyed(ticks=5))
    async with scripted(script, silent=["nobody:1"]) as client:
        assert (await client.survey()).ticks == 5
        assert (await client.survey()).ticks == 5
    assert len(script.asked) == 2


async def test_a_universe_that_is_not_granted_is_refused_at_once_and_not_retried() -> None:
    scripts = [Script(NotGranted("client/u1 may not append to sp500/AAPL")) for _ in range(2)]
    async with scripted(*scripts) as client:
        with pytest.raises(NotGranted, match="may not append"):
            await client.append([Tick("sp500/AAPL", 1, 2.0)])
    assert sorted(len(script.asked) for script in scripts) == [0, 1]


async def test_a_conflict_is_raised_as_such_and_not_repeated() -> None:
    script = Script(Conflict("AAPL at 1 is 1.0 and again 2.0"))
    async with scripted(script) as client:
        with pytest.raises(Conflict, match=r"1\.0 and again 2\.0"):
            await client.append([Tick("sp500/AAPL", 1, 2.0)])
    assert len(script.asked) == 1


async def test_the_highest_position_seen_is_sent_with_a_match() -> None:
    decision = a_decision()
    script = Script(Appended(position=41), Appended(position=7), Matched(decisions=(decision,)))
    async with scripted(script) as client:
        await client.append([Tick("sp500/AAPL", 1, 1.0)])
        await client.append([Tick("sp500/AAPL", 2, 1.0)])
        assert await client.match("sp500/AAPL", 2, VALUES, SPECIFICATION) == decision
        assert client.position == 41
    asked = script.asked[-1]
    assert isinstance(asked, Match)
    assert asked.at_least == 41


async def test_ticks_of_one_series_travel_as_one_column() -> None:
    script = Script(Appended(stored=3))
    ticks = [Tick("a", 1, 1.0), Tick("u/b", 1, 2.0), Tick("a", 2, 3.0)]
    async with scripted(script) as client:
        await client.append(ticks)
    asked = script.asked[0]
    assert isinstance(asked, Append)
    assert [(each.series, len(each)) for each in asked.columns] == [("default/a", 2), ("u/b", 1)]


async def test_columns_and_the_level_are_taken_as_given() -> None:
    script = Script(Appended(stored=2, level=frames.Level.RECEIVED))
    async with scripted(script) as client:
        receipt = await client.append([column("u/a", [1, 2], [1.0, 2.0])], level="received")
    assert receipt.level is frames.Level.RECEIVED


async def test_bad_input_is_refused_before_it_is_sent() -> None:
    script = Script(Appended())
    async with scripted(script) as client:
        with pytest.raises(BadInput, match="value nan is not a finite number"):
            await client.append([Tick("u/a", 1, float("nan"))])
        with pytest.raises(BadInput, match="has 2 values"):
            await client.match("sp500/AAPL", 1, [1.0, 2.0], SPECIFICATION)
    assert script.asked == []


async def test_lookups_are_split_and_joined() -> None:
    decision = a_decision()
    found = Experiences(decisions=(decision,), verdicts=(a_verdict(decision),))
    script = Script(found, Experiences())
    async with scripted(script) as client:
        answer = await client.lookup(number.to_bytes(16, "big") for number in range(300))
    assert (len(answer.decisions), len(answer.verdicts), len(script.asked)) == (1, 1, 2)


async def test_what_did_not_fit_into_an_answer_is_asked_for_again() -> None:
    first, second = a_decision(), a_decision(series="sp500/XOM")
    ids = first.experience_id, second.experience_id, b"never stored"
    script = Script(Experiences(decisions=(first,), left=ids[1:]), Experiences(decisions=(second,)))
    async with scripted(script) as client:
        answer = await client.lookup(ids)
    assert answer.decisions == (first, second)
    assert [asked.experience_ids for asked in script.asked if isinstance(asked, Lookup)] == [
        ids,
        ids[1:],
    ]


@pytest.mark.parametrize("left", [(b"a", b"b"), (b"c",)])
async def test_an_answer_that_leaves_what_was_not_asked_is_refused(left: tuple[bytes]) -> None:
    async with scripted(Script(Experiences(left=left))) as client:
        with pytest.raises(LocalProtocolError, match="an answer must have at least one of them"):
            await client.lookup([b"a", b"b"])


async def test_the_overall_deadline_ends_the_attempts() -> None:
    async with scripted(Script(Overloaded("full")), deadline_s=0.05) as client:
        with pytest.raises(DeadlineExceeded, match=r"the last error was error\[overloaded\]: full"):
            await client.survey()


@pytest.mark.parametrize("deadline_s", [float("nan"), 0.0, -1.0])
async def test_a_deadline_that_is_no_time_is_refused(deadline_s: float) -> None:
    script = Script(Surveyed())
    async with scripted(script, deadline_s=deadline_s) as client:
        with pytest.raises(BadInput, match=rf"deadline_s={deadline_s:g}"):
            await client.survey()
        client.deadline_s = float("inf")
        await client.survey()
    assert len(script.asked) == 1


async def test_an_answer_of_another_kind_is_refused() -> None:
    async with scripted(Script(Appended())) as client:
        with pytest.raises(LocalProtocolError, match="survey was answered with Appended"):
            await client.survey()


async def test_a_client_that_was_not_opened_says_so() -> None:
    client = AsyncClient(a_carrier(MemoryNetwork()), ["c1:1"])
    with pytest.raises(BadInput, match="async with"):
        await client.survey()


def test_a_client_needs_an_address() -> None:
    with pytest.raises(MidstreamerError, match="at least one coordinator"):
        AsyncClient(a_carrier(MemoryNetwork()), [])


async def test_a_client_that_is_refused_fails_at_once() -> None:
    class Closed(MemoryCarrier):
        async def dial(self, address: str, *, expect: Kind) -> Link:
            raise Refused("client/u1 is not on the allowlist")

    me = a_carrier(MemoryNetwork())
    client = AsyncClient(Closed(MemoryNetwork(), me.me), ["c1:1", "c2:1"], deadline_s=60.0)
    async with client:
        with pytest.raises(Refused, match="not on the allowlist"):
            await client.survey()


async def test_unreachable_coordinators_are_reported_after_the_time_to_reach_them() -> None:
    client = AsyncClient(a_carrier(MemoryNetwork()), ["c1:1", "c2:1"], deadline_s=30.0)
    loop = asyncio.get_running_loop()
    async with client:
        began_s = loop.time()
        with pytest.raises(Unavailable, match=r"no coordinator at c[12]:1.*client\.addresses"):
            await client.reach(0.2)
    assert loop.time() - began_s < 2.0


async def test_one_coordinator_of_several_is_enough_to_be_reached() -> None:
    async with scripted(Script(Appended()), silent=["nobody:1"]) as client:
        await client.reach(5.0)


async def test_an_address_where_nobody_listens_is_not_waited_for() -> None:
    client = AsyncClient(a_carrier(MemoryNetwork()), ["c1:1"], deadline_s=30.0)
    loop = asyncio.get_running_loop()
    async with client:
        began_s = loop.time()
        with pytest.raises(Unavailable, match=r"no coordinator at c1:1: .*client\.addresses"):
            await client.reach(20.0)
    assert loop.time() - began_s < 10.0
