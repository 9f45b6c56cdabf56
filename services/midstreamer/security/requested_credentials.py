"""A source of credentials that keeps its private key in memory and requests its certificates.

For each request a new key is made.  Only its public half leaves the process, in a signing request
(PKCS #10) with the URI of this process's identity.  An `Issuer` answers with a certificate.  The
certificate is checked before it is used: it must be for the requested key and identity, and peers
must accept it.  Until then the earlier certificate stays in force.

`security.renewal` decides when to send a request.  `RequestedSource.obtain` waits for the first
certificate and `RequestedSource.run` renews it; `runtime.credential_renewal` starts both.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from midstreamer.domain.errors import BadInput, ConfigError, MidstreamerError, Refused, shortened
from midstreamer.domain.identity import Identity
from midstreamer.security import certificate_chain
from midstreamer.security.allowlist import Allowlist
from midstreamer.security.authority import USAGES
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.security.credentials import Credentials, Watched
from midstreamer.security.renewal import Renewal

ASK_S = 30.0
"""Maximum seconds to wait for an issuer's answer; after that the request has failed."""
LOOK_S = 30.0
"""Longest single sleep before the system clock is read again, in seconds. A renewal is planned by
that clock. A single long sleep would miss the planned time if somebody sets the clock, or if the
machine is suspended meanwhile."""


@dataclass(frozen=True)
class Signed:
    """Answer of an issuer: a certificate with its chain, and the authorities to trust."""

    chain: tuple[x509.Certificate, ...]
    """The certificate, followed by its intermediates."""
    anchors: tuple[x509.Certificate, ...]
    """The authorities to trust; the certificate's chain must lead to one of them."""

    @classmethod
    def of_pem(cls, shown: bytes, anchors: bytes) -> Signed:
        """Parse a chain and the authorities from PEM; BadInput if either cannot be read."""
        return cls(_certificates(shown, "certificate"), _certificates(anchors, "bundle"))


class Issuer(Protocol):
    """Issues certificates to processes that send signing requests."""

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        """Return a certificate for the key of a signing request.

        If no certificate is issued, raise an error that says why; Refused means that the issuer
        denied a proper request.  A call is cancelled after `ASK_S` seconds.
        """


@runtime_checkable
class Patient(Protocol):
    """An `Issuer` that may need more than `ASK_S` seconds to answer a request.

    Meanwhile it says what the request waits for, such as an approval.
    """

    ask_s: float
    """Maximum seconds to wait for the issuer's answer, instead of `ASK_S`."""
    waiting: str
    """What the open request waits for; empty when no request is open."""


class Listed(Protocol):
    """An allowlist that is read again when it changes, such as `security.files.AllowlistFile`."""

    current: Allowlist
    complaint: str

    def refresh(self) -> bool:
        """Read the allowlist if it changed; return whether its content is different."""


class Bundle(Protocol):
    """Trusted authorities, read again on change, such as `security.local_issuer.BundleFile`."""

    current: tuple[x509.Certificate, ...]
    complaint: str

    def refresh(self) -> bool:
        """Read the authorities if they changed; return whether they are different."""


class RequestedSource:
    """A `CredentialSource` that keeps its private key in memory only."""

    def __init__(
        self,
        identity: Identity,
        issuer: Issuer,
        *,
        hosts: Collection[str] = (),
        allowlist: Listed | None = None,
        bundle: Bundle | None = None,
        waits: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """``hosts`` are DNS names that each signing request asks for, besides the identity.

        ``bundle`` holds the trusted authorities.  If it is None, the process trusts the authorities
        that the issuer sends with each certificate.  While there is no first certificate, ``waits``
        is called with the reason each time a request fails for a new reason.
        """
        self.identity = identity
        self._issuer = issuer
        self._hosts = hosts
        self._allowlist = allowlist
        self._bundle = bundle
        self._waits = waits
        self._now = now
        self._dice = dice
        self._renewal = Renewal()
        self._current: Credentials | None = None
        self._told: Credentials | None = None
        self._asking = asyncio.Lock()

    @property
    def current(self) -> Credentials:
        """The credentials in force; ConfigError before `obtain` has returned."""
        if self._current is None:
            raise ConfigError(f"{self.identity.name} has no certificate yet: {self.waiting}")
        return self._current

    @property
    def allowlist(self) -> Allowlist | None:
        """Identities that may connect; None accepts every identity that is verified."""
        return self._allowlist.current if self._allowlist else None

    @property
    def waiting(self) -> str:
        """Why there is no first certificate yet; empty once there is one."""
        if self._current is not None:
            return ""
        asked = self._issuer.waiting if isinstance(self._issuer, Patient) else ""
        return asked or self._renewal.why or "the issuer has not answered yet"

    @property
    def complaints(self) -> dict[Watched, str]:
        """The present problems: no new certificate, or an unusable trust bundle or allowlist."""
        complaints = {
            Watched.REQUEST: self._renewal.complaint(self._now()),
            Watched.BUNDLE: self._bundle.complaint if self._bundle else "",
            Watched.ALLOWLIST: self._allowlist.complaint if self._allowlist else "",
        }
        return {what: complaint for what, complaint in complaints.items() if complaint}

    def refresh(self) -> bool:
        """Read changed files; return whether open links must be checked again.

        That is necessary when certificate, authorities or allowlist changed since the last call.
        """
        relisted = self._allowlist.refresh() if self._allowlist else False
        self._take_bundle()
        renewed, self._told = self._current != self._told, self._current
        return renewed or relisted

    async def obtain(self) -> Credentials:
        """Request the first certificate until there is one, with growing pauses; return it."""
        while self._current is None:
            await self._turn()
        return self._current

    async def run(self) -> None:
        """Renew the certificate in time, until cancelled; after failures the old one is kept."""
        while True:
            await self._turn()

    async def _turn(self) -> None:
        """Request a certificate if that is due; else sleep until then, for at most `LOOK_S`."""
        wait_s = self._renewal.wait_s(self._now())
        if wait_s > 0.0:
            await asyncio.sleep(min(wait_s, LOOK_S))
            return
        async with self._asking:  # only one request at a time: `obtain` and `run` may overlap
            if self._renewal.wait_s(self._now()) <= 0.0:
                await self._ask()

    async def _ask(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            signed = await self._answered(request(key, self.identity, self._hosts))
            self._current = self._checked(signed, key)
        except Exception as error:
            # An issuer is foreign code: no error that it raises may end the renewal task.
            self._failed(_told(error))
        else:
            self._told = self._told or self._current
            self._renewal.obtained(self._current.not_after_s, self._now(), self._dice())

    async def _answered(self, request_pem: bytes) -> Signed:
        patience_s = self._issuer.ask_s if isinstance(self._issuer, Patient) else ASK_S
        try:
            async with asyncio.timeout(patience_s) as limit:
                return await self._issuer.sign(request_pem, self.identity)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise BadInput(f"the issuer has not answered within {patience_s:g} s") from error
        except Refused as error:
            raise BadInput(f"the issuer refuses: {error.message}") from error

    def _checked(self, signed: Signed, key: ec.EllipticCurvePrivateKey) -> Credentials:
        if self._bundle is None:
            return accepted(signed, key, self.identity, self._now())
        self._bundle.refresh()
        if not self._bundle.current:
            raise BadInput(self._bundle.complaint or "no authority is trusted here")
        trusting = Signed(signed.chain, self._bundle.current)
        return accepted(trusting, key, self.identity, self._now())

    def _take_bundle(self) -> None:
        if self._bundle is None:
            return
        self._bundle.refresh()
        now = self._current
        if now is not None and now.anchors != self._bundle.current:
            self._current = Credentials(
                now.identity, now.certificate, now.intermediates, now.key, self._bundle.current
            )

    def _failed(self, why: str) -> None:
        is_new = why != self._renewal.why
        self._renewal.failed(why, self._now(), self._dice())
        if is_new and self._current is None:
            self._waits(why)


def request(
    key: ec.EllipticCurvePrivateKey, identity: Identity, hosts: Collection[str] = ()
) -> bytes:
    """Return a signing request of an identity, as PEM; it holds only the public half of ``key``."""
    names = [x509.UniformResourceIdentifier(identity.uri), *map(x509.DNSName, hosts)]
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.label)]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def accepted(
    signed: Signed, key: ec.EllipticCurvePrivateKey, identity: Identity, now_s: float
) -> Credentials:
    """Check an issuer's answer and return it as credentials.

    Raises Refused or BadInput when the answer is not for this key and identity, or when peers would
    refuse the certificate.
    """
    if not signed.anchors:
        raise BadInput("the issuer's answer is refused: it names no authority to trust")
    if not all(isinstance(each, x509.Certificate) for each in (*signed.chain, *signed.anchors)):
        raise BadInput("the issuer's answer is refused: it does not consist of certificates")
    leaf, *others = signed.chain or (None,)
    if leaf is None:
        raise BadInput("the issuer's answer is refused: there is no certificate in it")
    presented = Presented(leaf, tuple(others))
    for role in Role:
        if role.value in USAGES[identity.kind]:
            who = certificate_chain.judge(presented, signed.anchors, role, now_s).identity
            if who != identity:
                raise BadInput(
                    f"the issuer's answer is refused: it is for {who.uri}, not for {identity.uri}"
                )
    if leaf.public_key() != key.public_key():
        raise BadInput(
            "the issuer's answer is refused: it certifies another key than the requested one"
        )
    return Credentials(identity, leaf, tuple(others), key, signed.anchors)


def _told(error: Exception) -> str:
    match error:
        case Refused():
            return f"the issuer's answer is refused: {error.message}"
        case MidstreamerError():
            return error.message
        case OSError() if error.strerror:
            return f"the issuer cannot be reached: {error.strerror}"
    return f"the issuer failed: {type(error).__name__}: {shortened(str(error))}"


def _certificates(data: bytes, what: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise BadInput(f"the issuer's {what} is no readable PEM: {error}") from error
