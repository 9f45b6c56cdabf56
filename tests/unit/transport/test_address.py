"""Addresses as people and templates write them: IPv6 and IPv4, with or without brackets."""

from __future__ import annotations

import errno
import socket

import pytest

from midstreamer.domain.errors import ConfigError
from midstreamer.transport import address, hosts


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("[10.0.0.1]:7400", "10.0.0.1:7400"),
        ("wss://[10.0.0.1]:7400", "wss://10.0.0.1:7400"),
        ("[fd00::1]:7400", "[fd00::1]:7400"),
        ("quic+wss://[FD00:0:0::1]:7400", "quic+wss://[fd00::1]:7400"),
        ("fd00::1:7400", "[fd00::1]:7400"),
        ("[::]:0", "[::]:0"),
        ("[fe80::1%eth0]:7400", "[fe80::1%eth0]:7400"),
        ("host.test:7400", "host.test:7400"),
    ],
)
def test_an_ip_address_is_understood_with_and_without_brackets(written: str, meant: str) -> None:
    assert str(address.parse(written)) == meant
    assert str(address.parse(meant)) == meant


@pytest.mark.parametrize(
    "written", ["[]:7400", "[$(POD_IP)]:7400", "[host]:7400", "[::1:7400", "::1]:7400", "a:b:7400"]
)
def test_brackets_and_colons_belong_to_ip_addresses_alone(written: str) -> None:
    with pytest.raises(ConfigError, match=r"is not <host>:<port>.*as in \[::1\]:7400"):
        address.parse(written)


def test_only_a_name_is_looked_up() -> None:
    literal = [address.parse(each).is_literal for each in ("10.0.0.1:1", "[::1]:1", "pods.test:1")]
    assert literal == [True, True, False]


def test_an_ipv4_peer_of_an_ipv6_socket_is_written_as_ipv4() -> None:
    assert hosts.written(("::ffff:10.0.0.1", 7400, 0, 0)) == "10.0.0.1:7400"
    assert hosts.written(("fe80::1", 7400, 0, 3)) == "[fe80::1%3]:7400"


@pytest.mark.parametrize(
    ("listen", "instead"), [("[::]:7400", r"0\.0\.0\.0:7400"), ("[::1]:7400", r"127\.0\.0\.1:7400")]
)
async def test_a_kernel_without_ipv6_is_reported_with_the_way_out(
    listen: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(family: int, kind: int) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("midstreamer.transport.hosts.socket.socket", without)
    with pytest.raises(ConfigError, match=rf"lacks this IPv6 address: listen on {instead}"):
        await hosts.bound(listen, socket.SOCK_DGRAM)
