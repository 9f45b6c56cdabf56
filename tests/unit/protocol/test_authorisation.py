"""The table of permissions: which kind of peer may send which frame to which kind of peer."""

import itertools

import pytest

from midstreamer.domain.identity import Kind
from midstreamer.protocol import authorisation, frames
from tests.support.link_builders import AGENT

# All pairs (sender, receiver) of kinds that can have a link to each other.
MEETING = {
    (sender.value, receiver.value)
    for server, dialling in authorisation.DIALLED_BY.items()
    for kind in dialling
    for sender, receiver in ((server, kind), (kind, server))
}
# RIGHTS states a second time, apart from the code, who may send each frame to whom. So a new frame
# or permission must be added to the code and to RIGHTS. A permission that somebody adds to the code
# by mistake fails a test.
RIGHTS: dict[str, set[tuple[str, str]]] = {
    "AgentHandshake": set(),
    "CoordinatorAck": set(),
    "Refusal": set(),
    "Append": {("client", "coordinator")},
    "Appended": {("coordinator", "client")},
    "Match": {("client", "coordinator")},
    "Matched": {("coordinator", "client")},
    "Lookup": {
        ("client", "coordinator"),
        ("operator", "coordinator"),
        ("operator", "sync"),
        ("coordinator", "sync"),
    },
    "Experiences": {
        ("coordinator", "client"),
        ("coordinator", "operator"),
        ("sync", "operator"),
        ("sync", "coordinator"),
    },
    "Survey": {
        ("client", "coordinator"),
        ("operator", "coordinator"),
        ("operator", "sync"),
        ("agent", "sync"),
        ("coordinator", "sync"),
    },
    "Surveyed": {
        ("coordinator", "client"),
        ("coordinator", "operator"),
        ("sync", "operator"),
        ("sync", "agent"),
        ("sync", "coordinator"),
    },
    "Search": {("coordinator", "agent")},
    "Found": {("agent", "coordinator")},
    "Holdings": {("agent", "coordinator")},
    "Write": {("coordinator", "sync")},
    "Written": {("sync", "coordinator")},
    "Renew": {("agent", "sync"), ("coordinator", "sync")},
    "Fleet": {("sync", "agent"), ("sync", "coordinator")},
    "Load": {("agent", "sync"), ("coordinator", "sync")},
    "Loaded": {("sync", "agent"), ("sync", "coordinator")},
    "Recall": {("coordinator", "sync")},
    "Recalled": {("sync", "coordinator")},
    "Tail": {("agent", "sync"), ("coordinator", "sync")},
    "Changes": {("sync", "agent"), ("sync", "coordinator")},
    "Failure": {
        ("agent", "coordinator"),
        ("coordinator", "client"),
        ("coordinator", "operator"),
        ("coordinator", "agent"),
        ("sync", "agent"),
        ("sync", "coordinator"),
        ("sync", "operator"),
    },
    "Retire": {
        ("client", "coordinator"),
        ("operator", "coordinator"),
        ("operator", "sync"),
        ("coordinator", "sync"),
    },
    "Retired": {
        ("coordinator", "client"),
        ("coordinator", "operator"),
        ("sync", "operator"),
        ("sync", "coordinator"),
    },
    "Drain": MEETING,
    "Cancel": MEETING,
}


def test_every_frame_is_decided_on_purpose() -> None:
    assert set(RIGHTS) == set(frames.FRAMES)


@pytest.mark.parametrize("name", list(frames.FRAMES))
def test_a_frame_passes_exactly_where_it_has_a_right_to(name: str) -> None:
    allowed = {
        (sender.value, receiver.value)
        for sender, receiver in itertools.product(Kind, Kind)
        if frames.FRAMES[name] in authorisation.allowed(sender, receiver)
    }
    assert allowed == RIGHTS[name]


def test_every_request_that_may_be_sent_may_be_answered_with_a_failure() -> None:
    for (sender, receiver), allowed in authorisation.TABLE.items():
        if any(issubclass(frame, frames.Request) for frame in allowed):
            assert frames.Failure in authorisation.allowed(receiver, sender)


def test_only_coordinators_and_sync_are_connected_to() -> None:
    assert authorisation.accepts(Kind.SYNC) == {Kind.AGENT, Kind.COORDINATOR, Kind.OPERATOR}
    assert authorisation.accepts(Kind.COORDINATOR) == {Kind.AGENT, Kind.CLIENT, Kind.OPERATOR}
    for kind in (Kind.AGENT, Kind.CLIENT, Kind.OPERATOR):
        assert authorisation.accepts(kind) == frozenset()


def test_kinds_that_never_connect_have_nothing_to_say() -> None:
    meeting = {
        pair
        for server, clients in authorisation.DIALLED_BY.items()
        for client in clients
        for pair in ((client, server), (server, client))
    }
    assert set(authorisation.TABLE) == meeting


def test_a_lease_is_asked_for_in_ones_own_name() -> None:
    def lease_of(name: str) -> frames.Renew:
        return frames.Renew(member=frames.Member(name, "i", ""))

    assert authorisation.claim(AGENT, lease_of("agent/a1")) == ""
    assert authorisation.claim(AGENT, lease_of("")) == ""
    assert "agent/a2" in authorisation.claim(AGENT, lease_of("agent/a2"))
