"""A fault for `dashboards.faults`: a network that loses packets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from dashboards.fault_environment import COORDINATORS, World, meanwhile
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.runtime.peer import dial
from tests.observed.fleet import CLIENT
from tests.observed.load import carrier_of
from tests.support.relay import relayed

LOST = 0.3
"""Share of the datagrams that are dropped on the way from a coordinator to a client, 0 to 1."""
ASKING = 12
"""Number of links to each coordinator; each link always has one request in flight."""
BUDGET_S, PAUSE_S = 5.0, 0.01


@asynccontextmanager
async def lossy(world: World) -> AsyncIterator[None]:
    """Fault: the network loses packets that coordinators send in answer to requests of clients."""
    carrier = await carrier_of(f"client/{CLIENT}", str(world.certs))
    async with AsyncExitStack() as stack:
        for name in COORDINATORS:
            server = world.seen.fleet.places[name].plain
            relay = await stack.enter_async_context(relayed([server], seed=1, lost=LOST))

            async def ask(address: str = relay.address) -> None:
                with contextlib.suppress(MidstreamerError):
                    peer = await dial(carrier, address, expect=Kind.COORDINATOR)
                    try:
                        while True:
                            await peer.ask(frames.Lookup(experience_ids=()), budget_s=BUDGET_S)
                    finally:
                        await peer.close()
                await asyncio.sleep(PAUSE_S)

            await stack.enter_async_context(meanwhile(ask, ASKING))
        yield
