"""An authority in a folder of this machine that signs requests, and the bundle beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path

from cryptography import x509

from midstreamer.domain.errors import BadInput, ConfigError
from midstreamer.domain.identity import Identity
from midstreamer.security import files
from midstreamer.security.authority import LEAF_DAYS
from midstreamer.security.requested import Signed


class AuthorityIssuer:
    """An `Issuer`: the local authority, opened for each request, so that it may be replaced."""

    def __init__(
        self,
        directory: Path,
        *,
        days: float = LEAF_DAYS,
        hosts: Collection[str] = (),
        now: files.Now = time.time,
    ) -> None:
        """``days``: how long its certificates are valid; ``hosts``: DNS names they may carry."""
        self._directory = directory
        self._days = days
        self._hosts = hosts
        self._now = now

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        """Certify the key of a request; ConfigError without an authority, BadInput names a flaw."""
        return await asyncio.to_thread(self._sign, request_pem, identity)

    def _sign(self, request_pem: bytes, identity: Identity) -> Signed:
        shown = signed(
            self._directory, request_pem, identity,
            days=self._days, hosts=self._hosts, now=self._now,
        )  # fmt: skip
        return Signed(shown, files.certificates_in(files.trust_path(self._directory)))


def signed(
    directory: Path,
    request_pem: bytes,
    identity: Identity,
    *,
    days: float = LEAF_DAYS,
    hosts: Collection[str] = (),
    now: files.Now = time.time,
) -> tuple[x509.Certificate, ...]:
    """The certificate for a request by the authority in a folder, and those behind it."""
    try:
        request = x509.load_pem_x509_csr(request_pem)
    except ValueError as error:
        raise BadInput(
            "this is no signing request in PEM (BEGIN CERTIFICATE REQUEST);"
            " `openssl req -new` makes one"
        ) from error
    authority = files.open_authority(directory)
    return authority.chain(
        authority.sign(request, identity, now_s=now(), days=days, dns_names=hosts)
    )


class BundleFile:
    """The trusted authorities of one process, read again when their file changes.

    It may be missing at first; one that breaks later leaves what was read before in force.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current: tuple[x509.Certificate, ...] = ()
        self.complaint = ""
        """What is wrong with the file; empty when nothing is."""
        self._seen: object = None
        self.refresh()

    def refresh(self) -> bool:
        """Reread it when it changed; whether it holds others now."""
        seen, before = files.fingerprint_of(self.path), self.current
        if seen == self._seen and not self.complaint:
            return False
        self._seen = seen
        try:
            self.current = files.certificates_in(self.path)
            self.complaint = ""
        except ConfigError as error:
            self.complaint = str(error)
        return self.current != before
