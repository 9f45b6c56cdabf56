"""The source of credentials whose key is in no file: made in memory, certified by a request.

For each request a new key is made, and only its public half leaves the process, in a signing
request (PKCS #10) with the one URI of this identity.  An `Issuer` answers with a certificate, and
nothing that it answers is believed unchecked: the certificate must be for our key and our
identity, and our own peers must take it.  What was good before stays in force until then.

`renewal` decides when to ask.  `obtain` waits for the first certificate and `run` renews it;
whoever builds the source owns the task that runs (`runtime.renewing`).
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
from midstreamer.security import chain
from midstreamer.security.allowlist import Allowlist
from midstreamer.security.authority import USAGES
from midstreamer.security.chain import Presented, Role
from midstreamer.security.credentials import Credentials, Watched
from midstreamer.security.renewal import Renewal

ASK_S = 30.0
"""An issuer that has not answered after so long counts as away."""
LOOK_S = 30.0
"""The clock is read again at least so often: it may be set, and a machine may have slept."""


@dataclass(frozen=True)
class Signed:
    """What an issuer answers."""

    chain: tuple[x509.Certificate, ...]
    """The certificate, and the intermediates behind it."""
    anchors: tuple[x509.Certificate, ...]
    """The authorities to trust: our own certificate must lead to one of them."""

    @classmethod
    def of_pem(cls, shown: bytes, anchors: bytes) -> Signed:
        """Read both from PEM; BadInput when one holds no readable certificate."""
        return cls(_certificates(shown, "certificate"), _certificates(anchors, "bundle"))


class Issuer(Protocol):
    """Who certifies the keys of others."""

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        """Certify the key of a signing request; an error says why not.

        It may take `ASK_S` seconds, and is cancelled then.  Refused: asked properly, it says no.
        """


@runtime_checkable
class Patient(Protocol):
    """An `Issuer` whose open request is worth waiting for, and that says what it waits for."""

    ask_s: float
    """Seconds that it may take instead of `ASK_S`."""
    waiting: str
    """What the open request waits for; empty when there is none."""


class Listed(Protocol):
    """An allowlist that is read again when it changes: `security.files.AllowlistFile`."""

    current: Allowlist
    complaint: str

    def refresh(self) -> bool:
        """Read it again when it changed; whether it says something else now."""


class Bundle(Protocol):
    """Trusted authorities that are read again: `security.local_issuer.BundleFile`."""

    current: tuple[x509.Certificate, ...]
    complaint: str

    def refresh(self) -> bool:
        """Read them again when they changed; whether they are others now."""


class RequestedSource:
    """A `CredentialSource` that holds its key in memory alone."""

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
        """``hosts`` are DNS names that are asked for besides: of a database, which has no frames.

        ``bundle`` says whom to trust; without it the issuer does, with each certificate.

        ``waits`` is told why the first certificate is not there yet, once for each new reason.
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
        """Who may connect; None: whoever a trusted authority vouches for."""
        return self._allowlist.current if self._allowlist else None

    @property
    def waiting(self) -> str:
        """What the first certificate waits for; empty once it is there."""
        if self._current is not None:
            return ""
        asked = self._issuer.waiting if isinstance(self._issuer, Patient) else ""
        return asked or self._renewal.why or "the issuer has not answered yet"

    @property
    def complaints(self) -> dict[Watched, str]:
        """Why the certificate is not renewed, and what is wrong with a file."""
        told = {
            Watched.REQUEST: self._renewal.complaint(self._now()),
            Watched.BUNDLE: self._bundle.complaint if self._bundle else "",
            Watched.ALLOWLIST: self._allowlist.complaint if self._allowlist else "",
        }
        return {what: complaint for what, complaint in told.items() if complaint}

    def refresh(self) -> bool:
        """Reread what is in files; whether anything is judged differently than at the last call."""
        relisted = self._allowlist.refresh() if self._allowlist else False
        self._take_bundle()
        renewed, self._told = self._current != self._told, self._current
        return renewed or relisted

    async def obtain(self) -> Credentials:
        """Wait for the first certificate, and ask again, ever less often, until it is there."""
        while self._current is None:
            await self._turn()
        return self._current

    async def run(self) -> None:
        """Renew the certificate in time, until cancelled; one that cannot be renewed stays."""
        while True:
            await self._turn()

    async def _turn(self) -> None:
        """Sleep until it is time to ask, or for a while; or ask."""
        wait_s = self._renewal.wait_s(self._now())
        if wait_s > 0.0:
            await asyncio.sleep(min(wait_s, LOOK_S))
            return
        async with self._asking:  # `obtain` and `run` may be under way together
            if self._renewal.wait_s(self._now()) <= 0.0:
                await self._ask()

    async def _ask(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            signed = await self._answered(request(key, self.identity, self._hosts))
            self._current = self._checked(signed, key)
        except Exception as error:
            # An issuer is somebody else's code: whatever it raises must not end the renewing.
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
    """A signing request of an identity for a key, as PEM: the public half alone is in it."""
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
    """What an issuer answered, as credentials; Refused or BadInput names what is wrong with it."""
    if not signed.anchors:
        raise BadInput("the issuer's answer is refused: it names no authority to trust")
    if not all(isinstance(one, x509.Certificate) for one in (*signed.chain, *signed.anchors)):
        raise BadInput("the issuer's answer is refused: it does not consist of certificates")
    leaf, *others = signed.chain or (None,)
    if leaf is None:
        raise BadInput("the issuer's answer is refused: there is no certificate in it")
    presented = Presented(leaf, tuple(others))
    for role in Role:
        if role.value in USAGES[identity.kind]:
            who = chain.judge(presented, signed.anchors, role, now_s).identity
            if who != identity:
                raise BadInput(f"the issuer's answer is refused: it is for {who.uri}")
    if leaf.public_key() != key.public_key():
        raise BadInput("the issuer's answer is refused: it certifies another key than was asked")
    return Credentials(identity, leaf, tuple(others), key, signed.anchors)


def _told(error: Exception) -> str:
    match error:
        case Refused():
            return f"the issuer's answer is refused: {error.message}"
        case MidstreamerError():
            return error.message
        case OSError() if error.strerror:
            return f"the issuer is not reached: {error.strerror}"
    return f"the issuer failed: {type(error).__name__}: {shortened(str(error))}"


def _certificates(data: bytes, what: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise BadInput(f"the issuer's {what} is no readable PEM: {error}") from error
