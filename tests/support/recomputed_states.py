"""Computes states again from their events, on any store.

`store.audit` reads PostgreSQL only; this module checks the memory store too.
"""

from __future__ import annotations

from midstreamer import reasoning
from midstreamer.domain.decision import Decision
from midstreamer.domain.errors import BadInput
from midstreamer.domain.specification import Specification
from midstreamer.domain.verdict import Verdict
from midstreamer.store.store_interface import Store, StoredState

EVENTS_A_READ = 512


async def check(store: Store) -> list[str]:
    """Return the store's violated promises; compute each learning state again from its events."""
    faults = await store.faults()
    for _, state in await store.streams():
        if await replay_state(store, state.stream, state.version) != state.body:
            faults.append(
                f"stream {state.stream}: version {state.version} is not what its events give"
            )
    return faults


async def replay_state(store: Store, stream: str, version: int) -> bytes:
    """Return the encoded state of a version, computed from the snapshot before that version."""
    found = {state.stream: (spec, state) for spec, state in await store.streams()}
    if stream not in found:
        raise BadInput(f"stream {stream!r}: nothing was learned there; known: {sorted(found)}")
    specification, newest = found[stream]
    if not 0 <= version <= newest.version:
        raise BadInput(f"stream {stream}: version {version} is outside 0 to {newest.version}")
    kept = await store.snapshot(stream, version)
    return await _folded(store, specification, kept or StoredState(stream, 0, b""), version)


async def _folded(
    store: Store, specification: Specification, kept: StoredState, version: int
) -> bytes:
    state = reasoning.decode(kept.body) if kept.version else reasoning.initial(specification)
    at = kept.version
    while at < version:
        upto = min(version, at + EVENTS_A_READ)
        events: list[Decision | Verdict] = await store.events(kept.stream, at, upto)
        for event in events:
            state = reasoning.learn(state, event)
        at = upto
    return reasoning.encode(state)
