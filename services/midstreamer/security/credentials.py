"""What a process shows and whom it trusts: the value, and where it comes from.

A carrier depends on `CredentialSource` alone.  Files are one source (`security.files`); a key in
memory with a certificate asked for by a signing request is the other (`security.requested`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from midstreamer.domain.identity import Identity
from midstreamer.security.allowlist import Allowlist


class Watched(StrEnum):
    """What a running process looks after: labels of a metric, words of `/readyz`."""

    CERTIFICATE = "certificate"
    """Key and certificate of this process, which are one file."""
    BUNDLE = "bundle"
    """Certificates of the trusted authorities."""
    AUTHORITY = "authority"
    """The local authority, by which this process renews its certificate."""
    ALLOWLIST = "allowlist"
    REQUEST = "request"
    """No file: the asking for a certificate, where the key is in memory."""


@dataclass(frozen=True)
class Credentials:
    """One consistent reading: who we are, and whom we trust to say who others are."""

    identity: Identity
    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = field(compare=False)
    """Not compared: keys read twice are never equal, and the certificate tells them apart."""
    anchors: tuple[x509.Certificate, ...]

    @property
    def not_after_s(self) -> float:
        """When the certificate ends, in seconds since 1970."""
        return self.certificate.not_valid_after_utc.timestamp()


class CredentialSource(Protocol):
    """Where the credentials of one process come from."""

    @property
    def identity(self) -> Identity:
        """Who this process is; never changes."""

    @property
    def current(self) -> Credentials:
        """The credentials in force: equal to what was read before unless they changed."""

    @property
    def allowlist(self) -> Allowlist | None:
        """Who may connect; None: whoever a trusted authority vouches for."""

    @property
    def complaints(self) -> dict[Watched, str]:
        """What is wrong now, by what it concerns; what was good before stays in force."""

    def refresh(self) -> bool:
        """Look for what is new, in microseconds; whether anything is judged differently now.

        Called twice a second while a link is open, and before each dial.  Raises nothing.
        """


@runtime_checkable
class Renewed(Protocol):
    """A `CredentialSource` that has work of its own: `runtime.renewing` keeps it going."""

    @property
    def waiting(self) -> str:
        """What the first certificate waits for; empty once it is there."""

    async def obtain(self) -> Credentials:
        """Wait until there are credentials; `current` raises before."""

    async def run(self) -> None:
        """Keep them fresh, until cancelled."""
