"""What somebody who looks after a store may ask: bring it up to date, show it, prove it.

Behind `midstreamer db`.  Each function takes an open store and returns values; printing is the
command line's part.  `replay_state` folds events again with the rules handed in (`reasoning`),
which this room does not know: so a stored state can be proved to be what its events say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.store.ports import Status, Store, StoredState

EVENTS_A_READ = 512


class Rules(NamedTuple):
    """How a state is begun, carried on and written: the functions of `reasoning`."""

    initial: Callable[[Specification], object]
    learn: Callable[..., object]
    encode: Callable[..., bytes]
    decode: Callable[[bytes], object]


async def migrate(store: Store) -> Status:
    """Bring the schema up to date; opening a store does just that."""
    await store.open()
    return await store.status()


async def status(store: Store) -> Status:
    """Schema version, counts and sizes."""
    return await store.status()


async def check(store: Store, rules: Rules | None = None) -> list[str]:
    """Everything that contradicts a promise; with rules, every state is folded again too."""
    faults = await store.faults()
    if rules is not None:
        for _, state in await store.streams():
            if await replay_state(store, rules, state.stream, state.version) != state.body:
                faults.append(
                    f"stream {state.stream}: version {state.version} is not what its events give"
                )
    return faults


async def replay_state(store: Store, rules: Rules, stream: str, version: int) -> bytes:
    """Any version of a state, folded from the snapshot before it."""
    found = {state.stream: (spec, state) for spec, state in await store.streams()}
    if stream not in found:
        raise BadInput(f"stream {stream!r}: nothing was learned there; known: {sorted(found)}")
    specification, newest = found[stream]
    if not 0 <= version <= newest.version:
        raise BadInput(f"stream {stream}: version {version} is outside 0 to {newest.version}")
    kept = await store.snapshot(stream, version)
    return await _folded(store, rules, specification, kept or StoredState(stream, 0, b""), version)


async def _folded(
    store: Store, rules: Rules, specification: Specification, kept: StoredState, version: int
) -> bytes:
    state = rules.decode(kept.body) if kept.version else rules.initial(specification)
    at = kept.version
    while at < version:
        upto = min(version, at + EVENTS_A_READ)
        events: list[Decision | Verdict] = await store.events(kept.stream, at, upto)
        for event in events:
            state = rules.learn(state, event)
        at = upto
    return rules.encode(state)
