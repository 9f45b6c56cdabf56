"""Half-open connections are limited: the host or network with most of them loses its oldest."""

from __future__ import annotations

import pytest

from midstreamer.transport import halfopen
from midstreamer.transport.halfopen import HalfOpen
from midstreamer.transport.hosts import SocketAddress


def at(host: str, port: int = 1) -> SocketAddress:
    return (host, port)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halfopen, "UNPROVEN_MAX", 2)
    monkeypatch.setattr(halfopen, "SHARE_MAX", 3)
    monkeypatch.setattr(halfopen, "HALF_OPEN_MAX", 5)


def holding(*hosts: str) -> HalfOpen[int]:
    table: HalfOpen[int] = HalfOpen()
    for number, host in enumerate(hosts):
        table.add(number, at(host, number))
    return table


def test_addresses_are_believed_until_it_is_crowded() -> None:
    assert not holding("10.0.0.1").crowded
    assert holding("10.0.0.1", "10.0.0.1").crowded


def test_no_connection_leaves_while_there_is_room() -> None:
    assert holding("10.0.0.1", "10.0.0.1", "10.0.0.2").must_leave(at("10.0.0.1")) is None


def test_beyond_its_share_an_origin_s_own_oldest_leaves() -> None:
    held = holding("10.0.0.2", "10.0.0.1", "10.0.0.1", "10.0.0.1")
    assert held.must_leave(at("10.0.0.1", 9)) == 1
    assert held.must_leave(at("10.0.0.2", 9)) is None


def test_when_full_the_oldest_of_the_greediest_leaves_for_a_newcomer() -> None:
    held = holding("10.0.0.2", "10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.1")
    assert held.must_leave(at("10.0.0.3")) == 1
    held.discard(1)
    assert held.must_leave(at("10.0.0.3")) is None


def test_a_discarded_connection_is_forgotten_even_when_discarded_twice() -> None:
    held = holding("10.0.0.1", "10.0.0.1")
    for key in (0, 0, 1, 7):
        held.discard(key)
    assert len(held) == 0
    assert held._held == {}


@pytest.mark.parametrize(
    ("first", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::2:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_origin_is_a_host_of_ipv4_or_a_network_of_ipv6(
    first: str, other: str, same: bool
) -> None:
    assert (halfopen.origin(at(first)) == halfopen.origin(at(other))) is same


def test_when_all_hold_too_much_the_fullest_origin_s_oldest_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(halfopen, "BYTES_MAX", 100)
    held = holding("10.0.0.2", "10.0.0.1", "10.0.0.1", "10.0.0.1")
    for key, size in ((0, 45), (2, 30), (3, 25)):
        held.hold(key, size)
    assert held.overfull() is None
    held.hold(3, 40)
    # The origin 10.0.0.1 holds the most bytes. Its oldest connection is number 1, but this one
    # holds no bytes. So connection number 2, the next one, must be closed.
    assert held.overfull() == 2
    held.discard(2)
    assert held.overfull() is None
    assert held.held_bytes == 85


def test_bytes_of_connections_no_longer_half_open_do_not_count() -> None:
    held = holding("10.0.0.1")
    held.hold(0, 50)
    held.discard(0)
    held.hold(0, 60)
    assert held.held_bytes == 0
    assert held._bytes == {}
