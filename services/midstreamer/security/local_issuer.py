"""Issue certificates with a local authority, and read a process's trust bundle.

`AuthorityIssuer` signs with the key of an authority in a folder.  `BundleFile` holds the
authorities that a process trusts; `BundleFile.refresh` reads them again if their file changed.
"""

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
from midstreamer.security.requested_credentials import Signed


class AuthorityIssuer:
    """An `Issuer` that signs with the key of the local authority, which is stored in a folder.

    The key is read again for each request, so it may be replaced at any time.
    """

    def __init__(
        self,
        directory: Path,
        *,
        days: float = LEAF_DAYS,
        hosts: Collection[str] = (),
        now: files.Now = time.time,
    ) -> None:
        """``days`` is how long each certificate is valid, in days.

        Besides the identity, a signing request may ask only for DNS names in ``hosts``.
        """
        self._directory = directory
        self._days = days
        self._hosts = hosts
        self._now = now

    async def sign(self, request_pem: bytes, identity: Identity) -> Signed:
        """Return a certificate for ``identity``, with the public key of the signing request.

        Raises BadInput if the request cannot be accepted.  Raises ConfigError if the authority in
        the folder cannot be read.
        """
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
    """Sign a request with the authority in a folder.

    Return the new certificate, followed by the authority's intermediate certificates.  Raises
    BadInput if the request cannot be accepted, ConfigError if the authority cannot be read.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem)
    except ValueError as error:
        raise BadInput(
            "this is no signing request in PEM (BEGIN CERTIFICATE REQUEST);"
            " make one with `openssl req -new`"
        ) from error
    authority = files.open_authority(directory)
    return authority.chain(
        authority.sign(request, identity, now_s=now(), days=days, dns_names=hosts)
    )


class BundleFile:
    """The trusted authorities of one process, read again when their file changes.

    The file may be missing at first.  If the file becomes unreadable later, the authorities that
    were read before stay in force.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current: tuple[x509.Certificate, ...] = ()
        self.complaint = ""
        """The problem of the file; empty when the file is good."""
        self._seen: object = None
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it changed or the last read failed.

        Return whether the authorities changed.
        """
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
