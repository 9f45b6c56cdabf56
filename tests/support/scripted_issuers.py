"""Certificate issuers that answer honestly, wrongly, slowly, with an error, or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509

from midstreamer.domain.identity import Identity
from midstreamer.security.authority import Authority
from midstreamer.security.requested_credentials import Signed
from tests.support.identity_builders import an_authority

Answer = Callable[[x509.CertificateSigningRequest, Identity], Signed]


@dataclass
class ScriptedIssuer:
    """An issuer with scripted answers; after the script it signs requests honestly."""

    authority: Authority = field(default_factory=an_authority)
    now: Callable[[], float] = time.time
    life_s: float = 3600.0
    script: list[Answer | Exception | float] = field(default_factory=list)
    """What the issuer does for the next requests, in order, one item for each request.

    An item may be a function: it is called, and its result is the answer. An item may be an error:
    it is raised. An item may be a number: after so many seconds, the request is signed honestly.
    """
    always: Answer | Exception | float | None = None
    """What the issuer does for every request once `script` is empty; None: it signs honestly."""
    asked_s: list[float] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        self.asked_s.append(asyncio.get_running_loop().time())
        self.requests.append(request_pem)
        request = x509.load_pem_x509_csr(request_pem)
        step = self.script.pop(0) if self.script else self.always
        if isinstance(step, Exception):
            raise step
        if isinstance(step, float):
            await asyncio.sleep(step)
        if callable(step):
            return step(request, identity)
        return self.honest(request, identity)

    def honest(self, request: x509.CertificateSigningRequest, identity: Identity) -> Signed:
        days = self.life_s / 86_400.0
        leaf = self.authority.sign(request, identity, now_s=self.now(), days=days)
        return Signed((leaf,), (self.authority.certificate,))
