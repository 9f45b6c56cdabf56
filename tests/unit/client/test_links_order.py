"""The order in which the client asks coordinators."""

from __future__ import annotations

from types import SimpleNamespace

from midstreamer.client.links import Links
from midstreamer.transport.memory import MemoryNetwork
from tests.support.client_builders import a_carrier


def test_a_coordinator_that_fell_silent_is_asked_last_though_it_answered_last() -> None:
    carrier = a_carrier(MemoryNetwork())
    links = Links(lambda: carrier, ["a:1", "b:1"])
    silent = SimpleNamespace(serves=True, is_silent=True)
    links._kept = {"a:1": silent, "b:1": SimpleNamespace(serves=True, is_silent=False)}  # type: ignore[dict-item]
    links._preferred = "a:1"
    assert links.ready() == ["b:1", "a:1"]
    silent.is_silent = False
    assert links.ready() == ["a:1", "b:1"]
