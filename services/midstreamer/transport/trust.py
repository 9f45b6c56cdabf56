"""The certificate, trusted authorities and allowlist of a process, and how peers are verified."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from midstreamer.domain.grant import EVERYTHING, Grant
from midstreamer.domain.identity import Identity, Kind
from midstreamer.protocol.connection import Connection, Side
from midstreamer.security import admission, certificate_chain
from midstreamer.security.certificate_chain import Presented, Role
from midstreamer.security.credentials import Credentials, CredentialSource, Watched
from midstreamer.telemetry import logs, metrics
from midstreamer.transport.carrier import Limits, TrustReport

GRANTS_TOLD_MAX = 20
"""Maximum clients named in one ``appends.unlimited`` log line."""

NUMBER_BITS = 48
"""Number of bits of a serial number or hash that a metric shows: its lowest bits.

The value of a metric is a float, which holds integers exactly only up to 53 bits.
"""

log = logs.get(__name__)


@dataclass(frozen=True)
class AdmittedPeer:
    """A peer that was verified and allowed, with the certificates that it presented."""

    identity: Identity
    presented: Presented
    authority: str
    """Short hash of the trusted authority to which the peer's certificate chains."""

    @property
    def not_after_s(self) -> float:
        """When the peer's certificate expires, in seconds since 1970."""
        leaf = self.presented.leaf
        return leaf.not_valid_after_utc.timestamp() if leaf else 0.0


class Trust:
    """Credentials, allowlist and limits of one process."""

    def __init__(
        self,
        source: CredentialSource,
        limits: Limits,
        incarnation: str,
    ) -> None:
        self.limits = limits
        self.incarnation = incarnation
        self._source = source
        self._complaint = ""
        self._listed = source.allowlist
        self._shown = source.current
        self._measure()
        self._complain()
        self._tell_grants()

    @property
    def me(self) -> Identity:
        """The identity of this process."""
        return self._source.identity

    @property
    def current(self) -> Credentials:
        """The certificate of this process, its key, and the authorities that it trusts."""
        return self._source.current

    def judge(self, presented: Presented, role: Role, kinds: frozenset[Kind]) -> AdmittedPeer:
        """Verify a peer by the authorities and the allowlist in force now.

        Raise Refused if its certificate is not valid, or if it may not connect.
        """
        anchors = self.current.anchors
        verdict = certificate_chain.judge(presented, anchors, role, time.time())
        policy = admission.Policy(self.me.trust_domain, kinds, self._source.allowlist)
        admission.admit(verdict.identity, policy)
        return AdmittedPeer(
            verdict.identity, presented, certificate_chain.short_hash(verdict.authority)
        )

    def grant(self, peer: Identity) -> Grant:
        """Return what a peer may append to, by the allowlist in force now."""
        listed = self._source.allowlist
        return EVERYTHING if listed is None else listed.grant(peer)

    @property
    def wrong(self) -> dict[Watched, str]:
        """A message for each file that is invalid, and for a certificate request that failed."""
        return self._source.complaints

    def report(self, judged_by: Iterable[str]) -> TrustReport:
        """Report this process's certificate and authorities.

        ``judged_by``: short hashes of the authorities of connected peers.
        """
        current = self.current
        return TrustReport(
            serial=f"{current.certificate.serial_number:x}",
            not_after_s=current.not_after_s,
            bundle=certificate_chain.bundle_hash(current.anchors),
            judged_by=tuple(sorted(set(judged_by))),
        )

    def connection(self, side: Side, peer: Identity) -> Connection:
        """Return a new state machine for a connection to an admitted peer."""
        return Connection(
            side,
            me=self.me,
            peer=peer,
            incarnation=self.incarnation,
            frame_bytes_max=self.limits.frame_bytes_max,
            handshake_s=self.limits.handshake_s,
            frame_s=self.limits.frame_s,
        )

    def refresh(self) -> bool:
        """Reload changed files. Return whether open links must be verified again."""
        changed = self._source.refresh()
        self._complain()
        if self.current != self._shown:
            self._shown = self.current
            self._measure()
            log.info("certificate.loaded", identity=self.me.name)
        if self._source.allowlist != self._listed:
            self._listed = self._source.allowlist
            log.info("allowlist.loaded")
            self._tell_grants()
        return changed

    def _measure(self) -> None:
        """Set the metrics of this process's certificate and of the authorities it trusts."""
        current = self.current
        leaf, anchors = current.certificate, current.anchors
        metrics.CERTIFICATE_BEGIN_S.set(leaf.not_valid_before_utc.timestamp())
        metrics.CERTIFICATE_EXPIRY_S.set(current.not_after_s)
        metrics.CERTIFICATE_SERIAL.set(leaf.serial_number % 2**NUMBER_BITS)
        metrics.BUNDLE_HASH.set(int(certificate_chain.bundle_hash(anchors), 16) % 2**NUMBER_BITS)
        ends = [anchor.not_valid_after_utc.timestamp() for anchor in anchors]
        metrics.AUTHORITY_EXPIRY_S.set(min(ends, default=0.0))

    def _complain(self) -> None:
        wrong = self.wrong
        for file in Watched:
            metrics.SECURITY_FILE_WRONG.labels(file).set(file in wrong)
        complaint = "; ".join(wrong.values())
        if complaint and complaint != self._complaint:  # logged once, not at every refresh
            log.error("security.unchanged", files=sorted(wrong), detail=complaint)
        self._complaint = complaint

    def _tell_grants(self) -> None:
        """Log which clients may append to every universe: this is the default, easy to overlook."""
        if self.me.kind is not Kind.COORDINATOR:
            return
        clients = ["client/*"] if self._listed is None else self._listed.unlimited_clients()
        if clients:
            log.info(
                "appends.unlimited",
                clients=clients[:GRANTS_TOLD_MAX],
                count=len(clients),
                detail="these clients may append to every universe; to limit them, write"
                " universes=<name>,<name> after their entries in the allowlist",
            )
