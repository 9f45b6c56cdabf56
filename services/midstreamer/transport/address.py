"""Addresses: ``host:port`` with an optional scheme in front that names the carriers to use.

Without a scheme, ``quic://`` is meant.  ``wss://`` is WebSocket over TLS.  ``quic+wss://`` names
both carriers at one port number: a server listens on both, and a client uses the second carrier
only while the first does not answer.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from midstreamer.domain.errors import ConfigError, quoted

PORT_DIGITS_MAX = 5


class Scheme(StrEnum):
    """A carrier, as the scheme of an address names it."""

    QUIC = "quic"
    """QUIC over UDP."""
    WSS = "wss"
    """WebSocket over TLS 1.3 and TCP, for networks that drop UDP."""
    MEMORY = "memory"
    """Links inside one process, for tests."""


@dataclass(frozen=True)
class Address:
    """The address of a server: its host and port, and the carriers to use."""

    schemes: tuple[Scheme, ...]
    """Carriers in order of preference."""
    place: str
    """``host:port``, with brackets around an IPv6 address only."""

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address, which needs no look-up."""
        return _ip(self.place.rpartition(":")[0].strip("[]")) is not None

    def __str__(self) -> str:
        """Return the address as text. The scheme is left out if it is QUIC alone, the default."""
        return written(self.schemes, self.place)

    @property
    def ways(self) -> tuple[str, ...]:
        """One address for each carrier that this address names, in order of preference."""
        return tuple(written((scheme,), self.place) for scheme in self.schemes)


def written(schemes: tuple[Scheme, ...], place: str) -> str:
    """Return the text of an address.

    QUIC alone is written without a scheme, because older peers do not understand schemes.
    """
    return place if schemes == (Scheme.QUIC,) else f"{'+'.join(schemes)}://{place}"


def told(text: str) -> tuple[str, str]:
    """Return an address in the two texts that a lease stores: address, and list of carriers.

    ``quic+wss://h:1`` gives ``("h:1", "quic+wss")``, ``quic://h:1`` gives ``("h:1", "")``, and
    ``wss://h:1`` gives ``("wss://h:1", "")``.
    """
    if not text:
        return "", ""  # the process does not listen yet
    where = parse(text)
    if Scheme.QUIC not in where.schemes or len(where.schemes) == 1:
        return str(where), ""
    return where.place, "+".join(where.schemes)


def parse(text: str) -> Address:
    """Parse the text of an address. Raise ConfigError if it is not valid."""
    before, mark, place = text.rpartition("://")
    try:
        schemes = tuple(Scheme(name) for name in before.split("+")) if mark else (Scheme.QUIC,)
    except ValueError:
        raise ConfigError(
            f"{quoted(text)} has an unknown carrier: write"
            " quic://, wss:// or quic+wss:// in front of <host>:<port>"
        ) from None
    if len(set(schemes)) != len(schemes):
        raise ConfigError(f"{quoted(text)} names a carrier twice")
    host, colon, port = place.rpartition(":")
    numbered = port.isascii() and port.isdigit() and len(port) <= PORT_DIGITS_MAX
    if not (colon and host and numbered and int(port) < 65_536):
        raise ConfigError(f"{quoted(text)} is not <host>:<port>")
    return Address(schemes, f"{_host(host, text)}:{port}")


def _host(host: str, text: str) -> str:
    """Return a host as addresses write it: brackets around IPv6, no brackets around IPv4.

    Templates that do not know the kind of IP address may write ``[10.0.0.1]`` or ``fd00::1``.
    Both are accepted.
    """
    bracketed = host.startswith("[") and host.endswith("]")
    inner = host[1:-1] if bracketed else host
    if (ip := _ip(inner)) is not None:
        return f"[{ip}]" if ip.version == 6 else inner
    if bracketed or set("[]:") & set(host):
        raise ConfigError(
            f"{quoted(text)} is not <host>:<port>: {quoted(inner)} is no IP address, and only"
            " an IPv6 address may have brackets and colons, as in [::1]:7400"
        )
    return host


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
