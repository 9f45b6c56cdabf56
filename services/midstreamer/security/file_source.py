"""The source of credentials that reads files: see `security.files` for which."""

from __future__ import annotations

from midstreamer.domain.identity import Identity
from midstreamer.security.allowlist import Allowlist
from midstreamer.security.credentials import Credentials, Watched
from midstreamer.security.files import AllowlistFile, CertificateManager


class FileSource:
    """A `CredentialSource` of files: certificate, bundle, and the allowlist where one is kept."""

    def __init__(self, manager: CertificateManager, allowlist: AllowlistFile | None) -> None:
        """``manager`` has loaded its certificate already."""
        self._manager = manager
        self._allowlist = allowlist

    @property
    def identity(self) -> Identity:
        """Who this process is."""
        return self._manager.identity

    @property
    def current(self) -> Credentials:
        """The certificate, key and authorities in force."""
        return self._manager.current

    @property
    def allowlist(self) -> Allowlist | None:
        """Who may connect; None: whoever a trusted authority vouches for."""
        return self._allowlist.current if self._allowlist else None

    @property
    def complaints(self) -> dict[Watched, str]:
        """What is wrong with each file since it was last good; empty when nothing is."""
        listed = self._allowlist.complaint if self._allowlist else ""
        return self._manager.complaints | ({Watched.ALLOWLIST: listed} if listed else {})

    def refresh(self) -> bool:
        """Renew when due, reread what changed; whether anything is judged differently now."""
        renewed = self._manager.refresh()
        relisted = self._allowlist.refresh() if self._allowlist else False
        return renewed or relisted
