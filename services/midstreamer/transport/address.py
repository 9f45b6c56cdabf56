"""Addresses as people write them: ``host:port`` and, in front of it, the carriers to use.

``quic://`` is meant where nothing is said.  ``wss://`` is WebSocket over TLS, and ``quic+wss://``
names both on one port number, the first preferred: a server listens on both, and whoever dials
takes the second while the first does not answer.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from midstreamer.domain.errors import ConfigError, quoted

PORT_DIGITS_MAX = 5


class Scheme(StrEnum):
    """The carriers."""

    QUIC = "quic"
    """QUIC over UDP."""
    WSS = "wss"
    """WebSocket over TLS 1.3 and TCP, for networks that drop UDP."""
    MEMORY = "memory"
    """Inside one process, for tests."""


@dataclass(frozen=True)
class Address:
    """Where a server is, and the carriers that lead to it, the best first."""

    schemes: tuple[Scheme, ...]
    place: str
    """``host:port``; brackets around IPv6, and around nothing else."""

    @property
    def is_literal(self) -> bool:
        """Whether it needs no look-up."""
        return _ip(self.place.rpartition(":")[0].strip("[]")) is not None

    def __str__(self) -> str:
        """As it is written; QUIC alone, which is the default, is left out."""
        return written(self.schemes, self.place)

    @property
    def ways(self) -> tuple[str, ...]:
        """One address for each carrier, the best first."""
        return tuple(written((scheme,), self.place) for scheme in self.schemes)


def written(schemes: tuple[Scheme, ...], place: str) -> str:
    """The text of an address; peers of older versions know QUIC's without a scheme alone."""
    return place if schemes == (Scheme.QUIC,) else f"{'+'.join(schemes)}://{place}"


def told(text: str) -> tuple[str, str]:
    """An address as a lease tells it: ``host:port``, and the carriers where QUIC is one of several.

    Where QUIC does not lead, the carrier stays in front, and the second is empty.
    """
    if not text:
        return "", ""  # it does not listen yet
    where = parse(text)
    if Scheme.QUIC not in where.schemes or len(where.schemes) == 1:
        return str(where), ""
    return where.place, "+".join(where.schemes)


def parse(text: str) -> Address:
    """Read an address; ConfigError says what is wrong with it."""
    before, mark, place = text.rpartition("://")
    try:
        schemes = tuple(Scheme(name) for name in before.split("+")) if mark else (Scheme.QUIC,)
    except ValueError:
        raise ConfigError(
            f"{quoted(text)}: no carrier is called so; one of"
            " quic://, wss://, quic+wss:// in front of <host>:<port>"
        ) from None
    if len(set(schemes)) != len(schemes):
        raise ConfigError(f"{quoted(text)} names a carrier twice")
    host, colon, port = place.rpartition(":")
    numbered = port.isascii() and port.isdigit() and len(port) <= PORT_DIGITS_MAX
    if not (colon and host and numbered and int(port) < 65_536):
        raise ConfigError(f"{quoted(text)} is not <host>:<port>")
    return Address(schemes, f"{_host(host, text)}:{port}")


def _host(host: str, text: str) -> str:
    """A host as it is written in an address.

    A template gives ``[10.0.0.1]`` or ``fd00::1`` where it does not know which kind of address
    it puts in: both are understood.
    """
    bracketed = host.startswith("[") and host.endswith("]")
    inner = host[1:-1] if bracketed else host
    if (ip := _ip(inner)) is not None:
        return f"[{ip}]" if ip.version == 6 else inner
    if bracketed or set("[]:") & set(host):
        raise ConfigError(
            f"{quoted(text)} is not <host>:<port>: {quoted(inner)} is no IP address, and"
            " brackets and colons belong to those alone, as in [::1]:7400"
        )
    return host


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
