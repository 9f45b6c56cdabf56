"""Each write is stored once, even if it is repeated or retried, in any order and any batches."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer.domain.errors import MidstreamerError, StoreError
from midstreamer.protocol.frames import Write
from midstreamer.store.memory import MemoryStore
from midstreamer.store.store_interface import Transaction
from midstreamer.sync.commit import Committer
from tests.support import recomputed_states
from tests.support import store_builders as build

SERIES = ("test/A", "test/B")


def _story(steps: int = 8) -> list[Write]:
    """Return writes of ticks and decisions of two series, in the order of their times."""
    writes = [build.a_write(*(build.a_column(0, 4, name=name) for name in SERIES))]
    for at in range(4, 4 + steps):
        for name in SERIES:
            writes.append(build.a_write(build.a_column(at, at + 1, name=name)))
            writes.append(build.a_write(decisions=[build.a_decision(at, name=name)]))
    return writes


async def _contents_after(store: MemoryStore, batches: Sequence[Sequence[Write]]) -> dict[str, Any]:
    committer = build.a_committer(store)
    for batch in batches:
        await committer.commit([build.given(write) for write in batch])
    assert await recomputed_states.check(store) == []
    return await build.contents(store)


STORY = _story()
PLAIN = asyncio.run(_contents_after(MemoryStore(), [[write] for write in STORY]))


@given(st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_repeats_and_other_batches_change_nothing(random: Any) -> None:
    batches: list[list[Write]] = []
    at = 0
    while at < len(STORY):
        upto = min(at + random.randint(1, 6), len(STORY))
        again = [STORY[random.randrange(upto)] for _ in range(random.randint(0, 3))]
        batches.append([*STORY[at:upto], *again])
        at = upto
    assert asyncio.run(_contents_after(MemoryStore(), batches)) == PLAIN


def _mixed(random: Any) -> list[Write]:
    """Return the writes of `_story` in random order; the ticks of each series stay in order."""
    queues = [
        [write for write in STORY[1:] if any(column.series == name for column in write.columns)]
        for name in SERIES
    ]
    queues += [[write] for write in STORY if write.decisions]
    mixed = STORY[:1]
    while queues:
        chosen = random.choice(queues)
        mixed.append(chosen.pop(0))
        queues = [queue for queue in queues if queue]
    return mixed


@given(st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_decisions_in_any_order_end_with_the_same_rows(random: Any) -> None:
    async def tell() -> MemoryStore:
        store, left = MemoryStore(), _mixed(random)
        committer = build.a_committer(store)
        # A decision that comes before its ticks is refused in the first round, and committed in
        # the second.
        for _ in range(2):
            committed = await committer.commit([build.given(write) for write in left])
            refused = [isinstance(outcome, MidstreamerError) for outcome in committed.outcomes]
            left = list(itertools.compress(left, refused))
        assert left == []
        assert await recomputed_states.check(store) == []
        return store

    store = asyncio.run(tell())
    assert asyncio.run(build.contents(store))["points"] == PLAIN["points"]
    assert (len(store.decisions), len(store.verdicts)) == (16, 12)


class _Failing(MemoryStore):
    """A store that loses its connection before or after a commit, as a script says."""

    def __init__(self, script: list[str]) -> None:
        super().__init__()
        self._script = script

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        fate = self._script.pop() if self._script else "well"
        if fate == "before":
            raise StoreError("connection lost before the transaction", retry_after_s=1.0)
        async with super().transaction() as writing:
            yield writing
        if fate == "after":
            raise StoreError("connection lost: the Write may be stored or not", retry_after_s=1.0)


async def _insist(committer: Committer, write: Write) -> None:
    while True:
        try:
            await build.commit(committer, write)
        except StoreError:
            continue
        return


@given(st.lists(st.sampled_from(["before", "after", "well"]), max_size=60))
@settings(max_examples=40)
def test_a_store_that_fails_between_transactions_loses_and_doubles_nothing(
    script: list[str],
) -> None:
    async def tell() -> dict[str, Any]:
        store = _Failing(script)
        committer = build.a_committer(store)
        for write in STORY:
            await _insist(committer, write)
        assert await recomputed_states.check(store) == []
        return await build.contents(store)

    assert asyncio.run(tell()) == PLAIN
