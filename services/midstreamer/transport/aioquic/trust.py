"""What one process trusts at this moment, and the judging of peers by it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol.connection import Connection, Side
from midstreamer.security import chain, decide
from midstreamer.security.chain import Presented, Role
from midstreamer.security.files import AllowlistFile, CertificateManager
from midstreamer.telemetry import logs, metrics
from midstreamer.transport.carrier import Limits

log = logs.get(__name__)


@dataclass(frozen=True)
class Judged:
    """A peer that passed, with what it showed."""

    identity: Identity
    presented: Presented

    @property
    def not_after_s(self) -> float:
        """When its certificate ends."""
        leaf = self.presented.leaf
        return leaf.not_valid_after_utc.timestamp() if leaf else 0.0


class Trust:
    """Credentials, allowlist and limits of one process."""

    def __init__(
        self,
        manager: CertificateManager,
        allowlist: AllowlistFile | None,
        limits: Limits,
        incarnation: str,
    ) -> None:
        self.manager = manager
        self.limits = limits
        self.incarnation = incarnation
        self._allowlist = allowlist
        self._complaint = ""
        metrics.CERTIFICATE_EXPIRY_S.set(manager.current.not_after_s)

    def judge(self, presented: Presented, role: Role, kinds: frozenset[Kind]) -> Judged:
        """Who this is; Refused when it may not connect, by what is in force now."""
        anchors = self.manager.current.anchors
        identity = chain.identify(presented, anchors, role, time.time())
        allowlist = self._allowlist.current if self._allowlist else None
        policy = decide.Policy(self.manager.identity.trust_domain, kinds, allowlist)
        decide.admit(identity, policy)
        return Judged(identity, presented)

    def connection(self, side: Side, peer: Identity) -> Connection:
        """The machine of a connection to a judged peer."""
        return Connection(
            side,
            me=self.manager.identity,
            peer=peer,
            incarnation=self.incarnation,
            frame_bytes_max=self.limits.frame_bytes_max,
            handshake_s=self.limits.handshake_s,
            frame_s=self.limits.frame_s,
        )

    def refresh(self) -> bool:
        """Reread files that changed; whether anything is judged differently now."""
        renewed = self.manager.refresh()
        relisted = self._allowlist.refresh() if self._allowlist else False
        self._complain()
        if renewed:
            metrics.CERTIFICATE_EXPIRY_S.set(self.manager.current.not_after_s)
            log.info("certificate.loaded", identity=self.manager.identity.name)
        if relisted:
            log.info("allowlist.loaded")
        return renewed or relisted

    def _complain(self) -> None:
        said = [self.manager.complaint, self._allowlist.complaint if self._allowlist else ""]
        complaint = "; ".join(filter(None, said))
        if complaint and complaint != self._complaint:  # once, not twice a second
            log.error("security.unchanged", detail=complaint)
        self._complaint = complaint
