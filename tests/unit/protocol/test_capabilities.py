"""A peer gets only frames and changes that its capabilities include; old versions are refused."""

import pytest

from midstreamer.protocol import capabilities, codec, frames
from midstreamer.protocol.capabilities import CHANGE_NEEDS, Capability, lacking, told
from midstreamer.protocol.connection import CONTROL_STREAM, Code
from midstreamer.protocol.connection_effects import Finish
from tests.support.link_builders import Pair

CHANGES = (frames.Learned("s", 1, b""), frames.Skipped("Split"), frames.Joined(()))


OF_EVERY_VERSION = frozenset(
    {
        *("AgentHandshake", "CoordinatorAck", "Refusal", "Append", "Match", "Lookup", "Survey"),
        *("Search", "Holdings", "Write", "Renew", "Load", "Recall", "Tail"),
    }
)
"""Names of requests and statements that every version of protocol 2 knows. Do not add any."""


def test_a_frame_that_older_versions_do_not_know_needs_a_capability() -> None:
    newer = {
        kind
        for name, kind in frames.FRAMES.items()
        if name not in OF_EVERY_VERSION and not issubclass(kind, frames.Answer)
    }
    assert newer == set(capabilities.NEEDS)


def test_a_frame_that_needs_a_capability_is_sent_only_to_peers_with_it() -> None:
    for kind, needed in capabilities.NEEDS.items():
        frame = {frames.Cancel: frames.Cancel(1), frames.Drain: frames.Drain()}.get(
            kind, frames.Retire(name="agent/a1")
        )
        assert lacking(frame, ()) is needed
        assert lacking(frame, capabilities.OURS) is None
    assert lacking(frames.Survey(), ()) is None


def test_a_change_of_an_unknown_kind_is_sent_to_no_peer() -> None:
    for named in ((), capabilities.OURS):
        assert told(CHANGES, named) == (CHANGES[0], CHANGES[2])


def test_a_change_that_needs_a_capability_is_sent_only_to_peers_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CHANGE_NEEDS, frames.Joined, Capability.TOLERANT)
    assert told(CHANGES, ()) == (CHANGES[0],)
    assert told(CHANGES, [Capability.TOLERANT]) == (CHANGES[0], CHANGES[2])


def test_a_peer_of_an_old_version_is_refused_whatever_capabilities_it_names() -> None:
    pair = Pair()
    pair.far.start(0.0)
    hello = frames.AgentHandshake("a1", "agent", 1, capabilities=capabilities.OURS)
    (*_, finish) = pair.far.receive(CONTROL_STREAM, codec.encode(hello))
    assert isinstance(finish, Finish)
    assert finish.code == Code.VERSION
