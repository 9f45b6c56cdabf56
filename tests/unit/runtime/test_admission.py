"""A request waits for a place until one is free or until the request's deadline."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.domain.errors import Overloaded
from midstreamer.runtime.admission import Admission
from tests.support import virtual_time


def an_admission(limit: int, *, line: int | None = None) -> Admission:
    return Admission(limit, line=line, what="requests", setting="requests_max", retry_after_s=0.1)


async def hold(admission: Admission, identity: str, *, for_s: float, budget_s: float = 1.0) -> str:
    loop = asyncio.get_running_loop()
    async with admission.place(identity, loop.time() + budget_s):
        await asyncio.sleep(for_s)
        return identity


def test_a_request_in_line_is_admitted_when_a_place_comes_free() -> None:
    async def main() -> None:
        admission, loop = an_admission(2), asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.gather(*(hold(admission, "a", for_s=0.25) for _ in range(2)))
        assert loop.time() - began_s == pytest.approx(0.5)
        assert (admission.taken, admission.waiting) == (0, 0)

    virtual_time.run(main())


def test_a_request_waits_no_longer_than_its_deadline() -> None:
    async def main() -> None:
        admission = an_admission(2)
        holding = asyncio.ensure_future(hold(admission, "a", for_s=9.0))
        await asyncio.sleep(0)
        with pytest.raises(
            Overloaded, match="a has 1 requests .* may have 1, .*requests_max=2"
        ) as raised:
            await hold(admission, "a", for_s=0.0, budget_s=0.5)
        assert raised.value.retry_after_s == 0.1
        assert (admission.taken, admission.waiting) == (1, 0)
        await holding

    virtual_time.run(main())


def test_a_greedy_identity_does_not_delay_another() -> None:
    async def main() -> None:
        admission, loop = an_admission(4), asyncio.get_running_loop()
        greedy = [
            asyncio.ensure_future(hold(admission, "greedy", for_s=300.0, budget_s=300.0))
            for _ in range(20)
        ]
        await asyncio.sleep(0.001)
        began_s = loop.time()
        await hold(admission, "good", for_s=0.1)
        assert loop.time() - began_s == pytest.approx(0.1)
        for task in greedy:
            task.cancel()
        await asyncio.wait(greedy)
        assert (admission.taken, admission.waiting) == (0, 0)

    virtual_time.run(main())


def test_a_request_displaced_from_the_line_is_refused_by_name() -> None:
    async def main() -> None:
        admission = an_admission(2, line=2)
        names = ("a", "b", "a", "b", "c")
        tasks = [asyncio.ensure_future(hold(admission, name, for_s=0.5)) for name in names]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [
            str(outcome) if isinstance(outcome, str) else type(outcome) for outcome in done[:2]
        ] == ["a", "b"]
        assert done[2:] == ["a", "b", done[4]]
        # The queue was full. Each identity had only one request in it, so none was displaced by
        # the request of "c".
        assert isinstance(done[4], Overloaded)

    virtual_time.run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_place_is_given_back_whenever_its_caller_is_cancelled(turns: int) -> None:
    async def main() -> None:
        admission = an_admission(2, line=2)
        tasks = [
            asyncio.ensure_future(hold(admission, name, for_s=0.0))
            for name in ("a", "a", "b", "b", "c", "c")
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (admission.taken, admission.waiting) == (0, 0)
        assert await hold(admission, "a", for_s=0.0) == "a"

    virtual_time.run(main())
