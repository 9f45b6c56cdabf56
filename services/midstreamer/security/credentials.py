"""The credentials of a process (certificate, key, trusted authorities), and where they come from.

A carrier depends only on the interface `CredentialSource`.  One source reads files
(`security.credentials_in_files`).  The other keeps its key in memory and obtains certificates by
signing requests (`security.requested_credentials`).
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
    """The things that a running process watches for problems. The values are labels of a metric."""

    CERTIFICATE = "certificate"
    """The file with the key and the certificate of this process."""
    BUNDLE = "bundle"
    """The file with the certificates of the trusted authorities."""
    AUTHORITY = "authority"
    """The file of the local authority, with which this process renews its certificate."""
    ALLOWLIST = "allowlist"
    """The file of the allowlist."""
    REQUEST = "request"
    """The certificate requests of a process that keeps its key in memory and has no files."""


@dataclass(frozen=True)
class Credentials:
    """A consistent set of credentials: own certificate and key, and the trusted authorities."""

    identity: Identity
    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = field(compare=False)
    """The private key of the certificate. It is not compared, because a key that is read twice
    gives two unequal objects, and the certificate identifies its key."""
    anchors: tuple[x509.Certificate, ...]
    """Certificates of the trusted authorities."""

    @property
    def not_after_s(self) -> float:
        """Time at which the certificate expires, in seconds since 1970."""
        return self.certificate.not_valid_after_utc.timestamp()


class CredentialSource(Protocol):
    """Provides the credentials of one process and its allowlist."""

    @property
    def identity(self) -> Identity:
        """The identity of this process; never changes."""

    @property
    def current(self) -> Credentials:
        """The credentials in force. Two reads give equal objects if nothing changed in between."""

    @property
    def allowlist(self) -> Allowlist | None:
        """Identities that may connect; None accepts every identity that is verified."""

    @property
    def complaints(self) -> dict[Watched, str]:
        """A message for each `Watched` thing that is wrong. Its last good content stays in use."""

    def refresh(self) -> bool:
        """Look for changed files or credentials; return whether open links must be checked again.

        Called twice a second while a link is open and before each dial, so it must take only
        microseconds.  Raises nothing.
        """


@runtime_checkable
class Renewed(Protocol):
    """A `CredentialSource` that needs a background task: `runtime.credential_renewal` runs it."""

    @property
    def waiting(self) -> str:
        """Why there is no first certificate yet; empty once there is one."""

    async def obtain(self) -> Credentials:
        """Wait for the first credentials and return them; before that, `current` raises."""

    async def run(self) -> None:
        """Renew the credentials before they expire, until cancelled."""
