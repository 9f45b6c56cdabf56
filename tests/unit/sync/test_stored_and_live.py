"""Decisions are the same whether their ticks were stored long before or arrive live."""

from __future__ import annotations

import asyncio

import msgspec
import numpy as np

from midstreamer import reasoning
from midstreamer.domain import series
from midstreamer.domain.decision import Decision
from midstreamer.store.memory import MemoryStore
from tests.support import reasoning_builders as make
from tests.support import recomputed_states
from tests.support import store_builders as build

SPECIFICATION = make.a_specification()
NAMES = ("u/a", "u/b")
FIRST, LAST = 20, 220
DICE = np.random.default_rng(1)
VALUES = {name: 10 + DICE.standard_normal(LAST).cumsum() for name in NAMES}
OUTCOMES = {
    (n, at): DICE.normal(0, 1.5) + DICE.standard_normal(10) for n in NAMES for at in range(LAST)
}


def _columns(start: int, stop: int) -> list[series.Column]:
    times = [at * make.HOUR for at in range(start, stop)]
    return [series.column(name, times, VALUES[name][start:stop]) for name in NAMES]


def _decided(store: MemoryStore, name: str, at: int) -> Decision:
    kept = store.state_of.get(SPECIFICATION.stream)
    state = reasoning.decode(kept[1].body) if kept else reasoning.initial(SPECIFICATION)
    values = VALUES[name][at - 7 : at + 1]
    evidence = make.evidence_of(OUTCOMES[name, at], values=values, name=name, index=at)
    return reasoning.decide(evidence, state)


async def _story(*, ahead: bool) -> tuple[list[Decision], MemoryStore]:
    store, decisions = MemoryStore(), []
    committer = build.a_committer(store)
    await build.commit(committer, build.a_write(*_columns(0, LAST if ahead else FIRST)))
    for at in range(FIRST, LAST):
        if not ahead:
            await build.commit(committer, build.a_write(*_columns(at, at + 1)))
        decided = [_decided(store, name, at) for name in NAMES]
        await build.commit(committer, build.a_write(decisions=decided))
        decisions += [msgspec.structs.replace(each, state_version=0) for each in decided]
    return decisions, store


def test_ticks_stored_first_are_decided_about_as_ticks_that_come_live() -> None:
    live, live_store = asyncio.run(_story(ahead=False))
    stored, here = asyncio.run(_story(ahead=True))
    assert stored == live
    assert any(each.low > -np.inf for each in live), (
        "no interval was learned: the story is too short for this test"
    )
    assert here.state_of == live_store.state_of
    assert asyncio.run(recomputed_states.check(here)) == []
