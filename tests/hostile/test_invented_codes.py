"""A peer that refuses a handshake with an invented code cannot create a new metric label."""

from __future__ import annotations

import asyncio

import pytest

from midstreamer.domain import identity
from midstreamer.domain.errors import MidstreamerError
from midstreamer.domain.identity import Kind
from midstreamer.protocol import frames
from midstreamer.protocol.connection import Connection
from midstreamer.telemetry import metrics
from midstreamer.transport.carrier import Link
from midstreamer.transport.memory import MemoryCarrier, MemoryNetwork
from tests.support.fleet import eventually


def handshakes() -> dict[str, float]:
    """Return the number of handshakes for each value of the label `result`."""
    (family,) = [
        each for each in metrics.REGISTRY.collect() if each.name == "midstreamer_handshakes"
    ]
    return {each.labels["result"]: each.value for each in family.samples}


@pytest.mark.parametrize("code", ["accepted", "written by a peer", "x" * 3000])
async def test_a_refusal_with_a_code_of_the_peers_own_counts_as_other(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ignore(link: Link) -> None:
        await link.receive()

    network = MemoryNetwork()
    server = await MemoryCarrier(network, identity.make("local", Kind.COORDINATOR, "c1")).serve(
        "c1:1", ignore
    )
    before = handshakes()
    monkeypatch.setattr(Connection, "_greeting", lambda self: frames.Refusal(code, "no"))
    hostile = MemoryCarrier(network, identity.make("local", Kind.AGENT, "a1"))
    with pytest.raises(MidstreamerError):
        await asyncio.wait_for(hostile.dial("c1:1", expect=Kind.COORDINATOR), 5)
    await eventually(lambda: handshakes() != before)
    await server.close()
    assert handshakes() == {**before, "other": before.get("other", 0) + 1}
