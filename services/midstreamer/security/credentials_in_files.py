"""A source of credentials that reads them from files. `security.files` has the file names."""

from __future__ import annotations

from midstreamer.domain.identity import Identity
from midstreamer.security.allowlist import Allowlist
from midstreamer.security.credentials import Credentials, Watched
from midstreamer.security.files import AllowlistFile, CertificateManager


class FileSource:
    """A `CredentialSource` that reads files: certificate, bundle, and the allowlist if any."""

    def __init__(self, manager: CertificateManager, allowlist: AllowlistFile | None) -> None:
        """``manager`` has loaded its certificate. ``allowlist`` None: every identity is allowed."""
        self._manager = manager
        self._allowlist = allowlist

    @property
    def identity(self) -> Identity:
        """The identity of this process."""
        return self._manager.identity

    @property
    def current(self) -> Credentials:
        """The certificate, key and trusted authorities that are in force."""
        return self._manager.current

    @property
    def allowlist(self) -> Allowlist | None:
        """Identities that may connect; None accepts every identity that is verified."""
        return self._allowlist.current if self._allowlist else None

    @property
    def complaints(self) -> dict[Watched, str]:
        """The problem of each file that is wrong now; empty when all files are good."""
        listed = self._allowlist.complaint if self._allowlist else ""
        return self._manager.complaints | ({Watched.ALLOWLIST: listed} if listed else {})

    def refresh(self) -> bool:
        """Renew the certificate if due and read changed files; return whether anything changed.

        After a change, open links must be checked again.
        """
        renewed = self._manager.refresh()
        relisted = self._allowlist.refresh() if self._allowlist else False
        return renewed or relisted
