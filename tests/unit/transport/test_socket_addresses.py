"""Addresses of sockets: how they are resolved and written, and how large datagrams to them are."""

import socket

import pytest

from midstreamer.domain.errors import ConfigError, Unavailable
from midstreamer.transport import hosts
from midstreamer.transport.aioquic import sockets


@pytest.mark.parametrize("address", ["127.0.0.1:7400", "[::1]:7400"])
async def test_an_address_is_written_as_it_is_read(address: str) -> None:
    [(_, place)] = await hosts.resolve(address, socket.SOCK_DGRAM)
    assert hosts.written(place) == address


@pytest.mark.parametrize(
    "address",
    ["", "7400", "host", "host:", "host:port", "host:70000", "host:\u00b2", "host:" + "9" * 5000],
)
async def test_what_is_no_address_is_an_error_of_the_configuration(address: str) -> None:
    with pytest.raises(ConfigError, match="is not <host>:<port>"):
        await hosts.resolve(address, socket.SOCK_DGRAM)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "\ud800"])
async def test_a_host_that_cannot_be_looked_up_is_an_error_of_the_configuration(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot be looked up"):
        await hosts.resolve(f"{host}:7400", socket.SOCK_DGRAM)


async def test_a_name_without_an_address_may_have_one_later() -> None:
    with pytest.raises(Unavailable, match="has no address"):
        await hosts.resolve("nowhere.invalid:7400", socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("host", "size"),
    [
        ("127.0.0.1", 8192),
        ("::1", 8192),
        ("::ffff:127.0.0.1", 8192),
        ("192.0.2.1", 1200),
        ("::ffff:192.0.2.1", 1200),
        ("fe80::1%eth0", 1200),
    ],
)
def test_datagrams_are_larger_only_inside_one_machine(host: str, size: int) -> None:
    assert sockets.datagram_bytes((host, 7400)) == size
